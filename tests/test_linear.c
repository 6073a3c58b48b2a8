// SPDX-License-Identifier: Apache-2.0
/* otr_linear: the operation of LLM.int8() by itself, on every device (_i), and what it refuses. */
#include <math.h>
#include <string.h>

#include "model_kit.h"
#include "numerics.h"

#define M 13
#define MAX_NK (40 * 150)

static float x[M * 150], w[MAX_NK];

static void set_up(void) {
  uint64_t state = 5;
  for (int i = 0; i < MAX_NK + M * 150; i++) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    float v = (float)((int32_t)(state >> 40) - (1 << 23)) * 0x1p-22f;
    if (i < MAX_NK)
      w[i] = otr_f16_value(otr_f16_bits(v * 0.3f));
    else
      x[i - MAX_NK] = i % 37 == 0 ? 30.0f * v : v;
  }
}

static otr_linear_params params_of(int32_t n, int32_t k) {
  otr_linear_params p = {.struct_size = sizeof p, .n = n, .k = k, .weights = w};
  return p;
}

static otr_linear *create(otr_runtime *r, const otr_linear_params *p) {
  otr_linear *l;
  ck_ok(otr_linear_create(r, p, &l));
  return l;
}

/** The formula of the contract in double, from the quantized rows that the library tells: within f32 rounding. */
static void check_formula(otr_linear *l, const otr_linear_params *p, const float *y, const float *rows, int32_t m) {
  for (int32_t i = 0; i < m; i++) {
    int8_t q[150];
    int32_t columns[150], n_columns;
    float scale;
    ck_ok(otr_linear_quantized(l, i, q, &scale));
    ck_ok(otr_linear_outliers(l, i, columns, 150, &n_columns));
    for (int32_t j = 0; j < n_columns; j++) ck_assert_int_eq(q[columns[j]], 0);
    for (int32_t n = 0; n < p->n; n++) {
      double sum = 0, size = 0;
      float absmax = 0;
      for (int32_t j = 0; j < p->k; j++) absmax = fmaxf(absmax, fabsf(w[n * p->k + j]));
      float inv = 127.0f * (1.0f / absmax);
      for (int32_t j = 0; j < p->k; j++) {
        double wq = (double)rintf(w[n * p->k + j] * inv) * (double)absmax / 127.0;
        double v = (double)q[j] * (double)scale;
        for (int32_t c = 0; c < n_columns; c++)
          if (columns[c] == j) v = (double)rows[i * p->k + j];
        sum += v * wq;
        size += fabs(v * wq);
      }
      if (p->bias) sum += (double)p->bias[n];
      double error = fabs((double)y[i * p->n + n] - sum);
      ck_assert_msg(error <= 2e-3 * size + 1e-6, "[%d, %d]: %g, not %g", i, n, (double)y[i * p->n + n], sum);
    }
  }
}

START_TEST(every_shape_is_the_references) {
  static const int32_t shapes[][2] = {{1, 1}, {2, 3}, {17, 64}, {33, 65}, {40, 150}, {16, 127}, {5, 128}};
  static const otr_outliers rules[] = {
      {OTR_OUTLIERS_DEFAULT, 0}, {OTR_OUTLIERS_ABSOLUTE, 0}, {OTR_OUTLIERS_OFF, 0}, {OTR_OUTLIERS_ABSOLUTE, 1e-30f}};
  static const int32_t some[] = {0, 2};
  otr_runtime *r = kit_runtime(kit_device(_i), 2), *reference = kit_runtime("cpu", 1);
  float got[M * 40], want[M * 40], bias[40];
  for (int i = 0; i < 40; i++) bias[i] = (float)i * 0.125f - 2.0f;
  for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
    for (int v = 0; v < 16; v++) {
      otr_linear_params p = params_of(shapes[s][0], shapes[s][1]);
      p.outliers = rules[v % 4];
      p.bias = v & 1 ? bias : NULL;
      p.n_f16_columns = v / 4 == 1 ? -1 : v / 4 == 2 && p.k > 2 ? 2 : 0;
      p.f16_columns = some;
      p.max_rows = v / 4 == 3 ? 4 : 0; /* cut inside */
      otr_linear *a = create(r, &p), *b = create(reference, &p);
      ck_ok(otr_linear_run(a, got, x, M));
      ck_ok(otr_linear_run(b, want, x, M));
      kit_same(got, want, (size_t)(M * p.n), kit_device(_i));
      if (v / 4 == 0) check_formula(a, &p, got, x, M);
      float one[40];
      ck_ok(otr_linear_run(a, one, x + 5 * p.k, 1)); /* a row does not depend on its mates */
      kit_same(one, want + 5 * p.n, (size_t)p.n, "one row");
      otr_linear_destroy(a);
      otr_linear_destroy(b);
    }
  ck_ok(otr_runtime_destroy(r));
  ck_ok(otr_runtime_destroy(reference));
}
END_TEST

/* The same values from any type of source. The values of w are f16's; rounded to bf16 for that one. */
START_TEST(types_of_weights) {
  enum { n = 33, k = 65 };
  uint16_t half[n * k], brain[n * k];
  float rounded[n * k], y32[M * n], y[M * n];
  for (int i = 0; i < n * k; i++) {
    half[i] = (uint16_t)otr_f16_bits(w[i]);
    uint32_t bits = OTR_BITS(w[i]);
    brain[i] = (uint16_t)(bits >> 16);
    rounded[i] = OTR_FLOAT((uint32_t)brain[i] << 16);
  }
  otr_runtime *r = kit_runtime(kit_device(_i), 1);
  for (int32_t columns = -1; columns <= 0; columns++)
    for (int32_t type = OTR_LINEAR_F16; type <= OTR_LINEAR_BF16; type++) {
      otr_linear_params p = params_of(n, k);
      p.n_f16_columns = columns;
      p.weights = type == OTR_LINEAR_F16 ? w : rounded;
      otr_linear *a = create(r, &p);
      p.type = type;
      p.weights = type == OTR_LINEAR_F16 ? half : brain;
      otr_linear *b = create(r, &p);
      ck_ok(otr_linear_run(a, y32, x, M));
      ck_ok(otr_linear_run(b, y, x, M));
      kit_same(y, y32, M * n, "f16 or bf16");
      otr_linear_destroy(a);
      otr_linear_destroy(b);
    }
  ck_ok(otr_runtime_destroy(r));
}
END_TEST

/* What the caller gives below 2^-40, subnormals and -0, counts as +0 everywhere. */
START_TEST(smallest_inputs) {
  enum { n = 17, k = 64 };
  float tiny[3 * k], zero[3 * k], y[3 * n], want[3 * n], scale;
  int8_t q[k];
  for (int i = 0; i < 3 * k; i++) {
    bool keep = i / k == 1 && i % 5 == 0;
    tiny[i] = keep ? x[i] : i % 3 == 0 ? 1e-41f : i % 3 == 1 ? -0.0f : -0x1p-41f;
    zero[i] = keep ? x[i] : 0.0f;
  }
  otr_runtime *r = kit_runtime(kit_device(_i), 1);
  for (int32_t rule = OTR_OUTLIERS_RELATIVE; rule <= OTR_OUTLIERS_OFF; rule++) {
    otr_linear_params p = params_of(n, k);
    p.outliers = (otr_outliers){rule, rule == OTR_OUTLIERS_ABSOLUTE ? 1e-45f : 0.0f};
    otr_linear *l = create(r, &p);
    ck_ok(otr_linear_run(l, want, zero, 3));
    ck_ok(otr_linear_run(l, y, tiny, 3));
    kit_same(y, want, 3 * n, "smallest inputs");
    ck_ok(otr_linear_quantized(l, 0, q, &scale));
    ck_assert(scale == 0.0f && q[0] == 0);
    otr_linear_destroy(l);
  }
  ck_ok(otr_runtime_destroy(r));
}
END_TEST

START_TEST(bad_inputs) {
  enum { n = 3, k = 20 };
  float in[2 * k], y[2 * n], scale;
  int32_t count, columns[k];
  int8_t q[k];
  memcpy(in, x, sizeof in);
  otr_runtime *r = kit_runtime(kit_device(_i), 1);
  otr_linear_params p = params_of(n, k);
  otr_linear *l = create(r, &p);
  ck_assert_int_eq(otr_linear_outliers(l, 0, NULL, 0, &count), OTR_STATUS_INVALID_ARGUMENT); /* no run yet */
  ck_assert_int_eq(otr_linear_quantized(l, 0, q, &scale), OTR_STATUS_INVALID_ARGUMENT);
  static const float bad[] = {0x1p48f, -0x1p60f, INFINITY, -INFINITY, NAN};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    in[k + 7] = bad[i];
    ck_assert_int_eq(otr_linear_run(l, y, in, 2), OTR_STATUS_NONFINITE);
  }
  in[k + 7] = 0x1.fffffep47f;
  otr_status status = otr_linear_run(l, y, in, 2); /* one value, its product with the weights is too large or is not */
  ck_assert(status == OTR_STATUS_OK || status == OTR_STATUS_NONFINITE);
  memcpy(in, x, sizeof in);
  ck_ok(otr_linear_run(l, y, in, 2));
  ck_assert_int_eq(otr_linear_run(l, y, in, 0), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_linear_run(l, y, in, -1), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_linear_run(l, NULL, in, 1), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_linear_run(l, y, NULL, 1), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_linear_run(NULL, y, in, 1), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_linear_outliers(l, 2, NULL, 0, &count), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_linear_outliers(l, -1, NULL, 0, &count), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_linear_outliers(l, 0, NULL, 0, NULL), OTR_STATUS_INVALID_ARGUMENT);
  in[3] = 500.0f;
  ck_ok(otr_linear_run(l, y, in, 1));
  ck_ok(otr_linear_outliers(l, 0, NULL, 0, &count));
  ck_assert_int_eq(count, 1);
  count = 0;
  ck_assert_int_eq(otr_linear_outliers(l, 0, columns, 0, &count), OTR_STATUS_BUFFER_TOO_SMALL);
  ck_assert_int_eq(count, 1);
  ck_ok(otr_linear_outliers(l, 0, columns, 1, &count));
  ck_assert_int_eq(columns[0], 3);
  ck_ok(otr_linear_quantized(l, 0, NULL, NULL));
  otr_linear_destroy(l);
  otr_linear_destroy(NULL);
  ck_ok(otr_runtime_destroy(r));
}
END_TEST

static void refused(otr_runtime *r, const otr_linear_params *p, otr_status want, const char *what) {
  otr_linear *l = (otr_linear *)(void *)w;
  otr_status got = otr_linear_create(r, p, &l);
  ck_assert_msg(got == want, "%s: %s (%s)", what, otr_status_text(got), otr_error_detail());
  ck_assert_msg(l == NULL, "%s: a linear was made", what);
}

START_TEST(refused_params) {
  static int8_t q[6] = {1, 2, 3, 4, 5, 127};
  static float absmax[2] = {1.0f, 2.0f}, odd[6] = {1, 2, 3, 4, 5, 6};
  static const int32_t twice[] = {1, 1}, beyond[] = {0, 3}, falling[] = {2, 1};
  const otr_status invalid = OTR_STATUS_INVALID_ARGUMENT;
  otr_runtime *r = kit_runtime(kit_device(_i), 1);
  otr_linear_params good = params_of(2, 3), p;
#define REFUSED(change, status)      \
  do {                               \
    p = good;                        \
    change;                          \
    refused(r, &p, status, #change); \
  } while (0)
  REFUSED(p.n = 0, invalid);
  REFUSED(p.k = -1, invalid);
  REFUSED(p.k = 131073, invalid);
  REFUSED(p.n = INT32_MAX, invalid);
  REFUSED(p.weights = NULL, invalid);
  REFUSED(p.type = 4, invalid);
  REFUSED(p.type = -1, invalid);
  REFUSED(p.row_absmax = absmax, invalid);
  REFUSED(p.max_rows = -1, invalid);
  REFUSED(p.max_rows = INT32_MAX, invalid);
  REFUSED(p.scope = 2, invalid);
  REFUSED(p.n_f16_columns = 4, invalid);
  REFUSED(p.n_f16_columns = -2, invalid);
  REFUSED(p.n_f16_columns = 2, invalid);
  REFUSED((p.n_f16_columns = 2, p.f16_columns = twice), invalid);
  REFUSED((p.n_f16_columns = 2, p.f16_columns = beyond), invalid);
  REFUSED((p.n_f16_columns = 2, p.f16_columns = falling), invalid);
  REFUSED(p.outliers.rule = 9, invalid);
  REFUSED((p.outliers = (otr_outliers){OTR_OUTLIERS_RELATIVE, 0x1p-9f}), invalid);
  REFUSED(p.struct_size = 0, invalid);
  REFUSED((p.weights = odd, odd[4] = NAN), invalid);
  REFUSED((p.weights = odd, odd[4] = INFINITY), invalid);
  odd[4] = 5;
  REFUSED((p.bias = absmax, absmax[1] = NAN), invalid);
  REFUSED((p.bias = absmax, absmax[1] = 0x1p48f), invalid);
  absmax[1] = 2;
  good.type = OTR_LINEAR_INT8;
  good.weights = q;
  REFUSED((void)p, invalid); /* no row_absmax */
  good.row_absmax = absmax;
  REFUSED(p.n_f16_columns = -1, invalid);
  REFUSED((q[5] = -128), invalid);
  q[5] = -127;
  REFUSED((absmax[0] = -1.0f), invalid);
  REFUSED((absmax[0] = NAN), invalid);
  REFUSED((absmax[0] = INFINITY), invalid);
  absmax[0] = 0.0f; /* a row of zeros */
  if (strcmp(kit_device(_i), "cpu") != 0) REFUSED(p.scope = OTR_SCOPE_BATCH, OTR_STATUS_UNSUPPORTED);
  otr_linear *l = create(r, &good);
  float y[2], in[3] = {1, 2, 3};
  ck_ok(otr_linear_run(l, y, in, 1));
  ck_assert(y[0] == 0.0f && !signbit(y[0]) && y[1] != 0.0f);
  otr_linear_destroy(l);
  refused(NULL, &good, invalid, "no runtime");
  refused(r, NULL, invalid, "no params");
  ck_assert_int_eq(otr_linear_create(r, &good, NULL), invalid);
  ck_ok(otr_runtime_destroy(r)); /* nothing is left open */
}
END_TEST

START_TEST(batch_scope_takes_all_rows_at_once) {
  otr_runtime *r = kit_runtime("cpu", 2);
  otr_linear_params p = params_of(17, 64);
  p.scope = OTR_SCOPE_BATCH;
  p.max_rows = 4;
  otr_linear *l = create(r, &p);
  float y[5 * 17];
  int32_t first[64], other[64], n_first, n_other;
  ck_assert_int_eq(otr_linear_run(l, y, x, 5), OTR_STATUS_INVALID_ARGUMENT);
  ck_ok(otr_linear_run(l, y, x, 4));
  ck_ok(otr_linear_outliers(l, 0, first, 64, &n_first));
  ck_assert_int_gt(n_first, 0);
  for (int32_t row = 1; row < 4; row++) {
    ck_ok(otr_linear_outliers(l, row, other, 64, &n_other));
    ck_assert_int_eq(n_other, n_first);
    ck_assert_mem_eq(other, first, (size_t)n_first * sizeof *first);
  }
  otr_linear_destroy(l);
  ck_ok(otr_runtime_destroy(r));
}
END_TEST

static void add(TCase *tests) {
  int n = kit_n_devices();
  tcase_add_unchecked_fixture(tests, set_up, NULL);
  tcase_add_loop_test(tests, every_shape_is_the_references, 0, n);
  tcase_add_loop_test(tests, types_of_weights, 0, n);
  tcase_add_loop_test(tests, smallest_inputs, 0, n);
  tcase_add_loop_test(tests, bad_inputs, 0, n);
  tcase_add_loop_test(tests, refused_params, 0, n);
  tcase_add_test(tests, batch_scope_takes_all_rows_at_once);
}

int main(void) {
  return suite_run("linear", add);
}
