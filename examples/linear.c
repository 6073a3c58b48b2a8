// SPDX-License-Identifier: Apache-2.0
/* linear: only the LLM.int8() matrix product, for apps that have a network of their own. Weights and inputs are made
 * here; one input feature is large, as in big language models. The product is compared with the one in floats, with the
 * outlier feature handled apart and without. */
#include <math.h>
#include <outrider/outrider.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { M = 4, N = 256, K = 512, OUTLIER = 77 };

static float next_value(uint32_t *state) {
  *state = *state * 1664525u + 1013904223u;
  return (float)(int32_t)*state / 2147483648.0f;
}

/* Root mean square of y - w x, relative to that of w x. */
static double relative_error(const float *y, const float *w, const float *x) {
  double error = 0, power = 0;
  for (int m = 0; m < M; m++)
    for (int n = 0; n < N; n++) {
      double sum = 0;
      for (int k = 0; k < K; k++) sum += (double)w[n * K + k] * (double)x[m * K + k];
      error += (y[m * N + n] - sum) * (y[m * N + n] - sum);
      power += sum * sum;
    }
  return sqrt(error / power);
}

static otr_status product(otr_runtime *runtime, otr_outlier_rule rule, const float *w, const float *x, float *y) {
  otr_linear_params params = {.struct_size = sizeof params, .type = OTR_LINEAR_F32, .n = N, .k = K, .weights = w};
  otr_linear *linear;
  int32_t column = -1, n = 0;
  params.n_f16_columns = -1; /* any feature may be an outlier */
  params.outliers.rule = rule;
  params.max_rows = M;
  otr_status status = otr_linear_create(runtime, &params, &linear);
  if (status != OTR_STATUS_OK) return status;
  status = otr_linear_run(linear, y, x, M);
  if (status == OTR_STATUS_OK) status = otr_linear_outliers(linear, 0, &column, 1, &n);
  if (status == OTR_STATUS_OK)
    printf("outliers in row 0: %d%s%.0d; relative error %.5f\n", (int)n, n ? ", the first is feature " : "",
           n ? (int)column : 0, relative_error(y, w, x));
  otr_linear_destroy(linear);
  return status;
}

int main(void) {
  static float w[N * K], x[M * K], y[M * N]; /* [N, K], [M, K], [M, N] */
  uint32_t state = 1;
  otr_runtime *runtime;
  for (int i = 0; i < N * K; i++) w[i] = next_value(&state);
  for (int i = 0; i < M * K; i++) x[i] = next_value(&state);
  for (int m = 0; m < M; m++) x[m * K + OUTLIER] *= 60.0f;
  otr_status status = otr_runtime_create(NULL, &runtime);
  if (status == OTR_STATUS_OK) {
    status = product(runtime, OTR_OUTLIERS_RELATIVE, w, x, y);
    if (status == OTR_STATUS_OK) status = product(runtime, OTR_OUTLIERS_OFF, w, x, y);
    otr_runtime_destroy(runtime);
  }
  if (status != OTR_STATUS_OK) fprintf(stderr, "linear: %s\n", otr_error_detail());
  return status == OTR_STATUS_OK ? 0 : 1;
}
