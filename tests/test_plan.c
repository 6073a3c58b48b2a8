// SPDX-License-Identifier: Apache-2.0
/* Memory estimates: against the sizes that papers give, and against a file's own. */
#include "plan_shape.h"

#include <math.h>

#include "suite.h"

static plan_shape of(const char *parameters) {
  plan_shape shape;
  ck_ok(plan_read_parameters(parameters, &shape));
  return shape;
}

#define ck_near(value, expected, tolerance) \
  ck_assert_msg(fabs((value) - (expected)) <= (tolerance) * (expected), "%s is %g", #value, (double)(value))

START_TEST(counts_parameters) {
  plan_shape shape = of("176B");
  ck_near(plan_parameters(&shape), 176e9, 1e-9);
  ck_near(plan_weight_bytes(&shape, PLAN_FP16, 0.0), 352e9, 1e-9);
  ck_assert_int_eq(shape.n_layers, 70);
  ck_assert_int_eq(shape.dim, 14336);
  ck_near(plan_kv_bytes(&shape), 2.0 * 2 * 70 * 14336, 0.002); /* 176.2B scaled to 176 */
  shape = of("125M");
  ck_assert_int_eq(shape.n_layers, 12);
  shape = of("6.74e9");
  ck_assert_int_eq(shape.dim, 4096);
  ck_near(plan_kv_bytes(&shape), 2.0 * 2 * 32 * 4096, 0.002);
}
END_TEST

/* "More than 780 GB" for 65B (Dettmers et al. 2023); 16 bytes a parameter, 24 GB for 1.5B (Rajbhandari et al. 2020,
 * section 3.1); double quantization saves 0.373 bits a parameter (Dettmers et al. 2023, section 3). */
START_TEST(says_what_papers_say) {
  plan_shape shape = of("65B");
  ck_near(plan_training_bytes(&shape, PLAN_TRAIN_16, 64), 780e9, 1e-6);
  ck_assert(plan_training_bytes(&shape, PLAN_TRAIN_QLORA, 64) < 48e9);
  double saved = plan_weight_bytes(&shape, PLAN_NF4, 0.0) - plan_weight_bytes(&shape, PLAN_NF4_DOUBLE, 0.0);
  ck_near(8.0 * saved / shape.linear, 0.373, 0.002);
  shape = of("1.5B");
  ck_near(plan_training_bytes(&shape, PLAN_TRAIN_MIXED, 64), 24e9, 1e-6);
}
END_TEST

START_TEST(orders_schemes) {
  plan_shape shape = of("7B");
  static const plan_scheme descending[] = {PLAN_FP32, PLAN_FP16, PLAN_INT8_COLUMNS,
                                           PLAN_INT8, PLAN_NF4,  PLAN_NF4_DOUBLE};
  for (size_t i = 1; i < sizeof descending / sizeof *descending; i++) {
    ck_assert(plan_weight_bytes(&shape, descending[i - 1], 0.02) > plan_weight_bytes(&shape, descending[i], 0.02));
  }
  ck_assert(plan_weight_bytes(&shape, PLAN_INT8_F16, 0.0) > plan_weight_bytes(&shape, PLAN_INT8, 0.0));
  double columns = plan_weight_bytes(&shape, PLAN_INT8_COLUMNS, 0.02) - plan_weight_bytes(&shape, PLAN_INT8, 0.02);
  ck_near(columns, 0.04 * (shape.linear + shape.output), 1e-9);
}
END_TEST

START_TEST(refuses_what_is_no_number) {
  static const char *const bad[] = {"", "B", "12", "7Q", "7BB", "-7B", "nan", "inf", "1e30", "7 B"};
  plan_shape shape;
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    ck_assert_int_eq(plan_read_parameters(bad[i], &shape), OTR_STATUS_INVALID_ARGUMENT);
  }
}
END_TEST

START_TEST(classes_of_tensors) {
  plan_shape shape = {0};
  plan_add_tensor(&shape, "token_embd.weight", 100, 8);
  plan_add_tensor(&shape, "blk.0.attn_norm.weight", 8, 1);
  plan_add_tensor(&shape, "blk.0.attn_q.weight", 16, 8);
  plan_add_tensor(&shape, "blk.0.ffn_down.weight", 8, 32);
  plan_add_tensor(&shape, "position_embd.weight", 64, 8);
  plan_add_tensor(&shape, "output.weight", 100, 8);
  ck_assert(shape.linear == 16 * 8 + 8 * 32 && shape.linear_rows == 24 && shape.linear_columns == 40);
  ck_assert(shape.embedding == 800 && shape.output == 800 && shape.output_rows == 100);
  ck_assert(shape.other == 8 + 64 * 8);
  ck_assert(plan_weight_bytes(&shape, PLAN_INT8, 0) == 384 + 4 * 24 + 1600 + 4 * 200 + 4 * 520);
}
END_TEST

static void add(TCase *tests) {
  tcase_add_test(tests, counts_parameters);
  tcase_add_test(tests, says_what_papers_say);
  tcase_add_test(tests, orders_schemes);
  tcase_add_test(tests, refuses_what_is_no_number);
  tcase_add_test(tests, classes_of_tensors);
}

int main(void) {
  return suite_run("plan", add);
}
