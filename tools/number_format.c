// SPDX-License-Identifier: Apache-2.0
#include "number_format.h"

#include <math.h>

#include "numerics.h"

/* IEEE 754-2019 (FP32, FP16); bfloat16: FP32's upper half; TF32: NVIDIA A100 whitepaper, 2020; E4M3 and E5M2:
 * Micikevicius et al., "FP8 Formats for Deep Learning", 2022, and OCP's 8-bit Floating Point Specification 1.0. */
const number_format number_formats[NUMBER_FORMATS] = {
    {"FP32", 8, 23, 127, true, 0},  {"FP16", 5, 10, 15, true, 0},    {"BF16", 8, 7, 127, true, 0},
    {"TF32", 8, 10, 127, true, 13}, {"FP8 E4M3", 4, 3, 7, false, 0}, {"FP8 E5M2", 5, 2, 15, true, 0},
};

static uint32_t sign_bit(const number_format *f) {
  return 1u << (f->exponent_bits + f->mantissa_bits);
}

static uint32_t infinity_code(const number_format *f) {
  return ((1u << f->exponent_bits) - 1) << f->mantissa_bits;
}

/* The quiet NaN that hardware makes; all ones where that is the only one. */
static uint32_t nan_code(const number_format *f) {
  return f->has_infinity ? infinity_code(f) | 1u << (f->mantissa_bits - 1) : sign_bit(f) - 1;
}

static uint32_t max_code(const number_format *f) {
  return (f->has_infinity ? infinity_code(f) : nan_code(f)) - 1;
}

uint32_t number_sign(const number_format *f, uint32_t code) {
  return code >> (f->exponent_bits + f->mantissa_bits) & 1;
}

uint32_t number_exponent(const number_format *f, uint32_t code) {
  return code >> f->mantissa_bits & ((1u << f->exponent_bits) - 1);
}

uint32_t number_mantissa(const number_format *f, uint32_t code) {
  return code & ((1u << f->mantissa_bits) - 1);
}

number_kind number_kind_of(const number_format *f, uint32_t code) {
  uint32_t magnitude = code & (sign_bit(f) - 1);
  if (magnitude == 0) return NUMBER_ZERO;
  if (magnitude > max_code(f)) return f->has_infinity && magnitude == infinity_code(f) ? NUMBER_INFINITE : NUMBER_NAN;
  return number_exponent(f, code) == 0 ? NUMBER_SUBNORMAL : NUMBER_NORMAL;
}

double number_value(const number_format *f, uint32_t code) {
  int32_t exponent = (int32_t)number_exponent(f, code), one = 1 << f->mantissa_bits;
  int32_t mantissa = (int32_t)number_mantissa(f, code);
  double magnitude;
  switch (number_kind_of(f, code)) {
    case NUMBER_NAN:
      magnitude = NAN;
      break;
    case NUMBER_INFINITE:
      magnitude = INFINITY;
      break;
    case NUMBER_NORMAL:
      magnitude = ldexp(one + mantissa, exponent - f->bias - f->mantissa_bits);
      break;
    default:
      magnitude = ldexp(mantissa, 1 - f->bias - f->mantissa_bits);
  }
  return number_sign(f, code) ? -magnitude : magnitude;
}

/* |value| finite and not 0. A rounded significand of 2^(mantissa_bits + 1) carries into the exponent's field, and one
 * of 2^mantissa_bits from a subnormal makes the smallest normal: the same sum gives both. */
static uint32_t round_magnitude(const number_format *f, double magnitude, number_rounding *r) {
  const int32_t smallest = 1 - f->bias;
  r->exponent = ilogb(magnitude) > smallest ? ilogb(magnitude) : smallest;
  r->scaled = ldexp(magnitude, f->mantissa_bits - r->exponent);
  r->rounded = rint(r->scaled);
  int64_t code = (((int64_t)r->exponent + f->bias - 1) << f->mantissa_bits) + (int64_t)r->rounded;
  if (code <= (int64_t)max_code(f)) return (uint32_t)code;
  r->overflow = true;
  return f->has_infinity ? infinity_code(f) : nan_code(f);
}

number_rounding number_round(const number_format *f, double value) {
  number_rounding r = {0};
  double magnitude = fabs(value);
  if (isnan(value) || (isinf(value) && !f->has_infinity)) {
    r.code = nan_code(f);
  } else if (isinf(value)) {
    r.code = infinity_code(f);
  } else if (magnitude > 0.0) {
    r.code = round_magnitude(f, magnitude, &r);
  }
  if (signbit(value)) r.code |= sign_bit(f);
  r.kind = number_kind_of(f, r.code);
  return r;
}

bool number_next(const number_format *f, uint32_t code, bool up, double *out) {
  const int64_t last = (int64_t)max_code(f) + (f->has_infinity ? 1 : 0);
  int64_t place = code & (sign_bit(f) - 1); /* on the line of values: the code's magnitude with its sign */
  if (number_kind_of(f, code) == NUMBER_NAN) return false;
  if (number_sign(f, code)) place = -place;
  place += up ? 1 : -1;
  if (place > last || place < -last) return false;
  *out = number_value(f, place < 0 ? (uint32_t)-place | sign_bit(f) : (uint32_t)place);
  return true;
}

double number_max(const number_format *f) {
  return number_value(f, max_code(f));
}

double number_min_normal(const number_format *f) {
  return ldexp(1.0, 1 - f->bias);
}

double number_min_subnormal(const number_format *f) {
  return number_value(f, 1);
}

number_int8 number_round_int8(float value, float absmax) {
  number_int8 r = {.inv = 127.0f * otr_recip(absmax), .scale = absmax * OTR_FLOAT(OTR_BITS_INV127)};
  r.scaled = value * r.inv;
  r.clamped = fabsf(value) > absmax;
  float rounded = rintf(r.scaled);
  r.q = (int32_t)(rounded > 127.0f ? 127.0f : rounded < -127.0f ? -127.0f : rounded);
  r.held = (double)r.q * (double)r.scale;
  return r;
}
