// SPDX-License-Identifier: Apache-2.0
#include "model_kit.h"

#include <string.h>
#include <unistd.h>

#include "sha256.h"

#define MAX_DEVICES 16
#define ID_MIX 0x9e3779b97f4a7c15u

static otr_device_info devices[MAX_DEVICES];
static int32_t n_devices = -1;

bool kit_is_gpu(const char *device) {
  return strncmp(device, "vulkan", 6) == 0 || strncmp(device, "cuda", 4) == 0;
}

int32_t kit_most_threads(const char *device) {
  return kit_is_gpu(device) ? 1 : 3;
}

static bool is_wanted(const otr_device_info *info) {
  const char *name = getenv("OUTRIDER_TEST_DEVICE");
  if (name && name[0]) return strncmp(info->name, name, strlen(name)) == 0 || strcmp(info->name, "cpu") == 0;
  return !kit_is_gpu(info->name);
}

int32_t kit_n_devices(void) {
  if (n_devices >= 0) return n_devices;
  otr_device_info all[MAX_DEVICES];
  int32_t n = 0;
  all[0].struct_size = sizeof all[0];
  if (otr_devices(all, MAX_DEVICES, &n, 0) != OTR_STATUS_OK) return 0;
  n_devices = 0;
  const char *few = getenv("OUTRIDER_TEST_FEW_DEVICES");
  int32_t most = few && few[0] == '1' ? 1 : MAX_DEVICES;
  for (int32_t i = 0; i < n && n_devices < most; i++)
    if (all[i].available && is_wanted(&all[i])) devices[n_devices++] = all[i];
  return n_devices;
}

const char *kit_device(int32_t index) {
  return index < kit_n_devices() ? devices[index].name : "none";
}

char *kit_new_file(const char *name) {
  size_t n = strlen(name) + sizeof "_XXXXXX";
  char *path = malloc(n);
  ck_assert_ptr_nonnull(path);
  snprintf(path, n, "%s_XXXXXX", name);
  int fd = mkstemp(path);
  ck_assert_msg(fd >= 0, "%s cannot be made", path);
  close(fd);
  return path;
}

void kit_remove(char *path) {
  if (path) unlink(path);
  free(path);
}

llama_shape kit_small_shape(void) {
  llama_shape shape = tiny_model_shape();
  shape.dim = 24;
  shape.n_heads = 2;
  shape.n_kv_heads = 1;
  shape.ffn = 40;
  shape.n_layers = 2;
  return shape;
}

char *kit_tiny_file(const llama_shape *shape, uint64_t seed) {
  char *path = kit_new_file("tiny");
  llama_shape usual = tiny_model_shape();
  ck_ok(tiny_model_write(path, shape ? shape : &usual, seed));
  return path;
}

otr_runtime *kit_runtime(const char *device, int32_t n_threads) {
  otr_runtime_params params = OTR_RUNTIME_PARAMS_INIT;
  otr_runtime *runtime;
  params.device = device;
  params.n_threads = n_threads;
  params.skip_self_check = 1;
  ck_ok(otr_runtime_create(&params, &runtime));
  return runtime;
}

kit kit_open(const char *path, const char *device, int32_t n_threads, const otr_model_params *params) {
  kit k = {kit_runtime(device, n_threads), NULL};
  ck_ok(otr_model_open_file(k.runtime, path, params, &k.model));
  return k;
}

void kit_close(kit *k) {
  ck_ok(otr_model_close(k->model));
  ck_ok(otr_runtime_destroy(k->runtime));
}

otr_session *kit_session(otr_model *model, int32_t n_ctx, int32_t n_batch) {
  otr_session_params params = OTR_SESSION_PARAMS_INIT;
  otr_session *session;
  params.n_ctx = n_ctx;
  params.n_batch = n_batch;
  ck_ok(otr_session_create(model, &params, &session));
  return session;
}

int32_t kit_vocab(const otr_model *model) {
  otr_model_info info = {.struct_size = sizeof info};
  ck_ok(otr_model_get_info(model, &info));
  return info.vocab;
}

void kit_ids(int32_t *ids, int32_t n, int32_t vocab, uint64_t seed) {
  for (int32_t i = 0; i < n; i++) {
    uint64_t v = (seed + 1) * ID_MIX + (uint64_t)i * 0xbf58476d1ce4e5b9u;
    v = (v ^ (v >> 29)) * ID_MIX;
    ids[i] = (int32_t)((v >> 33) % (uint64_t)vocab);
  }
}

float *kit_logits(otr_model *model, const int32_t *ids, int32_t n, int32_t split) {
  size_t vocab = (size_t)kit_vocab(model);
  float *logits = malloc((size_t)n * vocab * sizeof *logits);
  ck_assert_ptr_nonnull(logits);
  otr_session *session = kit_session(model, n, split);
  for (int32_t i = 0; i < n; i += split)
    ck_ok(otr_session_eval(session, ids + i, n - i < split ? n - i : split, logits + (size_t)i * vocab));
  otr_session_destroy(session);
  return logits;
}

void kit_hash(char hex[65], const float *values, size_t n) {
  otr_sha256 sha;
  uint8_t digest[32];
  otr_sha256_start(&sha);
  otr_sha256_add_f32(&sha, values, n);
  otr_sha256_end(&sha, digest);
  otr_hex_digest(hex, digest);
}

void kit_same(const float *a, const float *b, size_t n, const char *what) {
  ck_assert_ptr_nonnull(a);
  ck_assert_ptr_nonnull(b);
  size_t i = 0; /* not an assertion for each value: Check writes each one to a file */
  while (i < n && memcmp(&a[i], &b[i], sizeof *a) == 0) i++;
  if (i < n) ck_abort_msg("%s: value %zu of %zu is %a and %a", what, i, n, (double)a[i], (double)b[i]);
}

static void *counted_allocate(void *user, size_t bytes, size_t alignment) {
  kit_counter *c = user;
  if (atomic_fetch_add(&c->calls, 1) + 1 == atomic_load(&c->fail_at)) return NULL;
  void *memory = NULL;
  if (posix_memalign(&memory, alignment < sizeof(void *) ? sizeof(void *) : alignment, bytes) != 0) return NULL;
  atomic_fetch_add(&c->bytes, (long)bytes);
  atomic_fetch_add(&c->blocks, 1);
  return memory;
}

static void counted_release(void *user, void *memory, size_t bytes) {
  kit_counter *c = user;
  atomic_fetch_sub(&c->bytes, (long)bytes);
  atomic_fetch_sub(&c->blocks, 1);
  free(memory);
}

otr_allocator kit_allocator(kit_counter *counter) {
  return (otr_allocator){counter, counted_allocate, counted_release};
}

int32_t kit_write(void *user, const void *bytes, size_t n_bytes) {
  kit_bytes *b = user;
  uint8_t *grown = realloc(b->data, b->n + n_bytes);
  if (!grown) return -1;
  memcpy(grown + b->n, bytes, n_bytes);
  b->data = grown;
  b->n += n_bytes;
  return 0;
}

kit_bytes kit_save(const otr_session *session) {
  kit_bytes state = {NULL, 0};
  ck_ok(otr_session_save(session, kit_write, &state));
  ck_assert_uint_eq(state.n, otr_session_state_bytes(session));
  return state;
}

void kit_seal(kit_bytes *state) {
  otr_sha256 sha;
  otr_sha256_start(&sha);
  otr_sha256_add(&sha, state->data, state->n - 32);
  otr_sha256_end(&sha, state->data + state->n - 32);
}
