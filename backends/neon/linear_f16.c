// SPDX-License-Identifier: Apache-2.0
/* f16 linears, for all NEON variants: conversions and fused multiply-adds that every 64-bit Arm has. lanesum<16> of an
 * output is four vectors. Four rows of weights are tidied once and then used for all rows of x. */
#define FROM_PANEL 0
#include "linear_block.h"
#include "linear_neon.h"

#define OUTPUTS 4   /* weight rows at once */
#define TILE_ROWS 2 /* rows of x at once: 16 sums */

/** 8 f16 as two vectors of f32. */
#define WIDEN(low, high, from)                                        \
  float16x8_t from##_halves = vreinterpretq_f16_u16(vld1q_u16(from)); \
  float32x4_t low = vcvt_f32_f16(vget_low_f16(from##_halves)), high = vcvt_high_f32_f16(from##_halves);

/** h = 8, 4, 2 and 1 of two outputs. */
INLINE float32x2_t lanesums(const float32x4_t p[4], const float32x4_t q[4]) {
  float32x4_t a = vaddq_f32(vaddq_f32(p[0], p[2]), vaddq_f32(p[1], p[3]));
  float32x4_t b = vaddq_f32(vaddq_f32(q[0], q[2]), vaddq_f32(q[1], q[3]));
  return vpadd_f32(vadd_f32(vget_low_f32(a), vget_high_f32(a)), vadd_f32(vget_low_f32(b), vget_high_f32(b)));
}

/** Lanes 8 * half ... 8 * half + 7 of 16 inputs: `rows` rows of x by two of weights. */
INLINE void half_step(int rows, int half, float32x4_t sum[TILE_ROWS][2][4], const uint16_t *w, size_t w_stride,
                      const uint16_t *x, size_t x_stride) {
  const uint16_t *other = w + w_stride;
  WIDEN(w0_low, w0_high, w)
  WIDEN(w1_low, w1_high, other)
#pragma GCC unroll 2
  for (int r = 0; r < rows; r++, x += x_stride) {
    WIDEN(x_low, x_high, x)
    sum[r][0][2 * half] = vfmaq_f32(sum[r][0][2 * half], x_low, w0_low);
    sum[r][0][2 * half + 1] = vfmaq_f32(sum[r][0][2 * half + 1], x_high, w0_high);
    sum[r][1][2 * half] = vfmaq_f32(sum[r][1][2 * half], x_low, w1_low);
    sum[r][1][2 * half + 1] = vfmaq_f32(sum[r][1][2 * half + 1], x_high, w1_high);
  }
}

/** sums [rows][OUTPUTS] of two outputs. */
INLINE void tile(int rows, float *sums, const uint16_t *w, size_t halves, const uint16_t *x, size_t x_stride) {
  float32x4_t sum[TILE_ROWS][2][4];
#pragma GCC unroll 16
  for (int t = 0; t < TILE_ROWS * 8; t++) sum[t / 8][t / 4 % 2][t % 4] = vdupq_n_f32(0.0f);
  for (size_t k = 0; k < halves; k += 16) {
    half_step(rows, 0, sum, w + k, halves, x + k, x_stride);
    half_step(rows, 1, sum, w + k + 8, halves, x + k + 8, x_stride);
  }
#pragma GCC unroll 2
  for (int r = 0; r < rows; r++) vst1_f32(sums + OUTPUTS * r, lanesums(sum[r][0], sum[r][1]));
}

static void tile1(float *sums, const uint16_t *w, size_t halves, const uint16_t *x, size_t x_stride) {
  tile(1, sums, w, halves, x, x_stride);
}
static void tile2(float *sums, const uint16_t *w, size_t halves, const uint16_t *x, size_t x_stride) {
  tile(2, sums, w, halves, x, x_stride);
}

typedef void (*tile_fn)(float *sums, const uint16_t *w, size_t halves, const uint16_t *x, size_t x_stride);
static const tile_fn tiles[TILE_ROWS] = {tile1, tile2};

/** Rows n ... n + 3 of w, beyond n1 the last one again, tidied to [4][halves]. */
static void copy_rows(uint16_t *to, const otr_host_weight *w, int32_t n, int32_t n1, size_t halves) {
  for (int32_t r = 0; r < OUTPUTS; r++, to += halves) {
    const uint16_t *row = (const uint16_t *)w->data + (size_t)(n + r < n1 ? n + r : n1 - 1) * (size_t)w->row_stride;
    for (size_t k = 0; k < halves; k += 8) vst1q_u16(to + k, tidy_f16(vld1q_u16(row + k)));
  }
}

typedef struct four_outputs {
  float32x4_t scale, bias;
  int32_t n, live;
} four_outputs;

static four_outputs outputs_at(const otr_host_weight *w, int32_t n, int32_t n1) {
  float scale[OUTPUTS] = {0}, bias[OUTPUTS] = {0};
  int32_t live = n1 - n < OUTPUTS ? n1 - n : OUTPUTS;
  memcpy(scale, w->scale + n, (size_t)live * sizeof *scale);
  if (w->bias) memcpy(bias, w->bias + n, (size_t)live * sizeof *bias);
  return (four_outputs){vld1q_f32(scale), vld1q_f32(bias), n, live};
}

INLINE void finish_four(uint32x4_t *worst, float *y, const four_outputs *o, const float *sums, float pow2e,
                        int has_bias) {
  float32x4_t v = vmulq_f32(vmulq_n_f32(vld1q_f32(sums), pow2e), o->scale);
  if (has_bias) v = vaddq_f32(v, o->bias);
  v = tidy4(worst, v);
  if (o->live == OUTPUTS) {
    vst1q_f32(y + o->n, v);
    return;
  }
  float part[OUTPUTS];
  vst1q_f32(part, v);
  memcpy(y + o->n, part, (size_t)o->live * sizeof *y);
}

void otr_linear16_neon(otr_found *found, float *y, size_t y_stride, const otr_rounded *x, const otr_host_weight *w,
                       int32_t m, int32_t n0, int32_t n1, void *scratch) {
  uint16_t *rows = scratch;
  size_t halves = row_bytes(w->k), x_stride = (size_t)x->stride;
  uint32x4_t worst = vdupq_n_u32(0);
  for (int32_t n = n0; n < n1; n += OUTPUTS) {
    four_outputs o = outputs_at(w, n, n1);
    copy_rows(rows, w, n, n1, halves);
    for (int32_t i = 0, count; i < m; i += count) {
      float sums[TILE_ROWS * OUTPUTS];
      count = m - i < TILE_ROWS ? m - i : TILE_ROWS;
      for (size_t c = 0; c < OUTPUTS; c += 2)
        tiles[count - 1](sums + c, rows + c * halves, halves, x->x16 + (size_t)i * x_stride, x_stride);
      for (int32_t r = 0; r < count; r++)
        finish_four(&worst, y + (size_t)(i + r) * y_stride, &o, sums + OUTPUTS * r, x->pow2e[i + r], w->bias != NULL);
    }
  }
  uint32_t most = vmaxvq_u32(worst);
  if (most > found->worst) found->worst = most;
}
