// SPDX-License-Identifier: Apache-2.0
/* otr_session_load on any bytes: as they are, and with the model's digest and the checksum put right, so that what lies
 * behind them is reached. Whatever a blob holds, the session answers with a status and can be used afterwards. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "outrider/outrider.h"
#include "sha256.h"
#include "tiny_model.h"

#define DIGEST_AT 48
#define DIGEST_BYTES 32
#define HEADER_BYTES 80

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static otr_session *session;
static uint8_t own_digest[DIGEST_BYTES];

static void require(int condition) {
  if (!condition) abort();
}

typedef struct sink {
  uint8_t bytes[1 << 16];
  size_t n;
} sink;

static int32_t write_sink(void *user, const void *bytes, size_t n_bytes) {
  sink *s = user;
  require(n_bytes <= sizeof s->bytes - s->n);
  memcpy(s->bytes + s->n, bytes, n_bytes);
  s->n += n_bytes;
  return 0;
}

/* One layer of one KV head of 4 values: a position takes 16 bytes and its id 4. */
static void start(void) {
  static sink state;
  char path[] = "fuzz_state_XXXXXX";
  int fd = mkstemp(path);
  require(fd >= 0);
  close(fd);
  llama_shape shape = tiny_model_shape();
  shape.dim = 8;
  shape.ffn = 8;
  shape.n_layers = 1;
  shape.n_heads = 2;
  shape.n_kv_heads = 1;
  shape.head_dim = 4;
  otr_runtime_params runtime_params = OTR_RUNTIME_PARAMS_INIT;
  otr_session_params session_params = OTR_SESSION_PARAMS_INIT;
  otr_model_params model_params = OTR_MODEL_PARAMS_INIT;
  otr_runtime *runtime;
  otr_model *model;
  runtime_params.device = "cpu";
  runtime_params.n_threads = 1;
  runtime_params.skip_self_check = 1;
  session_params.n_ctx = 512;
  session_params.n_batch = 4;
  model_params.copy_weights = 1;
  require(tiny_model_write(path, &shape, 1) == OTR_STATUS_OK);
  require(otr_runtime_create(&runtime_params, &runtime) == OTR_STATUS_OK);
  require(otr_model_open_file(runtime, path, &model_params, &model) == OTR_STATUS_OK);
  require(otr_session_create(model, &session_params, &session) == OTR_STATUS_OK);
  unlink(path);
  require(otr_session_save(session, write_sink, &state) == OTR_STATUS_OK);
  memcpy(own_digest, state.bytes + DIGEST_AT, DIGEST_BYTES);
}

static void check_loaded(const uint8_t *blob, size_t size) {
  static sink again;
  int32_t position = otr_session_position(session);
  require(position >= 0 && position <= 512 && otr_session_room(session) == 512 - position);
  again.n = 0;
  require(otr_session_save(session, write_sink, &again) == OTR_STATUS_OK);
  /* Where the ids are known, or there is nothing to know, the same size; its ids as they were. */
  uint32_t known = blob[32];
  if (known)
    require(again.n == size && memcmp(again.bytes + HEADER_BYTES, blob + HEADER_BYTES, 4u * (size_t)position) == 0);
}

static void load(const uint8_t *blob, size_t size) {
  const int32_t id = 5;
  otr_status status = otr_session_load(session, blob, size);
  require(status != OTR_STATUS_INTERNAL && status != OTR_STATUS_NO_MEMORY);
  if (status == OTR_STATUS_OK)
    check_loaded(blob, size);
  else
    require(otr_session_position(session) == 0);
  status = otr_session_eval(session, &id, 1, NULL);
  require(status == OTR_STATUS_OK || status == OTR_STATUS_CONTEXT_FULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (!session) start();
  load(data, size);
  if (size < HEADER_BYTES + DIGEST_BYTES) return 0;
  uint8_t *sealed = malloc(size);
  if (!sealed) return 0;
  otr_sha256 sha;
  memcpy(sealed, data, size);
  memcpy(sealed + DIGEST_AT, own_digest, DIGEST_BYTES);
  otr_sha256_start(&sha);
  otr_sha256_add(&sha, sealed, size - DIGEST_BYTES);
  otr_sha256_end(&sha, sealed + size - DIGEST_BYTES);
  load(sealed, size);
  free(sealed);
  return 0;
}
