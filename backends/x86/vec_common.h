// SPDX-License-Identifier: Apache-2.0
/* The contract's scalar functions (numerics.h) on sixteen values, in the names of vec_avx2.h or vec_avx512.h. Every
 * product and sum rounds on its own, in the order of the scalar text; division and comparison are the IEEE ones. */
#ifndef OTR_VEC_COMMON_H
#define OTR_VEC_COMMON_H

#include "kernels.h"

#if defined(__clang__)
#define VEC_UNROLL _Pragma("unroll")
#else
#define VEC_UNROLL _Pragma("GCC unroll 8")
#endif

VEC_FN vi vi_constant(uint32_t bits) {
  return vi_set((int32_t)bits);
}
VEC_FN vf vf_constant(uint32_t bits) {
  return vf_of_bits(vi_constant(bits));
}
/** The first n (any n) of 16 values from p, zero in place of the others. */
VEC_FN vf vf_get(const float *p, int n) {
  if (n >= 16) return vf_load(p);
  return n > 0 ? vf_load_part(p, n) : vf_zero();
}
VEC_FN void vf_put(float *p, vf x, int n) {
  if (n >= 16) {
    vf_store(p, x);
  } else if (n > 0) {
    vf_store_part(p, x, n);
  }
}

VEC_FN vi vf_abs_bits(vf x) {
  return vi_and(vi_bits(x), vi_constant(OTR_BITS_ABS));
}
VEC_FN vf vf_negate(vf x) {
  return vf_of_bits(vi_xor(vi_bits(x), vi_constant(0x80000000u)));
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

/** tidy(x); worst: largest bits of |x| so far. */
VEC_FN vf vf_tidy(vf x, vi *worst) {
  vi a = vf_abs_bits(x);
  *worst = vi_max(*worst, a);
  return vf_of_bits(vi_drop(vi_gt(vi_constant(OTR_BITS_2M40), a), vi_bits(x)));
}
VEC_FN void vec_note(otr_found *found, vi worst) {
  uint32_t w = (uint32_t)vi_largest(worst);
  if (w > found->worst) found->worst = w;
}

/** The f16 bits of x, as otr_f16_bits. */
VEC_FN __m256i vf_f16_bits(vf x) {
  vi a = vf_abs_bits(x);
  vi sign = vi_and(vi_bits(x), vi_constant(0x80000000u));
  vi clamped = vi_or(vi_min(a, vi_constant(OTR_BITS_F16_MAX)), sign);
  return vf_to_f16(vf_of_bits(vi_drop(vi_gt(vi_constant(OTR_BITS_F16_MIN), a), clamped)));
}
VEC_FN uint32_t vf_f16_saturated(vf x) {
  return (uint32_t)__builtin_popcount(vm_bits(vi_gt(vf_abs_bits(x), vi_constant(OTR_BITS_F16_MAX))));
}

/** exp(x) * 2^shift, shift from 0 to 15. */
VEC_FN vf vf_exp_shifted(vf x, int32_t shift) {
  vm seen = vf_ge(x, vf_set(-28.0f));
  vf y = vf_min(x, vf_set(60.0f));
  vf t = vf_mul(y, vf_constant(0x3fb8aa3bu));
  vf n = vf_sub(vf_add(t, vf_set(12582912.0f)), vf_set(12582912.0f));
  vf r = vf_sub(y, vf_mul(n, vf_constant(0x3f317200u)));
  r = vf_sub(r, vf_mul(n, vf_constant(0x35bfbe8eu)));
  vf p = vf_add(vf_constant(0x3c091861u), vf_mul(r, vf_constant(0x3ab5b53fu)));
  p = vf_add(vf_constant(0x3d2aab47u), vf_mul(r, p));
  p = vf_add(vf_constant(0x3e2aaa51u), vf_mul(r, p));
  p = vf_add(vf_set(0.5f), vf_mul(r, p));
  p = vf_add(vf_set(1.0f), vf_mul(r, p));
  p = vf_add(vf_set(1.0f), vf_mul(r, p));
  vi e = vi_shift_left23(vi_add(vi_round(n), vi_set(shift)));
  return vf_keep(seen, vf_of_bits(vi_add(vi_bits(p), e)));
}
VEC_FN vf vf_exp(vf x) {
  return vf_exp_shifted(x, 0);
}
VEC_FN vf vf_recip(vf x) {
  return vf_div(vf_set(1.0f), x);
}

/** x * recip(1 + exp(-u)). */
VEC_FN vf vf_gated(vf x, vf u) {
  return vf_mul(x, vf_recip(vf_add(vf_set(1.0f), vf_exp(vf_negate(u)))));
}

VEC_FN vf vf_gelu_tanh(vf x) {
  vf c = vf_max(vf_min(x, vf_set(16.0f)), vf_set(-16.0f));
  vf t = vf_add(vf_constant(0x3fcc422au), vf_mul(vf_constant(0x3d922279u), vf_mul(c, c)));
  return vf_gated(x, vf_mul(c, t));
}

VEC_FN vf vf_gelu_erf(vf x) {
  vf z = vf_min(vf_of_bits(vf_abs_bits(x)), vf_set(14.0f));
  vf t = vf_recip(vf_add(vf_set(1.0f), vf_mul(vf_constant(0x3e6d3388u), z)));
  vf p = vf_add(vf_constant(0xbfba00e3u), vf_mul(t, vf_constant(0x3f87dc22u)));
  p = vf_add(vf_constant(0x3fb5f0e3u), vf_mul(t, p));
  p = vf_add(vf_constant(0xbe91a98eu), vf_mul(t, p));
  p = vf_add(vf_constant(0x3e827906u), vf_mul(t, p));
  p = vf_mul(t, p);
  vf q = vf_mul(vf_set(0.5f), vf_mul(z, z));
  vf g = vf_mul(x, vf_mul(vf_set(0.5f), vf_mul(p, vf_exp(vf_negate(q)))));
  return vf_select(vi_gt(vi_bits(x), vi_zero()), vf_sub(x, g), g);
}

VEC_FN vf vf_activate(otr_act_kind kind, vf x) {
  switch (kind) {
    case OTR_ACT_GELU_TANH:
      return vf_gelu_tanh(x);
    case OTR_ACT_GELU_ERF:
      return vf_gelu_erf(x);
    case OTR_ACT_RELU:
      return vf_max(x, vf_zero());
    case OTR_ACT_SILU:
      break;
  }
  return vf_gated(x, x);
}

#endif
