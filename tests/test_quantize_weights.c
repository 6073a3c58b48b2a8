// SPDX-License-Identifier: Apache-2.0
/* LLM.int8() weights from rows of values (contract, section 2): against the formulas in scalar steps, ties, tiny and
 * huge rows, row order, and whole jobs cut in different ways. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "dequantize.h"
#include "gguf.h"
#include "numerics.h"
#include "quantize_weights.h"
#include "suite.h"

#define K 77

static uint64_t state = 7;
static float next_value(void) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (float)(int32_t)(state >> 32) * 0x1p-31f;
}

START_TEST(formulas) {
  float w[K], scale;
  int8_t q[K];
  uint16_t columns[K];
  for (int round = 0; round < 500; ++round) {
    float width = ldexpf(1.0f, round % 60 - 30), absmax = 0;
    for (int i = 0; i < K; ++i) {
      w[i] = width * next_value();
      absmax = fmaxf(absmax, fabsf(w[i]));
    }
    float recip = 1.0f / absmax, want_inv = 127.0f * recip;
    float inv = otr_quantize_row(q, &scale, w, K);
    otr_round_columns(columns, 1, w, inv, NULL, K);
    ck_assert_float_eq(inv, want_inv);
    ck_assert_float_eq(scale, absmax * 0x1.020408p-7f);
    for (int i = 0; i < K; ++i) {
      float scaled = w[i] * want_inv;
      if (q[i] != (int)rintf(scaled) || columns[i] != otr_f16_bits(scaled)) ck_abort_msg("%a", (double)w[i]);
    }
  }
}
END_TEST

/* absmax 127 makes inv exactly 1. */
START_TEST(ties_go_to_even) {
  const float w[] = {127, -127, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 126.5f, -126.5f, 0.49999997f, -0.0f};
  const int want[] = {127, -127, 0, 2, 2, 0, -2, -2, 126, -126, 0, 0};
  int8_t q[12];
  float scale;
  ck_assert_float_eq(otr_quantize_row(q, &scale, w, 12), 127.0f * (1.0f / 127.0f));
  for (int i = 0; i < 12; ++i) ck_assert_int_eq(q[i], want[i]);
}
END_TEST

START_TEST(tiny_and_huge_rows) {
  int8_t q[2];
  float scale;
  const float zero[2] = {0.0f, -0.0f}, below[2] = {0x1.fffffep-34f, -0x1p-149f}, least[2] = {-0x1p-33f, 0x1p-34f};
  const float huge[2] = {0x1p54f, -0x1p53f};
  ck_assert(otr_quantize_row(q, &scale, zero, 2) == 0.0f && scale == 0.0f && q[0] == 0 && q[1] == 0);
  ck_assert(otr_quantize_row(q, &scale, below, 2) == 0.0f && scale == 0.0f && q[0] == 0 && q[1] == 0);
  otr_quantize_row(q, &scale, least, 2);
  ck_assert(scale >= 0x1p-40f && q[0] == -127 && q[1] == 64);
  otr_quantize_row(q, &scale, huge, 2);
  ck_assert(!otr_is_nonfinite(scale) && q[0] == 127 && q[1] == -64);
}
END_TEST

/* No row gives -128 or loses its largest element. */
START_TEST(absmax_is_127) {
  for (uint32_t mantissa = 0; mantissa < 1u << 23; mantissa += 37) {
    float w[2] = {otr_f32_of_bits(0x3f800000u | mantissa), -1.0f}, scale;
    int8_t q[2];
    otr_quantize_row(q, &scale, w, 2);
    bool good = q[0] == 127;
    w[0] = -w[0];
    otr_quantize_row(q, &scale, w, 2);
    if (!good || q[0] != -127) ck_abort_msg("mantissa %06x", (unsigned)mantissa);
  }
}
END_TEST

START_TEST(f16_rows) {
  float w[K], scale;
  uint16_t w16[K];
  for (int round = 0; round < 200; ++round) {
    float absmax = 0;
    for (int i = 0; i < K; ++i) {
      w[i] = ldexpf(next_value(), round % 40 - 20);
      absmax = fmaxf(absmax, fabsf(w[i]));
    }
    int f = ilogbf(absmax) - 14;
    otr_round_row(w16, &scale, w, K);
    ck_assert_float_eq(scale, ldexpf(1.0f, f));
    for (int i = 0; i < K; ++i) ck_assert_uint_eq(w16[i], otr_f16_bits(ldexpf(w[i], -f)));
  }
  const float tiny[2] = {0x1p-27f, 0}, small[2] = {0x1p-26f, 0x1p-27f};
  otr_round_row(w16, &scale, tiny, 2);
  ck_assert(scale == 0.0f && w16[0] == 0 && w16[1] == 0);
  otr_round_row(w16, &scale, small, 2);
  ck_assert(scale == 0x1p-40f && otr_f16_value(w16[0]) == 16384.0f && otr_f16_value(w16[1]) == 8192.0f);
}
END_TEST

START_TEST(row_order) {
  const otr_row_order none = {0, 0}, half = {8, 8}, part = {8, 4};
  const int32_t want_half[8] = {0, 2, 4, 6, 1, 3, 5, 7}, want_part[8] = {0, 2, 1, 3, 4, 5, 6, 7};
  for (int32_t row = 0; row < 24; ++row) {
    ck_assert_int_eq(otr_row_source(none, row), row);
    ck_assert_int_eq(otr_row_source(half, row), row / 8 * 8 + want_half[row % 8]);
    ck_assert_int_eq(otr_row_source(part, row), row / 8 * 8 + want_part[row % 8]);
  }
}
END_TEST

/* A job of 24 rows of 64, Q8_0, two heads in order; rows of the result are 80 long. */
enum { N = 24, JOB_K = 64, STRIDE = 80, N_STATIC = 3 };
static const int32_t index_of[N_STATIC] = {0, 31, 63};

typedef struct result {
  int8_t q[N * STRIDE];
  uint16_t w16[N * STRIDE];
  uint16_t columns[N_STATIC * N];
  float scale[N];
} result;

static uint8_t source[N * 2 * 34];

static otr_weight_job make_job(result *r, otr_weight_type type) {
  otr_weight_job job;
  memset(&job, 0, sizeof job);
  memset(r, 0x55, sizeof *r);
  job.name = "w";
  job.ggml_type = OTR_GGML_Q8_0;
  job.source_row_bytes = 2 * 34;
  job.n = N;
  job.k = JOB_K;
  job.order.head_dim = 12;
  job.order.n_rot = 8;
  job.type = type;
  job.data = type == OTR_WEIGHT_INT8 ? (void *)r->q : (void *)r->w16;
  job.row_stride = STRIDE;
  job.scale = r->scale;
  job.static_index = index_of;
  job.n_static = N_STATIC;
  job.static_cols = type == OTR_WEIGHT_INT8 ? r->columns : NULL;
  job.static_stride = N;
  return job;
}

static void make_source(void) {
  for (int i = 0; i < N * 2; ++i) {
    for (int j = 2; j < 34; ++j) source[34 * i + j] = (uint8_t)(int)(127 * next_value());
    source[34 * i] = (uint8_t)i;
    source[34 * i + 1] = 0x2c;
  }
}

START_TEST(job_int8) {
  float scratch[JOB_K], scale;
  int8_t q[JOB_K];
  result r;
  make_source();
  otr_weight_job job = make_job(&r, OTR_WEIGHT_INT8);
  ck_ok(otr_weight_make(&job, source, 0, 0, N, scratch));
  for (int32_t row = 0; row < N; ++row) {
    const uint8_t *from = source + (size_t)otr_row_source(job.order, row) * job.source_row_bytes;
    ck_assert(otr_dequantize_row(scratch, from, OTR_GGML_Q8_0, JOB_K));
    float inv = otr_quantize_row(q, &scale, scratch, JOB_K);
    ck_assert(memcmp(q, r.q + row * STRIDE, JOB_K) == 0 && scale == r.scale[row]);
    for (int i = JOB_K; i < STRIDE; ++i) ck_assert_int_eq(r.q[row * STRIDE + i], 0);
    for (int i = 0; i < N_STATIC; ++i)
      ck_assert_uint_eq(r.columns[i * N + row], otr_f16_bits(scratch[index_of[i]] * inv));
  }
}
END_TEST

/* Ranges in any cut, from whole tensors or from pieces read for them, and into pieces of the result. */
START_TEST(job_in_pieces) {
  for (int type = 0; type < 2; ++type) {
    float scratch[JOB_K];
    result whole, ranges, piece;
    make_source();
    otr_weight_job job = make_job(&whole, (otr_weight_type)type);
    ck_ok(otr_weight_make(&job, source, 0, 0, N, scratch));
    job = make_job(&ranges, (otr_weight_type)type);
    ck_ok(otr_weight_make(&job, source, 0, 7, N, scratch));
    ck_ok(otr_weight_make(&job, source, 0, 0, 7, scratch));
    ck_assert(memcmp(&whole, &ranges, sizeof whole) == 0);
    job = make_job(&piece, (otr_weight_type)type);
    job.first = 12;
    job.static_stride = 12;
    ck_ok(otr_weight_make(&job, source + 12 * job.source_row_bytes, 12, 12, 24, scratch));
    ck_assert(memcmp(piece.scale, whole.scale + 12, 12 * sizeof(float)) == 0);
    if (type == OTR_WEIGHT_INT8) ck_assert(memcmp(piece.q, whole.q + 12 * STRIDE, 12 * STRIDE) == 0);
    if (type == OTR_WEIGHT_F16)
      ck_assert(memcmp(piece.w16, whole.w16 + 12 * STRIDE, 12 * STRIDE * sizeof(uint16_t)) == 0);
    for (int i = 0; i < N_STATIC && type == OTR_WEIGHT_INT8; ++i)
      ck_assert(memcmp(piece.columns + 12 * i, whole.columns + N * i + 12, 12 * sizeof(uint16_t)) == 0);
  }
}
END_TEST

START_TEST(job_refuses) {
  float scratch[JOB_K];
  result r;
  make_source();
  source[34 * 2 * 2 + 1] = 0x7c; /* row 2's first scale: infinite. It becomes row 1 */
  otr_weight_job job = make_job(&r, OTR_WEIGHT_INT8);
  ck_ok(otr_weight_make(&job, source, 0, 2, N, scratch));
  ck_assert_int_eq(otr_weight_make(&job, source, 0, 0, N, scratch), OTR_STATUS_BAD_FORMAT);
  ck_assert_str_eq(otr_error_detail(), "tensor w: row 2 has a value that is not finite");
  float large[JOB_K] = {0, FLT_MAX};
  for (int type = 0; type < 2; ++type) {
    job = make_job(&r, (otr_weight_type)type);
    job.ggml_type = OTR_GGML_F32;
    ck_assert_int_eq(otr_weight_make(&job, (const uint8_t *)large, 0, 0, 1, scratch), OTR_STATUS_BAD_FORMAT);
    ck_assert_str_eq(otr_error_detail(), "tensor w: row 0 has values of 2^48 or more");
  }
}
END_TEST

static void add(TCase *tests) {
  tcase_add_test(tests, formulas);
  tcase_add_test(tests, ties_go_to_even);
  tcase_add_test(tests, tiny_and_huge_rows);
  tcase_add_test(tests, absmax_is_127);
  tcase_add_test(tests, f16_rows);
  tcase_add_test(tests, row_order);
  tcase_add_test(tests, job_int8);
  tcase_add_test(tests, job_in_pieces);
  tcase_add_test(tests, job_refuses);
}

int main(void) {
  return suite_run("quantize_weights", add);
}
