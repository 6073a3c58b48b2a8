// SPDX-License-Identifier: Apache-2.0
/* kernel_check [--quick] [--seed N] [--cases N] [--device NAME] [--op NAME] [--bench]
 * A ctest and a tool. Each operation is a test of its own process, so that a fault shows which. CK_FORK=no: one. */
#include "kernel_check.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "self_check.h"

/* The thread's rounding mode and flush bits, and an odd value of them: rounding down, flushing, and on Arm the other
 * half precision. */
#if defined(__SSE2__)
#include <xmmintrin.h>
#define HAS_FLOAT_MODE 1
typedef unsigned int control;
#define CONTROL_BITS 0xffc0u /* the others tell what happened */
static control control_read(void) {
  return _mm_getcsr();
}
static void control_write(control value) {
  _mm_setcsr(value);
}
static control control_odd(control now) {
  return (now | 0x8040u) ^ 0x2000u;
}
#elif defined(__aarch64__)
#define HAS_FLOAT_MODE 1
typedef uint64_t control;
#define CONTROL_BITS 0x07c00000u
static control control_read(void) {
  control value;
  __asm__ volatile("mrs %0, fpcr" : "=r"(value)::"memory");
  return value;
}
static void control_write(control value) {
  __asm__ volatile("msr fpcr, %0" ::"r"(value) : "memory");
}
static control control_odd(control now) {
  return now | 0x05800000u;
}
#endif

static struct {
  effort effort;
  uint32_t seed;
  const char *device, *op;
  bool bench;
} options;

static bool wanted(otr_op_code code) {
  return options.op == NULL || strcmp(options.op, otr_op_name(code)) == 0;
}

static void open_all(subjects *s) {
  ck_assert_msg(subjects_open(s, options.device), "devices do not open: %s", otr_error_detail());
}

START_TEST(every_operation) {
  otr_op_code code = (otr_op_code)_i;
  if (!wanted(code)) return;
  subjects s;
  open_all(&s);
  int n_chosen = chosen_cases(code), n = n_chosen + options.effort.cases;
  for (int i = 0; i < n; ++i) {
    otr_case c = i < n_chosen ? chosen_case(code, i)
                              : random_case(code, options.seed + (uint32_t)(i - n_chosen), &options.effort);
    const char *wrong = case_check(&s, &c, i % 2 == 1, i);
    ck_assert_msg(wrong == NULL, "--seed %u: %s", options.seed, wrong);
  }
  subjects_close(&s);
  ck_assert_uint_eq(s.memory.now, 0);
}
END_TEST

START_TEST(self_check_passes) {
  subjects s;
  open_all(&s);
  for (int i = 0; i < s.n; ++i) {
    double seconds = 0.0;
    otr_op_code failed;
    otr_status status = otr_self_check(s.of[i].device[1], s.of[0].device[1], &failed, &seconds);
    ck_assert_msg(status == OTR_STATUS_OK, "%s: %s", s.of[i].info.name, otr_error_detail());
    ck_assert(seconds > 0.0);
  }
  subjects_close(&s);
}
END_TEST

#if HAS_FLOAT_MODE
/* A submit by a caller who flushes subnormals and rounds down. */
static otr_status (*plain_submit)(otr_device *, otr_prepared *, const otr_step *, otr_step_result *);
static bool mode_was_kept;

static otr_status odd_submit(otr_device *device, otr_prepared *prepared, const otr_step *step,
                             otr_step_result *result) {
  control before = control_read(), odd = control_odd(before);
  control_write(odd);
  otr_status status = plain_submit(device, prepared, step, result);
  mode_was_kept = mode_was_kept && (control_read() & CONTROL_BITS) == (odd & CONTROL_BITS);
  control_write(before);
  return status;
}

static void check_odd_mode(subjects *s, otr_device *device, const otr_case *c) {
  otr_case_image expected, got;
  otr_device_ops odd = *device->ops;
  const otr_device_ops *own = device->ops;
  ck_assert_int_eq(otr_case_run(s->of[0].device[0], c, NULL, &expected, 1, NULL), OTR_STATUS_OK);
  plain_submit = own->submit;
  odd.submit = odd_submit;
  device->ops = &odd;
  mode_was_kept = true;
  ck_assert_int_eq(otr_case_run(device, c, NULL, &got, 1, NULL), OTR_STATUS_OK);
  device->ops = own;
  ck_assert(mode_was_kept);
  ck_assert_msg(otr_case_compare(c, &expected, &got) == OTR_STATUS_OK, "%s", otr_error_detail());
  otr_case_image_free(&s->memory, &expected);
  otr_case_image_free(&s->memory, &got);
}
#endif

/* The caller's rounding mode and flush bits neither show in the results nor change. */
START_TEST(float_mode_is_kept) {
#if HAS_FLOAT_MODE
  subjects s;
  open_all(&s);
  for (int code = 0; code < OTR_OP_COUNT; ++code) {
    otr_case c = random_case((otr_op_code)code, 7, &effort_quick);
    c.values = OTR_VALUES_MIXED;
    for (int i = 1; i < s.n * THREAD_COUNTS; ++i)
      check_odd_mode(&s, s.of[i / THREAD_COUNTS].device[i % THREAD_COUNTS], &c);
  }
  subjects_close(&s);
#endif
}
END_TEST

/* Pages and buffers keep what is written to them, and no more than that is written. */
static void check_storage(otr_device *device) {
  enum { HEADS = 2, DIM = 12, FIRST = 250, N = 6, HALVES = N * HEADS * DIM, ALL = OTR_CHUNK * HEADS * DIM };
  static uint16_t k[HALVES], v[HALVES], k_back[ALL], v_back[ALL];
  const otr_device_ops *ops = device->ops;
  const otr_kv_shape shape = {3, HEADS, DIM};
  size_t bytes = ops->kv_page_bytes(&shape);
  otr_buffer *buffer;
  uint32_t state = 1;
  otr_data_f16(&state, k, 1, HALVES, HALVES, OTR_F16_EDGES);
  otr_data_f16(&state, v, 1, HALVES, HALVES, OTR_F16_EDGES);
  ck_assert_int_eq(ops->buffer_create(device, 2 * bytes, &buffer), OTR_STATUS_OK);
  otr_page one = {buffer, 0}, two = {buffer, bytes};
  ck_assert_int_eq(ops->kv_write(device, &shape, one, 1, FIRST, N, k, v), OTR_STATUS_OK);
  ck_assert_int_eq(ops->kv_copy(device, &shape, two, one), OTR_STATUS_OK);
  for (int32_t layer = 0; layer < 3; ++layer) {
    ck_assert_int_eq(ops->kv_read(device, &shape, two, layer, 0, OTR_CHUNK, k_back, v_back), OTR_STATUS_OK);
    for (int i = 0; i < ALL; ++i) {
      int at = i - FIRST * HEADS * DIM;
      bool written = layer == 1 && at >= 0 && at < HALVES;
      ck_assert_uint_eq(k_back[i], written ? k[at] : 0);
      ck_assert_uint_eq(v_back[i], written ? v[at] : 0);
    }
  }
  ck_assert_int_eq(ops->buffer_read(device, buffer, 2 * bytes - 1, k_back, 2), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(ops->buffer_write(device, buffer, SIZE_MAX, k_back, 2), OTR_STATUS_INVALID_ARGUMENT);
  ops->buffer_destroy(device, buffer);
}

START_TEST(storage_is_kept) {
  subjects s;
  open_all(&s);
  for (int i = 0; i < s.n; ++i) check_storage(s.of[i].device[0]);
  subjects_close(&s);
}
END_TEST

/* Batch scope: on the reference, with one row's own outliers where there is one row; refused by every other device. */
START_TEST(batch_scope_is_the_references) {
  subjects s;
  open_all(&s);
  for (uint32_t seed = 0; seed < 20; ++seed) {
    otr_case c = random_case(OTR_OP_QUANTIZE, seed, &effort_quick);
    otr_case_image token, batch;
    c.m = 1;
    c.values = OTR_VALUES_OUTLIERS;
    ck_assert_int_eq(otr_case_run(s.of[0].device[0], &c, NULL, &token, 1, NULL), OTR_STATUS_OK);
    c.batch = 1;
    ck_assert_int_eq(otr_case_run(s.of[0].device[0], &c, NULL, &batch, 1, NULL), OTR_STATUS_OK);
    ck_assert_int_eq(otr_case_compare(&c, &token, &batch), OTR_STATUS_OK);
    otr_case_image_free(&s.memory, &token);
    otr_case_image_free(&s.memory, &batch);
    for (int i = 1; i < s.n; ++i) {
      ck_assert_int_eq(otr_case_run(s.of[i].device[0], &c, NULL, &batch, 1, NULL), OTR_STATUS_UNSUPPORTED);
    }
  }
  subjects_close(&s);
}
END_TEST

/* A harness that finds nothing is no harness: each mutant must be found, by the quick cases and by the self-check. */
START_TEST(mutant_is_found) {
  const mutant *all;
  mutants(&all);
  subjects s;
  ck_assert(subjects_open(&s, "cpu"));
  ck_assert(subjects_add_mutant(&s, &all[_i]));
  const char *wrong = NULL;
  int n = chosen_cases(all[_i].code), i = 0;
  for (; i < n + effort_quick.cases && wrong == NULL; ++i) {
    otr_case c = i < n ? chosen_case(all[_i].code, i) : random_case(all[_i].code, (uint32_t)(i - n), &effort_quick);
    wrong = case_check(&s, &c, false, i);
  }
  ck_assert_msg(wrong != NULL, "mutant \"%s\" is not found", all[_i].name);
  ck_assert_msg(strstr(wrong, all[_i].name) != NULL, "another device is blamed: %s", wrong);
  double seconds;
  otr_op_code failed;
  ck_assert_msg(otr_self_check(s.of[1].device[0], s.of[0].device[0], &failed, &seconds) == OTR_STATUS_NO_DEVICE,
                "the self-check does not find mutant \"%s\"", all[_i].name);
  /* A kernel may serve several operations; how an operation is done is its own. */
  ck_assert_msg(failed == all[_i].code || (failed != OTR_OP_COUNT && all[_i].alter == NULL),
                "mutant \"%s\": the self-check blames %s", all[_i].name, otr_op_name(failed));
  subjects_close(&s);
}
END_TEST

static Suite *kernel_suite(void) {
  const mutant *all;
  Suite *suite = suite_create("kernel_check");
  TCase *operations = tcase_create("operations"), *self;
  tcase_set_timeout(operations, 0);
  tcase_add_loop_test(operations, every_operation, 0, OTR_OP_COUNT);
  tcase_add_test(operations, self_check_passes);
  tcase_add_test(operations, float_mode_is_kept);
  tcase_add_test(operations, storage_is_kept);
  tcase_add_test(operations, batch_scope_is_the_references);
  suite_add_tcase(suite, operations);
  if (options.op != NULL || options.device != NULL) return suite;
  self = tcase_create("the harness itself");
  tcase_set_timeout(self, 0);
  tcase_add_loop_test(self, mutant_is_found, 0, mutants(&all));
  suite_add_tcase(suite, self);
  return suite;
}

static int usage(void) {
  fprintf(stderr, "usage: kernel_check [--quick] [--seed N] [--cases N] [--device NAME] [--op NAME] [--bench]\n");
  return 2;
}

static bool parse(int argc, char **argv) {
  options.effort = effort_full;
  options.seed = (uint32_t)time(NULL);
  for (int i = 1; i < argc; ++i) {
    const char *value = i + 1 < argc ? argv[i + 1] : NULL;
    if (strcmp(argv[i], "--quick") == 0) {
      options.effort = effort_quick;
    } else if (strcmp(argv[i], "--bench") == 0) {
      options.bench = true;
    } else if (value == NULL) {
      return false;
    } else if (strcmp(argv[i], "--seed") == 0) {
      options.seed = (uint32_t)strtoul(argv[++i], NULL, 10);
    } else if (strcmp(argv[i], "--cases") == 0) {
      options.effort.cases = (int)strtol(argv[++i], NULL, 10);
    } else if (strcmp(argv[i], "--device") == 0) {
      options.device = argv[++i];
    } else if (strcmp(argv[i], "--op") == 0) {
      options.op = argv[++i];
    } else {
      return false;
    }
  }
  return true;
}

static void print_devices(void) {
  for (const otr_backend *const *b = otr_backends(); *b != NULL; ++b) {
    for (int32_t i = 0; i < (*b)->count(); ++i) {
      otr_device_info info;
      memset(&info, 0, sizeof info);
      (*b)->describe(i, &info);
      printf("  %s: %s\n", info.name, info.available ? info.isa : info.reason);
    }
  }
  fflush(stdout);
}

int main(int argc, char **argv) {
  if (!parse(argc, argv)) return usage();
  if (options.bench) return kernel_bench(options.device, options.op);
  printf("kernel_check: %d random cases of each operation, --seed %u\n", options.effort.cases, options.seed);
  print_devices();
  SRunner *runner = srunner_create(kernel_suite());
  srunner_run_all(runner, CK_ENV);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
