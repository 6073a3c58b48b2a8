// SPDX-License-Identifier: Apache-2.0
/* Number formats: every code of the narrow ones and every midpoint between two, against formulas and against what numpy
 * and ml_dtypes say (fixtures/numbers.txt). */
#include "number_format.h"

#include <math.h>
#include <string.h>

#include "suite.h"

enum { FP32, FP16, BF16, TF32, E4M3, E5M2 };

/* Largest finite code. */
static uint32_t last_code(const number_format *f) {
  uint32_t top = (1u << (f->exponent_bits + f->mantissa_bits)) - 1;
  return f->has_infinity ? top - (1u << f->mantissa_bits) : top - 1;
}

/* A positive finite code's value, by the definition. */
static double defined(const number_format *f, uint32_t code) {
  uint32_t field = code >> f->mantissa_bits, mantissa = code & ((1u << f->mantissa_bits) - 1);
  double fraction = (double)mantissa / (double)(1u << f->mantissa_bits);
  return field == 0 ? fraction * pow(2.0, 1 - f->bias) : (1.0 + fraction) * pow(2.0, (int)field - f->bias);
}

static uint32_t code_of(const number_format *f, double value) {
  return number_round(f, value).code;
}

/* From code to code + step: each is its own rounding, the midpoint goes to the even one, what is nearer to one goes
 * there, and the neighbours are the neighbours. */
static void check_from(const number_format *f, uint32_t code, uint32_t step) {
  const uint32_t sign = 1u << (f->exponent_bits + f->mantissa_bits), last = last_code(f);
  for (; code < last; code += step) {
    double low = defined(f, code), high = defined(f, code + 1), middle = 0.5 * (low + high), next;
    ck_assert(number_value(f, code) == low && number_value(f, code | sign) == -low);
    ck_assert_uint_eq(code_of(f, low), code);
    ck_assert_uint_eq(code_of(f, copysign(low, -1.0)), code | sign);
    ck_assert_uint_eq(code_of(f, middle), code % 2 == 0 ? code : code + 1);
    ck_assert_uint_eq(code_of(f, nextafter(middle, 0.0)), code);
    ck_assert_uint_eq(code_of(f, nextafter(middle, 1e300)), code + 1);
    ck_assert(number_next(f, code, true, &next) && next == high);
    ck_assert(number_next(f, (code + 1) | sign, true, &next) && next == -low);
  }
}

START_TEST(every_code) {
  for (int i = 0; i < NUMBER_FORMATS; i++) check_from(&number_formats[i], 0, i == FP32 ? 4099 : i == TF32 ? 7 : 1);
}
END_TEST

/* FP32 against the compiler's own conversion. */
START_TEST(fp32_is_float) {
  uint64_t state = 1;
  for (int i = 0; i < 200000; i++) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    double value = ldexp((double)(int64_t)state, (int)(state >> 32) % 200 - 63 - 90);
    float expected = (float)value;
    uint32_t bits;
    memcpy(&bits, &expected, sizeof bits);
    ck_assert_uint_eq(code_of(&number_formats[FP32], value), bits);
  }
}
END_TEST

START_TEST(published_values) {
  static const struct {
    int format;
    double max, min_normal, min_subnormal;
  } rows[] = {{FP32, 0x1.fffffep127, 0x1p-126, 0x1p-149},
              {FP16, 65504, 0x1p-14, 0x1p-24},
              {BF16, 0x1.fep127, 0x1p-126, 0x1p-133},
              {TF32, 0x1.ffcp127, 0x1p-126, 0x1p-136},
              {E4M3, 448, 0x1p-6, 0x1p-9},
              {E5M2, 57344, 0x1p-14, 0x1p-16}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    const number_format *f = &number_formats[rows[i].format];
    ck_assert(number_max(f) == rows[i].max);
    ck_assert(number_min_normal(f) == rows[i].min_normal);
    ck_assert(number_min_subnormal(f) == rows[i].min_subnormal);
  }
}
END_TEST

START_TEST(specials) {
  double next;
  for (int i = 0; i < NUMBER_FORMATS; i++) {
    const number_format *f = &number_formats[i];
    const uint32_t sign = 1u << (f->exponent_bits + f->mantissa_bits);
    ck_assert_uint_eq(code_of(f, -0.0), sign);
    ck_assert(signbit(number_value(f, sign)) && number_value(f, sign) == 0.0);
    ck_assert_int_eq(number_round(f, NAN).kind, NUMBER_NAN);
    ck_assert(isnan(number_value(f, code_of(f, NAN))));
    ck_assert(!number_next(f, code_of(f, NAN), true, &next));
    number_rounding beyond = number_round(f, 1e300);
    ck_assert(beyond.overflow && beyond.kind == (f->has_infinity ? NUMBER_INFINITE : NUMBER_NAN));
    ck_assert(!number_round(f, INFINITY).overflow);
    ck_assert_int_eq(number_round(f, -INFINITY).kind, f->has_infinity ? NUMBER_INFINITE : NUMBER_NAN);
    ck_assert(number_next(f, code_of(f, number_max(f)), true, &next) == f->has_infinity);
    ck_assert(number_next(f, 0, false, &next) && next == -number_min_subnormal(f));
  }
  ck_assert_uint_eq(code_of(&number_formats[E4M3], -NAN) & 0x7f, 0x7f);
  ck_assert_uint_eq(code_of(&number_formats[E4M3], 464.0), 0x7e); /* a tie, to the even code: 448 */
  ck_assert_uint_eq(code_of(&number_formats[E4M3], 464.5), 0x7f);
}
END_TEST

START_TEST(as_numpy_has_it) {
  static const int order[] = {FP32, FP16, BF16, E4M3, E5M2};
  FILE *file = fopen(FIXTURES "/numbers.txt", "r");
  char line[256];
  int n = 0;
  ck_assert_ptr_nonnull(file);
  for (; fgets(line, sizeof line, file); n++) {
    char *at;
    double value = strtod(line, &at);
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
      uint32_t expected = (uint32_t)strtoul(at, &at, 16), code = code_of(&number_formats[order[i]], value);
      ck_assert_msg(code == expected, "%s of line %d: %x, not %x", number_formats[order[i]].name, n + 1, code,
                    expected);
    }
  }
  fclose(file);
  ck_assert_int_gt(n, 200);
}
END_TEST

START_TEST(int8_by_absmax) {
  number_int8 r = number_round_int8(3.0f, 6.0f);
  ck_assert_int_eq(r.q, 64); /* 63.5: the tie goes to the even one */
  ck_assert(r.held == 64 * (double)r.scale && !r.clamped);
  ck_assert_int_eq(number_round_int8(-6.0f, 6.0f).q, -127);
  r = number_round_int8(-7.0f, 6.0f);
  ck_assert(r.q == -127 && r.clamped);
  ck_assert_int_eq(number_round_int8(INFINITY, 6.0f).q, 127);
  ck_assert_int_eq(number_round_int8(0.0f, 6.0f).q, 0);
}
END_TEST

static void add(TCase *tests) {
  tcase_add_test(tests, every_code);
  tcase_add_test(tests, fp32_is_float);
  tcase_add_test(tests, published_values);
  tcase_add_test(tests, specials);
  tcase_add_test(tests, as_numpy_has_it);
  tcase_add_test(tests, int8_by_absmax);
}

int main(void) {
  return suite_run("number_format", add);
}
