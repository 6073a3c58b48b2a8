// SPDX-License-Identifier: Apache-2.0
/* The contract's scalar functions (numerics.h) on sixteen values, in the names of an ISA's vec_<isa>.h. Every product
 * and sum rounds on its own, in the order of the scalar text; division and comparison are the IEEE ones. */
#ifndef OTR_VEC_COMMON_H
#define OTR_VEC_COMMON_H

#include "kernels.h"

#if defined(__clang__)
#define VEC_UNROLL _Pragma("unroll")
#define VEC_ROLLED _Pragma("nounroll")
#define VEC_ONE_COPY static __attribute__((noinline))
#else
#define VEC_UNROLL _Pragma("GCC unroll 8")
#define VEC_ROLLED _Pragma("GCC unroll 1")
#define VEC_ONE_COPY static __attribute__((noinline, noclone)) /* one for every caller: it is long */
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
VEC_FN vf vf_get_f16(const uint16_t *p, int n) {
  if (n >= 16) return vf_load_f16(p);
  return n > 0 ? vf_load_f16_part(p, n) : vf_zero();
}
VEC_FN void vf_put_f16(uint16_t *p, vh h, int n) {
  if (n >= 16) {
    vh_store(p, h);
  } else if (n > 0) {
    vf_store_f16_part(p, h, n);
  }
}

VEC_FN vi vf_abs_bits(vf x) {
  return vi_and(vi_bits(x), vi_constant(OTR_BITS_ABS));
}
VEC_FN vf vf_negate(vf x) {
  return vf_of_bits(vi_xor(vi_bits(x), vi_constant(0x80000000u)));
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
VEC_FN vh vf_f16_bits(vf x) {
  vf y = vf_max(vf_min(x, vf_constant(OTR_BITS_F16_MAX)), vf_constant(OTR_BITS_F16_MAX | 0x80000000u));
  vm normal = vi_gt(vf_abs_bits(x), vi_constant(OTR_BITS_F16_MIN - 1));
  return vf_to_f16(vf_keep(normal, y));
}
/** x rounded to f16, for 0 <= x <= 65504. */
VEC_FN vf vf_round_weight(vf x) {
  return vf_from_f16(vf_to_f16(vf_keep(vf_ge(x, vf_constant(OTR_BITS_F16_MIN)), x)));
}
VEC_FN uint32_t vf_f16_saturated(vf x) {
  return vm_count(vi_gt(vf_abs_bits(x), vi_constant(OTR_BITS_F16_MAX)));
}

/* exp is a chain of twenty operations. VEC_GROUP vectors go through it side by side, so that a core has something to do
 * while each waits. */
typedef struct vg {
  vf of[VEC_GROUP];
} vg;
#define EACH_OF_GROUP VEC_UNROLL for (int i = 0; i < VEC_GROUP; i++)

VEC_FN vg vg_mul(vg x, vf y) {
  EACH_OF_GROUP x.of[i] = vf_mul(x.of[i], y);
  return x;
}
/** c + x * y. */
VEC_FN vg vg_mul_add(vf c, vg x, vg y) {
  EACH_OF_GROUP x.of[i] = vf_mul(x.of[i], y.of[i]);
  EACH_OF_GROUP x.of[i] = vf_add(c, x.of[i]);
  return x;
}
/** exp(x) * 2^shift for -28 <= x <= 60; any bits for another x. */
VEC_FN vg vg_exp_inside(vg x, int32_t shift) {
  const vf magic = vf_set(12582912.0f);
  vg u = vg_mul(x, vf_constant(0x3fb8aa3bu)), n, r, h, e, p;
  EACH_OF_GROUP u.of[i] = vf_add(u.of[i], magic);
  EACH_OF_GROUP n.of[i] = vf_sub(u.of[i], magic);
  h = vg_mul(n, vf_constant(0x3f317200u));
  EACH_OF_GROUP r.of[i] = vf_sub(x.of[i], h.of[i]);
  h = vg_mul(n, vf_constant(0x35bfbe8eu));
  EACH_OF_GROUP r.of[i] = vf_sub(r.of[i], h.of[i]);
  /* The low bits of u are the integer n: nothing else of it stays after the shift. */
  EACH_OF_GROUP e.of[i] = vf_of_bits(vi_shift_left23(vi_add(vi_bits(u.of[i]), vi_set(shift))));
  p = vg_mul(r, vf_constant(0x3ab5b53fu));
  EACH_OF_GROUP p.of[i] = vf_add(vf_constant(0x3c091861u), p.of[i]);
  p = vg_mul_add(vf_constant(0x3d2aab47u), r, p);
  p = vg_mul_add(vf_constant(0x3e2aaa51u), r, p);
  p = vg_mul_add(vf_set(0.5f), r, p);
  p = vg_mul_add(vf_set(1.0f), r, p);
  p = vg_mul_add(vf_set(1.0f), r, p);
  EACH_OF_GROUP p.of[i] = vf_of_bits(vi_add(vi_bits(p.of[i]), vi_bits(e.of[i])));
  return p;
}

VEC_FN vg vg_exp(vg x) {
  vg y;
  EACH_OF_GROUP y.of[i] = vf_min(x.of[i], vf_set(60.0f));
  y = vg_exp_inside(y, 0);
  EACH_OF_GROUP y.of[i] = vf_keep(vf_ge(x.of[i], vf_set(-28.0f)), y.of[i]);
  return y;
}

/** gelu, tanh form: x * recip(1 + exp(-u)). @return u. */
VEC_FN vg vg_gelu_tanh_argument(vg x) {
  vg c, t;
  EACH_OF_GROUP c.of[i] = vf_max(vf_min(x.of[i], vf_set(16.0f)), vf_set(-16.0f));
  EACH_OF_GROUP t.of[i] = vf_mul(vf_constant(0x3d922279u), vf_mul(c.of[i], c.of[i]));
  EACH_OF_GROUP t.of[i] = vf_mul(c.of[i], vf_add(vf_constant(0x3fcc422au), t.of[i]));
  return t;
}

/** min(|x|, 14). */
VEC_FN vg vg_gelu_erf_z(vg x) {
  EACH_OF_GROUP x.of[i] = vf_min(vf_of_bits(vf_abs_bits(x.of[i])), vf_set(14.0f));
  return x;
}

/** gelu, erf form, with e = exp(-(0.5 * (z * z))). */
VEC_FN vg vg_gelu_erf(vg x, vg e) {
  vg t = vg_mul(vg_gelu_erf_z(x), vf_constant(0x3e6d3388u)), p, g;
  EACH_OF_GROUP t.of[i] = vf_div(vf_set(1.0f), vf_add(vf_set(1.0f), t.of[i]));
  p = vg_mul(t, vf_constant(0x3f87dc22u));
  EACH_OF_GROUP p.of[i] = vf_add(vf_constant(0xbfba00e3u), p.of[i]);
  p = vg_mul_add(vf_constant(0x3fb5f0e3u), t, p);
  p = vg_mul_add(vf_constant(0xbe91a98eu), t, p);
  p = vg_mul_add(vf_constant(0x3e827906u), t, p);
  EACH_OF_GROUP p.of[i] = vf_mul(t.of[i], p.of[i]);
  EACH_OF_GROUP g.of[i] = vf_mul(x.of[i], vf_mul(vf_set(0.5f), vf_mul(p.of[i], e.of[i])));
  EACH_OF_GROUP x.of[i] = vf_select(vi_gt(vi_bits(x.of[i]), vi_zero()), vf_sub(x.of[i], g.of[i]), g.of[i]);
  return x;
}

/** act(x): exp stands once for the three that need it. */
VEC_FN vg vg_activate(otr_act_kind kind, vg x) {
  vg u = x;
  if (kind == OTR_ACT_RELU) {
    EACH_OF_GROUP x.of[i] = vf_max(x.of[i], vf_zero());
    return x;
  }
  if (kind == OTR_ACT_GELU_TANH) u = vg_gelu_tanh_argument(x);
  if (kind == OTR_ACT_GELU_ERF) {
    u = vg_gelu_erf_z(x);
    EACH_OF_GROUP u.of[i] = vf_mul(vf_set(0.5f), vf_mul(u.of[i], u.of[i]));
  }
  EACH_OF_GROUP u.of[i] = vf_negate(u.of[i]);
  u = vg_exp(u);
  if (kind == OTR_ACT_GELU_ERF) return vg_gelu_erf(x, u);
  EACH_OF_GROUP u.of[i] = vf_div(vf_set(1.0f), vf_add(vf_set(1.0f), u.of[i]));
  EACH_OF_GROUP x.of[i] = vf_mul(x.of[i], u.of[i]);
  return x;
}

#endif
