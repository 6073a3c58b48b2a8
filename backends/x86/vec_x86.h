// SPDX-License-Identifier: Apache-2.0
/* What vec_avx2.h and vec_avx512.h share of the names that backends/simd is written in. */
#ifndef OTR_VEC_X86_H
#define OTR_VEC_X86_H

typedef __m256i vh; /* 16 f16 as they lie */

/* Outliers are kept out of the quantizer's roundings by a mask, not put right afterwards: a load behind a narrower store
 * to the same place waits. */
#define VEC_OUTLIERS_AFTER 0

VEC_FN void vh_store(uint16_t *p, vh h) {
  _mm256_storeu_si256((__m256i *)(void *)p, h);
}

VEC_FN uint32_t vm_count(vm m) {
  return (uint32_t)__builtin_popcount(vm_bits(m));
}
VEC_FN bool vm_any(vm m) {
  return vm_bits(m) != 0;
}
/** The indices of the true ones of 64, base being the first one's, packed together at p; one by one, so that loads of
 * one each need not wait. @return how many. */
VEC_FN int vi_store_true(int32_t *p, const vm m[4], int32_t base) {
  uint64_t bits = vm_bits(m[0]) | (uint64_t)vm_bits(m[1]) << 16 | (uint64_t)vm_bits(m[2]) << 32 |
                  (uint64_t)vm_bits(m[3]) << 48;
  int n = 0;
  for (; bits != 0; bits &= bits - 1) p[n++] = base + __builtin_ctzll(bits);
  return n;
}

/** The end of lanesum<16 ...>: h = 8, 4, 2, 1 (h = 8 made by vf_fold_sum). */
VEC_FN float vf_sum_lanes(vf x) {
  __m256 y = vf_fold_sum(x);
  __m128 z = _mm_add_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
  z = _mm_add_ps(z, _mm_movehl_ps(z, z));
  return _mm_cvtss_f32(_mm_add_ss(z, _mm_movehdup_ps(z)));
}
VEC_FN float vf_largest(vf x) {
  __m256 y = vf_fold_max(x);
  __m128 z = _mm_max_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
  z = _mm_max_ps(z, _mm_movehl_ps(z, z));
  return _mm_cvtss_f32(_mm_max_ss(z, _mm_movehdup_ps(z)));
}

#endif
