// SPDX-License-Identifier: Apache-2.0
#include "vulkan_layout.h"

#include <string.h>

#include "numerics.h"
#include "shaders/quantized.glsl"

enum { ALIGN = 256, WORD = 4, SIXTEEN_WORDS = 4, SIXTEEN_PAIRS = 8 };

static uint64_t aligned(uint64_t bytes) {
  return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

/* Rows and k are bounded (2^20, 2^17), so 64 bits cannot wrap. */
static size_t fits(uint64_t bytes) {
  return bytes > SIZE_MAX / 2 ? 0 : (size_t)bytes;
}

vulkan_quantized_places vulkan_quantized_layout(int32_t max_rows, int32_t k) {
  uint64_t rows = (uint64_t)max_rows;
  vulkan_quantized_places p = {.row_words = (uint32_t)(k + 15) / 16 * SIXTEEN_WORDS,
                               .lane_words = (uint32_t)(k + 3) / 4};
  p.q = aligned(rows * QUANTIZED_HEAD * WORD);
  p.list = p.q + aligned(rows * p.row_words * WORD);
  p.end = p.list + aligned(rows * 4 * p.lane_words * WORD);
  return p;
}

vulkan_rounded_places vulkan_rounded_layout(int32_t max_rows, int32_t k) {
  uint64_t rows = (uint64_t)max_rows;
  vulkan_rounded_places p = {.row_words = (uint32_t)(k + 15) / 16 * SIXTEEN_PAIRS};
  p.x16 = aligned(rows * WORD);
  p.end = p.x16 + aligned(rows * p.row_words * WORD);
  return p;
}

size_t vulkan_quantized_bytes(int32_t max_rows, int32_t k) {
  return fits(vulkan_quantized_layout(max_rows, k).end);
}

size_t vulkan_rounded_bytes(int32_t max_rows, int32_t k) {
  return fits(vulkan_rounded_layout(max_rows, k).end);
}

size_t vulkan_q16_bytes(int32_t max_rows, int32_t width) {
  return fits((uint64_t)max_rows * (uint64_t)width * WORD);
}

static uint64_t key_words(const otr_kv_shape *s) {
  return ((uint64_t)s->head_dim + 7) / 8 * SIXTEEN_WORDS * OTR_CHUNK;
}

static uint64_t value_words(const otr_kv_shape *s) {
  return ((uint64_t)s->head_dim + 1) / 2 * OTR_CHUNK;
}

size_t vulkan_kv_layer_bytes(const otr_kv_shape *shape) {
  return fits((uint64_t)shape->n_kv_heads * (key_words(shape) + value_words(shape)) * WORD);
}

/* ---- the canonical forms ----------------------------------------------------------------------------------------- */

/** A row's outliers, given lane by lane, by ascending feature. */
static void read_outliers(const uint32_t *head, const uint32_t *list, uint32_t lane_words, int32_t *outliers,
                          uint16_t *x16) {
  uint32_t at[4] = {0};
  for (uint32_t n = 0; n < head[QUANTIZED_COUNT]; n++) {
    uint32_t next = UINT32_MAX, from = 0, entry = 0;
    for (uint32_t lane = 0; lane < 4; lane++) {
      if (at[lane] == head[QUANTIZED_LANES + lane] || at[lane] == lane_words) continue;
      uint32_t e = list[lane * lane_words + at[lane]];
      if (outlier_feature(e, lane) >= next) continue;
      next = outlier_feature(e, lane);
      from = lane;
      entry = e;
    }
    if (next == UINT32_MAX) return;
    at[from]++;
    if (outliers) outliers[n] = (int32_t)next;
    if (x16) x16[n] = (uint16_t)(entry & 0xffffu);
  }
}

void vulkan_quantized_row(const void *layout, int32_t max_rows, int32_t k, int32_t row, int8_t *q, float *scale,
                          float *pow2e, int32_t *n_outliers, int32_t *outliers, uint16_t *x16) {
  vulkan_quantized_places p = vulkan_quantized_layout(max_rows, k);
  const unsigned char *bytes = layout;
  size_t r = (size_t)row;
  const uint32_t *head = (const uint32_t *)layout + r * QUANTIZED_HEAD;
  const uint32_t *list = (const uint32_t *)layout + p.list / WORD + r * 4 * p.lane_words;
  if (q) memcpy(q, bytes + p.q + r * p.row_words * WORD, (size_t)k);
  if (scale) *scale = OTR_FLOAT(head[QUANTIZED_SCALE]);
  if (pow2e) *pow2e = OTR_FLOAT(head[QUANTIZED_POW2E]);
  if (n_outliers) *n_outliers = (int32_t)head[QUANTIZED_COUNT];
  if (outliers || x16) read_outliers(head, list, p.lane_words, outliers, x16);
}

void vulkan_rounded_row(const void *layout, int32_t max_rows, int32_t k, int32_t row, uint16_t *x16, float *pow2e) {
  vulkan_rounded_places p = vulkan_rounded_layout(max_rows, k);
  const unsigned char *bytes = layout;
  if (x16) memcpy(x16, bytes + p.x16 + (size_t)row * p.row_words * WORD, (size_t)k * sizeof *x16);
  if (pow2e) memcpy(pow2e, bytes + (size_t)row * WORD, sizeof *pow2e);
}

void vulkan_q16_row(const void *layout, int32_t width, int32_t row, uint16_t *f16) {
  const float *values = (const float *)layout + (size_t)row * (size_t)width;
  for (int32_t i = 0; i < width; i++) f16[i] = (uint16_t)otr_f16_bits(values[i]);
}

/* Halves of a layer: where feature `d` of a position's key and value lie, for one KV head. */
static size_t key_half(size_t position, size_t d) {
  return (d / 8 * OTR_CHUNK + position) * 8 + d % 8;
}

static size_t value_half(const otr_kv_shape *s, size_t position, size_t d) {
  return 2 * (size_t)key_words(s) + position * (((size_t)s->head_dim + 1) / 2 * 2) + d;
}

static size_t head_halves(const otr_kv_shape *s) {
  return 2 * (size_t)(key_words(s) + value_words(s));
}

void vulkan_kv_get(const otr_kv_shape *shape, const void *layer_bytes, int32_t first, int32_t n, uint16_t *k,
                   uint16_t *v) {
  size_t heads = (size_t)shape->n_kv_heads, dim = (size_t)shape->head_dim, at = 0;
  for (size_t i = (size_t)first; i < (size_t)(first + n); i++)
    for (size_t h = 0; h < heads; h++) {
      const uint16_t *head = (const uint16_t *)layer_bytes + h * head_halves(shape);
      for (size_t d = 0; d < dim; d++, at++) {
        k[at] = head[key_half(i, d)];
        v[at] = head[value_half(shape, i, d)];
      }
    }
}

void vulkan_kv_put(const otr_kv_shape *shape, void *layer_bytes, int32_t first, int32_t n, const uint16_t *k,
                   const uint16_t *v) {
  size_t heads = (size_t)shape->n_kv_heads, dim = (size_t)shape->head_dim, at = 0;
  for (size_t i = (size_t)first; i < (size_t)(first + n); i++)
    for (size_t h = 0; h < heads; h++) {
      uint16_t *head = (uint16_t *)layer_bytes + h * head_halves(shape);
      for (size_t d = 0; d < dim; d++, at++) {
        head[key_half(i, d)] = (uint16_t)otr_f16_clean(k[at]);
        head[value_half(shape, i, d)] = (uint16_t)otr_f16_clean(v[at]);
      }
    }
}
