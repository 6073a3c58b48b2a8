// SPDX-License-Identifier: Apache-2.0
#include "cuda_layout.h"

#include <string.h>

#include "memory.h"
#include "numerics.h"

enum { ALIGNMENT = 256 };

/* ---- where things lie -------------------------------------------------------------------------------------------- */

/** Takes `bytes` at *at, aligned. Rows and k are bounded (2^20, 2^17): 64 bits cannot wrap. */
static uint64_t place(uint64_t *at, uint64_t bytes) {
  uint64_t start = *at;
  *at = start + (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  return start;
}

static int32_t tiles(int32_t k) {
  return (k + CUDA_K_TILE - 1) / CUDA_K_TILE;
}

/** The layout from *at on; *at becomes its end. */
static struct cuda_quantized quantized_layout(uint64_t *at, int32_t max_rows, int32_t k) {
  uint64_t m = (uint64_t)max_rows;
  struct cuda_quantized v = {.k = k, .stride = tiles(k) * CUDA_K_TILE, .n_tiles = tiles(k)};
  v.q = place(at, m * (uint64_t)v.stride);
  v.scale = place(at, m * sizeof(float));
  v.pow2e = place(at, m * sizeof(float));
  v.first = place(at, m * ((uint64_t)v.n_tiles + 1) * sizeof(int32_t));
  v.outlier = place(at, m * (uint64_t)k * sizeof(struct cuda_outlier));
  return v;
}

static struct cuda_rounded rounded_layout(uint64_t *at, int32_t max_rows, int32_t k) {
  uint64_t m = (uint64_t)max_rows;
  struct cuda_rounded v = {.k = k, .stride = tiles(k) * CUDA_K_TILE};
  v.x16 = place(at, m * (uint64_t)v.stride * sizeof(uint16_t));
  v.pow2e = place(at, m * sizeof(float));
  return v;
}

struct cuda_quantized cuda_quantized_at(uint64_t base, int32_t max_rows, int32_t k) {
  return quantized_layout(&base, max_rows, k);
}

struct cuda_rounded cuda_rounded_at(uint64_t base, int32_t max_rows, int32_t k) {
  return rounded_layout(&base, max_rows, k);
}

static size_t fits(uint64_t bytes) {
  return bytes > SIZE_MAX / 2 ? 0 : (size_t)bytes;
}

size_t cuda_quantized_bytes(int32_t max_rows, int32_t k) {
  uint64_t end = 0;
  quantized_layout(&end, max_rows, k);
  return fits(end);
}

size_t cuda_rounded_bytes(int32_t max_rows, int32_t k) {
  uint64_t end = 0;
  rounded_layout(&end, max_rows, k);
  return fits(end);
}

size_t cuda_q16_bytes(int32_t max_rows, int32_t width) {
  return fits((uint64_t)max_rows * (uint64_t)width * sizeof(uint16_t));
}

/* ---- a page: for each layer and KV head, K as f16 [head_dim][256], then V as f16 [256][head_dim] -------------------
 */

/** Halves of K, and of V, of a head. */
static size_t head_halves(const otr_kv_shape *s) {
  return (size_t)s->head_dim * OTR_CHUNK;
}

size_t cuda_kv_page_bytes(const otr_kv_shape *s) {
  size_t bytes;
  if (!otr_size_mul(head_halves(s) * 2 * sizeof(uint16_t), (size_t)s->n_layers, &bytes) ||
      !otr_size_mul(bytes, (size_t)s->n_kv_heads, &bytes) || !otr_size_round(bytes, ALIGNMENT, &bytes))
    return 0;
  return bytes;
}

cuda_piece cuda_kv_layer(const otr_kv_shape *s, int32_t layer) {
  size_t bytes = head_halves(s) * 2 * sizeof(uint16_t) * (size_t)s->n_kv_heads;
  return (cuda_piece){bytes * (size_t)layer, bytes};
}

void cuda_kv_get(const otr_kv_shape *s, const void *layer_bytes, int32_t first, int32_t n, uint16_t *k, uint16_t *v) {
  size_t d = (size_t)s->head_dim;
  for (int32_t h = 0; h < s->n_kv_heads; h++) {
    const uint16_t *keys = (const uint16_t *)layer_bytes + (size_t)h * 2 * head_halves(s);
    const uint16_t *values = keys + head_halves(s) + (size_t)first * d;
    for (size_t i = 0; i < (size_t)n; i++) {
      size_t at = (i * (size_t)s->n_kv_heads + (size_t)h) * d;
      for (size_t j = 0; j < d; j++) k[at + j] = keys[j * OTR_CHUNK + (size_t)first + i];
      memcpy(v + at, values + i * d, d * sizeof *v);
    }
  }
}

void cuda_kv_put(const otr_kv_shape *s, void *layer_bytes, int32_t first, int32_t n, const uint16_t *k,
                 const uint16_t *v) {
  size_t d = (size_t)s->head_dim;
  for (int32_t h = 0; h < s->n_kv_heads; h++) {
    uint16_t *keys = (uint16_t *)layer_bytes + (size_t)h * 2 * head_halves(s);
    uint16_t *values = keys + head_halves(s) + (size_t)first * d;
    for (size_t i = 0; i < (size_t)n; i++) {
      size_t at = (i * (size_t)s->n_kv_heads + (size_t)h) * d;
      for (size_t j = 0; j < d; j++) keys[j * OTR_CHUNK + (size_t)first + i] = (uint16_t)otr_f16_clean(k[at + j]);
      for (size_t j = 0; j < d; j++) values[i * d + j] = (uint16_t)otr_f16_clean(v[at + j]);
    }
  }
}

/* ---- the canonical forms of rows --------------------------------------------------------------------------------- */

int32_t cuda_quantized_pieces(int32_t max_rows, int32_t k, int32_t row, cuda_piece piece[CUDA_ROW_PIECES]) {
  struct cuda_quantized v = cuda_quantized_at(0, max_rows, k);
  size_t i = (size_t)row, firsts = (size_t)v.n_tiles + 1;
  piece[0] = (cuda_piece){(size_t)v.q + i * (size_t)v.stride, (size_t)k};
  piece[1] = (cuda_piece){(size_t)v.scale + i * sizeof(float), sizeof(float)};
  piece[2] = (cuda_piece){(size_t)v.pow2e + i * sizeof(float), sizeof(float)};
  piece[3] = (cuda_piece){(size_t)v.first + i * firsts * sizeof(int32_t), firsts * sizeof(int32_t)};
  size_t outliers = (size_t)k * sizeof(struct cuda_outlier);
  piece[4] = (cuda_piece){(size_t)v.outlier + i * outliers, outliers};
  return 5;
}

void cuda_quantized_decode(int32_t k, const void *const piece[CUDA_ROW_PIECES], int8_t *q, float *scale, float *pow2e,
                           int32_t *n_outliers, int32_t *outliers, uint16_t *x16) {
  int32_t n;
  memcpy(&n, (const int32_t *)piece[3] + tiles(k), sizeof n);
  if (n < 0 || n > k) n = 0;
  if (q) memcpy(q, piece[0], (size_t)k);
  if (scale) memcpy(scale, piece[1], sizeof *scale);
  if (pow2e) memcpy(pow2e, piece[2], sizeof *pow2e);
  if (n_outliers) *n_outliers = n;
  for (int32_t i = 0; i < n; i++) {
    struct cuda_outlier o;
    memcpy(&o, (const struct cuda_outlier *)piece[4] + i, sizeof o);
    if (outliers) outliers[i] = o.feature;
    if (x16) x16[i] = (uint16_t)otr_f16_bits(o.x16);
  }
}

int32_t cuda_rounded_pieces(int32_t max_rows, int32_t k, int32_t row, cuda_piece piece[CUDA_ROW_PIECES]) {
  struct cuda_rounded v = cuda_rounded_at(0, max_rows, k);
  size_t i = (size_t)row;
  piece[0] = (cuda_piece){(size_t)v.x16 + i * (size_t)v.stride * sizeof(uint16_t), (size_t)k * sizeof(uint16_t)};
  piece[1] = (cuda_piece){(size_t)v.pow2e + i * sizeof(float), sizeof(float)};
  return 2;
}

void cuda_rounded_decode(int32_t k, const void *const piece[CUDA_ROW_PIECES], uint16_t *x16, float *pow2e) {
  if (x16) memcpy(x16, piece[0], (size_t)k * sizeof *x16);
  if (pow2e) memcpy(pow2e, piece[1], sizeof *pow2e);
}
