// SPDX-License-Identifier: Apache-2.0
/* Sixteen f32 at once, AVX2: two ymm. The same names as vec_avx512.h; backends/simd is written in them.
 * vf: 16 f32, vi: 16 int32, vm: 16 truth values; tv: the vector of the attention's tiles. */
#ifndef OTR_VEC_AVX2_H
#define OTR_VEC_AVX2_H

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* One operation a line, to be read beside the other header. */
// clang-format off
#define VEC_FN static inline __attribute__((always_inline))

typedef struct vf {
  __m256 a, b;
} vf;
typedef struct vi {
  __m256i a, b;
} vi;
typedef vi vm; /* all ones where true */

/** The first n of 16, for any n. */
VEC_FN vm vm_first(int n) {
  const __m256i ramp = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return (vm){_mm256_cmpgt_epi32(_mm256_set1_epi32(n), ramp), _mm256_cmpgt_epi32(_mm256_set1_epi32(n - 8), ramp)};
}
VEC_FN uint32_t vm_bits(vm m) {
  uint32_t low = (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(m.a));
  return low | ((uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(m.b)) << 8);
}
VEC_FN vm vm_and(vm x, vm y) { return (vm){_mm256_and_si256(x.a, y.a), _mm256_and_si256(x.b, y.b)}; }
/** y without x. */
VEC_FN vm vm_without(vm y, vm x) { return (vm){_mm256_andnot_si256(x.a, y.a), _mm256_andnot_si256(x.b, y.b)}; }

VEC_FN vf vf_zero(void) { return (vf){_mm256_setzero_ps(), _mm256_setzero_ps()}; }
VEC_FN vf vf_set(float x) { return (vf){_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
VEC_FN vf vf_load(const float *p) { return (vf){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
VEC_FN void vf_store(float *p, vf x) {
  _mm256_storeu_ps(p, x.a);
  _mm256_storeu_ps(p + 8, x.b);
}
VEC_FN vf vf_load_part(const float *p, int n) {
  vm m = vm_first(n);
  vf x = {_mm256_maskload_ps(p, m.a), _mm256_setzero_ps()};
  if (n > 8) x.b = _mm256_maskload_ps(p + 8, m.b);
  return x;
}
VEC_FN void vf_store_part(float *p, vf x, int n) {
  vm m = vm_first(n);
  _mm256_maskstore_ps(p, m.a, x.a);
  if (n > 8) _mm256_maskstore_ps(p + 8, m.b, x.b);
}
VEC_FN vf vf_add(vf x, vf y) { return (vf){_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
VEC_FN vf vf_sub(vf x, vf y) { return (vf){_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
VEC_FN vf vf_mul(vf x, vf y) { return (vf){_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
VEC_FN vf vf_div(vf x, vf y) { return (vf){_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
/** x < y ? x : y, and y when one is a NaN; vf_max likewise. */
VEC_FN vf vf_min(vf x, vf y) { return (vf){_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
VEC_FN vf vf_max(vf x, vf y) { return (vf){_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
VEC_FN vm vf_ge(vf x, vf y) {
  return (vm){_mm256_castps_si256(_mm256_cmp_ps(x.a, y.a, _CMP_GE_OQ)),
              _mm256_castps_si256(_mm256_cmp_ps(x.b, y.b, _CMP_GE_OQ))};
}
VEC_FN vf vf_select(vm m, vf x, vf y) {
  return (vf){_mm256_blendv_ps(y.a, x.a, _mm256_castsi256_ps(m.a)),
              _mm256_blendv_ps(y.b, x.b, _mm256_castsi256_ps(m.b))};
}
VEC_FN vf vf_keep(vm m, vf x) {
  return (vf){_mm256_and_ps(_mm256_castsi256_ps(m.a), x.a), _mm256_and_ps(_mm256_castsi256_ps(m.b), x.b)};
}

VEC_FN vi vi_zero(void) { return (vi){_mm256_setzero_si256(), _mm256_setzero_si256()}; }
VEC_FN vi vi_set(int32_t x) { return (vi){_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
VEC_FN vi vi_ramp(void) {
  return (vi){_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15)};
}
VEC_FN vi vi_and(vi x, vi y) { return (vi){_mm256_and_si256(x.a, y.a), _mm256_and_si256(x.b, y.b)}; }
VEC_FN vi vi_xor(vi x, vi y) { return (vi){_mm256_xor_si256(x.a, y.a), _mm256_xor_si256(x.b, y.b)}; }
VEC_FN vi vi_add(vi x, vi y) { return (vi){_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)}; }
VEC_FN vi vi_shift_left23(vi x) { return (vi){_mm256_slli_epi32(x.a, 23), _mm256_slli_epi32(x.b, 23)}; }
VEC_FN vi vi_max(vi x, vi y) { return (vi){_mm256_max_epi32(x.a, y.a), _mm256_max_epi32(x.b, y.b)}; }
/** x > y, signed. */
VEC_FN vm vi_gt(vi x, vi y) { return (vm){_mm256_cmpgt_epi32(x.a, y.a), _mm256_cmpgt_epi32(x.b, y.b)}; }
VEC_FN vi vi_keep(vm m, vi x) { return vi_and(m, x); }
VEC_FN vi vi_drop(vm m, vi x) { return vm_without(x, m); }
VEC_FN vi vi_bits(vf x) { return (vi){_mm256_castps_si256(x.a), _mm256_castps_si256(x.b)}; }
VEC_FN vf vf_of_bits(vi x) { return (vf){_mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b)}; }
/** Nearest even; INT32_MIN where it does not fit. */
VEC_FN vi vi_round(vf x) { return (vi){_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)}; }
VEC_FN vf vf_of_int(vi x) { return (vf){_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
/** 64 values, saturated. */
VEC_FN vi vi_store_s8(int8_t *p, const vi x[4], vi sum) {
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  for (int i = 0; i < 4; i += 2, p += 32) {
    __m256i q = _mm256_packs_epi16(_mm256_packs_epi32(x[i].a, x[i].b), _mm256_packs_epi32(x[i + 1].a, x[i + 1].b));
    _mm256_storeu_si256((__m256i *)(void *)p, _mm256_permutevar8x32_epi32(q, order));
  }
  return vi_add(vi_add(sum, vi_add(x[0], x[1])), vi_add(x[2], x[3]));
}

VEC_FN int32_t vi_largest(vi x) {
  __m256i m = _mm256_max_epi32(x.a, x.b);
  __m128i h = _mm_max_epi32(_mm256_castsi256_si128(m), _mm256_extracti128_si256(m, 1));
  h = _mm_max_epi32(h, _mm_shuffle_epi32(h, 0x4e));
  return _mm_cvtsi128_si32(_mm_max_epi32(h, _mm_shuffle_epi32(h, 0xb1)));
}
VEC_FN int32_t vi_sum(vi x) {
  __m256i m = _mm256_add_epi32(x.a, x.b);
  __m128i h = _mm_add_epi32(_mm256_castsi256_si128(m), _mm256_extracti128_si256(m, 1));
  h = _mm_add_epi32(h, _mm_shuffle_epi32(h, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(h, _mm_shuffle_epi32(h, 0xb1)));
}
VEC_FN __m256 vf_fold_sum(vf x) { return _mm256_add_ps(x.a, x.b); }
VEC_FN __m256 vf_fold_max(vf x) { return _mm256_max_ps(x.a, x.b); }

/** 16 f16 as they lie, and back (nearest even). */
VEC_FN vf vf_from_f16(__m256i h) {
  return (vf){_mm256_cvtph_ps(_mm256_castsi256_si128(h)), _mm256_cvtph_ps(_mm256_extracti128_si256(h, 1))};
}
VEC_FN vf vf_load_f16(const uint16_t *p) { return vf_from_f16(_mm256_loadu_si256((const __m256i *)(const void *)p)); }
VEC_FN __m256i vf_to_f16(vf x) {
  return _mm256_set_m128i(_mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
                          _mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
VEC_FN vf vf_load_f16_part(const uint16_t *p, int n) {
  uint16_t h[16] = {0};
  if (n > 0) memcpy(h, p, (size_t)(n < 16 ? n : 16) * sizeof *h);
  return vf_load_f16(h);
}
VEC_FN void vf_store_f16_part(uint16_t *p, __m256i h, int n) {
  if (n >= 16) {
    _mm256_storeu_si256((__m256i *)(void *)p, h);
  } else if (n > 0) {
    uint16_t part[16];
    _mm256_storeu_si256((__m256i *)(void *)part, h);
    memcpy(p, part, (size_t)n * sizeof *p);
  }
}

/* Vectors side by side where a chain of operations is long. */
#define VEC_GROUP 2

/* Tiles: TILE_ROWS x 4 lanes are 12 accumulators of 16 registers. */
typedef __m256 tv;
#define TILE_ROWS 3
#define TILE_WIDTH 8
#define LANE_WIDTH 16
#define TILE_LIST(X) X(1) X(2) X(3)
VEC_FN tv tv_zero(void) { return _mm256_setzero_ps(); }
VEC_FN tv tv_load(const float *p) { return _mm256_loadu_ps(p); }
VEC_FN tv tv_load_f16(const uint16_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p)); }
/** acc + a * b where a * b is exact. */
VEC_FN tv tv_fma_exact(float a, tv b, tv acc) { return _mm256_fmadd_ps(_mm256_set1_ps(a), b, acc); }
VEC_FN tv tv_add(tv x, tv y) { return _mm256_add_ps(x, y); }
VEC_FN void tv_store(float *p, tv x) { _mm256_storeu_ps(p, x); }
// clang-format on

#include "vec_x86.h"

#endif
