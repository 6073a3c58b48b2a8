// SPDX-License-Identifier: Apache-2.0
/* Everything at once on one runtime: sessions of one model in their own threads that share a prefix and part ways, are
 * cancelled, saved and loaded, come and go, beside linears and other models. Each must get the bits it gets alone. */
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "model_kit.h"

#define N 330
#define PREFIX 270
#define ROUNDS 6
#define WORKERS 4

static char *path;
static kit k;
static int32_t ids[N + WORKERS];
static float want[WORKERS][320]; /* logits after PREFIX shared ids and the worker's own */
static atomic_int failures, running;

typedef struct worker {
  int32_t index;
  otr_session *session;
} worker;

static void note_if(int wrong, const char *what) {
  if (!wrong) return;
  fprintf(stderr, "%s: %s\n", what, otr_error_detail());
  atomic_fetch_add(&failures, 1);
}

/* Evals until all `n` ids are in, however often it is cancelled. */
static otr_status eval_all(otr_session *s, const int32_t *from, int32_t n) {
  int32_t start = otr_session_position(s), end = start + n;
  otr_status status = OTR_STATUS_CANCELLED;
  while (status == OTR_STATUS_CANCELLED) {
    int32_t done = otr_session_position(s) - start;
    status = otr_session_eval(s, from + done, end - start - done, NULL);
  }
  return status;
}

static void *run_session(void *argument) {
  worker *w = argument;
  for (int round = 0; round < ROUNDS; round++) {
    otr_status status = eval_all(w->session, ids + PREFIX + w->index, N - PREFIX);
    note_if(status != OTR_STATUS_OK, "eval");
    const float *got = otr_session_logits(w->session);
    note_if(!got || memcmp(got, want[w->index], sizeof want[0]) != 0, "other bits");
    note_if(otr_session_truncate(w->session, PREFIX - round * 5) != OTR_STATUS_OK, "truncate");
    note_if(eval_all(w->session, ids + PREFIX - round * 5, round * 5) != OTR_STATUS_OK && round > 0, "back");
  }
  atomic_fetch_sub(&running, 1);
  return NULL;
}

static void *run_canceller(void *argument) {
  worker *all = argument;
  const struct timespec pause = {0, 300000};
  for (int i = 0; atomic_load(&running) > 0 && i < 400; i++) {
    if (i % 8 == 0) otr_session_cancel(all[i / 8 % WORKERS].session);
    nanosleep(&pause, NULL);
  }
  return NULL;
}

/* States, copies of its own, sessions that come and go. */
static void *run_states(void *argument) {
  kit_bytes *saved = argument;
  for (int round = 0; round < ROUNDS; round++) {
    otr_session_params params = OTR_SESSION_PARAMS_INIT;
    params.n_ctx = 512;
    params.n_batch = 32;
    otr_session *a, *b;
    note_if(otr_session_create(k.model, &params, &a) != OTR_STATUS_OK, "create");
    note_if(otr_session_create(k.model, &params, &b) != OTR_STATUS_OK, "create");
    note_if(otr_session_load(a, saved->data, saved->n) != OTR_STATUS_OK, "load");
    note_if(otr_session_copy(b, a) != OTR_STATUS_OK, "copy");
    note_if(eval_all(b, ids + PREFIX + 1, N - PREFIX) != OTR_STATUS_OK, "eval of a copy");
    note_if(memcmp(otr_session_logits(b), want[1], sizeof want[1]) != 0, "other bits of a copy");
    kit_bytes state = {NULL, 0};
    note_if(otr_session_save(a, kit_write, &state) != OTR_STATUS_OK, "save");
    note_if(state.n != saved->n || memcmp(state.data, saved->data, state.n) != 0, "another state");
    free(state.data);
    otr_session_destroy(a);
    note_if(otr_session_slide(b, 0, 300) != OTR_STATUS_OK, "slide");
    otr_session_destroy(b);
  }
  return NULL;
}

/* What else a runtime does meanwhile. */
static void *run_others(void *argument) {
  (void)argument;
  float weights[24], x[4] = {1, 2, 3, 4}, y[6];
  for (int i = 0; i < 24; i++) weights[i] = (float)(i % 5) - 2.0f;
  for (int round = 0; round < ROUNDS; round++) {
    otr_linear_params params = {.struct_size = sizeof params, .n = 6, .k = 4, .weights = weights};
    otr_linear *linear;
    otr_model *model;
    note_if(otr_linear_create(k.runtime, &params, &linear) != OTR_STATUS_OK, "linear");
    for (int i = 0; i < 5; i++) note_if(otr_linear_run(linear, y, x, 1) != OTR_STATUS_OK, "linear's run");
    otr_linear_destroy(linear);
    note_if(otr_model_open_file(k.runtime, path, NULL, &model) != OTR_STATUS_OK, "open");
    note_if(otr_model_close(model) != OTR_STATUS_OK, "close");
    note_if(otr_session_eval(NULL, ids, 1, NULL) != OTR_STATUS_INVALID_ARGUMENT, "details are each thread's own");
    uint64_t now, peak;
    otr_runtime_memory(k.runtime, &now, &peak);
    note_if(now == 0 || peak < now, "memory");
  }
  return NULL;
}

START_TEST(all_at_once) {
  pthread_t threads[WORKERS + 3];
  worker workers[WORKERS];
  k = kit_open(path, kit_device(_i), 2, NULL);
  otr_session *prefix = kit_session(k.model, 512, 64);
  ck_ok(otr_session_eval(prefix, ids, PREFIX, NULL));
  kit_bytes saved = kit_save(prefix);
  atomic_store(&failures, 0);
  atomic_store(&running, WORKERS);
  for (int32_t i = 0; i < WORKERS; i++) {
    workers[i] = (worker){i, kit_session(k.model, 512, 16 + 16 * i)};
    ck_ok(otr_session_copy(workers[i].session, prefix));
    ck_ok(otr_session_eval(workers[i].session, ids + PREFIX + i, N - PREFIX, NULL));
    memcpy(want[i], otr_session_logits(workers[i].session), sizeof want[i]);
    ck_ok(otr_session_copy(workers[i].session, prefix));
  }
  otr_session_destroy(prefix);
  for (int32_t i = 0; i < WORKERS; i++)
    ck_assert_int_eq(pthread_create(&threads[i], NULL, run_session, &workers[i]), 0);
  ck_assert_int_eq(pthread_create(&threads[WORKERS], NULL, run_canceller, workers), 0);
  ck_assert_int_eq(pthread_create(&threads[WORKERS + 1], NULL, run_states, &saved), 0);
  ck_assert_int_eq(pthread_create(&threads[WORKERS + 2], NULL, run_others, NULL), 0);
  for (int i = 0; i < WORKERS + 3; i++) pthread_join(threads[i], NULL);
  for (int32_t i = 0; i < WORKERS; i++) otr_session_destroy(workers[i].session);
  free(saved.data);
  kit_close(&k);
  ck_assert_int_eq(atomic_load(&failures), 0);
}
END_TEST

static void *run_runtime(void *argument) {
  kit own = kit_open(path, argument, 2, NULL);
  float *logits = kit_logits(own.model, ids, 60, 60), *again = kit_logits(own.model, ids, 60, 7);
  note_if(memcmp(logits, again, 60 * 320 * sizeof *logits) != 0, "other bits");
  free(logits);
  free(again);
  kit_close(&own);
  return NULL;
}

/* Runtimes know nothing of each other. */
START_TEST(runtimes_beside_each_other) {
  pthread_t threads[3];
  char name[3][64];
  atomic_store(&failures, 0);
  for (int i = 0; i < 3; i++) {
    snprintf(name[i], sizeof name[i], "%s", kit_device(i % kit_n_devices()));
    ck_assert_int_eq(pthread_create(&threads[i], NULL, run_runtime, name[i]), 0);
  }
  for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
  ck_assert_int_eq(atomic_load(&failures), 0);
}
END_TEST

static void set_up(void) {
  llama_shape shape = kit_small_shape();
  path = kit_tiny_file(&shape, 1);
  kit_ids(ids, N + WORKERS, 320, 7);
}

static void tear_down(void) {
  kit_remove(path);
}

static void add(TCase *tests) {
  tcase_add_unchecked_fixture(tests, set_up, tear_down);
  tcase_add_loop_test(tests, all_at_once, 0, kit_n_devices());
  tcase_add_test(tests, runtimes_beside_each_other);
}

int main(void) {
  return suite_run("threads", add);
}
