// SPDX-License-Identifier: Apache-2.0
/* The contract's reciprocal and square root on every Vulkan device that is there: all mantissas, against the CPU's. */
#include <math.h>
#include <string.h>

#include "backend.h"
#include "numerics.h"
#include "suite.h"
#include "vulkan_lower.h"

/* All mantissas as rows of an operation ACT, some rows at a time. */
enum { WIDTH = 4096, ROWS = 512, PASSES = (1 << 23) / WIDTH / ROWS };

static otr_memory memory;
static otr_parallel *parallel;
static float values[WIDTH * ROWS], got[WIDTH * ROWS];

static float expected(int kind, float x) {
  return kind == VULKAN_ACT_RECIP ? 1.0f / x : sqrtf(x);
}

/** x is every mantissa at `exponent`. */
static void check_pass(otr_device *device, otr_prepared *prepared, otr_buffer *buffer, int kind, uint32_t exponent,
                       uint32_t first) {
  static const otr_row rows[ROWS];
  static const int32_t tokens[ROWS];
  otr_step step = {.n_rows = ROWS, .row = rows, .token = tokens};
  otr_step_result result;
  for (uint32_t i = 0; i < WIDTH * ROWS; i++) values[i] = otr_f32_of_bits(exponent << 23 | (first + i));
  ck_ok(device->ops->buffer_write(device, buffer, 0, values, sizeof values));
  ck_ok(device->ops->submit(device, prepared, &step, &result));
  ck_ok(device->ops->buffer_read(device, buffer, sizeof values, got, sizeof got));
  for (uint32_t i = 0; i < WIDTH * ROWS; i++) {
    float want = expected(kind, values[i]);
    if (memcmp(&want, &got[i], sizeof want) != 0)
      ck_abort_msg("kind %d of %a is %a, not %a", kind, (double)values[i], (double)got[i], (double)want);
  }
}

static void check_kind(otr_device *device, int kind, uint32_t exponent) {
  otr_buffer *buffer;
  otr_prepared *prepared;
  otr_op op = {.code = OTR_OP_ACT};
  otr_program program = {.ops = &op, .n_ops = 1, .max_rows = ROWS};
  ck_ok(device->ops->buffer_create(device, 2 * sizeof values, &buffer));
  op.u.act = (otr_op_act){.out = {buffer, sizeof values}, .x = {buffer, 0}, .width = WIDTH, .act = (otr_act_kind)kind};
  ck_ok(device->ops->prepare(device, &program, &prepared));
  for (uint32_t pass = 0; pass < PASSES; pass++)
    check_pass(device, prepared, buffer, kind, exponent, pass * WIDTH * ROWS);
  device->ops->prepared_destroy(device, prepared);
  device->ops->buffer_destroy(device, buffer);
}

START_TEST(functions_are_the_ieee_values) {
  for (int32_t i = 0; i < otr_vulkan_backend.count(); i++) {
    otr_device *device;
    otr_device_params params = {.memory = &memory, .parallel = parallel};
    if (otr_vulkan_backend.open(i, &params, &device) != OTR_STATUS_OK) continue;
    check_kind(device, VULKAN_ACT_RECIP, 127);
    check_kind(device, VULKAN_ACT_SQRT, 127);
    check_kind(device, VULKAN_ACT_SQRT, 128);
    device->ops->close(device);
  }
}
END_TEST

int main(void) {
  otr_memory_init(&memory, NULL);
  if (otr_vulkan_backend.count() == 0) {
    printf("skipped: there is no Vulkan device\n");
    return SUITE_SKIPPED;
  }
  if (otr_parallel_create(&memory, 1, NULL, NULL, &parallel) != OTR_STATUS_OK) return EXIT_FAILURE;
  Suite *suite = suite_create("vulkan_numbers");
  TCase *c = tcase_create("proof");
  tcase_set_timeout(c, 0);
  tcase_add_test(c, functions_are_the_ieee_values);
  suite_add_tcase(suite, c);
  SRunner *runner = srunner_create(suite);
  srunner_set_fork_status(runner, CK_NOFORK); /* drivers' threads do not outlive a fork */
  srunner_run_all(runner, CK_ENV);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  otr_parallel_destroy(parallel);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
