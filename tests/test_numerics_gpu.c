// SPDX-License-Identifier: Apache-2.0
/* The GPUs' reciprocal and square root (numerics_gpu.h) against the CPU's, over all mantissas: from their own estimate
 * under every rounding mode and with subnormals flushed, and from estimates pushed by as much as they may be off. */
#include <fenv.h>

#include "numerics_gpu.h"
#include "suite.h"

#define MANTISSAS (1u << 23)
#define MOST_OFF 8

/* What passes through here is computed where it stands: a compiler may move arithmetic past fesetround. */
static volatile float barrier_value;

static float through_memory(float x) {
  barrier_value = x;
  return barrier_value;
}

START_TEST(reciprocals_are_the_ieee_values) {
  for (uint32_t f = 0; f < MANTISSAS; f++) {
    for (uint32_t exponent = 1 + f % 7; exponent < 253; exponent += 60) {
      float a = otr_f32_of_bits(exponent << 23 | f);
      if (otr_bits_of_f32(otr_gpu_recip(a)) != otr_bits_of_f32(1.0f / a)) ck_abort_msg("recip of %a", (double)a);
    }
  }
  ck_assert_float_eq(otr_gpu_recip(-3.0f), -1.0f / 3.0f);
}
END_TEST

START_TEST(square_roots_are_the_ieee_values) {
  for (uint32_t f = 0; f < MANTISSAS; f++) {
    for (uint32_t exponent = 1 + f % 7; exponent < 255; exponent += 37) {
      float a = otr_f32_of_bits(exponent << 23 | f);
      if (otr_bits_of_f32(otr_gpu_sqrt(a)) != otr_bits_of_f32(sqrtf(a))) ck_abort_msg("sqrt of %a", (double)a);
    }
  }
  ck_assert_uint_eq(otr_bits_of_f32(otr_gpu_sqrt(0.0f)), 0);
}
END_TEST

START_TEST(estimates_may_be_off) {
  for (uint32_t f = 1; f < MANTISSAS; f++) {
    uint32_t m = MANTISSAS | f;
    uint32_t recip = MANTISSAS | (otr_bits_of_f32(1.0f / (float)m) & (MANTISSAS - 1));
    uint32_t even = MANTISSAS | (otr_bits_of_f32(sqrtf((float)m * 0x1p-23f)) & (MANTISSAS - 1));
    uint32_t odd = MANTISSAS | (otr_bits_of_f32(sqrtf((float)m * 0x1p-22f)) & (MANTISSAS - 1));
    for (int off = -MOST_OFF; off <= MOST_OFF; off++) {
      if (otr_recip_settle(m, recip + (uint32_t)off) != recip) ck_abort_msg("recip of %u, off by %d", m, off);
      if (otr_sqrt_settle(m << 23, even + (uint32_t)off) != even) ck_abort_msg("sqrt of %u, off by %d", m, off);
      if (otr_sqrt_settle(m << 24, odd + (uint32_t)off) != odd) ck_abort_msg("sqrt of 2 * %u, off by %d", m, off);
    }
  }
}
END_TEST

/* The estimates alone depend on the rounding mode, and stay within what otr_recip_settle and otr_sqrt_settle mend. */
START_TEST(other_rounding_changes_nothing) {
  static const int modes[] = {FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO};
  for (uint32_t f = 0; f < MANTISSAS; f += 5) {
    float a = otr_f32_of_bits(0x3f800000u | f), b = otr_f32_of_bits(0x40000000u | f);
    uint32_t recip = otr_bits_of_f32(through_memory(1.0f / a)), root = otr_bits_of_f32(through_memory(sqrtf(b)));
    fesetround(modes[f % 3]);
    uint32_t recip_so = otr_bits_of_f32(through_memory(otr_gpu_recip(through_memory(a))));
    uint32_t root_so = otr_bits_of_f32(through_memory(otr_gpu_sqrt(through_memory(b))));
    fesetround(FE_TONEAREST);
    if (recip != recip_so || root != root_so) ck_abort_msg("%a or %a, rounding mode %d", (double)a, (double)b, f % 3);
  }
}
END_TEST

static void add_tests(TCase *tests) {
  tcase_set_timeout(tests, 0);
  tcase_add_test(tests, reciprocals_are_the_ieee_values);
  tcase_add_test(tests, square_roots_are_the_ieee_values);
  tcase_add_test(tests, estimates_may_be_off);
  tcase_add_test(tests, other_rounding_changes_nothing);
}

int main(void) {
  return suite_run("numerics_gpu", add_tests);
}
