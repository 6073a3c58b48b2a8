// SPDX-License-Identifier: Apache-2.0
#include "check_data.h"

#include "numerics.h"

uint32_t otr_data_next(uint32_t *state) {
  uint32_t z = (*state += 0x9e3779b9u);
  z = (z ^ (z >> 16)) * 0x85ebca6bu;
  z = (z ^ (z >> 13)) * 0xc2b2ae35u;
  return z ^ (z >> 16);
}

float otr_data_unit(uint32_t *state) {
  return (float)((int32_t)(otr_data_next(state) >> 8) - (1 << 23)) * otr_pow2(-23);
}

static float plain(uint32_t *state) {
  float a = otr_data_unit(state), b = otr_data_unit(state);
  return otr_tidy(a + b + otr_data_unit(state));
}

/* The contract's thresholds and their neighbours. */
static float edge(uint32_t *state) {
  static const uint32_t bits[] = {0u,          OTR_BITS_2M40, OTR_BITS_F16_MIN, OTR_BITS_F16_MAX, OTR_BITS_W_MIN,
                                  0x40c00000u, 0x3f800000u,   0x42fe0000u,      0x49800000u,      0x41e00000u};
  uint32_t r = otr_data_next(state);
  uint32_t b = bits[r % (sizeof bits / sizeof bits[0])];
  if (b != 0) b = b + ((r >> 8) % 3) - 1;
  return otr_f32_of_bits(b | (r & 0x80000000u));
}

static float value(uint32_t *state, otr_case_values values) {
  uint32_t r = otr_data_next(state);
  switch (values) {
    case OTR_VALUES_OUTLIERS:
      if (r % 32 == 0) return plain(state) * otr_pow2((int)((r >> 8) % 14));
      return plain(state) * (r % 32 == 1 ? otr_pow2(-24) : 1.0f);
    case OTR_VALUES_TIES:
      return ((float)((int32_t)(r % 254) - 127) + 0.5f) / 127.0f;
    case OTR_VALUES_EDGES:
      return edge(state);
    case OTR_VALUES_EXTREME:
      return (r & 1) != 0 ? 1.0f : -1.0f;
    case OTR_VALUES_ZERO:
      return 0.0f;
    case OTR_VALUES_ANY:
      return otr_f32_of_bits((r & 0x807fffffu) | (103u + otr_data_next(state) % 31u) << 23);
    case OTR_VALUES_NAN:
      if (r % 16 == 0) return otr_f32_of_bits(0x7f800000u | (r & 0x80400000u));
      return plain(state);
    default:
      return plain(state);
  }
}

static void fill_row(uint32_t *state, float *x, int32_t width, otr_case_values values) {
  for (int32_t j = 0; j < width; ++j) x[j] = value(state, values);
  uint32_t r = otr_data_next(state);
  if (values == OTR_VALUES_TIES) x[r % (uint32_t)width] = 1.0f;
  if (values == OTR_VALUES_HUGE) x[width - 1] = otr_f32_of_bits((OTR_BITS_2P48 - 1) | (r & 0x80000000u));
}

void otr_data_rows(uint32_t *state, float *x, int32_t rows, int32_t width, otr_case_values values) {
  for (int32_t i = 0; i < rows; ++i) {
    otr_case_values own = values;
    if (values == OTR_VALUES_MIXED) own = (otr_case_values)(otr_data_next(state) % OTR_VALUES_MIXED);
    fill_row(state, x + (size_t)i * (size_t)width, width, own);
  }
}

void otr_data_int8(uint32_t *state, int8_t *q, int32_t n, int32_t k, int64_t stride) {
  static const int8_t extreme[] = {127, -127, -128, -128};
  for (int32_t i = 0; i < n; ++i) {
    uint32_t style = otr_data_next(state);
    int8_t *row = q + i * stride;
    for (int64_t j = 0; j < stride; ++j) {
      uint32_t r = otr_data_next(state);
      int8_t any = (int8_t)((int32_t)(r % 255) - 127);
      if (style % 8 == 0) any = extreme[(style >> 8) % 3 + (r & 1)];
      if (style % 8 == 1 && r % 16 != 0) any = 0;
      row[j] = j < k ? any : (int8_t)0;
    }
  }
}

void otr_data_f16(uint32_t *state, uint16_t *h, int32_t n, int32_t k, int64_t stride, otr_data_f16_kind kind) {
  for (int32_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < stride; ++j) {
      uint32_t r = otr_data_next(state);
      uint32_t bits = (r & 0x8000u) | (0x2c00u + (r >> 16) % 0x1400u);
      if (kind != OTR_F16_PLAIN && r % 32 == 0) bits = otr_f16_bits(edge(state));
      if (kind == OTR_F16_ANY && r % 32 == 1) bits = r >> 16;
      h[i * stride + j] = j < k ? (uint16_t)bits : (uint16_t)0;
    }
  }
}

void otr_data_scales(uint32_t *state, float *x, int32_t n) {
  for (int32_t i = 0; i < n; ++i) {
    uint32_t r = otr_data_next(state);
    x[i] = r % 32 == 0 ? 0.0f : (1.0f + otr_data_unit(state) * 0.5f) * otr_pow2(-(int)((r >> 8) % 20));
  }
}
