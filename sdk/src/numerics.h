// SPDX-License-Identifier: Apache-2.0
/* THE CONTRACT's constants and scalar functions (docs/contract.md, section 1 and 3), in one text that C, CUDA and GLSL
 * all include. Written in the common subset of the three: no pointers, no hexadecimal float literals (GLSL has none; a
 * constant is given by its bits), every product and every sum a statement of its own, so that no compiler has anything
 * to contract. C and C++ are built with -ffp-contract=off, CUDA with -fmad=false, GLSL with `precise`.
 *
 * A GPU's includer defines otr_recip and otr_sqrt (correctly rounded, section 1) before it includes this text. */
#ifndef OTR_NUMERICS_H
#define OTR_NUMERICS_H

#define OTR_CONTRACT_REVISION 1

#if defined(__CUDACC__) || defined(OTR_CUDA_EMULATION)
#define OTR_FN static __device__ inline
#define OTR_PRECISE
#define otr_u32 unsigned int
#define OTR_BITS(x) __float_as_uint(x)
#define OTR_FLOAT(b) __uint_as_float(b)
#define OTR_I2F(i) __int2float_rn(i)
#define OTR_INT(x) ((int)(x))
#define OTR_UINT(x) ((otr_u32)(x))
#elif defined(GL_core_profile) || defined(VULKAN)
#define OTR_FN
#define OTR_PRECISE precise
#define otr_u32 uint
#define OTR_BITS(x) floatBitsToUint(x)
#define OTR_FLOAT(b) uintBitsToFloat(b)
#define OTR_I2F(i) float(i)
#define OTR_INT(x) int(x)
#define OTR_UINT(x) uint(x)
#else
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#define OTR_FN static inline
#define OTR_PRECISE
#define otr_u32 uint32_t
static inline uint32_t otr_bits_of_f32(float x) {
  uint32_t b;
  memcpy(&b, &x, sizeof b);
  return b;
}
static inline float otr_f32_of_bits(uint32_t b) {
  float x;
  memcpy(&x, &b, sizeof x);
  return x;
}
#define OTR_BITS(x) otr_bits_of_f32(x)
#define OTR_FLOAT(b) otr_f32_of_bits(b)
#define OTR_I2F(i) ((float)(i))
#define OTR_INT(x) ((int)(x))
#define OTR_UINT(x) ((uint32_t)(x))
/* IEEE operations of the CPU, correctly rounded by themselves. */
static inline float otr_recip(float a) { return 1.0f / a; }
static inline float otr_sqrt(float a) { return sqrtf(a); }
#endif

/* Sizes that the order of additions depends on. */
#define OTR_LANES_ROW 64    /* lanesum of rows: norms, the relative rule */
#define OTR_LANES_F16 16    /* lanesum of softmax sums and f16 linears */
#define OTR_LANES_DOT 4     /* lanesum of scores, outliers and P.V */
#define OTR_CHUNK 256       /* positions of an attention chunk = positions of a KV page */
#define OTR_MAX_K 131072    /* inputs of a linear: 127 * 127 * k stays inside int32 */
#define OTR_MAX_POSITION 1048576

/* Bit patterns of the contract's constants (the value beside each). */
#define OTR_BITS_ABS 0x7fffffffu
#define OTR_BITS_2M40 0x2b800000u    /* 2^-40: below it tidy gives +0 */
#define OTR_BITS_2P48 0x57800000u    /* 2^48: from it on a value is NONFINITE */
#define OTR_BITS_F16_MAX 0x477fe000u /* 65504 */
#define OTR_BITS_F16_MIN 0x38800000u /* 2^-14: below it f16 gives +0 */
#define OTR_BITS_W_MIN 0x2f000000u   /* 2^-33: a weight row whose absmax is below has scale 0 */
#define OTR_BITS_INV127 0x3c010204u  /* 0x1.020408p-7, f32(1/127) */

/** |x| is 2^48 or more, infinite or NaN. */
OTR_FN bool otr_is_nonfinite(float x) { return (OTR_BITS(x) & OTR_BITS_ABS) >= OTR_BITS_2P48; }

/** +0 for |x| < 2^-40 and for -0, else x. The NONFINITE half of the rule is otr_is_nonfinite: the caller records it. */
OTR_FN float otr_tidy(float x) {
  otr_u32 b = OTR_BITS(x);
  return (b & OTR_BITS_ABS) < OTR_BITS_2M40 ? OTR_FLOAT(0u) : x;
}

/** |x| > 65504: otr_f16_bits clamps it, and the clamp counts as SATURATED. */
OTR_FN bool otr_f16_saturates(float x) { return (OTR_BITS(x) & OTR_BITS_ABS) > OTR_BITS_F16_MAX; }

/** IEEE binary16 without subnormals: |x| < 2^-14 gives +0, |x| is clamped to 65504, then nearest even. Low 16 bits. */
OTR_FN otr_u32 otr_f16_bits(float x) {
  otr_u32 b = OTR_BITS(x);
  otr_u32 a = b & OTR_BITS_ABS;
  otr_u32 sign = (b >> 16) & 0x8000u;
  if (a < OTR_BITS_F16_MIN) return 0u;
  if (a > OTR_BITS_F16_MAX) a = OTR_BITS_F16_MAX;
  return sign | ((a - 0x38000000u + 0xfffu + ((a >> 13) & 1u)) >> 13);
}

/** The value of f16 bits as the contract reads them: exponent 0 is +0, exponent 31 is +-65504. */
OTR_FN float otr_f16_value(otr_u32 h) {
  otr_u32 a = h & 0x7fffu;
  otr_u32 sign = (h & 0x8000u) << 16;
  if (a < 0x0400u) return OTR_FLOAT(0u);
  if (a > 0x7bffu) a = 0x7bffu;
  return OTR_FLOAT(sign | ((a << 13) + 0x38000000u));
}

/** x rounded to f16, as f32. */
OTR_FN float otr_f16_round(float x) { return otr_f16_value(otr_f16_bits(x)); }

/** Any f16 bits as the contract stores them: without Inf, NaN, subnormals and -0. */
OTR_FN otr_u32 otr_f16_clean(otr_u32 h) { return otr_f16_bits(otr_f16_value(h)); }

/** floor(log2 v) for a normal v > 0; 14 for 0 (so that e_i = exponent - 14 = 0). */
OTR_FN int otr_exponent(float v) {
  otr_u32 a = OTR_BITS(v) & OTR_BITS_ABS;
  return a == 0u ? 14 : OTR_INT(a >> 23) - 127;
}

/** 2^n for -126 <= n <= 127. */
OTR_FN float otr_pow2(int n) { return OTR_FLOAT(OTR_UINT(n + 127) << 23); }

/** exp(x): x > 60 counts as 60, x < -28 gives +0. At most 1.16 ulp off; exp(0) = 1. */
OTR_FN float otr_exp(float x) {
  if (!(x >= -28.0f)) return OTR_FLOAT(0u); /* a NaN too: the cast below must stay defined */
  if (x > 60.0f) x = 60.0f;
  OTR_PRECISE float t = x * OTR_FLOAT(0x3fb8aa3bu); /* 0x1.715476p+0 = log2 e */
  OTR_PRECISE float u = t + 12582912.0f;
  OTR_PRECISE float n = u - 12582912.0f;
  OTR_PRECISE float h = n * OTR_FLOAT(0x3f317200u); /* 0x1.62e4p-1 */
  OTR_PRECISE float r = x - h;
  OTR_PRECISE float l = n * OTR_FLOAT(0x35bfbe8eu); /* 0x1.7f7d1cp-20 */
  r = r - l;
  OTR_PRECISE float p = r * OTR_FLOAT(0x3ab5b53fu); /* c6 = 0x1.6b6a7ep-10 */
  p = OTR_FLOAT(0x3c091861u) + p;                   /* c5 = 0x1.1230c2p-7 */
  p = r * p;
  p = OTR_FLOAT(0x3d2aab47u) + p; /* c4 = 0x1.55568ep-5 */
  p = r * p;
  p = OTR_FLOAT(0x3e2aaa51u) + p; /* c3 = 0x1.5554a2p-3 */
  p = r * p;
  p = 0.5f + p; /* c2 */
  p = r * p;
  p = 1.0f + p;
  p = r * p;
  p = 1.0f + p;
  return OTR_FLOAT(OTR_BITS(p) + (OTR_UINT(OTR_INT(n)) << 23));
}

/** recip(sqrt(a)); of 0 it is 0. */
OTR_FN float otr_rsqrt(float a) {
  if (a == 0.0f) return OTR_FLOAT(0u);
  return otr_recip(otr_sqrt(a));
}

/** x * recip(1 + exp(-x)). */
OTR_FN float otr_silu(float x) {
  OTR_PRECISE float d = 1.0f + otr_exp(-x);
  OTR_PRECISE float y = x * otr_recip(d);
  return y;
}

/** GELU, tanh form. */
OTR_FN float otr_gelu_tanh(float x) {
  float c = x;
  if (c > 16.0f) c = 16.0f;
  if (c < -16.0f) c = -16.0f;
  OTR_PRECISE float s = c * c;
  OTR_PRECISE float t = OTR_FLOAT(0x3d922279u) * s; /* c3 = 0x1.2444f2p-4 */
  t = OTR_FLOAT(0x3fcc422au) + t;                   /* c1 = 0x1.988454p+0 */
  OTR_PRECISE float u = c * t;
  OTR_PRECISE float d = 1.0f + otr_exp(-u);
  OTR_PRECISE float y = x * otr_recip(d);
  return y;
}

/** GELU, erf form (Abramowitz & Stegun 7.1.26). */
OTR_FN float otr_gelu_erf(float x) {
  float z = OTR_FLOAT(OTR_BITS(x) & OTR_BITS_ABS);
  if (z > 14.0f) z = 14.0f;
  OTR_PRECISE float t = OTR_FLOAT(0x3e6d3388u) * z; /* 0x1.da671p-3 */
  t = 1.0f + t;
  t = otr_recip(t);
  OTR_PRECISE float p = t * OTR_FLOAT(0x3f87dc22u); /* a5 = 1.061405429 */
  p = OTR_FLOAT(0xbfba00e3u) + p;                   /* a4 = -1.453152027 */
  p = t * p;
  p = OTR_FLOAT(0x3fb5f0e3u) + p; /* a3 = 1.421413741 */
  p = t * p;
  p = OTR_FLOAT(0xbe91a98eu) + p; /* a2 = -0.284496736 */
  p = t * p;
  p = OTR_FLOAT(0x3e827906u) + p; /* a1 = 0.254829592 */
  p = t * p;
  OTR_PRECISE float q = z * z;
  q = 0.5f * q;
  OTR_PRECISE float h = p * otr_exp(-q);
  h = 0.5f * h;
  OTR_PRECISE float g = x * h;
  OTR_PRECISE float y = x - g;
  return x > 0.0f ? y : g;
}

#endif
