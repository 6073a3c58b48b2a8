// SPDX-License-Identifier: Apache-2.0
/* Linears with AVX2. vpmaddubsw would saturate, so both sides are taken to int16 and vpmaddwd adds pairs of products,
 * which are exact. */
#include <immintrin.h>
#include <stdint.h>

#include "linear_x86.h"

#define ISA avx2
#define UNIT 2
#define SHIFT 0
#define STREAM_STEP 16
typedef int16_t x_type;

static inline __m256i dot(__m256i a, __m256i w, __m256i x) {
  a = _mm256_add_epi32(a, _mm256_madd_epi16(w, x));
  __asm__("" : "+x"(a)); /* keeps gcc from adding the products up first, for which there are no registers */
  return a;
}

static inline __m128i load_units(const uint8_t *p) {
  return _mm_cvtepi8_epi16(_mm_loadl_epi64((const void *)p));
}

static inline __m256i stream_weights(const uint8_t *p) {
  return _mm256_cvtepi8_epi16(_mm_loadu_si128((const void *)p));
}

/* Never needed: rows are multiples of 16. */
static inline __m256i stream_half(const uint8_t *p) {
  return stream_weights(p);
}

/* `rows` rows of q from the i-th on, as int16. */
static inline const int16_t *prepare_x(int16_t *to, const otr_quantized *x, int32_t i, int32_t rows) {
  const int8_t *q = x->q + (size_t)i * (size_t)x->q_stride;
  size_t n = (size_t)rows * (size_t)x->q_stride;
  for (size_t k = 0; k < n; k += 16)
    _mm256_store_si256((void *)(to + k), _mm256_cvtepi8_epi16(_mm_load_si128((const void *)(q + k))));
  return to;
}

#include "linear_ymm.inc"
