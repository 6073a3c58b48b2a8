// SPDX-License-Identifier: Apache-2.0
/* Linears with AVX-VNNI: 256-bit vpdpbusd, which multiplies unsigned by signed bytes. The weights are the unsigned
 * side, w + 128 (their bits ^ 0x80). linear_avxvnni_evex.c compiles this text for AVX-512 VNNI + VL. */
#include <immintrin.h>
#include <stdint.h>

#include "linear_x86.h"

#ifndef ISA
#define ISA avxvnni
#endif
#define UNIT 4
#define SHIFT 128
#define STREAM_STEP 32
typedef int8_t x_type;

static inline __m256i dot(__m256i a, __m256i w, __m256i x) {
#ifdef __AVXVNNI__
  return _mm256_dpbusd_avx_epi32(a, w, x);
#else
  return _mm256_dpbusd_epi32(a, w, x);
#endif
}

static inline __m128i load_units(const uint8_t *p) {
  return _mm_xor_si128(_mm_loadu_si128((const void *)p), _mm_set1_epi8((char)0x80));
}

static inline __m256i stream_weights(const uint8_t *p) {
  return _mm256_xor_si256(_mm256_loadu_si256((const void *)p), _mm256_set1_epi8((char)0x80));
}

/* x is zero beyond. */
static inline __m256i stream_half(const uint8_t *p) {
  return _mm256_zextsi128_si256(load_units(p));
}

/* Rows of q as they are. */
static inline const int8_t *prepare_x(int8_t *to, const otr_quantized *x, int32_t i, int32_t rows) {
  (void)to, (void)rows;
  return x->q + (size_t)i * (size_t)x->q_stride;
}

#include "linear_ymm.inc"
