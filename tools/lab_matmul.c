// SPDX-License-Identifier: Apache-2.0
#include "lab_matmul.h"

#include <stdbool.h>
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define ROWS 6        /* rows of x of a tile: 6 x 16 sums stay in the registers of AVX2, too */
#define K_BLOCK 128   /* summed on its own before it joins the total: shorter chains, smaller rounding error */
#define LAB_DOUBLES 8 /* summed side by side */

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

/* ---- for each instruction set ------------------------------------------------------------------------------------ */

#define MATMUL_PARAMETERS                                                                                 \
  float *y, size_t ldy, const float *x, size_t ldx, const float *packed, int32_t m, int32_t n, int32_t k, \
      int32_t first, int32_t last

#if defined(__aarch64__)
#define NAME(f) f##_any
#define TARGET
#define F32 float32x4_t
#define F32_LANES 4
#define F32_LOAD(p) vld1q_f32(p)
#define F32_STORE(p, v) vst1q_f32(p, v)
#define F32_SPLAT(s) vdupq_n_f32(s)
#define F32_MADD(a, b, c) vfmaq_f32(c, a, b)
#define F64 float64x2_t
#define F64_LANES 2
#define F64_LOAD(p) vld1q_f64(p)
#define F64_STORE(p, v) vst1q_f64(p, v)
#define F64_SPLAT(s) vdupq_n_f64(s)
#define F64_ADD(a, b) vaddq_f64(a, b)
#define F64_MADD(a, b, c) vfmaq_f64(c, a, b)
#else
typedef float floats4 __attribute__((vector_size(16), aligned(4), may_alias));
typedef double doubles2 __attribute__((vector_size(16), aligned(8), may_alias));
#define NAME(f) f##_any
#define TARGET
#define F32 floats4
#define F32_LANES 4
#define F32_LOAD(p) (*(const floats4 *)(p))
#define F32_STORE(p, v) (*(floats4 *)(p) = (v))
#define F32_SPLAT(s) ((floats4){s, s, s, s})
#define F32_MADD(a, b, c) ((a) * (b) + (c))
#define F64 doubles2
#define F64_LANES 2
#define F64_LOAD(p) (*(const doubles2 *)(p))
#define F64_STORE(p, v) (*(doubles2 *)(p) = (v))
#define F64_SPLAT(s) ((doubles2){s, s})
#define F64_ADD(a, b) ((a) + (b))
#define F64_MADD(a, b, c) ((a) * (b) + (c))
#endif
#include "lab_matmul.inc"

#if defined(__x86_64__) || defined(__i386__)
#define NAME(f) f##_avx2
#define TARGET __attribute__((target("avx2,fma")))
#define F32 __m256
#define F32_LANES 8
#define F32_LOAD(p) _mm256_loadu_ps(p)
#define F32_STORE(p, v) _mm256_storeu_ps(p, v)
#define F32_SPLAT(s) _mm256_set1_ps(s)
#define F32_MADD(a, b, c) _mm256_fmadd_ps(a, b, c)
#define F64 __m256d
#define F64_LANES 4
#define F64_LOAD(p) _mm256_loadu_pd(p)
#define F64_STORE(p, v) _mm256_storeu_pd(p, v)
#define F64_SPLAT(s) _mm256_set1_pd(s)
#define F64_ADD(a, b) _mm256_add_pd(a, b)
#define F64_MADD(a, b, c) _mm256_fmadd_pd(a, b, c)
#include "lab_matmul.inc"

#define NAME(f) f##_avx512
#define TARGET __attribute__((target("avx512f,fma")))
#define F32 __m512
#define F32_LANES 16
#define F32_LOAD(p) _mm512_loadu_ps(p)
#define F32_STORE(p, v) _mm512_storeu_ps(p, v)
#define F32_SPLAT(s) _mm512_set1_ps(s)
#define F32_MADD(a, b, c) _mm512_fmadd_ps(a, b, c)
#define F64 __m512d
#define F64_LANES 8
#define F64_LOAD(p) _mm512_loadu_pd(p)
#define F64_STORE(p, v) _mm512_storeu_pd(p, v)
#define F64_SPLAT(s) _mm512_set1_pd(s)
#define F64_ADD(a, b) _mm512_add_pd(a, b)
#define F64_MADD(a, b, c) _mm512_fmadd_pd(a, b, c)
#include "lab_matmul.inc"

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
