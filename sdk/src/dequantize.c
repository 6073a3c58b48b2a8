// SPDX-License-Identifier: Apache-2.0
#include "dequantize.h"

#include <string.h>

#include "gguf.h"
#include "numerics.h"

/* Block formats: scales are f16 (11 significand bits), a K-quant's own scales are 6 bits (Q6_K: 7 and a sign), values
 * at most 7 bits and a sign. So d * q has at most 18 bits, d * sc * q at most 23 and dmin * m 17: all exact in f32, and
 * the one rounding is that of the sum. */

#define BLOCK 32  /* values of a Q4_0 ... Q8_0 block */
#define SUPER 256 /* values of a K-quant block */

float otr_f16_exact(uint16_t bits) {
  uint32_t sign = (uint32_t)(bits & 0x8000u) << 16;
  uint32_t rest = bits & 0x7fffu;
  /* A subnormal is a count of 2^-24; all three cases are computed so that loops over this vectorize. */
  uint32_t subnormal = otr_bits_of_f32((float)(int32_t)rest * otr_f32_of_bits(0x33800000u));
  uint32_t normal = (rest << 13) + (rest >= 0x7c00u ? 0x70000000u : 0x38000000u);
  return otr_f32_of_bits(sign | (rest < 0x0400u ? subnormal : normal));
}

static uint16_t load16(const uint8_t *p) {
  uint16_t v;
  memcpy(&v, p, sizeof v);
  return v;
}

static uint32_t load32(const uint8_t *p) {
  uint32_t v;
  memcpy(&v, p, sizeof v);
  return v;
}

static float load_f16(const uint8_t *p) {
  return otr_f16_exact(load16(p));
}

static void row_f32(float *out, const uint8_t *in, size_t n) {
  memcpy(out, in, n * sizeof *out);
}

static void row_f16(float *out, const uint8_t *in, size_t n) {
  for (size_t i = 0; i < n; ++i) out[i] = load_f16(in + 2 * i);
}

static void row_bf16(float *out, const uint8_t *in, size_t n) {
  for (size_t i = 0; i < n; ++i) out[i] = otr_f32_of_bits((uint32_t)load16(in + 2 * i) << 16);
}

static void row_q8_0(float *out, const uint8_t *in, size_t n) {
  for (; n > 0; n -= BLOCK, in += 34, out += BLOCK) {
    float d = load_f16(in);
    for (int i = 0; i < BLOCK; ++i) out[i] = d * (float)(int8_t)in[2 + i];
  }
}

static void row_q4_0(float *out, const uint8_t *in, size_t n) {
  for (; n > 0; n -= BLOCK, in += 18, out += BLOCK) {
    float d = load_f16(in);
    for (int i = 0; i < 16; ++i) {
      out[i] = d * (float)((in[2 + i] & 15) - 8);
      out[i + 16] = d * (float)((in[2 + i] >> 4) - 8);
    }
  }
}

static void row_q4_1(float *out, const uint8_t *in, size_t n) {
  for (; n > 0; n -= BLOCK, in += 20, out += BLOCK) {
    float d = load_f16(in), least = load_f16(in + 2);
    for (int i = 0; i < 16; ++i) {
      out[i] = d * (float)(in[4 + i] & 15) + least;
      out[i + 16] = d * (float)(in[4 + i] >> 4) + least;
    }
  }
}

/* The 32 values 0 ... 31 of a Q5 block: four low bits in `low`, the fifth in `high`. */
static void unpack_q5(int32_t q[BLOCK], const uint8_t *low, uint32_t high) {
  for (int i = 0; i < 16; ++i) {
    q[i] = (int32_t)((low[i] & 15u) | ((high >> i) & 1u) << 4);
    q[i + 16] = (int32_t)((low[i] >> 4) | ((high >> (i + 16)) & 1u) << 4);
  }
}

static void row_q5_0(float *out, const uint8_t *in, size_t n) {
  for (; n > 0; n -= BLOCK, in += 22, out += BLOCK) {
    int32_t q[BLOCK];
    float d = load_f16(in);
    unpack_q5(q, in + 6, load32(in + 2));
    for (int i = 0; i < BLOCK; ++i) out[i] = d * (float)(q[i] - 16);
  }
}

static void row_q5_1(float *out, const uint8_t *in, size_t n) {
  for (; n > 0; n -= BLOCK, in += 24, out += BLOCK) {
    int32_t q[BLOCK];
    float d = load_f16(in), least = load_f16(in + 2);
    unpack_q5(q, in + 8, load32(in + 4));
    for (int i = 0; i < BLOCK; ++i) out[i] = d * (float)q[i] + least;
  }
}

/* Scale and minimum of each of the 8 groups of 32 of a Q4_K or Q5_K block: 6 bits each, in 12 bytes. */
static void unpack_k_scales(float scale[8], float least[8], const uint8_t *in) {
  float d = load_f16(in), dmin = load_f16(in + 2);
  const uint8_t *s = in + 4;
  for (int j = 0; j < 4; ++j) {
    scale[j] = d * (float)(s[j] & 63);
    least[j] = dmin * (float)(s[j + 4] & 63);
    scale[j + 4] = d * (float)((s[j + 8] & 15) | (s[j] >> 6) << 4);
    least[j + 4] = dmin * (float)((s[j + 8] >> 4) | (s[j + 4] >> 6) << 4);
  }
}

static void row_q4_k(float *out, const uint8_t *in, size_t n) {
  for (; n > 0; n -= SUPER, in += 144, out += SUPER) {
    float scale[8], least[8];
    unpack_k_scales(scale, least, in);
    for (int j = 0; j < 8; j += 2) { /* 32 bytes hold group j in their low and j + 1 in their high halves */
      const uint8_t *q = in + 16 + 16 * j;
      float *y = out + 32 * j;
      for (int i = 0; i < 32; ++i) {
        y[i] = scale[j] * (float)(q[i] & 15) - least[j];
        y[i + 32] = scale[j + 1] * (float)(q[i] >> 4) - least[j + 1];
      }
    }
  }
}

static void row_q5_k(float *out, const uint8_t *in, size_t n) {
  for (; n > 0; n -= SUPER, in += 176, out += SUPER) {
    float scale[8], least[8];
    unpack_k_scales(scale, least, in);
    const uint8_t *high = in + 16; /* bit j of byte i: the fifth bit of value i of group j */
    for (int j = 0; j < 8; j += 2) {
      const uint8_t *q = in + 48 + 16 * j;
      float *y = out + 32 * j;
      for (int i = 0; i < 32; ++i) {
        y[i] = scale[j] * (float)((q[i] & 15) | ((high[i] >> j) & 1) << 4) - least[j];
        y[i + 32] = scale[j + 1] * (float)((q[i] >> 4) | ((high[i] >> (j + 1)) & 1) << 4) - least[j + 1];
      }
    }
  }
}

/* Half a Q6_K block: 128 values from 64 bytes of low halves, 32 of high bits and 8 scales. */
static void half_q6_k(float *y, const uint8_t *low, const uint8_t *high, const uint8_t *scales, float d) {
  for (int g = 0; g < 4; ++g) { /* groups of 32 share a shift */
    const uint8_t *l = low + 32 * (g & 1);
    int low_shift = 4 * (g >> 1), high_shift = 2 * g;
    for (int half = 0; half < 2; ++half) {
      float scale = d * (float)(int8_t)scales[2 * g + half];
      for (int i = 16 * half; i < 16 * half + 16; ++i) {
        int q = ((l[i] >> low_shift) & 15) | ((high[i] >> high_shift) & 3) << 4;
        y[32 * g + i] = scale * (float)(q - 32);
      }
    }
  }
}

static void row_q6_k(float *out, const uint8_t *in, size_t n) {
  for (; n > 0; n -= SUPER, in += 210, out += SUPER) {
    float d = load_f16(in + 208);
    half_q6_k(out, in, in + 128, in + 192, d);
    half_q6_k(out + 128, in + 64, in + 160, in + 200, d);
  }
}

typedef void (*row_fn)(float *out, const uint8_t *in, size_t n);

static row_fn find(uint32_t type) {
  switch (type) {
    case OTR_GGML_F32:
      return row_f32;
    case OTR_GGML_F16:
      return row_f16;
    case OTR_GGML_BF16:
      return row_bf16;
    case OTR_GGML_Q8_0:
      return row_q8_0;
    case OTR_GGML_Q4_0:
      return row_q4_0;
    case OTR_GGML_Q4_1:
      return row_q4_1;
    case OTR_GGML_Q5_0:
      return row_q5_0;
    case OTR_GGML_Q5_1:
      return row_q5_1;
    case OTR_GGML_Q4_K:
      return row_q4_k;
    case OTR_GGML_Q5_K:
      return row_q5_k;
    case OTR_GGML_Q6_K:
      return row_q6_k;
    default:
      return NULL;
  }
}

bool otr_dequantize_supported(uint32_t ggml_type) {
  return find(ggml_type) != NULL;
}

static bool all_finite(const float *x, size_t n) {
  uint32_t most = 0;
  for (size_t i = 0; i < n; ++i) {
    uint32_t a = otr_bits_of_f32(x[i]) & OTR_BITS_ABS;
    most = a > most ? a : most;
  }
  return most < 0x7f800000u;
}

bool otr_dequantize_row(float *out, const void *in, uint32_t ggml_type, size_t n) {
  row_fn row = find(ggml_type);
  if (row == NULL) return false;
  row(out, in, n);
  return all_finite(out, n);
}
