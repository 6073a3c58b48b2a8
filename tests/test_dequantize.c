// SPDX-License-Identifier: Apache-2.0
/* Stored values to f32, against formulas of one value each, written down here on their own and computed in double
 * (where they are exact, so that the cast is the one rounding), and against values worked out by hand. */
#include <math.h>
#include <string.h>

#include "dequantize.h"
#include "gguf.h"
#include "suite.h"

static double f16(const uint8_t *p) {
  int bits = p[0] | p[1] << 8, exponent = bits >> 10 & 31, mantissa = bits & 1023;
  double value = exponent == 0 ? ldexp(mantissa, -24) : ldexp(1024 + mantissa, exponent - 25);
  if (exponent == 31) value = mantissa != 0 ? NAN : INFINITY;
  return bits & 0x8000 ? -value : value;
}

static int nibble(const uint8_t *q, int i) {
  return i < 16 ? q[i] & 15 : q[i - 16] >> 4;
}
static int bit(const uint8_t *b, int i) {
  return b[i / 8] >> (i % 8) & 1;
}

static double value_f32(const uint8_t *b, int i) {
  float v;
  memcpy(&v, b + 4 * i, 4);
  return v;
}

static double value_bf16(const uint8_t *b, int i) {
  uint32_t bits = (uint32_t)(b[2 * i] | b[2 * i + 1] << 8) << 16;
  float v;
  memcpy(&v, &bits, 4);
  return v;
}

static double value_f16(const uint8_t *b, int i) {
  return f16(b + 2 * i);
}
static double value_q8_0(const uint8_t *b, int i) {
  return f16(b) * (b[2 + i] < 128 ? b[2 + i] : b[2 + i] - 256);
}
static double value_q4_0(const uint8_t *b, int i) {
  return f16(b) * (nibble(b + 2, i) - 8);
}
static double value_q4_1(const uint8_t *b, int i) {
  return f16(b) * nibble(b + 4, i) + f16(b + 2);
}
static double value_q5_0(const uint8_t *b, int i) {
  return f16(b) * (nibble(b + 6, i) + 16 * bit(b + 2, i) - 16);
}
static double value_q5_1(const uint8_t *b, int i) {
  return f16(b) * (nibble(b + 8, i) + 16 * bit(b + 4, i)) + f16(b + 2);
}

/* 6-bit scale (which 0) or minimum (which 1) of group g: bits 0-47 of the 12 bytes hold the low parts as GGUF has it.
 */
static int k_scale(const uint8_t *s, int g, int which) {
  if (g < 4) return s[4 * which + g] & 63;
  int low = which == 0 ? s[4 + g] & 15 : s[4 + g] >> 4;
  return low + (s[4 * which + g - 4] >> 6) * 16;
}

static double k_value(const uint8_t *b, int i, int q) {
  return f16(b) * k_scale(b + 4, i / 32, 0) * q - f16(b + 2) * k_scale(b + 4, i / 32, 1);
}

static int k_nibble(const uint8_t *q, int i) {
  return q[i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 15;
}

static double value_q4_k(const uint8_t *b, int i) {
  return k_value(b, i, k_nibble(b + 16, i));
}
static double value_q5_k(const uint8_t *b, int i) {
  return k_value(b, i, k_nibble(b + 48, i) + 16 * (b[16 + i % 32] >> (i / 32) & 1));
}

static double value_q6_k(const uint8_t *b, int i) {
  int half = i / 128, j = i % 128;
  int low = b[64 * half + j % 64] >> (j / 64 * 4) & 15;
  int high = b[128 + 32 * half + j % 32] >> (j / 32 * 2) & 3;
  int scale = b[192 + i / 16];
  return f16(b + 208) * (scale < 128 ? scale : scale - 256) * (low + 16 * high - 32);
}

static const struct format {
  uint32_t type;
  double (*value)(const uint8_t *block, int i);
  int scales[2]; /* where f16 scales lie, -1: none */
} formats[] = {
    {OTR_GGML_F32, value_f32, {-1, -1}},  {OTR_GGML_F16, value_f16, {-1, -1}},    {OTR_GGML_BF16, value_bf16, {-1, -1}},
    {OTR_GGML_Q8_0, value_q8_0, {0, -1}}, {OTR_GGML_Q4_0, value_q4_0, {0, -1}},   {OTR_GGML_Q4_1, value_q4_1, {0, 2}},
    {OTR_GGML_Q5_0, value_q5_0, {0, -1}}, {OTR_GGML_Q5_1, value_q5_1, {0, 2}},    {OTR_GGML_Q4_K, value_q4_k, {0, 2}},
    {OTR_GGML_Q5_K, value_q5_k, {0, 2}},  {OTR_GGML_Q6_K, value_q6_k, {208, -1}},
};
#define N_FORMATS ((int)(sizeof formats / sizeof formats[0]))

static uint64_t state = 1;
static uint8_t next_byte(void) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (uint8_t)(state >> 56);
}

/* Random bytes, with finite scales of every exponent (subnormal ones, too). */
static void fill(const struct format *format, const otr_ggml_type *type, uint8_t *blocks, int n) {
  for (int i = 0; i < n; ++i, blocks += type->block_bytes) {
    for (uint32_t j = 0; j < type->block_bytes; ++j) blocks[j] = next_byte();
    for (int s = 0; s < 2; ++s)
      if (format->scales[s] >= 0 && (blocks[format->scales[s] + 1] & 0x7c) == 0x7c)
        blocks[format->scales[s] + 1] ^= 0x40;
  }
}

static bool same(float a, float b) {
  return (isnan(a) && isnan(b)) || (memcmp(&a, &b, sizeof a) == 0) || (a == 0.0f && b == 0.0f);
}

START_TEST(against_formulas) {
  const struct format *format = &formats[_i];
  const otr_ggml_type *type = otr_ggml_type_find(format->type);
  enum { BLOCKS = 2048 };
  uint8_t *blocks = malloc(BLOCKS * (size_t)type->block_bytes);
  float *out = malloc(BLOCKS * (size_t)type->block * sizeof *out);
  ck_assert(otr_dequantize_supported(format->type));
  fill(format, type, blocks, BLOCKS);
  bool finite = otr_dequantize_row(out, blocks, format->type, BLOCKS * (size_t)type->block);
  bool all = true;
  for (int i = 0; i < BLOCKS; ++i) {
    for (int j = 0; j < (int)type->block; ++j) {
      float want = (float)format->value(blocks + (size_t)i * type->block_bytes, j);
      float got = out[i * (int)type->block + j];
      all = all && isfinite(want);
      if (!same(got, want)) /* an assertion for each value would take seconds */
        ck_abort_msg("%s, block %d, value %d: %a, not %a", type->name, i, j, (double)got, (double)want);
    }
  }
  ck_assert_int_eq(finite, all);
  free(blocks);
  free(out);
}
END_TEST

START_TEST(every_f16) {
  for (int bits = 0; bits < 65536; ++bits) {
    const uint8_t bytes[2] = {(uint8_t)bits, (uint8_t)(bits >> 8)};
    float got, one = otr_f16_exact((uint16_t)bits), want = (float)f16(bytes);
    bool finite = otr_dequantize_row(&got, bytes, OTR_GGML_F16, 1);
    bool good = same(got, want) && same(one, want) && (signbit(one) != 0) == (bits >> 15 != 0);
    if (!good || finite != ((bits >> 10 & 31) != 31)) ck_abort_msg("%04x", (unsigned)bits);
  }
}
END_TEST

/* d = 0.5 (0x3800), m = -1 (0xbc00), nibbles 0 ... 15 below and 15 ... 0 above. */
START_TEST(q4_1_by_hand) {
  uint8_t block[20] = {0x00, 0x38, 0x00, 0xbc};
  float out[32];
  for (int i = 0; i < 16; ++i) block[4 + i] = (uint8_t)(i | (15 - i) << 4);
  ck_assert(otr_dequantize_row(out, block, OTR_GGML_Q4_1, 32));
  for (int i = 0; i < 16; ++i) {
    ck_assert_float_eq(out[i], 0.5f * (float)i - 1.0f);
    ck_assert_float_eq(out[16 + i], 0.5f * (float)(15 - i) - 1.0f);
  }
  block[0] = 1; /* d = 2^-1 + 2^-11, m = 32768: 15 d + m is 1.875 steps of 2^-8 above 32775.5, rounded to 2 */
  block[2] = 0x00;
  block[3] = 0x78;
  ck_assert(otr_dequantize_row(out, block, OTR_GGML_Q4_1, 32));
  ck_assert_float_eq(out[15], 32775.5078125f);
}
END_TEST

START_TEST(q8_0_by_hand) {
  uint8_t block[34] = {0x00, 0xc0}; /* d = -2 */
  float out[32];
  const int8_t q[4] = {127, -128, 1, 0};
  memcpy(block + 2, q, sizeof q);
  ck_assert(otr_dequantize_row(out, block, OTR_GGML_Q8_0, 32));
  ck_assert(out[0] == -254.0f && out[1] == 256.0f && out[2] == -2.0f && out[3] == 0.0f);
}
END_TEST

/* One value that is not finite is found wherever it lies. */
START_TEST(not_finite) {
  float row[67], out[67];
  for (int i = 0; i < 67; ++i) {
    for (int j = 0; j < 67; ++j) row[j] = 3.4e38f;
    row[i] = i % 3 == 0 ? NAN : i % 3 == 1 ? INFINITY : -INFINITY;
    ck_assert(!otr_dequantize_row(out, row, OTR_GGML_F32, 67));
    row[i] = 0;
    ck_assert(otr_dequantize_row(out, row, OTR_GGML_F32, 67));
  }
  uint8_t block[34] = {0x00, 0x7c, 1};
  ck_assert(!otr_dequantize_row(out, block, OTR_GGML_Q8_0, 32));
}
END_TEST

START_TEST(unaligned_rows) {
  uint8_t bytes[1 + 8] = {9, 0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0};
  float out[2];
  ck_assert(otr_dequantize_row(out, bytes + 1, OTR_GGML_F32, 2));
  ck_assert(out[0] == 1.0f && out[1] == -2.0f);
}
END_TEST

START_TEST(unsupported_types) {
  float out[1] = {7};
  const uint32_t types[] = {OTR_GGML_I8, OTR_GGML_I32, 9, 10, 23, 4, 1000, UINT32_MAX};
  for (size_t i = 0; i < sizeof types / sizeof types[0]; ++i) {
    ck_assert(!otr_dequantize_supported(types[i]));
    ck_assert(!otr_dequantize_row(out, "", types[i], 0) && out[0] == 7);
  }
}
END_TEST

static void add(TCase *tests) {
  tcase_add_loop_test(tests, against_formulas, 0, N_FORMATS);
  tcase_add_test(tests, every_f16);
  tcase_add_test(tests, q4_1_by_hand);
  tcase_add_test(tests, q8_0_by_hand);
  tcase_add_test(tests, not_finite);
  tcase_add_test(tests, unaligned_rows);
  tcase_add_test(tests, unsupported_types);
}

int main(void) {
  return suite_run("dequantize", add);
}
