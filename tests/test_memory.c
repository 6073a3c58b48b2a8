// SPDX-License-Identifier: Apache-2.0
/* Memory: nothing is allocated once a session or a linear exists, and an allocation that fails, each one in turn, ends
 * in NO_MEMORY with nothing held. The program is linked with --wrap for malloc and its kin, so that an allocation that
 * goes around the caller's allocator is seen as well. */
#include <string.h>
#include <unistd.h>

#include "counted_heap.h"
#include "model_kit.h"

/* ---- what is counted --------------------------------------------------------------------------------------------- */

static atomic_long calls, held;    /* the caller's allocator */
static atomic_long taken, fail_at; /* its allocations, and which of them fails; negative: none */

static void *counting_allocate(void *user, size_t bytes, size_t alignment) {
  void *memory = NULL;
  (void)user;
  calls++;
  if (taken++ == fail_at) return NULL;
  if (heap_real_memalign(&memory, alignment < sizeof(void *) ? sizeof(void *) : alignment, bytes) != 0) return NULL;
  memset(memory, 0xa5, bytes);
  held += (long)bytes;
  return memory;
}

static void counting_release(void *user, void *memory, size_t bytes) {
  (void)user;
  calls++;
  held -= (long)bytes;
  heap_real_free(memory);
}

/* ---- a model in memory ------------------------------------------------------------------------------------------- */

static void *model_bytes;
static size_t model_size;

static void model_make(void) {
  char path[] = "/tmp/outrider_test_memory_XXXXXX";
  llama_shape shape = tiny_model_shape();
  int fd = mkstemp(path);
  ck_assert_int_ge(fd, 0);
  close(fd);
  ck_assert_int_eq(tiny_model_write(path, &shape, 1), OTR_STATUS_OK);
  FILE *file = fopen(path, "rb");
  ck_assert_ptr_nonnull(file);
  ck_assert_int_eq(fseek(file, 0, SEEK_END), 0);
  model_size = (size_t)ftell(file);
  rewind(file);
  model_bytes = malloc(model_size);
  ck_assert_ptr_nonnull(model_bytes);
  ck_assert_uint_eq(fread(model_bytes, 1, model_size, file), model_size);
  fclose(file);
  unlink(path);
}

static void model_drop(void) {
  free(model_bytes);
}

/* ---- everything an app makes ---------------------------------------------------------------------------------------
 */

enum { LINEAR_N = 40, LINEAR_K = 50, TOKENS = 70, DIM = 72 };

typedef struct everything {
  otr_runtime *runtime;
  otr_model *model;
  otr_session *session[2];
  otr_linear *linear;
} everything;

static float linear_weights[LINEAR_N * LINEAR_K], rows[TOKENS * DIM];
static int32_t tokens[TOKENS];

static void fill_inputs(void) {
  for (int i = 0; i < TOKENS; ++i) tokens[i] = 3 + i * 7 % 250;
  for (int i = 0; i < TOKENS * DIM; ++i) rows[i] = (float)(i % 17 - 8) * 0.25f;
  for (int i = 0; i < LINEAR_N * LINEAR_K; ++i) linear_weights[i] = (float)(i % 23 - 11) * 0.01f;
}

static otr_status make_linear(everything *e) {
  static const int32_t columns[] = {3, 20};
  otr_linear_params p = {sizeof p, .n = LINEAR_N, .k = LINEAR_K, .weights = linear_weights, .bias = linear_weights};
  p.type = OTR_LINEAR_F32;
  p.n_f16_columns = 2;
  p.f16_columns = columns;
  p.max_rows = 8;
  return otr_linear_create(e->runtime, &p, &e->linear);
}

static otr_status make(everything *e, const char *device, int self_check) {
  otr_runtime_params p = OTR_RUNTIME_PARAMS_INIT;
  otr_source source = {.kind = OTR_SOURCE_MEMORY, .memory = model_bytes, .memory_bytes = model_size};
  otr_session_params s = {sizeof s, 600, 32, 1};
  *e = (everything){NULL, NULL, {NULL, NULL}, NULL};
  p.device = device;
  p.n_threads = 2;
  p.skip_self_check = !self_check;
  p.allocator = (otr_allocator){NULL, counting_allocate, counting_release};
  otr_status status = otr_runtime_create(&p, &e->runtime);
  if (status == OTR_STATUS_OK) status = otr_model_open(e->runtime, &source, NULL, &e->model);
  for (int i = 0; i < 2 && status == OTR_STATUS_OK; ++i) status = otr_session_create(e->model, &s, &e->session[i]);
  if (status == OTR_STATUS_OK) status = make_linear(e);
  return status;
}

static bool drop(everything *e) {
  otr_linear_destroy(e->linear);
  otr_session_destroy(e->session[0]);
  otr_session_destroy(e->session[1]);
  bool closed = otr_model_close(e->model) == OTR_STATUS_OK;
  return otr_runtime_destroy(e->runtime) == OTR_STATUS_OK && closed;
}

/* Everything that an app does with them; the number of the first call that failed, 0 when all went well. Check's macros
 * allocate: none in here. */
static int use(everything *e, float *logits, float *y) {
  otr_stats stats;
  otr_session *a = e->session[0], *b = e->session[1];
  otr_eval_item items[2] = {{a, tokens, NULL, 5, NULL}, {b, NULL, rows, 3, logits}};
  memset(&stats, 0, sizeof stats);
  stats.struct_size = sizeof stats;
  if (otr_session_eval(a, tokens, TOKENS, logits) != OTR_STATUS_OK) return 1;
  if (otr_session_eval(a, tokens, 1, NULL) != OTR_STATUS_OK) return 2;
  if (otr_session_copy(b, a) != OTR_STATUS_OK) return 3; /* shares pages; the next evals write into a shared one */
  if (otr_session_eval(b, tokens, 3, NULL) != OTR_STATUS_OK) return 4;
  if (otr_eval_together(items, 2) != OTR_STATUS_OK) return 5;
  if (otr_session_truncate(a, 10) != OTR_STATUS_OK) return 6;
  if (otr_session_eval_embeddings(a, rows, TOKENS, logits) != OTR_STATUS_OK) return 7;
  otr_session_reset(b);
  for (int i = 0; i < 8; ++i) {
    if (otr_session_eval(b, tokens, TOKENS, NULL) != OTR_STATUS_OK) return 8;
  }
  if (otr_session_slide(b, 10, 256) != OTR_STATUS_OK) return 9;
  if (otr_session_eval(b, tokens, TOKENS, NULL) != OTR_STATUS_OK) return 10;
  if (otr_session_stats(b, &stats) != OTR_STATUS_OK || otr_session_logits(b) == NULL) return 11;
  return otr_linear_run(e->linear, y, rows, 19) == OTR_STATUS_OK ? 0 : 12;
}

/* ---- tests ---------------------------------------------------------------------------------------------------------
 */

START_TEST(nothing_is_allocated_after_creation) {
  int32_t n = kit_n_devices();
  float *logits = malloc(sizeof(float) * TOKENS * 320), *y = malloc(sizeof(float) * 19 * LINEAR_N);
  for (int32_t i = 0; i < n; ++i) {
    const char *name = kit_device(i);
    everything e;
    fail_at = -1;
    otr_status status = make(&e, name, 0);
    ck_assert_msg(status == OTR_STATUS_OK, "%s: %s", name, otr_error_detail());
    long calls_before = calls, heap_before = heap_calls;
    int failed = use(&e, logits, y);
    long own = calls - calls_before, heap = heap_calls - heap_before;
    ck_assert_msg(failed == 0, "%s: call %d: %s", name, failed, otr_error_detail());
    ck_assert_msg(own == 0, "%s: %ld calls of the allocator", name, own);
    ck_assert_msg(heap == 0, "%s: %ld calls of malloc or its kin", name, heap);
    ck_assert(drop(&e));
    ck_assert_int_eq(held, 0);
  }
  free(logits);
  free(y);
}
END_TEST

/* Fails allocation n of making everything, for n = 0, `step` ... until none is left to fail. Everything is made once
 * before: libc keeps the stack of a thread that ended and, linked statically, a counted piece with it. */
static void fail_each(const char *device, int self_check, long step) {
  bool failed = true;
  everything first;
  fail_at = -1;
  ck_assert_int_eq(make(&first, device, 0), OTR_STATUS_OK);
  ck_assert(drop(&first));
  for (long n = 0; failed; n += step) {
    everything e;
    long heap_before = heap_held;
    taken = 0;
    fail_at = n;
    otr_status status = make(&e, device, self_check);
    failed = taken > n;
    fail_at = -1;
    bool nulls = status == OTR_STATUS_OK || e.linear == NULL;
    bool dropped = drop(&e);
    long heap = heap_held - heap_before;
    ck_assert_msg(status == (failed ? OTR_STATUS_NO_MEMORY : OTR_STATUS_OK), "allocation %ld: %s (%s)", n,
                  otr_status_text(status), otr_error_detail());
    ck_assert(nulls && dropped);
    ck_assert_msg(held == 0, "allocation %ld failed: %ld bytes are still held", n, (long)held);
    ck_assert_msg(heap == 0, "allocation %ld failed: %ld pieces of malloc's are still held", n, heap);
  }
}

START_TEST(every_allocation_may_fail) {
  for (int32_t i = 0; i < kit_n_devices(); ++i) fail_each(kit_device(i), 0, 1);
}
END_TEST

START_TEST(allocations_of_the_self_check_may_fail) {
  fail_each("auto", 1, 31);
}
END_TEST

static void add_tests(TCase *tests) {
  tcase_add_checked_fixture(tests, model_make, model_drop);
  tcase_set_timeout(tests, 0);
  tcase_add_test(tests, nothing_is_allocated_after_creation);
  tcase_add_test(tests, every_allocation_may_fail);
  tcase_add_test(tests, allocations_of_the_self_check_may_fail);
}

int main(void) {
  fill_inputs();
  return suite_run("memory", add_tests);
}
