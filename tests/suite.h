// SPDX-License-Identifier: Apache-2.0
/* What Check programs here share. */
#ifndef SUITE_H
#define SUITE_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "outrider/outrider.h"

#define SUITE_SKIPPED 77 /* ctest's SKIP_RETURN_CODE */

/* Check writes the place of every assertion that holds to a file, so that a crash can be placed: in loops over values
 * that is nearly all that a test does. After the first ones of a test it is not told any more. */
static inline void suite_mark(const char *file, int line) {
  static _Thread_local int marks;
  if (marks >= 500) return;
  marks++;
  (_mark_point)(file, line);
}
#define _mark_point(file, line) suite_mark(file, line)

/** Fails with the library's own words. */
#define ck_ok(expression)                                                                            \
  do {                                                                                               \
    otr_status ck_status = (expression);                                                             \
    ck_assert_msg(ck_status == OTR_STATUS_OK, "%s: %s: %s", #expression, otr_status_text(ck_status), \
                  otr_error_detail());                                                               \
  } while (0)

/** A caller's memory that ends after `left` allocations. */
typedef struct suite_meter {
  int left, held; /* held: allocations not given back */
} suite_meter;

static inline void *suite_meter_allocate(void *user, size_t bytes, size_t alignment) {
  suite_meter *m = user;
  (void)alignment;
  if (m->left-- <= 0) return NULL;
  ++m->held;
  return malloc(bytes);
}

static inline void suite_meter_release(void *user, void *memory, size_t bytes) {
  (void)bytes;
  --((suite_meter *)user)->held;
  free(memory);
}

static inline otr_allocator suite_allocator(suite_meter *m) {
  return (otr_allocator){m, suite_meter_allocate, suite_meter_release};
}

/** Runs the tests that `add` puts into the one case. @return main's value. */
static inline int suite_run(const char *name, void (*add)(TCase *tests)) {
  Suite *suite = suite_create(name);
  TCase *tests = tcase_create(name);
  tcase_set_timeout(tests, 120);
  add(tests);
  suite_add_tcase(suite, tests);
  SRunner *runner = srunner_create(suite);
  srunner_run_all(runner, CK_ENV);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/** The folder of OUTRIDER_TEST_DATA, or NULL after saying that `what` is skipped without it. */
static inline const char *suite_data(const char *what) {
  const char *folder = getenv("OUTRIDER_TEST_DATA");
  if (folder != NULL && folder[0] != '\0') return folder;
  printf("%s: skipped: OUTRIDER_TEST_DATA names no folder of test data\n", what);
  return NULL;
}

#endif
