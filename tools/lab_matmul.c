// SPDX-License-Identifier: Apache-2.0
#include "lab_matmul.h"

#include <stdbool.h>

#define ROWS 6      /* rows of x of a tile: 6 x 16 sums stay in the registers of AVX2, too */
#define K_BLOCK 128 /* summed on its own before it joins the total: shorter chains, smaller rounding error */

typedef float lanes __attribute__((vector_size(4 * LAB_PANEL), aligned(4), may_alias));
#define INLINE static inline __attribute__((always_inline))

size_t lab_packed_floats(int32_t n, int32_t k) {
  return (size_t)((n + LAB_PANEL - 1) / LAB_PANEL) * (size_t)k * LAB_PANEL;
}

void lab_pack_row(float *packed, int32_t row, const float *values, size_t stride, int32_t k) {
  float *at = packed + (size_t)(row / LAB_PANEL) * (size_t)k * LAB_PANEL + row % LAB_PANEL;
  for (int32_t i = 0; i < k; i++) at[(size_t)i * LAB_PANEL] = values[(size_t)i * stride];
}

void lab_unpack_row(float *values, const float *packed, int32_t row, int32_t k) {
  const float *at = packed + (size_t)(row / LAB_PANEL) * (size_t)k * LAB_PANEL + row % LAB_PANEL;
  for (int32_t i = 0; i < k; i++) values[i] = at[(size_t)i * LAB_PANEL];
}

/* sum[ROWS] = x[ROWS, k] · panel[k, 16] */
INLINE void tile(lanes *sum, const float *const x[ROWS], const float *panel, int32_t k) {
  lanes s0 = {0}, s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0;
  for (int32_t i = 0; i < k; i++) {
    const lanes w = *(const lanes *)(panel + (size_t)i * LAB_PANEL);
    s0 += x[0][i] * w;
    s1 += x[1][i] * w;
    s2 += x[2][i] * w;
    s3 += x[3][i] * w;
    s4 += x[4][i] * w;
    s5 += x[5][i] * w;
  }
  sum[0] = s0;
  sum[1] = s1;
  sum[2] = s2;
  sum[3] = s3;
  sum[4] = s4;
  sum[5] = s5;
}

/* y[rows, cols] (+)= x[rows, k] · panel; the rows that are missing in a tile repeat the last one. */
INLINE void tile_rows(float *y, size_t ldy, const float *x, size_t ldx, const float *panel, int32_t rows, int32_t cols,
                      int32_t k, bool add) {
  lanes sum[ROWS];
  const float *from[ROWS];
  for (int32_t r = 0; r < ROWS; r++) from[r] = x + (size_t)(r < rows ? r : rows - 1) * ldx;
  tile(sum, from, panel, k);
  for (int32_t r = 0; r < rows; r++, y += ldy) {
    for (int32_t j = 0; j < cols; j++) y[j] = add ? y[j] + sum[r][j] : sum[r][j];
  }
}

/* All rows against one block of a panel, which stays in the L1 cache meanwhile. */
INLINE void panel_block(float *y, size_t ldy, const float *x, size_t ldx, const float *panel, int32_t m, int32_t cols,
                        int32_t k, bool add) {
  for (int32_t i = 0; i < m; i += ROWS) {
    int32_t n_rows = m - i < ROWS ? m - i : ROWS;
    tile_rows(y + (size_t)i * ldy, ldy, x + (size_t)i * ldx, ldx, panel, n_rows, cols, k, add);
  }
}

INLINE void panels(float *y, size_t ldy, const float *x, size_t ldx, const float *packed, int32_t m, int32_t n,
                   int32_t k, int32_t first, int32_t last) {
  for (int32_t p = first; p < last; p++) {
    int32_t cols = n - p * LAB_PANEL < LAB_PANEL ? n - p * LAB_PANEL : LAB_PANEL;
    const float *panel = packed + (size_t)p * (size_t)k * LAB_PANEL;
    for (int32_t at = 0; at < k; at += K_BLOCK) {
      panel_block(y + p * LAB_PANEL, ldy, x + at, ldx, panel + (size_t)at * LAB_PANEL, m, cols,
                  k - at < K_BLOCK ? k - at : K_BLOCK, at > 0);
    }
  }
}

/* ---- sums of GPTQ's triangles ------------------------------------------------------------------------------------ */

typedef double doubles __attribute__((vector_size(64), aligned(8), may_alias));

INLINE double dot(const double *a, const double *b, int32_t n) {
  doubles s0 = {0}, s1 = s0, s2 = s0, s3 = s0;
  int32_t i = 0;
  for (; i + 32 <= n; i += 32) {
    s0 += *(const doubles *)(a + i) * *(const doubles *)(b + i);
    s1 += *(const doubles *)(a + i + 8) * *(const doubles *)(b + i + 8);
    s2 += *(const doubles *)(a + i + 16) * *(const doubles *)(b + i + 16);
    s3 += *(const doubles *)(a + i + 24) * *(const doubles *)(b + i + 24);
  }
  s0 = (s0 + s1) + (s2 + s3);
  double sum = 0.0;
  for (int32_t j = 0; j < 8; j++) sum += s0[j];
  for (; i < n; i++) sum += a[i] * b[i];
  return sum;
}

INLINE void combine(double *sum, const double *factors, const double *rows, size_t ld, int32_t n) {
  doubles s0 = {0}, s1 = s0, s2 = s0, s3 = s0;
  for (int32_t i = 0; i < n; i++, rows += ld) {
    s0 += factors[i] * *(const doubles *)rows;
    s1 += factors[i] * *(const doubles *)(rows + 8);
    s2 += factors[i] * *(const doubles *)(rows + 16);
    s3 += factors[i] * *(const doubles *)(rows + 24);
  }
  for (int32_t j = 0; j < 8; j++) {
    sum[j] = s0[j];
    sum[j + 8] = s1[j];
    sum[j + 16] = s2[j];
    sum[j + 24] = s3[j];
  }
}

INLINE void axpy(float *y, float a, const float *x, int32_t n) {
  int32_t i = 0;
  for (; i + LAB_PANEL <= n; i += LAB_PANEL) *(lanes *)(y + i) += a * *(const lanes *)(x + i);
  for (; i < n; i++) y[i] += a * x[i];
}

/* ---- for each instruction set ------------------------------------------------------------------------------------ */

#define MATMUL_PARAMETERS                                                                                 \
  float *y, size_t ldy, const float *x, size_t ldx, const float *packed, int32_t m, int32_t n, int32_t k, \
      int32_t first, int32_t last
#define VARIANT(name, attribute)                                                                                       \
  attribute static void panels_##name(MATMUL_PARAMETERS) {                                                             \
    panels(y, ldy, x, ldx, packed, m, n, k, first, last);                                                              \
  }                                                                                                                    \
  attribute static double dot_##name(const double *a, const double *b, int32_t n) {                                    \
    return dot(a, b, n);                                                                                               \
  }                                                                                                                    \
  attribute static void combine_##name(double *sum, const double *factors, const double *rows, size_t ld, int32_t n) { \
    combine(sum, factors, rows, ld, n);                                                                                \
  }                                                                                                                    \
  attribute static void axpy_##name(float *y, float a, const float *x, int32_t n) {                                    \
    axpy(y, a, x, n);                                                                                                  \
  }

VARIANT(any, )
#if defined(__x86_64__) || defined(__i386__)
VARIANT(avx2, __attribute__((target("avx2,fma"))))
VARIANT(avx512, __attribute__((target("avx512f,fma"))))
#define CALL(function, ...)                                                                           \
  (__builtin_cpu_supports("avx512f")                                 ? function##_avx512(__VA_ARGS__) \
   : __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? function##_avx2(__VA_ARGS__)   \
                                                                     : function##_any(__VA_ARGS__))
#else
#define CALL(function, ...) function##_any(__VA_ARGS__)
#endif

void lab_matmul(MATMUL_PARAMETERS) {
  CALL(panels, y, ldy, x, ldx, packed, m, n, k, first, last);
}

double lab_dot(const double *a, const double *b, int32_t n) {
  return CALL(dot, a, b, n);
}

void lab_combine(double *sum, const double *factors, const double *rows, size_t ld, int32_t n) {
  CALL(combine, sum, factors, rows, ld, n);
}

void lab_axpy(float *y, float a, const float *x, int32_t n) {
  CALL(axpy, y, a, x, n);
}
