// SPDX-License-Identifier: Apache-2.0
/* otr_recip and otr_sqrt of the contract (section 1) where the hardware's own are not correctly rounded: an estimate by
 * Newton steps from an integer seed, made exact by an integer residual of which the low 32 bits suffice. No division, no
 * 64-bit multiply, and neither rounding mode, contraction nor flushed subnormals can change a bit: the estimate may be
 * off by 8 units in the last place. tests/test_numerics_gpu.c proves it over all mantissas.
 *
 * One text for CUDA and GLSL; C (the proof) gets otr_gpu_recip and otr_gpu_sqrt beside the CPU's own. Arguments: finite,
 * positive or negative (recip), of an exponent in [-126, 125]; anything else gives some bits and does no harm. */
#ifndef OTR_NUMERICS_GPU_H
#define OTR_NUMERICS_GPU_H

#if defined(__CUDACC__) || defined(OTR_CUDA_EMULATION)
static __device__ inline float otr_recip(float a);
static __device__ inline float otr_sqrt(float a);
#elif defined(GL_core_profile) || defined(VULKAN)
float otr_recip(float a);
float otr_sqrt(float a);
#endif

#include "numerics.h"

/** About 1 / a for a in [1, 2). */
OTR_FN float otr_recip_estimate(float a) {
  float y = OTR_FLOAT(0x7ef311c7u - OTR_BITS(a));
  y = y * (2.0f - a * y);
  y = y * (2.0f - a * y);
  return y * (2.0f - a * y);
}

/** About 1 / sqrt(a) for a in [1, 4). */
OTR_FN float otr_rsqrt_estimate(float a) {
  float y = OTR_FLOAT(0x5f375a86u - (OTR_BITS(a) >> 1));
  float h = 0.5f * a;
  y = y * (1.5f - h * y * y);
  y = y * (1.5f - h * y * y);
  return y * (1.5f - h * y * y);
}

/* One step of otr_recip_settle: q moves by S where it is off by more than S / 2. */
#define OTR_SETTLE_RECIP(S)       \
  if (2 * r > S * d) {            \
    q += OTR_UINT(S);             \
    r -= S * d;                   \
  } else if (2 * r < -(S * d)) {  \
    q -= OTR_UINT(S);             \
    r += S * d;                   \
  }

/** rint(2^47 / m) for m in (2^23, 2^24), from a q at most 8 beside it. There are no ties. */
OTR_FN otr_u32 otr_recip_settle(otr_u32 m, otr_u32 q) {
  int d = OTR_INT(m);
  int r = OTR_INT(0u - q * m); /* 2^47 - q m: below 9 * 2^24, so its low 32 bits are all of it */
  OTR_SETTLE_RECIP(8)
  OTR_SETTLE_RECIP(4)
  OTR_SETTLE_RECIP(2)
  OTR_SETTLE_RECIP(1)
  return q;
}

/* The same for a square root: (q + S)^2 = q^2 + 2 q S + S^2. */
#define OTR_SETTLE_SQRT(S)                 \
  if (r > S * OTR_INT(q)) {                \
    r -= 2 * S * OTR_INT(q) + S * S;       \
    q += OTR_UINT(S);                      \
  } else if (r <= -(S * OTR_INT(q))) {     \
    r += 2 * S * OTR_INT(q) - S * S;       \
    q -= OTR_UINT(S);                      \
  }

/** rint(sqrt(a)) for a in [2^46, 2^48), given by its low 32 bits, from a q at most 8 beside it. There are no ties. */
OTR_FN otr_u32 otr_sqrt_settle(otr_u32 a, otr_u32 q) {
  int r = OTR_INT(a - q * q);
  OTR_SETTLE_SQRT(8)
  OTR_SETTLE_SQRT(4)
  OTR_SETTLE_SQRT(2)
  OTR_SETTLE_SQRT(1)
  return q;
}

/** 1 / a, correctly rounded. */
OTR_FN float otr_gpu_recip(float a) {
  otr_u32 b = OTR_BITS(a), fraction = b & 0x7fffffu, exponent = (b >> 23) & 255u, negative = b & 0x80000000u;
  if (fraction == 0u) return OTR_FLOAT(negative | ((254u - exponent) << 23));
  float y = otr_recip_estimate(OTR_FLOAT(0x3f800000u | fraction));
  otr_u32 q = otr_recip_settle(0x800000u | fraction, OTR_UINT(y * 16777216.0f));
  return OTR_FLOAT(negative | ((253u - exponent) << 23) | (q & 0x7fffffu));
}

/** sqrt(a), correctly rounded; of 0 it is 0. */
OTR_FN float otr_gpu_sqrt(float a) {
  otr_u32 b = OTR_BITS(a), exponent = b >> 23, odd = exponent & 1u;
  if (b == 0u) return OTR_FLOAT(0u);
  otr_u32 m = 0x800000u | (b & 0x7fffffu);
  float x = OTR_FLOAT((b & 0x7fffffu) | (odd != 0u ? 0x3f800000u : 0x40000000u)); /* a over an even power of 2 */
  otr_u32 q = otr_sqrt_settle(m << (odd != 0u ? 23 : 24), OTR_UINT(x * otr_rsqrt_estimate(x) * 8388608.0f));
  return OTR_FLOAT((((exponent + 126u + odd) >> 1) << 23) | (q & 0x7fffffu));
}

#if defined(__CUDACC__) || defined(OTR_CUDA_EMULATION) || defined(GL_core_profile) || defined(VULKAN)
OTR_FN float otr_recip(float a) { return otr_gpu_recip(a); }
OTR_FN float otr_sqrt(float a) { return otr_gpu_sqrt(a); }
#endif

#endif
