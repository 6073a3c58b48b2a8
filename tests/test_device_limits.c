// SPDX-License-Identifier: Apache-2.0
/* The copy that `outrider bench` compares a GPU's decode with: measured on a CPU's device here, where memory may run
 * out. */
#include "device_limits.h"
#include "runtime.h"
#include "suite.h"

static otr_runtime *create(suite_meter *meter) {
  otr_runtime_params params = OTR_RUNTIME_PARAMS_INIT;
  otr_runtime *runtime;
  params.device = "cpu";
  params.n_threads = 1;
  params.skip_self_check = 1;
  params.allocator = suite_allocator(meter);
  ck_ok(otr_runtime_create(&params, &runtime));
  return runtime;
}

START_TEST(a_copy_is_measured) {
  suite_meter meter = {.left = 1000};
  otr_runtime *runtime = create(&meter);
  const int held = meter.held;
  double gbs = 0.0;
  ck_ok(tool_device_copy_measure(runtime->device, &gbs));
  ck_assert_double_gt(gbs, 0.0);
  double best = 1e9;
  ck_ok(tool_device_copy_measure(runtime->device, &best));
  ck_assert_double_eq(best, 1e9); /* only ever raised */
  ck_assert_int_eq(meter.held, held);
  ck_ok(otr_runtime_destroy(runtime));
  ck_assert_int_eq(meter.held, 0);
}
END_TEST

/* Every size needs four allocations: while one fails, a smaller size is tried, and the last one's failure is told. */
START_TEST(memory_may_run_out) {
  suite_meter meter = {.left = 1000};
  otr_runtime *runtime = create(&meter);
  const int held = meter.held;
  for (meter.left = 0; meter.left < 4;) {
    const int left = meter.left;
    double gbs = 0.0;
    ck_assert_int_eq(tool_device_copy_measure(runtime->device, &gbs), OTR_STATUS_NO_MEMORY);
    ck_assert_double_eq(gbs, 0.0);
    ck_assert_int_eq(meter.held, held);
    meter.left = left + 1;
  }
  ck_ok(otr_runtime_destroy(runtime));
}
END_TEST

static void add_tests(TCase *tests) {
  tcase_add_test(tests, a_copy_is_measured);
  tcase_add_test(tests, memory_may_run_out);
}

int main(void) {
  return suite_run("device_limits", add_tests);
}
