// SPDX-License-Identifier: Apache-2.0
/* Sixteen f32 at once, NEON: four vectors. backends/simd is written in these names.
 * vf: 16 f32, vi: 16 int32, vm: 16 truth values, vh: 16 f16 as they lie; tv: the vector of the attention's tiles. */
#ifndef OTR_NEON_VEC_H
#define OTR_NEON_VEC_H

#include <arm_neon.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* One operation a line. */
// clang-format off
#define VEC_FN static inline __attribute__((always_inline))

typedef struct vf {
  float32x4_t a, b, c, d;
} vf;
typedef struct vi {
  int32x4_t a, b, c, d;
} vi;
typedef struct vm {
  uint32x4_t a, b, c, d; /* all ones where true */
} vm;
typedef struct vh {
  float16x8_t a, b;
} vh;
#define VEC_ALL(type, f) ((type){f(a), f(b), f(c), f(d)})

VEC_FN vi vi_set(int32_t x) {
  int32x4_t v = vdupq_n_s32(x);
  return (vi){v, v, v, v};
}
VEC_FN vi vi_zero(void) { return vi_set(0); }
VEC_FN vi vi_ramp(void) {
  static const int32_t ramp[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return (vi){vld1q_s32(ramp), vld1q_s32(ramp + 4), vld1q_s32(ramp + 8), vld1q_s32(ramp + 12)};
}
#define VEC_OP(f, q) f(x.q, y.q)
#define VI_AND(q) VEC_OP(vandq_s32, q)
#define VI_XOR(q) VEC_OP(veorq_s32, q)
#define VI_ADD(q) VEC_OP(vaddq_s32, q)
#define VI_MAX(q) VEC_OP(vmaxq_s32, q)
#define VI_GT(q) VEC_OP(vcgtq_s32, q)
#define VI_SHIFT(q) vshlq_n_s32(x.q, 23)
VEC_FN vi vi_and(vi x, vi y) { return VEC_ALL(vi, VI_AND); }
VEC_FN vi vi_xor(vi x, vi y) { return VEC_ALL(vi, VI_XOR); }
VEC_FN vi vi_add(vi x, vi y) { return VEC_ALL(vi, VI_ADD); }
VEC_FN vi vi_max(vi x, vi y) { return VEC_ALL(vi, VI_MAX); }
VEC_FN vi vi_shift_left23(vi x) { return VEC_ALL(vi, VI_SHIFT); }
/** x > y, signed. */
VEC_FN vm vi_gt(vi x, vi y) { return VEC_ALL(vm, VI_GT); }

/** The first n of 16, for any n. */
VEC_FN vm vm_first(int n) { return vi_gt(vi_set(n), vi_ramp()); }
#define VM_AND(q) VEC_OP(vandq_u32, q)
#define VM_WITHOUT(q) vbicq_u32(y.q, x.q)
VEC_FN vm vm_and(vm x, vm y) { return VEC_ALL(vm, VM_AND); }
/** y without x. */
VEC_FN vm vm_without(vm y, vm x) { return VEC_ALL(vm, VM_WITHOUT); }
VEC_FN bool vm_any(vm m) { return vmaxvq_u32(vorrq_u32(vorrq_u32(m.a, m.b), vorrq_u32(m.c, m.d))) != 0; }
/** How many are true: each counts as -1. */
VEC_FN uint32_t vm_count(vm m) {
  return 0u - vaddvq_u32(vaddq_u32(vaddq_u32(m.a, m.b), vaddq_u32(m.c, m.d)));
}

VEC_FN vf vf_set(float x) {
  float32x4_t v = vdupq_n_f32(x);
  return (vf){v, v, v, v};
}
VEC_FN vf vf_zero(void) { return vf_set(0.0f); }
VEC_FN vf vf_load(const float *p) { return (vf){vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)}; }
VEC_FN void vf_store(float *p, vf x) {
  vst1q_f32(p, x.a);
  vst1q_f32(p + 4, x.b);
  vst1q_f32(p + 8, x.c);
  vst1q_f32(p + 12, x.d);
}
VEC_FN vf vf_load_part(const float *p, int n) {
  float part[16] = {0};
  if (n > 0) memcpy(part, p, (size_t)(n < 16 ? n : 16) * sizeof *part);
  return vf_load(part);
}
VEC_FN void vf_store_part(float *p, vf x, int n) {
  float part[16];
  vf_store(part, x);
  if (n > 0) memcpy(p, part, (size_t)(n < 16 ? n : 16) * sizeof *part);
}
#define VF_ADD(q) VEC_OP(vaddq_f32, q)
#define VF_SUB(q) VEC_OP(vsubq_f32, q)
#define VF_MUL(q) VEC_OP(vmulq_f32, q)
#define VF_DIV(q) VEC_OP(vdivq_f32, q)
#define VF_MIN(q) VEC_OP(vminq_f32, q)
#define VF_MAX(q) VEC_OP(vmaxq_f32, q)
#define VF_GE(q) VEC_OP(vcgeq_f32, q)
#define VF_SELECT(q) vbslq_f32(m.q, x.q, y.q)
#define VF_KEEP(q) vreinterpretq_f32_u32(vandq_u32(m.q, vreinterpretq_u32_f32(x.q)))
VEC_FN vf vf_add(vf x, vf y) { return VEC_ALL(vf, VF_ADD); }
VEC_FN vf vf_sub(vf x, vf y) { return VEC_ALL(vf, VF_SUB); }
VEC_FN vf vf_mul(vf x, vf y) { return VEC_ALL(vf, VF_MUL); }
VEC_FN vf vf_div(vf x, vf y) { return VEC_ALL(vf, VF_DIV); }
/** A NaN when one is a NaN. */
VEC_FN vf vf_min(vf x, vf y) { return VEC_ALL(vf, VF_MIN); }
VEC_FN vf vf_max(vf x, vf y) { return VEC_ALL(vf, VF_MAX); }
VEC_FN vm vf_ge(vf x, vf y) { return VEC_ALL(vm, VF_GE); }
VEC_FN vf vf_select(vm m, vf x, vf y) { return VEC_ALL(vf, VF_SELECT); }
VEC_FN vf vf_keep(vm m, vf x) { return VEC_ALL(vf, VF_KEEP); }

#define VI_KEEP(q) vandq_s32(vreinterpretq_s32_u32(m.q), x.q)
#define VI_DROP(q) vbicq_s32(x.q, vreinterpretq_s32_u32(m.q))
#define VI_BITS(q) vreinterpretq_s32_f32(x.q)
#define VF_OF_BITS(q) vreinterpretq_f32_s32(x.q)
#define VI_ROUND(q) vcvtnq_s32_f32(x.q)
#define VF_OF_INT(q) vcvtq_f32_s32(x.q)
VEC_FN vi vi_keep(vm m, vi x) { return VEC_ALL(vi, VI_KEEP); }
VEC_FN vi vi_drop(vm m, vi x) { return VEC_ALL(vi, VI_DROP); }
VEC_FN vi vi_bits(vf x) { return VEC_ALL(vi, VI_BITS); }
VEC_FN vf vf_of_bits(vi x) { return VEC_ALL(vf, VF_OF_BITS); }
/** Nearest even; saturated where it does not fit. */
VEC_FN vi vi_round(vf x) { return VEC_ALL(vi, VI_ROUND); }
VEC_FN vf vf_of_int(vi x) { return VEC_ALL(vf, VF_OF_INT); }

VEC_FN void vi_store(int32_t *p, vi x) {
  vst1q_s32(p, x.a);
  vst1q_s32(p + 4, x.b);
  vst1q_s32(p + 8, x.c);
  vst1q_s32(p + 12, x.d);
}
/** Stores 64 values, saturated. @return sum + what was stored, in any order */
VEC_FN vi vi_store_s8(int8_t *p, const vi x[4], vi sum) {
  int8x16_t q[4];
  for (int i = 0; i < 4; i++, p += 16) {
    int16x8_t low = vqmovn_high_s32(vqmovn_s32(x[i].a), x[i].b), high = vqmovn_high_s32(vqmovn_s32(x[i].c), x[i].d);
    vst1q_s8(p, q[i] = vqmovn_high_s16(vqmovn_s16(low), high));
  }
  sum.a = vpadalq_s16(sum.a, vpaddlq_s8(q[0]));
  sum.b = vpadalq_s16(sum.b, vpaddlq_s8(q[1]));
  sum.c = vpadalq_s16(sum.c, vpaddlq_s8(q[2]));
  sum.d = vpadalq_s16(sum.d, vpaddlq_s8(q[3]));
  return sum;
}
/** The indices of the true ones of 64, base being the first one's, packed together at p. @return how many. */
VEC_FN int vi_store_true(int32_t *p, const vm m[4], int32_t base) {
  int n = 0;
  for (int q = 0; q < 4; q++, base += 16) {
    uint16x8_t low = vmovn_high_u32(vmovn_u32(m[q].a), m[q].b), high = vmovn_high_u32(vmovn_u32(m[q].c), m[q].d);
    uint8x8_t nibbles = vshrn_n_u16(vreinterpretq_u16_u8(vmovn_high_u16(vmovn_u16(low), high)), 4);
    uint64_t bits = vget_lane_u64(vreinterpret_u64_u8(nibbles), 0) & 0x1111111111111111u;
    for (; bits != 0; bits &= bits - 1) p[n++] = base + (__builtin_ctzll(bits) >> 2);
  }
  return n;
}
/* A mask of the outliers costs the quantizer more than to put them right afterwards. */
#define VEC_OUTLIERS_AFTER 1

VEC_FN int32_t vi_largest(vi x) { return vmaxvq_s32(vmaxq_s32(vmaxq_s32(x.a, x.b), vmaxq_s32(x.c, x.d))); }
VEC_FN int32_t vi_sum(vi x) { return vaddvq_s32(vaddq_s32(vaddq_s32(x.a, x.b), vaddq_s32(x.c, x.d))); }
/** The end of lanesum<16 ...>: h = 8, 4, 2, 1. */
VEC_FN float vf_sum_lanes(vf x) {
  float32x4_t y = vaddq_f32(vaddq_f32(x.a, x.c), vaddq_f32(x.b, x.d));
  return vpadds_f32(vadd_f32(vget_low_f32(y), vget_high_f32(y)));
}
VEC_FN float vf_largest(vf x) { return vmaxvq_f32(vmaxq_f32(vmaxq_f32(x.a, x.b), vmaxq_f32(x.c, x.d))); }

/** 16 f16 as they lie, and back (nearest even). */
VEC_FN vf vf_from_f16(vh h) {
  return (vf){vcvt_f32_f16(vget_low_f16(h.a)), vcvt_high_f32_f16(h.a), vcvt_f32_f16(vget_low_f16(h.b)),
              vcvt_high_f32_f16(h.b)};
}
VEC_FN vh vf_to_f16(vf x) {
  return (vh){vcvt_high_f16_f32(vcvt_f16_f32(x.a), x.b), vcvt_high_f16_f32(vcvt_f16_f32(x.c), x.d)};
}
VEC_FN vf vf_load_f16(const uint16_t *p) {
  return vf_from_f16((vh){vreinterpretq_f16_u16(vld1q_u16(p)), vreinterpretq_f16_u16(vld1q_u16(p + 8))});
}
VEC_FN void vh_store(uint16_t *p, vh h) {
  vst1q_u16(p, vreinterpretq_u16_f16(h.a));
  vst1q_u16(p + 8, vreinterpretq_u16_f16(h.b));
}
VEC_FN vf vf_load_f16_part(const uint16_t *p, int n) {
  uint16_t part[16] = {0};
  if (n > 0) memcpy(part, p, (size_t)(n < 16 ? n : 16) * sizeof *part);
  return vf_load_f16(part);
}
VEC_FN void vf_store_f16_part(uint16_t *p, vh h, int n) {
  uint16_t part[16];
  vh_store(part, h);
  if (n > 0) memcpy(p, part, (size_t)(n < 16 ? n : 16) * sizeof *part);
}

/* Vectors side by side where a chain of operations is long: four are one vf. */
#define VEC_GROUP 1

/* Tiles: TILE_ROWS x 4 lanes x 2 vectors are 24 accumulators of 32 registers. */
typedef struct tv {
  float32x4_t a, b;
} tv;
#define TILE_ROWS 3
#define TILE_WIDTH 8
#define LANE_WIDTH 16
#define TILE_LIST(X) X(1) X(2) X(3)
VEC_FN tv tv_zero(void) { return (tv){vdupq_n_f32(0.0f), vdupq_n_f32(0.0f)}; }
VEC_FN tv tv_load(const float *p) { return (tv){vld1q_f32(p), vld1q_f32(p + 4)}; }
VEC_FN tv tv_load_f16(const uint16_t *p) {
  float16x8_t h = vreinterpretq_f16_u16(vld1q_u16(p));
  return (tv){vcvt_f32_f16(vget_low_f16(h)), vcvt_high_f32_f16(h)};
}
/** acc + a * b where a * b is exact. */
VEC_FN tv tv_fma_exact(float a, tv b, tv acc) { return (tv){vfmaq_n_f32(acc.a, b.a, a), vfmaq_n_f32(acc.b, b.b, a)}; }
VEC_FN tv tv_add(tv x, tv y) { return (tv){vaddq_f32(x.a, y.a), vaddq_f32(x.b, y.b)}; }
VEC_FN void tv_store(float *p, tv x) {
  vst1q_f32(p, x.a);
  vst1q_f32(p + 4, x.b);
}
// clang-format on

#endif
