// SPDX-License-Identifier: Apache-2.0
/* The reference's activations and norms against the functions they stand for, in double: which form of gelu, and what
 * eps does, hardly show in a model's logits. (The harness compares every other kernel with the reference bit for bit.)
 */
#include <math.h>

#include "kernels.h"
#include "suite.h"

#define N_VALUES 200001
#define WIDTH 96
#define PI 3.14159265358979323846

static otr_found found;

/* ---- activations ------------------------------------------------------------------------------------------------- */

static double silu(double x) {
  return x / (1 + exp(-x));
}

static double gelu_tanh(double x) {
  double u = sqrt(2 / PI) * (x + 0.044715 * x * x * x);
  return x / (1 + exp(-2 * u)); /* 0.5 x (1 + tanh u) without its cancellation */
}

static double gelu_erf(double x) {
  return 0.5 * x * erfc(-x / sqrt(2));
}

static double relu(double x) {
  return x > 0 ? x : 0;
}

/* |y - exact| <= of_x |x|: a little above what is measured over [-40, 40] (the erf form's polynomial is good to 1.5e-7
 * of erf). tidy takes what is below 2^-40. */
static const struct function {
  const char *name;
  otr_act_kind kind;
  double (*exact)(double x);
  double of_x;
} functions[] = {
    {"silu", OTR_ACT_SILU, silu, 1.5e-7},
    {"gelu, tanh form", OTR_ACT_GELU_TANH, gelu_tanh, 1.5e-7},
    {"gelu, erf form", OTR_ACT_GELU_ERF, gelu_erf, 3e-7},
    {"relu", OTR_ACT_RELU, relu, 0},
};
#define N_FUNCTIONS ((int)(sizeof functions / sizeof functions[0]))

static float x[N_VALUES], y[N_VALUES];

/* Dense around 0, where the forms differ, and far out. */
static void fill_arguments(void) {
  for (int i = 0; i < N_VALUES; i++) {
    double t = 2.0 * i / (N_VALUES - 1) - 1;
    x[i] = (float)(40 * t * fabs(t));
  }
}

START_TEST(activations) {
  const struct function *f = &functions[_i];
  fill_arguments();
  otr_reference_kernels.act(&found, y, x, N_VALUES, f->kind);
  for (int i = 0; i < N_VALUES; i++) {
    double exact = f->exact((double)x[i]), error = fabs((double)y[i] - exact);
    ck_assert_msg(error <= f->of_x * fabs((double)x[i]) + 0x1p-40, "%s of %.9g is %.9g, not %.9g", f->name,
                  (double)x[i], (double)y[i], exact);
  }
}
END_TEST

/* The bounds above tell the two forms apart, and the gated operation has the same functions. */
START_TEST(forms_of_gelu) {
  static float ones[N_VALUES], gated[N_VALUES];
  double apart = 0;
  fill_arguments();
  for (int i = 0; i < N_VALUES; i++) {
    apart = fmax(apart, fabs(gelu_tanh((double)x[i]) - gelu_erf((double)x[i])));
    ones[i] = 1.0f;
  }
  ck_assert(apart > 4e-4 && apart < 5e-4);
  for (int f = 0; f < N_FUNCTIONS; f++) {
    otr_reference_kernels.act(&found, y, x, N_VALUES, functions[f].kind);
    otr_reference_kernels.glu(&found, gated, x, ones, N_VALUES, functions[f].kind);
    ck_assert_mem_eq(gated, y, sizeof y);
  }
}
END_TEST

/* ---- norms ------------------------------------------------------------------------------------------------------- */

static float row[WIDTH], gain[WIDTH], bias[WIDTH], result[WIDTH];

static void fill_row(double scale, double offset) {
  for (int i = 0; i < WIDTH; i++) {
    row[i] = (float)(scale * (sin(1 + 3.7 * i) + offset));
    gain[i] = (float)(1 + 0.5 * cos(2.3 * i));
    bias[i] = (float)(0.25 * sin(5.1 * i));
  }
}

/* RMSNorm (mean 0 taken for granted, no bias) or LayerNorm in double: the largest error, beside the largest value. */
static double norm_error(otr_norm_kind kind, double eps) {
  double mean = 0, square = 0, error = 0, largest = 0;
  for (int i = 0; i < WIDTH && kind == OTR_NORM_LAYER; i++) mean += (double)row[i] / WIDTH;
  for (int i = 0; i < WIDTH; i++) square += ((double)row[i] - mean) * ((double)row[i] - mean) / WIDTH;
  double r = square + eps > 0 ? 1 / sqrt(square + eps) : 0;
  otr_reference_kernels.norm(&found, result, row, gain, kind == OTR_NORM_LAYER ? bias : NULL, kind, (float)eps, WIDTH,
                             1);
  for (int i = 0; i < WIDTH; i++) {
    double exact = ((double)row[i] - mean) * r * (double)gain[i] + (kind == OTR_NORM_LAYER ? (double)bias[i] : 0);
    error = fmax(error, fabs((double)result[i] - exact));
    largest = fmax(largest, fabs(exact));
  }
  return largest > 0 ? error / largest : error;
}

/* From rows that eps outweighs a million times to rows beside which it is nothing. */
START_TEST(norms) {
  static const double scales[] = {1e-9, 1e-6, 1e-3, 1, 1e3, 1e6}, all_eps[] = {0, 1e-12, 1e-6, 1e-5, 0.02, 1};
  static const otr_norm_kind kinds[] = {OTR_NORM_RMS, OTR_NORM_LAYER};
  for (int k = 0; k < 2; k++)
    for (size_t s = 0; s < sizeof scales / sizeof scales[0]; s++)
      for (size_t e = 0; e < sizeof all_eps / sizeof all_eps[0]; e++) {
        fill_row(scales[s], 0.5);
        double error = norm_error(kinds[k], all_eps[e]);
        ck_assert_msg(error < 5e-7, "%s of %g, eps %g: off by %g", k == 0 ? "RMSNorm" : "LayerNorm", scales[s],
                      all_eps[e], error);
      }
}
END_TEST

START_TEST(rows_without_spread) {
  fill_row(0, 0);
  ck_assert(norm_error(OTR_NORM_RMS, 0) == 0);
  ck_assert(norm_error(OTR_NORM_LAYER, 0) == 0);
  ck_assert_mem_eq(result, bias, sizeof result);
}
END_TEST

static void add(TCase *tests) {
  tcase_add_loop_test(tests, activations, 0, N_FUNCTIONS);
  tcase_add_test(tests, forms_of_gelu);
  tcase_add_test(tests, norms);
  tcase_add_test(tests, rows_without_spread);
}

int main(void) {
  return suite_run("operations", add);
}
