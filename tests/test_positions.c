// SPDX-License-Identifier: Apache-2.0
/* Positions and pages: truncate, copy, slide, cancel, reset. Whatever way a session came to its positions, the next row
 * has the bits it has in a session that evaluated the same ids and nothing else. Each test on every device (_i). */
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "model_kit.h"

#define MAX_N 1100
#define PAGE 256

static char *path;
static kit k;
static size_t vocab;
static int32_t ids[MAX_N], other[MAX_N];

static void set_up_file(void) {
  llama_shape shape = kit_small_shape();
  path = kit_tiny_file(&shape, 1);
  kit_ids(ids, MAX_N, 320, 7);
  kit_ids(other, MAX_N, 320, 8);
}

static void tear_down_file(void) {
  kit_remove(path);
}

static void open_device(int i) {
  k = kit_open(path, kit_device(i), 2, NULL);
  vocab = (size_t)kit_vocab(k.model);
}

/* The last row's logits of `prefix` then `rest`, evaluated alone. */
static void check_next(otr_session *s, const int32_t *prefix, int32_t n_prefix, const int32_t *rest, int32_t n_rest,
                       const char *what) {
  otr_session *alone = kit_session(k.model, n_prefix + n_rest, 512);
  if (n_prefix > 0) ck_ok(otr_session_eval(alone, prefix, n_prefix, NULL));
  ck_ok(otr_session_eval(alone, rest, n_rest, NULL));
  ck_ok(otr_session_eval(s, rest, n_rest, NULL));
  kit_same(otr_session_logits(s), otr_session_logits(alone), vocab, what);
  ck_assert_int_eq(otr_session_position(s), n_prefix + n_rest);
  otr_session_destroy(alone);
}

START_TEST(truncate_and_go_on) {
  static const int32_t cuts[] = {300, 257, 256, 255, 1, 0};
  open_device(_i);
  otr_session *s = kit_session(k.model, 512, 128);
  for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
    otr_session_reset(s);
    ck_ok(otr_session_eval(s, ids, 300, NULL));
    ck_ok(otr_session_truncate(s, cuts[i]));
    ck_assert_int_eq(otr_session_position(s), cuts[i]);
    ck_assert_int_eq(otr_session_room(s), 512 - cuts[i]);
    ck_assert_ptr_null(otr_session_logits(s));
    check_next(s, ids, cuts[i], other, 3, "truncate");
  }
  ck_assert_int_eq(otr_session_truncate(s, -1), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_session_truncate(s, 4), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_session_position(s), 3);
  ck_assert_ptr_nonnull(otr_session_logits(s));
  otr_session_destroy(s);
  kit_close(&k);
}
END_TEST

/* ---- copies ------------------------------------------------------------------------------------------------------ */

START_TEST(copies_part_ways) {
  static const int32_t lengths[] = {1, 255, 256, 257, 400};
  open_device(_i);
  otr_session *a = kit_session(k.model, 512, 128), *b = kit_session(k.model, 512, 512),
              *c = kit_session(k.model, 512, 1);
  for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
    int32_t n = lengths[i];
    otr_session_reset(a);
    ck_ok(otr_session_eval(a, ids, n, NULL));
    ck_ok(otr_session_copy(b, a)); /* over whatever b was */
    ck_ok(otr_session_copy(c, b)); /* a copy of a copy */
    kit_same(otr_session_logits(c), otr_session_logits(a), vocab, "logits are copied");
    ck_assert_int_eq(otr_session_room(c), 512 - n);
    check_next(b, ids, n, other, 4, "the copy goes on");
    check_next(a, ids, n, other + 50, 4, "the source goes on, the copy's rows do not show");
    check_next(c, ids, n, other + 90, 3, "the copy's copy goes on");
    /* Cut back into the shared part, and apart again. */
    int32_t cut = n / 2;
    ck_ok(otr_session_truncate(b, cut));
    check_next(b, ids, cut, other + 7, 2, "cut into the shared part");
    ck_ok(otr_session_truncate(a, n));
    check_next(a, ids, n, ids + n, 2, "the source still has it");
  }
  otr_session_destroy(a);
  otr_session_destroy(b);
  otr_session_destroy(c);
  kit_close(&k);
}
END_TEST

START_TEST(source_goes_first) {
  open_device(_i);
  otr_session *a = kit_session(k.model, 512, 128), *b = kit_session(k.model, 512, 128), *c;
  ck_ok(otr_session_eval(a, ids, 300, NULL));
  ck_ok(otr_session_copy(b, a));
  otr_session_destroy(a);
  check_next(b, ids, 300, other, 2, "the source is gone");
  for (int i = 0; i < 3; i++) { /* new ones take the place of old ones; each can be filled */
    c = kit_session(k.model, 512, 128);
    ck_ok(otr_session_copy(c, b));
    otr_session_destroy(b);
    b = c;
    a = kit_session(k.model, 512, 512);
    ck_ok(otr_session_eval(a, other, 512, NULL));
    ck_ok(otr_session_truncate(b, 302));
    ck_ok(otr_session_eval(b, other, 210, NULL));
    ck_assert_int_eq(otr_session_room(b), 0);
    otr_session_destroy(a);
  }
  ck_ok(otr_session_truncate(b, 256));
  check_next(b, ids, 256, other + 9, 2, "the first page is still the first session's");
  otr_session_destroy(b);
  kit_close(&k);
}
END_TEST

START_TEST(copy_refuses) {
  open_device(_i);
  kit k2 = kit_open(path, kit_device(_i), 1, NULL);
  otr_session *a = kit_session(k.model, 512, 128), *small = kit_session(k.model, 256, 128);
  otr_session *foreign = kit_session(k2.model, 512, 128);
  ck_ok(otr_session_eval(a, ids, 257, NULL));
  ck_ok(otr_session_eval(small, ids, 5, NULL));
  ck_assert_int_eq(otr_session_copy(small, a), OTR_STATUS_CONTEXT_FULL);
  ck_assert_int_eq(otr_session_position(small), 5);
  ck_assert_int_eq(otr_session_copy(a, a), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_session_copy(a, foreign), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_session_copy(a, NULL), OTR_STATUS_INVALID_ARGUMENT);
  ck_ok(otr_session_truncate(a, 256));
  ck_ok(otr_session_copy(small, a));
  ck_assert_int_eq(otr_session_room(small), 0);
  ck_assert_int_eq(otr_session_eval(small, ids, 1, NULL), OTR_STATUS_CONTEXT_FULL);
  ck_ok(otr_session_truncate(small, 200));
  check_next(small, ids, 200, other, 56, "its own page in place of the shared one");
  otr_session_destroy(a);
  otr_session_destroy(small);
  otr_session_destroy(foreign);
  kit_close(&k2);
  kit_close(&k);
}
END_TEST

/* Eval, truncate, copy and slide take nothing from the allocator. */
START_TEST(nothing_is_allocated) {
  kit_counter counter = {0};
  otr_runtime_params params = OTR_RUNTIME_PARAMS_INIT;
  params.device = kit_device(_i);
  params.n_threads = 2;
  params.skip_self_check = 1;
  params.allocator = kit_allocator(&counter);
  ck_ok(otr_runtime_create(&params, &k.runtime));
  ck_ok(otr_model_open_file(k.runtime, path, NULL, &k.model));
  otr_session *a = kit_session(k.model, 512, 64), *b = kit_session(k.model, 512, 64);
  long calls = atomic_load(&counter.calls);
  ck_assert_int_gt(calls, 0);
  ck_ok(otr_session_eval(a, ids, 512, NULL));
  ck_ok(otr_session_copy(b, a));
  ck_ok(otr_session_truncate(b, 100));
  ck_ok(otr_session_eval(b, ids, 300, NULL));
  ck_ok(otr_session_slide(a, 0, 10));
  ck_ok(otr_session_eval(a, ids, 10, NULL));
  otr_session_reset(a);
  ck_assert_int_eq(atomic_load(&counter.calls), calls);
  otr_session_destroy(a);
  otr_session_destroy(b);
  kit_close(&k);
  ck_assert_int_eq(atomic_load(&counter.blocks), 0);
  ck_assert_int_eq(atomic_load(&counter.bytes), 0);
}
END_TEST

/* ---- slides ------------------------------------------------------------------------------------------------------ */

START_TEST(slide_drops_the_oldest) {
  open_device(_i);
  otr_session *s = kit_session(k.model, 1024, 256);
  ck_ok(otr_session_eval(s, ids, 1024, NULL));
  ck_assert_int_eq(otr_session_slide(s, -1, 1), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_session_slide(s, 0, -1), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_session_slide(s, 1024, 1), OTR_STATUS_CONTEXT_FULL);
  ck_assert_int_eq(otr_session_room(s), 0);
  ck_ok(otr_session_slide(s, 10, 0)); /* there is room for none already */
  ck_assert_int_eq(otr_session_room(s), 0);
  ck_ok(otr_session_slide(s, 10, 257)); /* keeps page 0, drops 1 and 2 */
  ck_assert_int_eq(otr_session_room(s), 512);
  ck_assert_int_eq(otr_session_position(s), 1024);
  ck_ok(otr_session_eval(s, other, 512 - 5, NULL));
  ck_assert_int_eq(otr_session_position(s), 1531); /* beyond n_ctx */
  ck_assert_int_eq(otr_session_room(s), 5);
  kit_bytes state = {NULL, 0};
  ck_assert_int_eq(otr_session_save(s, kit_write, &state), OTR_STATUS_UNSUPPORTED);
  ck_assert_int_eq(otr_session_truncate(s, 257), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_session_truncate(s, 767), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_session_position(s), 1531);
  ck_ok(otr_session_truncate(s, 768));
  ck_ok(otr_session_eval(s, other, 1, NULL));
  ck_ok(otr_session_truncate(s, 256)); /* before the gap: an ordinary session again */
  ck_assert_int_eq(otr_session_room(s), 768);
  check_next(s, ids, 256, other, 20, "cut before the gap");
  kit_bytes again = kit_save(s);
  otr_session *fresh = kit_session(k.model, 1024, 256);
  ck_ok(otr_session_eval(fresh, ids, 256, NULL));
  ck_ok(otr_session_eval(fresh, other, 20, NULL));
  state = kit_save(fresh);
  ck_assert_uint_eq(state.n, again.n);
  ck_assert_mem_eq(state.data, again.data, state.n);
  free(state.data);
  free(again.data);
  otr_session_destroy(fresh);
  otr_session_destroy(s);
  kit_close(&k);
}
END_TEST

/* Slid once or in steps, in one session or in a copy: the same pages are gone, so the same bits come. */
START_TEST(slides_add_up) {
  open_device(_i);
  otr_session *a = kit_session(k.model, 1024, 256), *b = kit_session(k.model, 1024, 256);
  ck_ok(otr_session_eval(a, ids, 1024, NULL));
  ck_ok(otr_session_copy(b, a));
  ck_ok(otr_session_slide(a, 300, 256)); /* drops page 2 */
  ck_ok(otr_session_slide(a, 256, 512)); /* and 1 */
  ck_ok(otr_session_slide(b, 256, 512));
  ck_assert_int_eq(otr_session_room(a), 512);
  ck_ok(otr_session_eval(a, other, 30, NULL));
  ck_ok(otr_session_eval(b, other, 30, NULL));
  kit_same(otr_session_logits(a), otr_session_logits(b), vocab, "slid in two steps");
  otr_session *c = kit_session(k.model, 1024, 256);
  ck_ok(otr_session_copy(c, a));
  ck_assert_int_eq(otr_session_position(c), 1054);
  ck_assert_int_eq(otr_session_room(c), otr_session_room(a));
  ck_ok(otr_session_eval(a, other + 30, 2, NULL));
  ck_ok(otr_session_eval(c, other + 30, 2, NULL));
  kit_same(otr_session_logits(a), otr_session_logits(c), vocab, "copy of a slid session");
  ck_ok(otr_session_slide(a, 0, 700)); /* page 0, too: an earlier one than was dropped before */
  ck_assert_int_ge(otr_session_room(a), 700);
  kit_bytes state = {NULL, 0};
  ck_assert_int_eq(otr_session_save(a, kit_write, &state), OTR_STATUS_UNSUPPORTED);
  ck_assert_int_eq(otr_session_truncate(a, 300), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_session_truncate(a, 1), OTR_STATUS_INVALID_ARGUMENT);
  ck_ok(otr_session_eval(a, other, 700, NULL));
  ck_ok(otr_session_truncate(a, 0));
  check_next(a, ids, 0, ids, 9, "emptied");
  /* The copy's ids before the gap are its own. */
  ck_ok(otr_session_truncate(c, 256));
  state = kit_save(c);
  otr_session_reset(b);
  ck_ok(otr_session_eval(b, ids, 256, NULL));
  kit_bytes want = kit_save(b);
  ck_assert_uint_eq(state.n, want.n);
  ck_assert_mem_eq(state.data, want.data, want.n);
  free(want.data);
  free(state.data);
  otr_session_destroy(a);
  otr_session_destroy(b);
  otr_session_destroy(c);
  kit_close(&k);
}
END_TEST

START_TEST(slides_without_end) {
  open_device(_i);
  otr_session *s = kit_session(k.model, 512, 256);
  for (int32_t i = 0; i < 12; i++) {
    int32_t n = 101 + 7 * i;
    ck_ok(otr_session_slide(s, 0, n));
    ck_assert_int_ge(otr_session_room(s), n);
    ck_ok(otr_session_eval(s, ids, n, NULL));
  }
  ck_assert_int_gt(otr_session_position(s), 1536);
  ck_assert_int_eq(otr_session_slide(s, 0, 1 << 20), OTR_STATUS_CONTEXT_FULL);
  ck_assert_int_eq(otr_session_slide(s, 0, INT32_MAX), OTR_STATUS_CONTEXT_FULL);
  ck_assert_int_eq(otr_session_slide(s, INT32_MAX, otr_session_room(s) + 1), OTR_STATUS_CONTEXT_FULL);
  otr_session_reset(s);
  check_next(s, ids, 0, other, 300, "reset after slides");
  otr_session_destroy(s);
  kit_close(&k);
}
END_TEST

/* ---- cancel ------------------------------------------------------------------------------------------------------ */

START_TEST(cancel_before_the_start) {
  open_device(_i);
  otr_session *s = kit_session(k.model, 512, 64);
  otr_session_cancel(s);
  ck_assert_int_eq(otr_session_eval(s, ids, 300, NULL), OTR_STATUS_CANCELLED);
  ck_assert_int_eq(otr_session_position(s), 0);
  ck_assert_int_eq(otr_session_room(s), 512); /* no page is lost */
  check_next(s, ids, 0, ids, 300, "the request is spent");
  otr_session_cancel(s);
  otr_session_cancel(s);
  ck_assert_int_eq(otr_session_eval(s, ids, 212, NULL), OTR_STATUS_CANCELLED);
  ck_ok(otr_session_eval(s, ids, 212, NULL));
  otr_session_cancel(s);
  otr_session_reset(s); /* a pending request goes with a reset */
  ck_ok(otr_session_eval(s, ids, 512, NULL));
  otr_session_destroy(s);
  kit_close(&k);
}
END_TEST

static void *cancel_soon(void *session) {
  const struct timespec wait = {0, 3000000};
  nanosleep(&wait, NULL);
  otr_session_cancel(session);
  return NULL;
}

START_TEST(cancel_from_another_thread) {
  open_device(_i);
  otr_session *s = kit_session(k.model, 1024, 64), *next;
  int32_t cancelled = 0;
  for (int32_t tries = 0; tries < 20 && cancelled < 3; tries++) {
    pthread_t thread;
    otr_session_reset(s);
    ck_assert_int_eq(pthread_create(&thread, NULL, cancel_soon, s), 0);
    otr_status status = otr_session_eval(s, ids, 1024, NULL);
    pthread_join(thread, NULL);
    int32_t position = otr_session_position(s);
    if (status == OTR_STATUS_OK) continue;
    ck_assert_int_eq(status, OTR_STATUS_CANCELLED);
    ck_assert_int_eq(position % 64, 0);
    ck_assert_int_lt(position, 1024);
    ck_assert_int_eq(otr_session_room(s), 1024 - position);
    ck_assert_ptr_null(otr_session_logits(s));
    cancelled++;
    ck_ok(otr_session_eval(s, ids + position, 1024 - position, NULL)); /* the rest, to the last position */
  }
  ck_assert_int_gt(cancelled, 0);
  otr_session *alone = kit_session(k.model, 1024, 512);
  ck_ok(otr_session_eval(alone, ids, 1024, NULL));
  kit_same(otr_session_logits(s), otr_session_logits(alone), vocab, "went on after a cancel");
  /* What cancelled passes took is there for others when the session is gone. */
  otr_session_cancel(s);
  otr_session_reset(s);
  otr_session_cancel(s);
  ck_assert_int_eq(otr_session_eval(s, ids, 1024, NULL), OTR_STATUS_CANCELLED);
  otr_session_destroy(s);
  next = kit_session(k.model, 1024, 512);
  ck_ok(otr_session_eval(next, ids, 1024, NULL));
  otr_session_destroy(next);
  otr_session_destroy(alone);
  kit_close(&k);
}
END_TEST

static void add(TCase *tests) {
  int n = kit_n_devices();
  tcase_add_unchecked_fixture(tests, set_up_file, tear_down_file);
  tcase_add_loop_test(tests, truncate_and_go_on, 0, n);
  tcase_add_loop_test(tests, copies_part_ways, 0, n);
  tcase_add_loop_test(tests, source_goes_first, 0, n);
  tcase_add_loop_test(tests, copy_refuses, 0, n);
  tcase_add_loop_test(tests, nothing_is_allocated, 0, n);
  tcase_add_loop_test(tests, slide_drops_the_oldest, 0, n);
  tcase_add_loop_test(tests, slides_add_up, 0, n);
  tcase_add_loop_test(tests, slides_without_end, 0, n);
  tcase_add_loop_test(tests, cancel_before_the_start, 0, n);
  tcase_add_loop_test(tests, cancel_from_another_thread, 0, n);
}

int main(void) {
  return suite_run("positions", add);
}
