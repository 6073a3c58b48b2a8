// SPDX-License-Identifier: Apache-2.0
/* A session's state as a blob, the same on every backend (docs/format.md): header, token ids, then for each page of 256
 * positions and each layer K and V as f16 [positions, n_kv_heads, head_dim]; SHA-256 of all that at the end. All
 * little-endian. */
#include <string.h>

#include "session.h"
#include "sha256.h"
#include "status.h"

#define HEADER_BYTES 80
#define DIGEST_BYTES 32
#define KV_F16 1

static const char magic[8] = {'O', 'T', 'R', 'S', 'T', 'A', 'T', 'E'};

static void put32(uint8_t *at, uint32_t v) {
  for (int i = 0; i < 4; i++) at[i] = (uint8_t)(v >> (8 * i));
}

static uint32_t get32(const uint8_t *at) {
  return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static bool has_ids(const otr_session *s) {
  return s->tokens_known == s->position;
}

/** magic, revision, KV type, layers, KV heads, head dim, position, whether ids are known; then the model's digest. */
static otr_status make_header(const otr_session *s, uint8_t header[HEADER_BYTES]) {
  const otr_config *c = &s->model->config;
  memset(header, 0, HEADER_BYTES);
  memcpy(header, magic, sizeof magic);
  put32(header + 8, OTR_CONTRACT_REVISION);
  put32(header + 12, KV_F16);
  put32(header + 16, (uint32_t)c->n_layers);
  put32(header + 20, (uint32_t)c->n_kv_heads);
  put32(header + 24, (uint32_t)c->head_dim);
  put32(header + 28, (uint32_t)s->position);
  put32(header + 32, has_ids(s) ? 1 : 0);
  put32(header + 36, s->long_rope);
  return otr_model_digest(s->model, header + 48);
}

static size_t row_halves(const otr_session *s) {
  return (size_t)s->model->config.n_kv_heads * (size_t)s->model->config.head_dim;
}

uint64_t otr_session_state_bytes(const otr_session *s) {
  if (!s) return 0;
  uint64_t row = (uint64_t)s->model->config.n_layers * row_halves(s) * 2 * sizeof(uint16_t);
  uint64_t ids = has_ids(s) ? sizeof(int32_t) : 0;
  return HEADER_BYTES + (uint64_t)s->position * (row + ids) + DIGEST_BYTES;
}

/** K and V of one page and layer on the host, and where the bytes go. */
typedef struct writer {
  otr_sha256 sha;
  int32_t (*write)(void *user, const void *bytes, size_t n_bytes);
  void *user;
} writer;

static otr_status emit(writer *w, const void *bytes, size_t n) {
  otr_sha256_add(&w->sha, bytes, n);
  if (w->write(w->user, bytes, n) == 0) return OTR_STATUS_OK;
  return otr_fail(OTR_STATUS_IO, "the state could not be written");
}

/** f16 bits of this machine to and from little-endian bytes, in place. */
static void swap_halves(uint16_t *h, size_t n) {
  for (size_t i = 0; i < n; i++) {
    uint8_t b[2] = {(uint8_t)h[i], (uint8_t)(h[i] >> 8)};
    memcpy(&h[i], b, 2);
  }
}

static otr_status write_pages(const otr_session *s, writer *w, uint16_t *piece) {
  otr_device *device = s->model->runtime->device;
  otr_kv_shape shape = otr_kv_shape_of(&s->model->config);
  for (int32_t first = 0; first < s->position; first += OTR_CHUNK) {
    int32_t n = s->position - first < OTR_CHUNK ? s->position - first : OTR_CHUNK;
    size_t halves = (size_t)n * row_halves(s);
    for (int32_t layer = 0; layer < shape.n_layers; layer++) {
      otr_page page = s->table[first / OTR_CHUNK];
      OTR_TRY(otr_runtime_begin(s->model->runtime)); /* not while the caller writes: that may take its time */
      otr_status status = device->ops->kv_read(device, &shape, page, layer, 0, n, piece, piece + halves);
      otr_runtime_end(s->model->runtime);
      OTR_TRY(status);
      swap_halves(piece, 2 * halves);
      OTR_TRY(emit(w, piece, 2 * halves * sizeof *piece));
    }
  }
  return OTR_STATUS_OK;
}

static otr_status write_tokens(const otr_session *s, writer *w) {
  for (int32_t i = 0; has_ids(s) && i < s->position; i++) {
    uint8_t bytes[4];
    put32(bytes, (uint32_t)s->tokens[i]);
    OTR_TRY(emit(w, bytes, sizeof bytes));
  }
  return OTR_STATUS_OK;
}

static size_t piece_halves(const otr_session *s) {
  return 2 * (size_t)OTR_CHUNK * row_halves(s);
}

otr_status otr_session_save(const otr_session *s, int32_t (*write)(void *user, const void *bytes, size_t n_bytes),
                            void *user) {
  if (!s || !write) return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "session or write is NULL");
  if (s->dropped_end > s->dropped_begin)
    return otr_fail(OTR_STATUS_UNSUPPORTED, "a session that has dropped pages cannot be saved");
  otr_memory *memory = &s->model->runtime->memory;
  uint16_t *piece = otr_memory_take_array(memory, piece_halves(s), sizeof *piece);
  if (!piece) return OTR_STATUS_NO_MEMORY;
  writer w = {.write = write, .user = user};
  uint8_t header[HEADER_BYTES], digest[DIGEST_BYTES];
  otr_sha256_start(&w.sha);
  otr_status status = make_header(s, header);
  if (status == OTR_STATUS_OK) status = emit(&w, header, sizeof header);
  if (status == OTR_STATUS_OK) status = write_tokens(s, &w);
  if (status == OTR_STATUS_OK) status = write_pages(s, &w, piece);
  otr_sha256_end(&w.sha, digest);
  if (status == OTR_STATUS_OK && write(user, digest, sizeof digest) != 0)
    status = otr_fail(OTR_STATUS_IO, "the state could not be written");
  otr_memory_give_array(memory, piece, piece_halves(s), sizeof *piece);
  return status;
}

/** Everything about the blob that can be known before a byte of it is used. */
static otr_status check_blob(const otr_session *s, const uint8_t *blob, size_t n_bytes, int32_t *position, bool *ids) {
  uint8_t own[HEADER_BYTES], digest[DIGEST_BYTES];
  if (n_bytes < HEADER_BYTES + DIGEST_BYTES || memcmp(blob, magic, sizeof magic) != 0)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "this is no saved state");
  OTR_TRY(make_header(s, own));
  if (get32(blob + 8) != OTR_CONTRACT_REVISION)
    return otr_fail(OTR_STATUS_MISMATCH, "the state is of contract revision %u, this library of %d", get32(blob + 8),
                    OTR_CONTRACT_REVISION);
  if (get32(blob + 12) != KV_F16) return otr_fail(OTR_STATUS_MISMATCH, "the state's KV type is %u", get32(blob + 12));
  if (get32(blob + 36) != (uint32_t)s->long_rope)
    return otr_fail(OTR_STATUS_MISMATCH, "this model's RoPE differs in sessions longer than %d positions",
                    s->model->config.rope_original);
  if (memcmp(blob + 16, own + 16, 12) != 0 || memcmp(blob + 48, own + 48, 32) != 0)
    return otr_fail(OTR_STATUS_MISMATCH, "the state was made by another model or with another outlier rule");
  uint32_t rows = get32(blob + 28), known = get32(blob + 32);
  uint64_t row = (uint64_t)s->model->config.n_layers * row_halves(s) * 2 * sizeof(uint16_t) + (known ? 4 : 0);
  if (rows > OTR_MAX_POSITION || known > 1 || n_bytes != HEADER_BYTES + rows * row + DIGEST_BYTES)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "a state of %u positions has another size than %zu bytes", rows, n_bytes);
  otr_sha256 sha;
  otr_sha256_start(&sha);
  otr_sha256_add(&sha, blob, n_bytes - DIGEST_BYTES);
  otr_sha256_end(&sha, digest);
  if (memcmp(digest, blob + n_bytes - DIGEST_BYTES, DIGEST_BYTES) != 0)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "the state's checksum is wrong");
  if (rows > (uint32_t)s->n_pages * OTR_CHUNK)
    return otr_fail(OTR_STATUS_CONTEXT_FULL, "the state has %u positions, the session room for %d", rows,
                    s->n_pages * OTR_CHUNK);
  *position = (int32_t)rows;
  *ids = known != 0;
  return OTR_STATUS_OK;
}

static otr_status read_pages(otr_session *s, const uint8_t *at, int32_t position, uint16_t *piece) {
  otr_device *device = s->model->runtime->device;
  otr_kv_shape shape = otr_kv_shape_of(&s->model->config);
  for (int32_t first = 0; first < position; first += OTR_CHUNK) {
    int32_t n = position - first < OTR_CHUNK ? position - first : OTR_CHUNK;
    size_t halves = (size_t)n * row_halves(s), bytes = 2 * halves * sizeof *piece;
    for (int32_t layer = 0; layer < shape.n_layers; layer++, at += bytes) {
      for (size_t i = 0; i < 2 * halves; i++) piece[i] = (uint16_t)(at[2 * i] | at[2 * i + 1] << 8);
      otr_page page = s->table[first / OTR_CHUNK];
      OTR_TRY(device->ops->kv_write(device, &shape, page, layer, 0, n, piece, piece + halves));
    }
  }
  return OTR_STATUS_OK;
}

static otr_status load_checked(otr_session *s, const uint8_t *blob, int32_t position, bool ids) {
  const uint8_t *at = blob + HEADER_BYTES;
  int32_t vocab = s->model->config.vocab;
  for (int32_t i = 0; ids && i < position; i++, at += 4) {
    int32_t id = (int32_t)get32(at);
    if (id < -1 || id >= vocab) return otr_fail(OTR_STATUS_BAD_FORMAT, "the state holds token id %d", id);
    s->tokens[i] = id;
  }
  if (position == 0) return OTR_STATUS_OK;
  OTR_TRY(otr_session_prepare_rows(s, position));
  otr_memory *memory = &s->model->runtime->memory;
  uint16_t *piece = otr_memory_take_array(memory, piece_halves(s), sizeof *piece);
  if (!piece) return OTR_STATUS_NO_MEMORY;
  s->position = position;
  s->tokens_known = ids ? position : 0;
  otr_status status = read_pages(s, at, position, piece);
  otr_memory_give_array(memory, piece, piece_halves(s), sizeof *piece);
  return status;
}

otr_status otr_session_load(otr_session *s, const void *blob, size_t n_bytes) {
  if (!s || !blob) return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "session or blob is NULL");
  int32_t position = 0;
  bool ids = false;
  otr_session_reset(s);
  OTR_TRY(check_blob(s, blob, n_bytes, &position, &ids));
  OTR_TRY(otr_runtime_begin(s->model->runtime));
  otr_status status = load_checked(s, blob, position, ids);
  otr_runtime_end(s->model->runtime);
  if (status != OTR_STATUS_OK) otr_session_reset(s);
  return status;
}
