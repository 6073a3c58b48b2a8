// SPDX-License-Identifier: Apache-2.0
/* A config.json: whatever it holds, it becomes keys of a GGUF, or is refused with a reason; those keys are read, or
 * refused, likewise. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "config.h"
#include "hf_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int condition) {
  if (!condition) abort();
}

/* With an embedding of that vocabulary as the only tensor, so that all keys are looked at. */
static void read_keys(otr_gguf_writer *writer, const hf_shape *shape) {
  otr_config config;
  const otr_gguf *gguf;
  const uint64_t dims[2] = {(uint64_t)shape->dim, (uint64_t)shape->vocab};
  otr_gguf_put_tensor(writer, "token_embd.weight", OTR_GGML_F32, 2, dims);
  if (otr_gguf_writer_header(writer, &gguf) != OTR_STATUS_OK) return;
  if (otr_config_read(gguf, &config) != OTR_STATUS_OK) return require(otr_error_detail()[0] != '\0');
  require(config.vocab == shape->vocab && config.n_layers == shape->n_layers && config.dim == shape->dim);
  require(config.n_heads == shape->n_heads && config.n_kv_heads == shape->n_kv_heads);
  require(config.head_dim == shape->head_dim && config.ffn_dim == shape->ffn);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  char path[64];
  otr_gguf_writer *writer;
  hf_shape shape;
  json_t *config = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);
  if (!json_is_object(config)) return json_decref(config), 0;
  snprintf(path, sizeof path, "/tmp/outrider-fuzz-%ld", (long)getpid());
  require(otr_gguf_writer_create(path, 256, &writer) == OTR_STATUS_OK);
  if (hf_config_read(config, writer, &shape) == OTR_STATUS_OK)
    read_keys(writer, &shape);
  else
    require(otr_error_detail()[0] != '\0');
  otr_gguf_writer_destroy(writer);
  json_decref(config);
  return 0;
}
