// SPDX-License-Identifier: Apache-2.0
/* otr_linear against linears of bitsandbytes (OUTRIDER_TEST_DATA/goldens/bnb_linear; tolerances as goldens/hf/README.md
 * has them): q, scales and outlier columns bit for bit, y within what the order of additions may cost. */
#include <math.h>
#include <string.h>

#include "dequantize.h"
#include "golden_file.h"
#include "model_kit.h"
#include "numerics.h"

static const char *const names[] = {"none",         "none_1x1x1", "none_row",  "none_odd", "onecol",
                                    "onecol_row",   "samecols",   "diffcols",  "many",     "edge6",
                                    "diffcols_row", "zero",       "big",       "overflow", "ties",
                                    "tiny_w",       "tiny_x",     "saturated", "long_k"};
#define N_CASES ((int)(sizeof names / sizeof names[0]))

static const char *data;

typedef struct bnb_case {
  golden_file file;
  int32_t m, n, k;
  float *x, *bias; /* bias NULL: none */
  const int8_t *cb;
  float *scb;
  const void *w16;
  double *size; /* [m, n] sum |x||w| + |bias| */
} bnb_case;

static golden_tensor get(const bnb_case *c, const char *name, const char *suffix) {
  char full[64];
  golden_tensor t;
  snprintf(full, sizeof full, "%s%s", name, suffix);
  ck_assert_msg(golden_find(&c->file, full, &t), "%s is missing", full);
  return t;
}

/* A copy as f32, of F16 or F32. */
static float *floats(const bnb_case *c, const char *name, const char *suffix) {
  golden_tensor t = get(c, name, suffix);
  size_t n = t.bytes / (t.dtype[1] == '1' ? 2 : 4);
  float *out = malloc(n * sizeof *out + 1);
  otr_dequantize_row(out, t.data, t.dtype[1] == '1' ? 1 : 0, n);
  return out;
}

static void open_case(bnb_case *c, const char *name) {
  char path[4096];
  golden_tensor t;
  memset(c, 0, sizeof *c);
  snprintf(path, sizeof path, "%s/goldens/bnb_linear/%s.safetensors", data, name);
  ck_assert_msg(golden_open(&c->file, path), "%s cannot be read", path);
  t = get(c, "x", "");
  c->m = (int32_t)t.dims[0];
  c->k = (int32_t)t.dims[1];
  t = get(c, "CB", "");
  c->n = (int32_t)t.dims[0];
  c->cb = t.data;
  c->w16 = get(c, "W", "").data;
  c->x = floats(c, "x", "");
  c->scb = floats(c, "SCB", "");
  c->bias = golden_find(&c->file, "bias", &t) ? floats(c, "bias", "") : NULL;
  c->size = calloc((size_t)c->m * (size_t)c->n, sizeof *c->size);
  for (int32_t i = 0; i < c->m; i++)
    for (int32_t j = 0; j < c->n; j++) {
      double sum = c->bias ? fabs((double)c->bias[j]) : 0.0;
      for (int32_t l = 0; l < c->k; l++)
        sum += fabs((double)c->x[i * c->k + l] * (double)c->cb[j * c->k + l] * (double)c->scb[j] / 127.0);
      c->size[i * c->n + j] = sum;
    }
}

static void close_case(bnb_case *c) {
  free(c->x);
  free(c->scb);
  free(c->bias);
  free(c->size);
  golden_close(&c->file);
}

/* q, scale and columns of every row; `columns` NULL: the row's own |x| >= t. */
static void check_rows(const otr_linear *l, const bnb_case *c, const golden_tensor *q, const float *sca, float t,
                       const golden_tensor *columns) {
  int8_t *row = malloc((size_t)c->k);
  int32_t *got = malloc((size_t)c->k * sizeof *got), *want = malloc((size_t)c->k * sizeof *want);
  for (int32_t i = 0; i < c->m; i++) {
    float scale;
    int32_t n, n_want = 0;
    ck_ok(otr_linear_quantized(l, i, row, &scale));
    ck_assert_mem_eq(row, (const int8_t *)q->data + (size_t)i * (size_t)c->k, (size_t)c->k);
    ck_assert(OTR_BITS(scale) == OTR_BITS(sca[i] * OTR_FLOAT(OTR_BITS_INV127)));
    ck_ok(otr_linear_outliers(l, i, got, c->k, &n));
    if (columns) {
      n_want = (int32_t)columns->dims[0];
      memcpy(want, columns->data, (size_t)n_want * sizeof *want);
    }
    for (int32_t j = 0; !columns && t > 0.0f && j < c->k; j++)
      if (fabsf(c->x[i * c->k + j]) >= t) want[n_want++] = j;
    ck_assert_int_eq(n, n_want);
    if (n > 0) ck_assert_mem_eq(got, want, (size_t)n * sizeof *got);
  }
  free(row);
  free(got);
  free(want);
}

static void check_values(const bnb_case *c, const float *y, const float *want, const char *what) {
  for (int32_t i = 0; i < c->m * c->n; i++) {
    double error = fabs((double)y[i] - (double)want[i]);
    ck_assert_msg(error <= 1e-6 * c->size[i], "%s: y[%d] is %a, not %a", what, i, (double)y[i], (double)want[i]);
  }
}

/* bitsandbytes' own f16 result, where it is finite, within the bound of its roundings. */
static void check_bnb(const bnb_case *c, const float *y, const char *suffix) {
  float *theirs = floats(c, "y", suffix), *bound = floats(c, "ytol", suffix);
  for (int32_t i = 0; i < c->m * c->n; i++) {
    if (!isfinite(theirs[i])) continue;
    double error = fabs((double)y[i] - (double)theirs[i]), allowed = (double)bound[i] + 1e-6 * c->size[i];
    ck_assert_msg(error <= allowed, "y[%d] is %a, theirs %a", i, (double)y[i], (double)theirs[i]);
  }
  free(theirs);
  free(bound);
}

static void run(otr_runtime *r, const bnb_case *c, bool outliers, otr_scope scope) {
  const char *suffix = outliers ? "_t6" : "_t0";
  otr_linear_params p = {.struct_size = sizeof p, .type = OTR_LINEAR_INT8, .n = c->n, .k = c->k};
  otr_linear *l, *from16;
  size_t n = (size_t)c->m * (size_t)c->n;
  p.weights = c->cb;
  p.row_absmax = c->scb;
  p.bias = c->bias;
  p.scope = scope;
  if (!outliers) p.outliers.rule = OTR_OUTLIERS_OFF; /* else what int8 weights have by default: absolute 6 */
  float *y = malloc(n * sizeof *y), *again = malloc(n * sizeof *again);
  ck_ok(otr_linear_create(r, &p, &l));
  ck_ok(otr_linear_run(l, y, c->x, c->m));
  bool token = scope == OTR_SCOPE_TOKEN;
  golden_tensor q = get(c, token ? "qtoken" : "CA", suffix), columns = get(c, "outlier_cols", "");
  float *sca = floats(c, "SCA", suffix), *want = floats(c, token ? "ytoken" : "ybatch", suffix);
  check_rows(l, c, &q, sca, outliers ? 6.0f : 0.0f, token || !outliers ? NULL : &columns);
  check_values(c, y, want, suffix);
  if (!token || c->m == 1) check_bnb(c, y, suffix);
  /* From the f16 weights: the same CB and SCB, so the same bits. */
  p.type = OTR_LINEAR_F16;
  p.weights = c->w16;
  p.row_absmax = NULL;
  p.outliers = (otr_outliers){outliers ? OTR_OUTLIERS_ABSOLUTE : OTR_OUTLIERS_OFF, 6.0f};
  ck_ok(otr_linear_create(r, &p, &from16));
  ck_ok(otr_linear_run(from16, again, c->x, c->m));
  kit_same(again, y, n, "from f16 weights");
  otr_linear_destroy(l);
  otr_linear_destroy(from16);
  free(sca);
  free(want);
  free(y);
  free(again);
}

START_TEST(token_scope) {
  otr_runtime *r = kit_runtime(kit_device(_i / N_CASES), 2);
  bnb_case c;
  open_case(&c, names[_i % N_CASES]);
  run(r, &c, true, OTR_SCOPE_TOKEN);
  run(r, &c, false, OTR_SCOPE_TOKEN);
  close_case(&c);
  ck_ok(otr_runtime_destroy(r));
}
END_TEST

START_TEST(batch_scope) {
  otr_runtime *r = kit_runtime("cpu", 1);
  bnb_case c;
  open_case(&c, names[_i]);
  run(r, &c, true, OTR_SCOPE_BATCH);
  run(r, &c, false, OTR_SCOPE_BATCH);
  close_case(&c);
  ck_ok(otr_runtime_destroy(r));
}
END_TEST

static void add(TCase *tests) {
  tcase_add_loop_test(tests, token_scope, 0, kit_n_devices() * N_CASES);
  tcase_add_loop_test(tests, batch_scope, 0, N_CASES);
}

int main(void) {
  data = suite_data("test_bnb_linear");
  return data ? suite_run("bnb_linear", add) : SUITE_SKIPPED;
}
