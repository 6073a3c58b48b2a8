// SPDX-License-Identifier: Apache-2.0
/* Evaluating: the same bits however the rows are cut, shared out or joined, and what is refused. Each test runs on
 * every device of this machine (_i). */
#include <math.h>
#include <string.h>

#include "model_kit.h"

#define N 270 /* more than a page */
#define MAX_N 530
#define DIM 24 /* of the small shape */

static char *path;
static int32_t ids[MAX_N];

static void set_up(void) {
  llama_shape shape = kit_small_shape();
  path = kit_tiny_file(&shape, 1);
  kit_ids(ids, MAX_N, 320, 7);
}

static void tear_down(void) {
  kit_remove(path);
}

START_TEST(splits_and_threads_give_the_same_bits) {
  static const int32_t splits[3][2] = {{1, 512}, {7, 64}, {7, 512}}; /* of 1, 2, 3 threads */
  kit reference = kit_open(path, "cpu", 1, NULL);
  size_t vocab = (size_t)kit_vocab(reference.model);
  float *want = kit_logits(reference.model, ids, N, N);
  kit_close(&reference);
  for (int32_t threads = 1; threads <= 3; threads++) {
    kit k = kit_open(path, kit_device(_i), threads, NULL);
    ck_assert_int_eq(otr_runtime_threads(k.runtime), threads);
    for (int s = 0; s < 2; s++) {
      float *got = kit_logits(k.model, ids, N, splits[threads - 1][s]);
      kit_same(got, want, N * vocab, kit_device(_i));
      free(got);
    }
    kit_close(&k);
  }
  free(want);
}
END_TEST

/* One call longer than n_batch is cut inside; the last row's logits stand in the session, too. */
START_TEST(long_evals_are_cut_inside) {
  kit k = kit_open(path, kit_device(_i), 2, NULL);
  size_t vocab = (size_t)kit_vocab(k.model);
  float *want = kit_logits(k.model, ids, MAX_N, 512);
  float *all = malloc(MAX_N * vocab * sizeof *all);
  for (int32_t batch = 33; batch < 300; batch += 241) {
    otr_session *s = kit_session(k.model, 1000, batch);
    ck_assert_int_eq(otr_session_room(s), 1024);
    ck_ok(otr_session_eval(s, ids, MAX_N, all));
    kit_same(all, want, MAX_N * vocab, "cut inside");
    kit_same(otr_session_logits(s), want + (MAX_N - 1) * vocab, vocab, "last row");
    ck_assert_int_eq(otr_session_position(s), MAX_N);
    ck_assert_int_eq(otr_session_room(s), 1024 - MAX_N);
    otr_session_reset(s);
    ck_assert_ptr_null(otr_session_logits(s));
    ck_ok(otr_session_eval(s, ids, N, NULL));
    kit_same(otr_session_logits(s), want + (N - 1) * vocab, vocab, "last row without all");
    otr_session_destroy(s);
  }
  free(all);
  free(want);
  kit_close(&k);
}
END_TEST

typedef struct own_loop {
  int32_t calls, backwards;
} own_loop;

static void run_alone(void *user, int32_t n, void (*task)(void *context, int32_t i, int32_t worker), void *context) {
  own_loop *loop = user;
  loop->calls++;
  for (int32_t i = 0; i < n; i++) {
    int32_t at = loop->backwards ? n - 1 - i : i;
    task(context, at, at % 3);
  }
}

START_TEST(callers_own_parallel_for) {
  kit plain = kit_open(path, kit_device(_i), 1, NULL);
  size_t vocab = (size_t)kit_vocab(plain.model);
  float *want = kit_logits(plain.model, ids, N, N);
  kit_close(&plain);
  for (int32_t backwards = 0; backwards < 2; backwards++) {
    own_loop loop = {0, backwards};
    otr_runtime_params params = OTR_RUNTIME_PARAMS_INIT;
    kit k;
    params.device = kit_device(_i);
    params.skip_self_check = 1;
    params.parallel_for = run_alone;
    params.parallel_for_user = &loop;
    ck_assert_int_eq(otr_runtime_create(&params, &k.runtime), OTR_STATUS_INVALID_ARGUMENT); /* n_threads is needed */
    ck_assert_ptr_null(k.runtime);
    params.n_threads = 3;
    ck_ok(otr_runtime_create(&params, &k.runtime));
    ck_ok(otr_model_open_file(k.runtime, path, NULL, &k.model));
    float *got = kit_logits(k.model, ids, N, 100);
    kit_same(got, want, N * vocab, "own loop");
    ck_assert_int_gt(loop.calls, 0);
    free(got);
    kit_close(&k);
  }
  free(want);
}
END_TEST

/* A parallel_for that does the work, and then what it must not do, or cancels. */
typedef struct nosy_loop {
  kit k;
  otr_session *session;     /* NULL: only the work */
  kit_bytes state;          /* of the session */
  int32_t calls, cancel_at; /* at that call the session is cancelled, and nothing called; 0: at none */
  otr_status eval, load, open;
} nosy_loop;

static void run_and_call_back(void *user, int32_t n, void (*task)(void *context, int32_t i, int32_t worker),
                              void *context) {
  nosy_loop *loop = user;
  otr_model *model;
  for (int32_t i = 0; i < n; i++) task(context, i, i % 2);
  loop->calls++;
  if (loop->cancel_at > 0 && loop->calls == loop->cancel_at) otr_session_cancel(loop->session);
  if (loop->cancel_at > 0 || !loop->session) return;
  loop->eval = otr_session_eval(loop->session, ids, 3, NULL);
  loop->load = otr_session_load(loop->session, loop->state.data, loop->state.n);
  loop->open = otr_model_open_file(loop->k.runtime, path, NULL, &model); /* its weights are quantized */
}

static void open_nosy(nosy_loop *loop, const char *device) {
  otr_runtime_params params = OTR_RUNTIME_PARAMS_INIT;
  params.device = device;
  params.skip_self_check = 1;
  params.n_threads = 2;
  params.parallel_for = run_and_call_back;
  params.parallel_for_user = loop;
  ck_ok(otr_runtime_create(&params, &loop->k.runtime));
  ck_ok(otr_model_open_file(loop->k.runtime, path, NULL, &loop->k.model));
}

START_TEST(calling_back_is_refused) {
  nosy_loop loop = {.session = NULL};
  if (kit_is_gpu(kit_device(_i))) return; /* its passes never call the caller's loop */
  open_nosy(&loop, kit_device(_i));
  size_t vocab = (size_t)kit_vocab(loop.k.model);
  float *want = kit_logits(loop.k.model, ids, N, N), *got = malloc(N * vocab * sizeof *got);
  otr_session *s = kit_session(loop.k.model, 512, 512), *other = kit_session(loop.k.model, 512, 64);
  ck_ok(otr_session_eval(other, ids, 5, NULL));
  loop.state = kit_save(other);
  loop.session = other;
  ck_ok(otr_session_eval(s, ids, N, got));
  kit_same(got, want, N * vocab, "called back meanwhile");
  ck_assert_int_eq(loop.eval, OTR_STATUS_BUSY);
  ck_assert_int_eq(loop.load, OTR_STATUS_BUSY);
  ck_assert_int_eq(loop.open, OTR_STATUS_BUSY);
  loop.session = NULL; /* and all is free again */
  ck_ok(otr_session_load(other, loop.state.data, loop.state.n));
  ck_ok(otr_session_eval(other, ids, 3, NULL));
  free(loop.state.data);
  free(got);
  free(want);
  otr_session_destroy(s);
  otr_session_destroy(other);
  kit_close(&loop.k);
}
END_TEST

/* Any session's request ends a joint pass where it stands, whichever of them it is. */
START_TEST(cancel_is_seen_within_a_pass) {
  nosy_loop loop = {.session = NULL};
  if (kit_is_gpu(kit_device(_i))) return;
  open_nosy(&loop, kit_device(_i));
  otr_session *a = kit_session(loop.k.model, 512, 512), *b = kit_session(loop.k.model, 512, 512);
  otr_eval_item items[2] = {{a, ids, NULL, 100, NULL}, {b, ids, NULL, 100, NULL}};
  for (int32_t second = 0; second < 2; second++) {
    loop.session = second ? b : a;
    loop.cancel_at = 2;
    loop.calls = 0;
    ck_assert_int_eq(otr_eval_together(items, 2), OTR_STATUS_CANCELLED);
    ck_assert_int_eq(loop.calls, 2);
    ck_assert_int_eq(otr_session_position(a), 0);
    ck_assert_int_eq(otr_session_position(b), 0);
  }
  loop.session = NULL;
  loop.cancel_at = 0;
  ck_ok(otr_eval_together(items, 2));
  otr_session_destroy(a);
  otr_session_destroy(b);
  kit_close(&loop.k);
}
END_TEST

/* ---- embeddings -------------------------------------------------------------------------------------------------- */

/** The embedding's rows of the ids, as the hidden states' first layer has them: [n, dim]. */
static float *embedding_rows(otr_model *model, int32_t n, int32_t dim) {
  otr_session_params params = OTR_SESSION_PARAMS_INIT;
  otr_session *s;
  params.keep_hidden = 1;
  params.n_ctx = params.n_batch = n;
  ck_ok(otr_session_create(model, &params, &s));
  ck_ok(otr_session_eval(s, ids, n, NULL));
  int32_t rows = 0;
  const float *hidden = otr_session_hidden(s, &rows);
  ck_assert_ptr_nonnull(hidden);
  ck_assert_int_eq(rows, n);
  float *out = malloc((size_t)n * (size_t)dim * sizeof *out);
  memcpy(out, hidden, (size_t)n * (size_t)dim * sizeof *out);
  otr_session_destroy(s);
  return out;
}

START_TEST(embeddings_stand_for_tokens) {
  kit k = kit_open(path, kit_device(_i), 2, NULL);
  size_t vocab = (size_t)kit_vocab(k.model), dim = DIM;
  float *want = kit_logits(k.model, ids, N, N), *rows = embedding_rows(k.model, N, DIM);
  float *got = malloc(N * vocab * sizeof *got);
  otr_session *s = kit_session(k.model, 512, 64);
  ck_ok(otr_session_eval_embeddings(s, rows, 100, got));
  ck_ok(otr_session_eval(s, ids + 100, 50, got + 100 * vocab));
  ck_ok(otr_session_eval_embeddings(s, rows + 150 * dim, N - 150, got + 150 * vocab));
  kit_same(got, want, N * vocab, "rows for tokens");
  rows[5] = INFINITY;
  otr_session_reset(s);
  ck_assert_int_eq(otr_session_eval_embeddings(s, rows, 3, NULL), OTR_STATUS_NONFINITE);
  ck_assert_ptr_nonnull(strstr(otr_error_detail(), "embedding"));
  ck_assert_int_eq(otr_session_position(s), 0);
  otr_session_destroy(s);
  free(got);
  free(rows);
  free(want);
  kit_close(&k);
}
END_TEST

START_TEST(hidden_states) {
  kit k = kit_open(path, kit_device(_i), 1, NULL);
  otr_session_params params = OTR_SESSION_PARAMS_INIT;
  otr_session *s, *plain = kit_session(k.model, 512, 64), *other = kit_session(k.model, 256, 64);
  int32_t rows = -1;
  ck_assert_ptr_null(otr_session_hidden(plain, &rows));
  ck_assert_int_eq(rows, 0);
  params.keep_hidden = 1;
  params.n_ctx = 512;
  params.n_batch = 64;
  ck_ok(otr_session_create(k.model, &params, &s));
  ck_assert_ptr_null(otr_session_hidden(s, &rows));
  size_t vocab = (size_t)kit_vocab(k.model);
  float *a = malloc(100 * vocab * sizeof *a), *b = malloc(100 * vocab * sizeof *b);
  ck_ok(otr_session_eval(s, ids, 100, a)); /* passes of 64 and 36 */
  ck_ok(otr_session_eval(plain, ids, 100, b));
  kit_same(a, b, 100 * vocab, "keep_hidden changes no bit");
  const float *hidden = otr_session_hidden(s, &rows);
  ck_assert_int_eq(rows, 36);
  float *want = embedding_rows(k.model, 100, DIM);
  kit_same(hidden, want + (size_t)64 * DIM, (size_t)36 * DIM, "embedding rows of the last pass");
  ck_assert(hidden[(size_t)36 * DIM] != hidden[0]); /* block 1 reads something else */
  otr_eval_item items[2] = {{s, ids, NULL, 3, NULL}, {other, ids, NULL, 3, NULL}};
  ck_ok(otr_eval_together(items, 2));
  hidden = otr_session_hidden(s, &rows); /* none of a joint pass, and none of an older one */
  ck_assert(hidden == NULL && rows == 0);
  ck_ok(otr_session_eval(s, ids, 1, NULL));
  ck_assert_ptr_nonnull(otr_session_hidden(s, &rows));
  ck_assert_int_eq(rows, 1);
  otr_session_reset(s);
  ck_assert_ptr_null(otr_session_hidden(s, NULL));
  free(want);
  free(a);
  free(b);
  otr_session_destroy(other);
  otr_session_destroy(plain);
  otr_session_destroy(s);
  kit_close(&k);
}
END_TEST

/* ---- several sessions at once ------------------------------------------------------------------------------------ */

typedef struct part {
  int32_t n_ctx, n_batch, first, n; /* ids [first, first + n) */
  int32_t before;                   /* positions evaluated alone before */
  int32_t as_rows, all;
} part;

/* Every part gets, joined, the bits it gets alone. */
static void check_joint(otr_model *model, const part *parts, int32_t n_parts, const float *rows) {
  size_t vocab = (size_t)kit_vocab(model);
  otr_eval_item items[8];
  memset(items, 0, sizeof items);
  for (int32_t i = 0; i < n_parts; i++) {
    const part *p = &parts[i];
    items[i].session = kit_session(model, p->n_ctx, p->n_batch);
    if (p->before > 0) ck_ok(otr_session_eval(items[i].session, ids + p->first, p->before, NULL));
    int32_t at = p->first + p->before;
    if (p->as_rows)
      items[i].rows = rows + (size_t)at * DIM;
    else
      items[i].tokens = ids + at;
    items[i].n = p->n - p->before;
    if (p->all) items[i].logits_all = calloc((size_t)items[i].n * vocab, sizeof(float));
  }
  ck_ok(otr_eval_together(items, n_parts));
  for (int32_t i = 0; i < n_parts; i++) {
    const part *p = &parts[i];
    float *alone = kit_logits(model, ids + p->first, p->n, p->n);
    if (p->all)
      kit_same(items[i].logits_all, alone + (size_t)p->before * vocab, (size_t)items[i].n * vocab, "joint, all rows");
    kit_same(otr_session_logits(items[i].session), alone + (size_t)(p->n - 1) * vocab, vocab, "joint, last row");
    ck_assert_int_eq(otr_session_position(items[i].session), p->n);
    ck_ok(otr_session_eval(items[i].session, ids, 1, NULL)); /* it goes on */
    free(alone);
    free(items[i].logits_all);
    otr_session_destroy(items[i].session);
  }
}

START_TEST(together_is_as_alone) {
  static const part tokens[] = {{512, 64, 0, 20, 0, 0, 1}, {1024, 16, 5, 300, 250, 0, 1}, {256, 512, 90, 1, 0, 0, 0}};
  static const part longer[] = {{512, 48, 0, 200, 0, 0, 1}, {512, 32, 100, 150, 10, 0, 0}, {512, 64, 7, 90, 0, 0, 1}};
  static const part mixed[] = {{512, 64, 0, 30, 0, 0, 1},
                               {256, 64, 40, 25, 0, 1, 1},
                               {512, 64, 9, 40, 3, 0, 1},
                               {256, 32, 60, 100, 20, 1, 0},
                               {256, 32, 11, 3, 0, 0, 0}};
  static const part rows_first[] = {{512, 64, 0, 100, 0, 1, 1}, {512, 64, 40, 100, 0, 0, 1}, {256, 8, 3, 12, 0, 1, 1}};
  kit k = kit_open(path, kit_device(_i), 2, NULL);
  float *rows = embedding_rows(k.model, N, DIM);
  check_joint(k.model, tokens, 3, rows);
  check_joint(k.model, longer, 3, rows);
  check_joint(k.model, mixed, 5, rows);
  check_joint(k.model, rows_first, 3, rows);
  free(rows);
  kit_close(&k);
}
END_TEST

/* A decode step of as many sessions as one pass takes, each with a batch of one row. */
START_TEST(many_sessions_together) {
  kit k = kit_open(path, kit_device(_i), 2, NULL);
  size_t vocab = (size_t)kit_vocab(k.model);
  otr_eval_item items[65];
  memset(items, 0, sizeof items);
  for (int32_t i = 0; i < 65; i++) {
    items[i] = (otr_eval_item){kit_session(k.model, 256, 64), ids + i, NULL, 2, NULL};
  }
  ck_assert_int_eq(otr_eval_together(items, 65), OTR_STATUS_INVALID_ARGUMENT);
  ck_ok(otr_eval_together(items, 64));
  for (int32_t i = 0; i < 65; i++) {
    if (i % 21 == 0 && i < 64) {
      float *alone = kit_logits(k.model, ids + i, 2, 2);
      kit_same(otr_session_logits(items[i].session), alone + vocab, vocab, "one of 64");
      free(alone);
    }
    otr_session_destroy(items[i].session);
  }
  kit_close(&k);
}
END_TEST

START_TEST(together_refuses) {
  kit k = kit_open(path, kit_device(_i), 1, NULL), other = kit_open(path, kit_device(_i), 1, NULL);
  otr_session *a = kit_session(k.model, 256, 16), *b = kit_session(k.model, 256, 16);
  otr_session *c = kit_session(other.model, 256, 16);
  float row[DIM] = {0};
  otr_eval_item items[2] = {{a, ids, NULL, 2, NULL}, {a, ids, NULL, 2, NULL}};
  ck_assert_int_eq(otr_eval_together(items, 2), OTR_STATUS_INVALID_ARGUMENT);
  items[1].session = c;
  ck_assert_int_eq(otr_eval_together(items, 2), OTR_STATUS_INVALID_ARGUMENT);
  items[1].session = NULL;
  ck_assert_int_eq(otr_eval_together(items, 2), OTR_STATUS_INVALID_ARGUMENT);
  items[1] = (otr_eval_item){b, ids, row, 1, NULL};
  ck_assert_int_eq(otr_eval_together(items, 2), OTR_STATUS_INVALID_ARGUMENT);
  items[1] = (otr_eval_item){b, NULL, NULL, 1, NULL};
  ck_assert_int_eq(otr_eval_together(items, 2), OTR_STATUS_INVALID_ARGUMENT);
  items[1] = (otr_eval_item){b, ids, NULL, 257, NULL};
  ck_assert_int_eq(otr_eval_together(items, 2), OTR_STATUS_CONTEXT_FULL);
  ck_assert_int_eq(otr_eval_together(items, 0), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_eval_together(NULL, 1), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_session_position(a), 0); /* all or none */
  items[1] = (otr_eval_item){b, ids, NULL, 1, NULL};
  otr_session_cancel(b); /* any of them cancels all */
  ck_assert_int_eq(otr_eval_together(items, 2), OTR_STATUS_CANCELLED);
  ck_ok(otr_eval_together(items, 2));
  otr_session_destroy(a);
  otr_session_destroy(b);
  otr_session_destroy(c);
  kit_close(&k);
  kit_close(&other);
}
END_TEST

/* ---- what is refused, what is counted ---------------------------------------------------------------------------- */

START_TEST(bad_arguments_change_nothing) {
  kit k = kit_open(path, kit_device(_i), 1, NULL);
  otr_session *s = kit_session(k.model, 256, 16);
  int32_t bad[3] = {1, -1, 2};
  ck_ok(otr_session_eval(s, ids, 5, NULL));
  ck_assert_int_eq(otr_session_eval(s, bad, 3, NULL), OTR_STATUS_INVALID_ARGUMENT);
  bad[1] = kit_vocab(k.model);
  ck_assert_int_eq(otr_session_eval(s, bad, 3, NULL), OTR_STATUS_INVALID_ARGUMENT);
  bad[1] = INT32_MAX;
  ck_assert_int_eq(otr_session_eval(s, bad, 3, NULL), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_ptr_nonnull(strstr(otr_error_detail(), "2147483647"));
  ck_assert_int_eq(otr_session_eval(s, ids, 0, NULL), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_session_eval(s, ids, -1, NULL), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_session_eval(s, NULL, 1, NULL), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_session_eval(NULL, ids, 1, NULL), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_session_eval_embeddings(s, NULL, 1, NULL), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_session_eval(s, ids, 252, NULL), OTR_STATUS_CONTEXT_FULL);
  ck_assert_int_eq(otr_session_position(s), 5);
  ck_assert_int_eq(otr_session_room(s), 251);
  ck_assert_ptr_nonnull(otr_session_logits(s));
  ck_ok(otr_session_eval(s, ids + 5, 251, NULL));
  ck_assert_int_eq(otr_session_room(s), 0);
  ck_assert_int_eq(otr_session_eval(s, ids, 1, NULL), OTR_STATUS_CONTEXT_FULL);
  float *want = kit_logits(k.model, ids, 256, 256);
  kit_same(otr_session_logits(s), want + 255 * (size_t)kit_vocab(k.model), (size_t)kit_vocab(k.model), "full context");
  free(want);
  otr_session_destroy(s);
  kit_close(&k);
}
END_TEST

START_TEST(null_handles) {
  otr_stats stats = {.struct_size = sizeof stats};
  otr_session_destroy(NULL);
  otr_session_reset(NULL);
  otr_session_cancel(NULL);
  ck_assert_ptr_null(otr_session_logits(NULL));
  ck_assert_ptr_null(otr_session_hidden(NULL, NULL));
  ck_assert_int_eq(otr_session_position(NULL), 0);
  ck_assert_int_eq(otr_session_room(NULL), 0);
  ck_assert_uint_eq(otr_session_state_bytes(NULL), 0);
  ck_assert_int_eq(otr_session_truncate(NULL, 0), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_session_slide(NULL, 0, 0), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_session_copy(NULL, NULL), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_session_save(NULL, kit_write, NULL), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_session_load(NULL, "", 0), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_session_stats(NULL, &stats), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_session_create(NULL, NULL, NULL), OTR_STATUS_INVALID_ARGUMENT);
}
END_TEST

START_TEST(session_params) {
  kit k = kit_open(path, kit_device(_i), 1, NULL);
  otr_session_params params = OTR_SESSION_PARAMS_INIT;
  otr_session *s = (otr_session *)&params;
  params.n_ctx = -1;
  ck_assert_int_eq(otr_session_create(k.model, &params, &s), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_ptr_null(s);
  params.n_ctx = (1 << 20) + 1;
  ck_assert_int_eq(otr_session_create(k.model, &params, &s), OTR_STATUS_INVALID_ARGUMENT);
  params.n_ctx = 0;
  params.n_batch = -1;
  ck_assert_int_eq(otr_session_create(k.model, &params, &s), OTR_STATUS_INVALID_ARGUMENT);
  params.n_batch = 1 << 30;
  ck_assert_int_eq(otr_session_create(k.model, &params, &s), OTR_STATUS_INVALID_ARGUMENT);
  params.struct_size = 0;
  ck_assert_int_eq(otr_session_create(k.model, &params, &s), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_session_create(k.model, NULL, NULL), OTR_STATUS_INVALID_ARGUMENT);
  params = (otr_session_params){.struct_size = 8, .n_ctx = 300, .n_batch = -7, .keep_hidden = 1};
  ck_ok(otr_session_create(k.model, &params, &s)); /* an older caller's struct: n_batch is not read */
  ck_assert_int_eq(otr_session_room(s), 512);
  otr_session_destroy(s);
  ck_ok(otr_session_create(k.model, NULL, &s));
  ck_assert_int_eq(otr_session_room(s), 1024); /* the model's own context */
  otr_session_destroy(s);
  kit_close(&k);
}
END_TEST

START_TEST(statistics) {
  kit k = kit_open(path, kit_device(_i), 1, NULL);
  otr_session *s = kit_session(k.model, 512, 64);
  otr_stats stats = {.struct_size = sizeof stats};
  ck_ok(otr_session_stats(s, &stats));
  ck_assert(stats.n_rows == 0 && stats.n_passes == 0 && stats.kv_bytes > 0 && stats.scratch_bytes > 0);
  ck_ok(otr_session_eval(s, ids, 100, NULL));
  ck_ok(otr_session_eval(s, ids, 1, NULL));
  ck_ok(otr_session_stats(s, &stats));
  ck_assert_uint_eq(stats.n_rows, 101);
  ck_assert_uint_eq(stats.n_passes, 3);
  ck_assert(stats.eval_seconds > 0 && stats.first_token_seconds > 0 && stats.rows_per_second > 0);
  ck_assert(stats.first_token_seconds < stats.eval_seconds && stats.last_rows_per_second > 0);
  /* Two layers: q, k, v share 24 values, out reads 24, gate and up 24, down 40; the head 24 of the last row each. */
  ck_assert_uint_eq(stats.activations, 101u * 2 * (3 * DIM + 40) + 2 * DIM);
  ck_assert(stats.outliers > 0 && stats.outlier_share > 0.001 && stats.outlier_share < 0.2);
  ck_assert_uint_eq(stats.struct_size, sizeof stats);
  struct {
    uint32_t struct_size;
    uint8_t rest[20];
  } older;
  memset(&older, 0x55, sizeof older);
  older.struct_size = 12; /* n_rows is all it knows (the struct's second field, at 8, is cut in half) */
  ck_ok(otr_session_stats(s, (otr_stats *)(void *)&older));
  for (int i = 8; i < 20; i++) ck_assert_int_eq(older.rest[i], 0x55);
  older.struct_size = 3;
  ck_assert_int_eq(otr_session_stats(s, (otr_stats *)(void *)&older), OTR_STATUS_INVALID_ARGUMENT);
  otr_session_reset(s);
  ck_ok(otr_session_stats(s, &stats));
  ck_assert_uint_eq(stats.n_rows, 0);
  otr_session_destroy(s);
  kit_close(&k);
}
END_TEST

/* ---- values that are too large ----------------------------------------------------------------------------------- */

/* A model whose final norm, or whose rows of a block, are so large that 2^48 is passed there. */
static char *huge_file(int32_t layer);

START_TEST(nonfinite_names_the_layer) {
  static const struct {
    int32_t layer;
    const char *detail;
  } cases[] = {{0, "block 0"}, {2, "block 2"}, {3, "final norm"}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    char *huge = huge_file(cases[i].layer);
    kit k = kit_open(huge, kit_device(_i), 2, NULL);
    otr_session *s = kit_session(k.model, 512, 64);
    ck_assert_int_eq(otr_session_eval(s, ids, 10, NULL), OTR_STATUS_NONFINITE);
    ck_assert_msg(strstr(otr_error_detail(), cases[i].detail) != NULL, "%s: %s", cases[i].detail, otr_error_detail());
    ck_assert_int_eq(otr_session_position(s), 0);
    ck_assert_ptr_null(otr_session_logits(s));
    ck_assert_int_eq(otr_session_room(s), 512); /* the failed pass keeps no page */
    otr_session_destroy(s);
    kit_close(&k);
    kit_remove(huge);
  }
}
END_TEST

typedef struct huge_values {
  int32_t layer;
  uint64_t state;
  float data[320 * 72 + 64];
} huge_values;

static const float *make_huge(void *user, llama_role role, int32_t layer, int32_t n, int32_t k) {
  huge_values *v = user;
  size_t count = (size_t)n * (size_t)k;
  if (count > sizeof v->data / sizeof v->data[0]) return NULL;
  for (size_t i = 0; i < count; i++) {
    v->state = v->state * 6364136223846793005u + 1442695040888963407u;
    v->data[i] = (float)((int32_t)(v->state >> 40) - (1 << 23)) * 0x1p-25f;
    if (role == LLAMA_ATTN_NORM || role == LLAMA_FFN_NORM || role == LLAMA_OUTPUT_NORM) v->data[i] = 1.0f;
    if (role == LLAMA_FFN_NORM && layer == v->layer) v->data[i] = 0x1p25f;
    if (role == LLAMA_FFN_UP && layer == v->layer) v->data[i] *= 0x1p25f;
    if (role == LLAMA_OUTPUT_NORM && v->layer == 3) v->data[i] = 0x1p47f;
  }
  return v->data;
}

static char *huge_file(int32_t layer) {
  static const char *tokens[320];
  static float scores[320];
  static int32_t types[320];
  static huge_values values;
  for (int i = 0; i < 320; i++) {
    tokens[i] = i == 0 ? "<unk>" : i == 1 ? "<s>" : "</s>";
    types[i] = 3;
  }
  llama_shape shape = tiny_model_shape();
  llama_vocab vocab = {tokens, scores, types};
  values.layer = layer;
  values.state = 1;
  char *file = kit_new_file("huge");
  ck_ok(llama_gguf_write(file, &shape, &vocab, make_huge, &values));
  return file;
}

static void add(TCase *tests) {
  int n = kit_n_devices();
  tcase_add_unchecked_fixture(tests, set_up, tear_down);
  tcase_add_loop_test(tests, splits_and_threads_give_the_same_bits, 0, n);
  tcase_add_loop_test(tests, long_evals_are_cut_inside, 0, n);
  tcase_add_loop_test(tests, callers_own_parallel_for, 0, n);
  tcase_add_loop_test(tests, calling_back_is_refused, 0, n);
  tcase_add_loop_test(tests, cancel_is_seen_within_a_pass, 0, n);
  tcase_add_loop_test(tests, embeddings_stand_for_tokens, 0, n);
  tcase_add_loop_test(tests, hidden_states, 0, n);
  tcase_add_loop_test(tests, together_is_as_alone, 0, n);
  tcase_add_loop_test(tests, many_sessions_together, 0, 1); /* 65 sessions: memory, mostly */
  tcase_add_loop_test(tests, together_refuses, 0, n);
  tcase_add_loop_test(tests, bad_arguments_change_nothing, 0, n);
  tcase_add_test(tests, null_handles);
  tcase_add_loop_test(tests, session_params, 0, n);
  tcase_add_loop_test(tests, statistics, 0, n);
  tcase_add_loop_test(tests, nonfinite_names_the_layer, 0, n);
}

int main(void) {
  return suite_run("session", add);
}
