// SPDX-License-Identifier: Apache-2.0
/* How the CPU backends lay out quantized and rounded activations in one piece of memory. */
#include "kernels.h"

#define ALIGN 64

static size_t rounded_up(size_t n, size_t to) {
  return (n + to - 1) / to * to;
}

/** Takes `bytes` at *at, 64-byte aligned. Row counts and k are bounded (2^20, 2^17), so 64 bits cannot wrap. */
static size_t place(uint64_t *at, uint64_t bytes) {
  uint64_t start = *at;
  *at = start + (bytes + ALIGN - 1) / ALIGN * ALIGN;
  return (size_t)start;
}

static size_t fits(uint64_t bytes) {
  return bytes > SIZE_MAX / 2 ? 0 : (size_t)bytes;
}

typedef struct quantized_places {
  size_t q, scale, pow2e, sum, n_out, out_index, out_value, lanes;
  uint64_t end;
} quantized_places;

static quantized_places quantized_layout(int32_t max_rows, int32_t k) {
  uint64_t m = (uint64_t)max_rows, stride = rounded_up((size_t)k, 64);
  quantized_places p = {0};
  p.q = place(&p.end, m * stride);
  p.scale = place(&p.end, m * 4);
  p.pow2e = place(&p.end, m * 4);
  p.sum = place(&p.end, m * 4);
  p.n_out = place(&p.end, m * 4);
  p.out_index = place(&p.end, m * (uint64_t)k * 4);
  p.out_value = place(&p.end, m * (uint64_t)k * 4);
  p.lanes = place(&p.end, m * sizeof(otr_outlier_lanes));
  return p;
}

size_t otr_quantized_bytes(int32_t max_rows, int32_t k) {
  return fits(quantized_layout(max_rows, k).end);
}

otr_quantized otr_quantized_view(void *base, int32_t max_rows, int32_t k) {
  quantized_places p = quantized_layout(max_rows, k);
  char *b = base;
  return (otr_quantized){
      .k = k,
      .q_stride = (int32_t)rounded_up((size_t)k, 64),
      .q = (int8_t *)(b + p.q),
      .scale = (float *)(void *)(b + p.scale),
      .pow2e = (float *)(void *)(b + p.pow2e),
      .sum = (int32_t *)(void *)(b + p.sum),
      .n_out = (int32_t *)(void *)(b + p.n_out),
      .out_index = (int32_t *)(void *)(b + p.out_index),
      .out_value = (float *)(void *)(b + p.out_value),
      .lanes = (otr_outlier_lanes *)(void *)(b + p.lanes),
  };
}

/** Lanes `lane` and lane + 2 to the same length. */
static void even_lanes(otr_outlier_lanes *l, const int32_t count[4], int32_t lane) {
  int32_t a = count[lane], b = count[lane + 2], longest = a > b ? a : b;
  for (; a < longest; a++) l->at[a][lane] = (otr_outlier_place){0, 0.0f};
  for (; b < longest; b++) l->at[b][lane + 2] = (otr_outlier_place){0, 0.0f};
  l->rounds[lane] = (int8_t)longest;
}

void otr_quantized_group(const otr_quantized *out, int32_t row) {
  otr_outlier_lanes *l = &out->lanes[row];
  const int32_t *index = out->out_index + (size_t)row * (size_t)out->k;
  const float *value = out->out_value + (size_t)row * (size_t)out->k;
  int32_t count[4] = {0, 0, 0, 0};
  for (int32_t j = 0; j < out->n_out[row]; j++) {
    int32_t lane = index[j] & 3, at = count[lane]++;
    if (at == OTR_LANE_OUTLIERS) {
      l->rounds[0] = -1;
      return;
    }
    l->at[at][lane] = (otr_outlier_place){index[j], value[j] * out->pow2e[row]};
  }
  for (int32_t lane = 0; lane < 4; lane++) l->count[lane] = (uint8_t)count[lane];
  even_lanes(l, count, 0);
  even_lanes(l, count, 1);
}

void otr_quantized_columns(const otr_quantized *x, int32_t m, otr_columns *out) {
  out->n = 0;
  out->slot[0] = 0; /* unused places of the lanes name feature 0 */
  for (int32_t i = 0; i < m; i++) {
    const int32_t *f = x->out_index + (size_t)i * (size_t)x->k, *end = f + x->n_out[i];
    for (; f < end; f++) {
      int32_t slot = out->slot[*f]; /* of these rows, if the feature agrees */
      if (slot < out->n && out->feature[slot] == *f) continue;
      if (out->n == OTR_COLUMNS) {
        out->n = -1;
        return;
      }
      out->slot[*f] = (uint8_t)out->n;
      out->feature[out->n++] = *f;
    }
  }
}

size_t otr_rounded_bytes(int32_t max_rows, int32_t k) {
  uint64_t end = 0;
  place(&end, (uint64_t)max_rows * rounded_up((size_t)k, 32) * 2);
  place(&end, (uint64_t)max_rows * 4);
  return fits(end);
}

otr_rounded otr_rounded_view(void *base, int32_t max_rows, int32_t k) {
  uint64_t end = 0;
  size_t stride = rounded_up((size_t)k, 32);
  size_t x16 = place(&end, (uint64_t)max_rows * stride * 2);
  size_t pow2e = place(&end, (uint64_t)max_rows * 4);
  char *b = base;
  return (otr_rounded){
      .k = k, .stride = (int32_t)stride, .x16 = (uint16_t *)(void *)(b + x16), .pow2e = (float *)(void *)(b + pow2e)};
}
