// SPDX-License-Identifier: Apache-2.0
/* linear_once KERNEL M K N OUTLIERS SAME: one linear of made-up data, for counting its instructions. KERNEL: plain,
 * dotprod or i8mm; OUTLIERS: features of each row that are outliers; SAME: 1 when they are the same in all rows. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"
#include "linear_neon.h"

static const struct {
  const char *name;
  void (*linear)(otr_found *, float *, size_t, const otr_quantized *, const otr_host_weight *, int32_t, int32_t,
                 int32_t, void *);
  size_t (*scratch)(int32_t k);
} kernels[] = {{"plain", otr_linear_plain, otr_linear_scratch_plain},
               {"dotprod", otr_linear_dotprod, otr_linear_scratch_dotprod},
               {"i8mm", otr_linear_i8mm, otr_linear_scratch_i8mm}};

static void *take(size_t bytes) {
  void *p = NULL;
  if (posix_memalign(&p, 64, bytes) != 0) exit(1);
  memset(p, 0, bytes);
  return p;
}

static uint32_t next(uint32_t *state) {
  return (*state = *state * 1664525u + 1013904223u) >> 8;
}

static otr_quantized make_rows(int32_t m, int32_t k, int32_t outliers, int same) {
  otr_quantized x = otr_quantized_view(take(otr_quantized_bytes(m, k)), m, k);
  float *rows = take((size_t)m * (size_t)k * sizeof *rows);
  otr_found found = {0};
  uint32_t state = 1;
  for (int32_t i = 0; i < m; i++) {
    float *row = rows + (size_t)i * (size_t)k;
    uint32_t at = same ? 7 : (uint32_t)i + 7;
    for (int32_t j = 0; j < k; j++) row[j] = (float)next(&state) / 16777216.0f;
    for (int32_t j = 0; j < outliers; j++) row[next(&at) % (uint32_t)k] = 20.0f;
  }
  otr_reference_kernels.quantize(&found, &x, rows, (otr_rule){OTR_RULE_ABSOLUTE, 6.0f}, 0, m);
  fprintf(stderr, "%.2f %% outliers\n", 100.0 * (double)found.outliers / ((double)m * k));
  free(rows);
  return x;
}

int main(int argc, char **argv) {
  if (argc != 7) return 2;
  int32_t m = atoi(argv[2]), k = atoi(argv[3]), n = atoi(argv[4]);
  otr_quantized x = make_rows(m, k, atoi(argv[5]), atoi(argv[6]));
  size_t stride = ((size_t)k + 15) / 16 * 16;
  int8_t *data = take((size_t)n * stride);
  float *scale = take((size_t)n * sizeof *scale), *y = take((size_t)m * (size_t)n * sizeof *y);
  uint32_t state = 2;
  for (int32_t i = 0; i < n; i++) {
    scale[i] = 1.0f / 64.0f;
    for (int32_t j = 0; j < k; j++)
      data[(size_t)i * stride + (size_t)j] = (int8_t)((int32_t)(next(&state) % 255) - 127);
  }
  otr_host_weight w = {.n = n, .k = k, .row_stride = (int64_t)stride, .data = data, .scale = scale};
  for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++) {
    if (strcmp(kernels[i].name, argv[1]) != 0) continue;
    otr_found found = {0};
    kernels[i].linear(&found, y, (size_t)n, &x, &w, m, 0, n, take(kernels[i].scratch(k)));
    printf("%a\n", (double)y[0]);
    return 0;
  }
  return 2;
}
