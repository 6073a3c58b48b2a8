// SPDX-License-Identifier: Apache-2.0
/* Places in a buffer: aligned, one after another, the same measured and used; no product or sum wraps. */
#include "arena.h"

#include <stdint.h>
#include <string.h>

#include "suite.h"

START_TEST(places) {
  otr_buffer *const buffer = (otr_buffer *)(void *)&buffer; /* only its address counts */
  otr_arena measured = otr_arena_in(NULL), used = otr_arena_in(buffer);
  otr_arena *const both[] = {&measured, &used};
  for (int i = 0; i < 2; i++) {
    ck_assert_uint_eq(otr_arena_place(both[i], 3, 5, 4).offset, 0);
    ck_assert_uint_eq(otr_arena_place(both[i], 1, 257, 1).offset, 256);
    ck_assert_uint_eq(otr_arena_place_layout(both[i], 1).offset, 768);
    ck_assert_ptr_eq(otr_arena_place(both[i], 0, 5, 4).buffer, i == 0 ? NULL : buffer);
    ck_ok(otr_arena_check(both[i], "this"));
  }
  ck_assert_uint_eq(measured.bytes, 1024);
  ck_assert_uint_eq(measured.bytes, used.bytes);
}
END_TEST

static void refused(size_t rows, size_t n, size_t size, size_t before) {
  otr_arena arena = otr_arena_in(NULL);
  otr_arena_place(&arena, before, 1, 1);
  ck_ok(otr_arena_check(&arena, "it"));
  otr_arena_place(&arena, rows, n, size);
  otr_arena_place(&arena, 1, 1, 1); /* what follows does not mend it */
  ck_assert_int_eq(otr_arena_check(&arena, "a model"), OTR_STATUS_NO_MEMORY);
  ck_assert(strstr(otr_error_detail(), "a model is too large") != NULL);
}

START_TEST(too_large) {
  refused(1, SIZE_MAX / 2 + 1, 2, 0);
  refused(SIZE_MAX / 4 + 1, 1, 4, 0);
  refused((size_t)1 << (sizeof(size_t) * 4), (size_t)1 << (sizeof(size_t) * 4), 1, 0);
  refused(1, SIZE_MAX, 1, 1);
  refused(1, 1, 1, SIZE_MAX - 3); /* no room to align */
  otr_arena arena = otr_arena_in(NULL);
  otr_arena_place_layout(&arena, 0); /* a device's "too large" */
  ck_assert_int_eq(otr_arena_check(&arena, "it"), OTR_STATUS_NO_MEMORY);
}
END_TEST

static void add(TCase *tests) {
  tcase_add_test(tests, places);
  tcase_add_test(tests, too_large);
}

int main(void) {
  return suite_run("arena", add);
}
