// SPDX-License-Identifier: Apache-2.0
/* Blocks of 16 outputs: what the linears of all NEON variants share. Weights are read where they lie; only the last
 * rows of a weight, fewer than 16, are copied beside rows of zeros. */
#ifndef OTR_LINEAR_BLOCK_H
#define OTR_LINEAR_BLOCK_H

#include <arm_neon.h>
#include <string.h>

#include "kernels.h"

#define INLINE static inline __attribute__((always_inline))
#define BLOCK 16

/** 32 bytes, *p going on behind them. */
INLINE void load_pair(const int8_t **p, int8x16_t *a, int8x16_t *b) {
  __asm__("ldp %q0, %q1, [%2], #32" : "=w"(*a), "=w"(*b), "+r"(*p)::"memory");
}

typedef struct block {
  const int8_t *rows; /* [16], `stride` bytes from one to the next */
  size_t stride;
  const float *scale, *bias; /* [16]; bias NULL: none */
  int32_t n, live;           /* first output; outputs that there are */
  const int8_t *laid; /* the same rows as linear_i8mm.c lays them out, the last 8 `laid_half` bytes behind; or NULL */
  size_t laid_half;
} block;

typedef struct job {
  const otr_quantized *x;
  const otr_host_weight *w;
  float *y;
  size_t y_stride;
  int8_t *spare;     /* [16][row_bytes] the last rows of the weight */
  float *spare_rest; /* [2][16] their scales and biases */
  uint32x4_t worst;  /* of otr_found */
} job;

/** k rounded up to what a weight row surely holds. */
INLINE size_t row_bytes(int32_t k) {
  return ((size_t)k + 15) & ~(size_t)15;
}

INLINE size_t job_scratch(int32_t k) {
  return BLOCK * row_bytes(k) + 2 * BLOCK * sizeof(float);
}

/** @return the scratch behind the job's. */
INLINE void *job_begin(job *j, void *scratch) {
  j->spare = scratch;
  j->spare_rest = (float *)(void *)(j->spare + BLOCK * row_bytes(j->w->k));
  j->worst = vdupq_n_u32(0);
  return j->spare_rest + 2 * BLOCK;
}

INLINE void job_end(const job *j, otr_found *found) {
  uint32_t worst = vmaxvq_u32(j->worst);
  if (worst > found->worst) found->worst = worst;
}

static block copied_block(const job *j, int32_t n, int32_t live) {
  size_t bytes = row_bytes(j->w->k), count = (size_t)live;
  float *scale = j->spare_rest, *bias = scale + BLOCK;
  memset(j->spare, 0, BLOCK * bytes + 2 * BLOCK * sizeof(float));
  for (size_t r = 0; r < count; r++)
    memcpy(j->spare + r * bytes, (const int8_t *)j->w->data + ((size_t)n + r) * (size_t)j->w->row_stride, bytes);
  memcpy(scale, j->w->scale + n, count * sizeof *scale);
  if (j->w->bias) memcpy(bias, j->w->bias + n, count * sizeof *bias);
  return (block){j->spare, bytes, scale, j->w->bias ? bias : NULL, n, live, NULL, 0};
}

/** Outputs n ... n + 15, those from n1 on being nobody's. */
INLINE block block_at(const job *j, int32_t n, int32_t n1) {
  size_t stride = (size_t)j->w->row_stride;
  if (n1 - n < BLOCK) return copied_block(j, n, n1 - n);
  return (block){(const int8_t *)j->w->data + (size_t)n * stride,
                 stride,
                 j->w->scale + n,
                 j->w->bias ? j->w->bias + n : NULL,
                 n,
                 BLOCK,
                 NULL,
                 0};
}

/** f16 bits of a file as the contract reads them: exponent 0 is +0, exponent 31 is +-65504. */
INLINE uint16x8_t tidy_f16(uint16x8_t h) {
  uint16x8_t a = vminq_u16(vbicq_u16(h, vdupq_n_u16(0x8000)), vdupq_n_u16(0x7bff));
  uint16x8_t normal = vcgtq_u16(a, vdupq_n_u16(0x03ff));
  return vandq_u16(normal, vbslq_u16(vdupq_n_u16(0x8000), h, a));
}

/** y[0 ... 3] = tidy(v). */
INLINE float32x4_t tidy4(uint32x4_t *worst, float32x4_t v) {
  uint32x4_t a = vreinterpretq_u32_f32(vabsq_f32(v));
  *worst = vmaxq_u32(*worst, a);
  return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(v), vcgeq_u32(a, vdupq_n_u32(OTR_BITS_2M40))));
}

/** 16 f32. */
typedef struct quads {
  float32x4_t of[4];
} quads;

INLINE void quads_store(float *p, quads v) {
  vst1q_f32(p, v.of[0]);
  vst1q_f32(p + 4, v.of[1]);
  vst1q_f32(p + 8, v.of[2]);
  vst1q_f32(p + 12, v.of[3]);
}

/** Room for 16 bytes, each the highest of an int32; the others are 0. */
typedef struct picks {
  int32x4_t of[4];
} picks;

/** sum + x * the weights of `feature`, as the int8 rows hold them. */
INLINE void add_picked(quads *sum, picks *room, const int8_t *rows, size_t stride, int32_t feature, float x) {
  const int8_t *p = rows + feature;
#define PICK4(v)          \
  "ld1 {%" #v             \
  ".b}[3], [%4], %5\n\t"  \
  "ld1 {%" #v             \
  ".b}[7], [%4], %5\n\t"  \
  "ld1 {%" #v             \
  ".b}[11], [%4], %5\n\t" \
  "ld1 {%" #v ".b}[15], [%4], %5\n\t"
  __asm__(PICK4(0) PICK4(1) PICK4(2) PICK4(3)
          : "+w"(room->of[0]), "+w"(room->of[1]), "+w"(room->of[2]), "+w"(room->of[3]), "+r"(p)
          : "r"(stride)
          : "memory");
#undef PICK4
  sum->of[0] = vfmaq_n_f32(sum->of[0], vcvtq_n_f32_s32(room->of[0], 24), x);
  sum->of[1] = vfmaq_n_f32(sum->of[1], vcvtq_n_f32_s32(room->of[1], 24), x);
  sum->of[2] = vfmaq_n_f32(sum->of[2], vcvtq_n_f32_s32(room->of[2], 24), x);
  sum->of[3] = vfmaq_n_f32(sum->of[3], vcvtq_n_f32_s32(room->of[3], 24), x);
}

#if FROM_PANEL
/** The same, as the panel holds them: a vector of it has 8 inputs of two rows, from which TBL takes one each; what is
 * out of its table is 0. */
INLINE void add_laid(quads *sum, block b, int32_t feature, float x) {
#define PICK(f) \
  { 99, 99, 99, f, 99, 99, 99, 8 + f, 99, 99, 99, 16 + f, 99, 99, 99, 24 + f }
  static const uint8_t index[8][16] = {PICK(0), PICK(1), PICK(2), PICK(3), PICK(4), PICK(5), PICK(6), PICK(7)};
#undef PICK
  const int8_t *p = b.laid + (size_t)(uint32_t)(feature & ~7) * 8;
  uint8x16_t at = vld1q_u8(index[feature & 7]);
  int32x4_t v0, v1, v2, v3;
#define TABLE "ld1 {v28.16b, v29.16b, v30.16b, v31.16b}, "
  __asm__(TABLE
          "[%4]\n\t"
          "tbl %0.16b, {v28.16b, v29.16b}, %6.16b\n\t"
          "tbl %1.16b, {v30.16b, v31.16b}, %6.16b\n\t" TABLE
          "[%5]\n\t"
          "tbl %2.16b, {v28.16b, v29.16b}, %6.16b\n\t"
          "tbl %3.16b, {v30.16b, v31.16b}, %6.16b"
          : "=&w"(v0), "=&w"(v1), "=&w"(v2), "=&w"(v3)
          : "r"(p), "r"(p + b.laid_half), "w"(at)
          : "v28", "v29", "v30", "v31", "memory");
#undef TABLE
  sum->of[0] = vfmaq_n_f32(sum->of[0], vcvtq_n_f32_s32(v0, 24), x);
  sum->of[1] = vfmaq_n_f32(sum->of[1], vcvtq_n_f32_s32(v1, 24), x);
  sum->of[2] = vfmaq_n_f32(sum->of[2], vcvtq_n_f32_s32(v2, 24), x);
  sum->of[3] = vfmaq_n_f32(sum->of[3], vcvtq_n_f32_s32(v3, 24), x);
}
#endif

/** sum + x * the weights at `place` of the static columns. */
INLINE void add_static(quads *sum, const otr_host_weight *w, block b, int32_t place, float x) {
  const uint16_t *column = w->static_cols + (size_t)place * (size_t)w->n + b.n;
  uint16_t copy[BLOCK] = {0};
  if (b.live < BLOCK) column = memcpy(copy, column, (size_t)b.live * sizeof *copy);
  float16x8_t low = vreinterpretq_f16_u16(tidy_f16(vld1q_u16(column)));
  float16x8_t high = vreinterpretq_f16_u16(tidy_f16(vld1q_u16(column + 8)));
  sum->of[0] = vfmaq_n_f32(sum->of[0], vcvt_f32_f16(vget_low_f16(low)), x);
  sum->of[1] = vfmaq_n_f32(sum->of[1], vcvt_high_f32_f16(low), x);
  sum->of[2] = vfmaq_n_f32(sum->of[2], vcvt_f32_f16(vget_low_f16(high)), x);
  sum->of[3] = vfmaq_n_f32(sum->of[3], vcvt_high_f32_f16(high), x);
}

INLINE void add_outlier(quads *sum, picks *room, const otr_host_weight *w, block b, int32_t feature, float x,
                        int with_static) {
  int32_t place = !with_static ? -1 : w->static_slot ? w->static_slot[feature] : feature;
  if (place >= 0)
    add_static(sum, w, b, place, x);
  else
#if FROM_PANEL
    add_laid(sum, b, feature, x), (void)room;
#else
    add_picked(sum, room, b.rows, b.stride, feature, x);
#endif
}

/** The outliers of one lane, from the row's list of them. */
INLINE quads lane_sum(const otr_outlier_lanes *l, int lane, const otr_host_weight *w, block b, int with_static) {
  quads sum = {{vdupq_n_f32(0.0f), vdupq_n_f32(0.0f), vdupq_n_f32(0.0f), vdupq_n_f32(0.0f)}};
  picks room = {{vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)}};
  for (const otr_outlier_place *p = &l->at[0][lane], *end = p + 4 * l->count[lane]; p != end; p += 4)
    add_outlier(&sum, &room, w, b, p->feature, p->x, with_static);
  return sum;
}

/** The same from all of the row's outliers. */
static quads long_lane_sum(const otr_quantized *x, int32_t i, int lane, const otr_host_weight *w, block b) {
  quads sum = {{vdupq_n_f32(0.0f), vdupq_n_f32(0.0f), vdupq_n_f32(0.0f), vdupq_n_f32(0.0f)}};
  picks room = {{vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)}};
  const int32_t *index = x->out_index + (size_t)i * (size_t)x->k;
  const float *value = x->out_value + (size_t)i * (size_t)x->k;
  for (int32_t t = 0; t < x->n_out[i]; t++)
    if (index[t] % OTR_LANES_DOT == lane)
      add_outlier(&sum, &room, w, b, index[t], value[t] * x->pow2e[i], w->n_static > 0);
  return sum;
}

INLINE quads quads_add(quads a, quads b) {
  return (quads){{vaddq_f32(a.of[0], b.of[0]), vaddq_f32(a.of[1], b.of[1]), vaddq_f32(a.of[2], b.of[2]),
                  vaddq_f32(a.of[3], b.of[3])}};
}

/* lanesum<4> of row i's outliers, times 2^e_i: that factor went into x, which is exact. Three functions that are not
 * inlined: most rows pay for the first alone, and once for each variant of the kernel is enough. */
#define SUM_FN static __attribute__((noinline)) void

SUM_FN sum_listed(const job *j, const block *b, int32_t i, float out[BLOCK]) {
  const otr_outlier_lanes *l = &j->x->lanes[i];
  quads even = quads_add(lane_sum(l, 0, j->w, *b, 0), lane_sum(l, 2, j->w, *b, 0));
  quads_store(out, quads_add(even, quads_add(lane_sum(l, 1, j->w, *b, 0), lane_sum(l, 3, j->w, *b, 0))));
}

SUM_FN sum_listed_static(const job *j, const block *b, int32_t i, float out[BLOCK]) {
  const otr_outlier_lanes *l = &j->x->lanes[i];
  quads even = quads_add(lane_sum(l, 0, j->w, *b, 1), lane_sum(l, 2, j->w, *b, 1));
  quads_store(out, quads_add(even, quads_add(lane_sum(l, 1, j->w, *b, 1), lane_sum(l, 3, j->w, *b, 1))));
}

SUM_FN sum_all(const job *j, const block *b, int32_t i, float out[BLOCK]) {
  quads even = quads_add(long_lane_sum(j->x, i, 0, j->w, *b), long_lane_sum(j->x, i, 2, j->w, *b));
  quads_store(out,
              quads_add(even, quads_add(long_lane_sum(j->x, i, 1, j->w, *b), long_lane_sum(j->x, i, 3, j->w, *b))));
}

INLINE void sum_outliers(const job *j, const block *b, int32_t i, float out[BLOCK]) {
  if (j->x->lanes[i].rounds[0] < 0)
    sum_all(j, b, i, out);
  else if (j->w->n_static > 0)
    sum_listed_static(j, b, i, out);
  else
    sum_listed(j, b, i, out);
}

/** y of row i from its integer sums. */
INLINE void finish_row(job *j, const block *b, int32_t i, const int32_t acc[BLOCK]) {
  float outliers[BLOCK], part[BLOCK], *y = j->y + (size_t)i * j->y_stride + b->n, *to = b->live < BLOCK ? part : y;
  int has_outliers = j->x->n_out[i] > 0;
  if (has_outliers) sum_outliers(j, b, i, outliers);
  float scale = j->x->scale[i];
  for (int c = 0; c < BLOCK; c += 4) {
    float32x4_t scale_w = vld1q_f32(b->scale + c);
    float32x4_t v = vmulq_f32(vcvtq_f32_s32(vld1q_s32(acc + c)), vmulq_n_f32(scale_w, scale));
    if (has_outliers) v = vaddq_f32(v, vmulq_f32(vld1q_f32(outliers + c), scale_w));
    if (b->bias) v = vaddq_f32(v, vld1q_f32(b->bias + c));
    vst1q_f32(to + c, tidy4(&j->worst, v));
  }
  if (to == part) memcpy(y, part, (size_t)b->live * sizeof *y);
}

#endif
