// SPDX-License-Identifier: Apache-2.0
/* Sixteen f32 at once, AVX-512: one zmm. The same names as vec_avx2.h; backends/simd is written in them.
 * vf: 16 f32, vi: 16 int32, vm: 16 truth values; tv: the vector of the attention's tiles. */
#ifndef OTR_VEC_AVX512_H
#define OTR_VEC_AVX512_H

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>

/* One operation a line, to be read beside the other header. */
// clang-format off
#define VEC_FN static inline __attribute__((always_inline))

typedef __m512 vf;
typedef __m512i vi;
typedef __mmask16 vm;

/** The first n of 16, for any n. */
VEC_FN vm vm_first(int n) { return (vm)(n >= 16 ? 0xffff : n <= 0 ? 0 : (1 << n) - 1); }
VEC_FN uint32_t vm_bits(vm m) { return m; }
VEC_FN vm vm_and(vm a, vm b) { return (vm)(a & b); }
/** b without a. */
VEC_FN vm vm_without(vm b, vm a) { return (vm)(b & ~a); }

VEC_FN vf vf_zero(void) { return _mm512_setzero_ps(); }
VEC_FN vf vf_set(float x) { return _mm512_set1_ps(x); }
VEC_FN vf vf_load(const float *p) { return _mm512_loadu_ps(p); }
VEC_FN void vf_store(float *p, vf x) { _mm512_storeu_ps(p, x); }
VEC_FN vf vf_load_part(const float *p, int n) { return _mm512_maskz_loadu_ps(vm_first(n), p); }
VEC_FN void vf_store_part(float *p, vf x, int n) { _mm512_mask_storeu_ps(p, vm_first(n), x); }
VEC_FN vf vf_add(vf a, vf b) { return _mm512_add_ps(a, b); }
VEC_FN vf vf_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
VEC_FN vf vf_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
VEC_FN vf vf_div(vf a, vf b) { return _mm512_div_ps(a, b); }
/** a < b ? a : b, and b when one is a NaN; vf_max likewise. */
VEC_FN vf vf_min(vf a, vf b) { return _mm512_min_ps(a, b); }
VEC_FN vf vf_max(vf a, vf b) { return _mm512_max_ps(a, b); }
VEC_FN vm vf_ge(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
VEC_FN vf vf_select(vm m, vf a, vf b) { return _mm512_mask_mov_ps(b, m, a); }
VEC_FN vf vf_keep(vm m, vf a) { return _mm512_maskz_mov_ps(m, a); }

VEC_FN vi vi_zero(void) { return _mm512_setzero_si512(); }
VEC_FN vi vi_set(int32_t x) { return _mm512_set1_epi32(x); }
VEC_FN vi vi_ramp(void) { return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15); }
VEC_FN vi vi_and(vi a, vi b) { return _mm512_and_si512(a, b); }
VEC_FN vi vi_xor(vi a, vi b) { return _mm512_xor_si512(a, b); }
VEC_FN vi vi_add(vi a, vi b) { return _mm512_add_epi32(a, b); }
VEC_FN vi vi_shift_left23(vi a) { return _mm512_slli_epi32(a, 23); }
VEC_FN vi vi_max(vi a, vi b) { return _mm512_max_epi32(a, b); }
/** a > b, signed. */
VEC_FN vm vi_gt(vi a, vi b) { return _mm512_cmpgt_epi32_mask(a, b); }
VEC_FN vi vi_keep(vm m, vi a) { return _mm512_maskz_mov_epi32(m, a); }
VEC_FN vi vi_drop(vm m, vi a) { return _mm512_maskz_mov_epi32((vm)~m, a); }
VEC_FN vi vi_bits(vf x) { return _mm512_castps_si512(x); }
VEC_FN vf vf_of_bits(vi x) { return _mm512_castsi512_ps(x); }
/** Nearest even; INT32_MIN where it does not fit. */
VEC_FN vi vi_round(vf x) { return _mm512_cvtps_epi32(x); }
VEC_FN vf vf_of_int(vi x) { return _mm512_cvtepi32_ps(x); }
/** 64 values, saturated. */
VEC_FN vi vi_store_s8(int8_t *p, const vi x[4], vi sum) {
  const vi order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  vi q = _mm512_packs_epi16(_mm512_packs_epi32(x[0], x[1]), _mm512_packs_epi32(x[2], x[3]));
  _mm512_storeu_si512(p, _mm512_permutexvar_epi32(order, q));
  return vi_add(vi_add(sum, vi_add(x[0], x[1])), vi_add(x[2], x[3]));
}

VEC_FN int32_t vi_largest(vi x) { return _mm512_reduce_max_epi32(x); }
VEC_FN int32_t vi_sum(vi x) { return _mm512_reduce_add_epi32(x); }
VEC_FN __m256 vec_high(__m512 x) { return _mm512_extractf32x8_ps(x, 1); }
VEC_FN __m256 vf_fold_sum(vf x) { return _mm256_add_ps(_mm512_castps512_ps256(x), vec_high(x)); }
VEC_FN __m256 vf_fold_max(vf x) { return _mm256_max_ps(_mm512_castps512_ps256(x), vec_high(x)); }

/** 16 f16 as they lie, and back (nearest even). */
VEC_FN vf vf_load_f16(const uint16_t *p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
VEC_FN __m256i vf_to_f16(vf x) { return _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
VEC_FN vf vf_from_f16(__m256i h) { return _mm512_cvtph_ps(h); }
VEC_FN vf vf_load_f16_part(const uint16_t *p, int n) {
  return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(vm_first(n), p));
}
VEC_FN void vf_store_f16_part(uint16_t *p, __m256i h, int n) { _mm256_mask_storeu_epi16(p, vm_first(n), h); }

/* Vectors side by side where a chain of operations is long. */
#define VEC_GROUP 4

/* Tiles: TILE_ROWS x 4 lanes are 24 accumulators of 32 registers. */
typedef __m512 tv;
#define TILE_ROWS 6
#define TILE_WIDTH 16
#define LANE_WIDTH 64
#define TILE_LIST(X) X(1) X(2) X(3) X(4) X(5) X(6)
VEC_FN tv tv_zero(void) { return _mm512_setzero_ps(); }
VEC_FN tv tv_load(const float *p) { return _mm512_loadu_ps(p); }
VEC_FN tv tv_load_f16(const uint16_t *p) { return vf_load_f16(p); }
/** acc + a * b where a * b is exact. */
VEC_FN tv tv_fma_exact(float a, tv b, tv acc) { return _mm512_fmadd_ps(_mm512_set1_ps(a), b, acc); }
VEC_FN tv tv_add(tv a, tv b) { return _mm512_add_ps(a, b); }
VEC_FN void tv_store(float *p, tv x) { _mm512_storeu_ps(p, x); }
// clang-format on

#include "vec_x86.h"

#endif
