// SPDX-License-Identifier: Apache-2.0
/* Drivers that lie, run out of memory or lose the device; what a decoded token costs; how long passes are cut and
 * cancelled. argv[1]: the shim. */
#include <dlfcn.h>
#include <stdbool.h>
#include <string.h>

#include "model_kit.h"
#include "vulkan/shim.h"

enum { N = 40, LONG = 200, BATCH = 64, MOST_CALLS = 400 };

static const char *shim_path;
static vulkan_shim_state *shim;
static char *path;
static int32_t ids[LONG];
static kit_counter counter; /* of the runtime's host memory */

static void set_up(void) {
  llama_shape shape = kit_small_shape();
  path = kit_tiny_file(&shape, 3);
  kit_ids(ids, LONG, 100, 9);
  setenv("OUTRIDER_VULKAN_DRIVER", shim_path, 1);
  void *library = dlopen(shim_path, RTLD_NOW | RTLD_LOCAL);
  ck_assert_msg(library != NULL, "%s", dlerror());
  shim = dlsym(library, "vulkan_shim");
  ck_assert_ptr_nonnull(shim);
}

static void tear_down(void) {
  kit_remove(path);
}

static otr_status create(otr_runtime **out, bool checked) {
  otr_runtime_params params = OTR_RUNTIME_PARAMS_INIT;
  params.device = "vulkan";
  params.n_threads = 1;
  params.skip_self_check = !checked;
  params.allocator = kit_allocator(&counter);
  return otr_runtime_create(&params, out);
}

static void check_nothing_is_held(void) {
  ck_assert_int_eq(counter.blocks, 0);
  ck_assert_int_eq(counter.bytes, 0);
  ck_assert_int_eq(shim->memories, 0);
  ck_assert_int_eq(shim->buffers, 0);
  ck_assert_int_eq(shim->pipelines, 0);
  ck_assert_int_eq(shim->pools, 0);
  ck_assert_int_eq(shim->fences, 0);
}

/** The logits of the last id on the device, in one pass of many rows and some of one. */
static otr_status use(otr_runtime *runtime, float *logits) {
  otr_session_params params = OTR_SESSION_PARAMS_INIT;
  otr_model *model = NULL;
  otr_session *s = NULL;
  params.n_ctx = 256;
  params.n_batch = 64;
  otr_status status = otr_model_open_file(runtime, path, NULL, &model);
  if (status == OTR_STATUS_OK) status = otr_session_create(model, &params, &s);
  if (status == OTR_STATUS_OK) status = otr_session_eval(s, ids, N - 2, NULL);
  for (int i = N - 2; status == OTR_STATUS_OK && i < N; i++) status = otr_session_eval(s, ids + i, 1, NULL);
  if (status == OTR_STATUS_OK && logits)
    memcpy(logits, otr_session_logits(s), (size_t)kit_vocab(model) * sizeof *logits);
  otr_session_destroy(s);
  otr_model_close(model);
  return status;
}

/* The device gives the reference's bits; then all is given back. */
static void check_and_destroy(otr_runtime *runtime) {
  otr_runtime *cpu = kit_runtime("cpu", 1);
  float *want = calloc(1 << 16, sizeof *want), *got = calloc(1 << 16, sizeof *got);
  ck_ok(use(cpu, want));
  ck_ok(use(runtime, got));
  kit_same(got, want, 1 << 16, "logits");
  free(want);
  free(got);
  ck_ok(otr_runtime_destroy(cpu));
  ck_ok(otr_runtime_destroy(runtime));
  check_nothing_is_held();
}

static otr_device_info info_of(const otr_runtime *runtime) {
  otr_device_info info = {.struct_size = sizeof info};
  ck_ok(otr_runtime_device(runtime, &info));
  return info;
}

/* ---- drivers that lie -------------------------------------------------------------------------------------------- */

START_TEST(true_drivers_pass) {
  otr_runtime *runtime;
  ck_ok(create(&runtime, true));
  ck_assert_int_eq(info_of(runtime).check, OTR_CHECK_PASSED);
  check_and_destroy(runtime);
}
END_TEST

/* A device that is right once what is wrong of `op` is switched off. */
static void check_demoted(const char *op) {
  otr_runtime *runtime;
  ck_ok(create(&runtime, true));
  otr_device_info info = info_of(runtime);
  ck_assert_int_eq(info.check, OTR_CHECK_DEMOTED);
  ck_assert_msg(strstr(info.reason, op) != NULL, "reason \"%s\"", info.reason);
  check_and_destroy(runtime);
}

START_TEST(wrong_dot_products_are_switched_off) {
  shim->wrong_dot = 1;
  check_demoted("linear");
}
END_TEST

START_TEST(wrong_sequences_are_taken_apart) {
  shim->wrong_glu = 1;
  check_demoted("quantize");
}
END_TEST

START_TEST(wrong_rounding_is_refused) {
  otr_runtime *runtime;
  shim->wrong_add = 1;
  ck_assert_int_eq(create(&runtime, true), OTR_STATUS_NO_DEVICE);
  ck_assert_ptr_null(runtime);
  ck_assert_msg(strstr(otr_error_detail(), "other bits") != NULL, "detail \"%s\"", otr_error_detail());
  check_nothing_is_held();
}
END_TEST

/* ---- drivers that fail ------------------------------------------------------------------------------------------- */

START_TEST(no_loader_is_a_reason) {
  setenv("OUTRIDER_VULKAN_DRIVER", "/nonexistent/libvulkan.so.1", 1);
  otr_runtime *runtime;
  ck_assert_int_eq(create(&runtime, false), OTR_STATUS_NO_DEVICE);
  ck_assert_msg(strstr(otr_error_detail(), "nonexistent") != NULL, "detail \"%s\"", otr_error_detail());
}
END_TEST

/** Everything that uses the device once; whatever happens, all is given back. */
static otr_status run_all(void) {
  otr_runtime *runtime;
  otr_status status = create(&runtime, false);
  if (status == OTR_STATUS_OK) status = use(runtime, NULL);
  ck_ok(otr_runtime_destroy(runtime));
  check_nothing_is_held();
  return status;
}

START_TEST(memory_that_runs_out) {
  long n = 1;
  for (; n < MOST_CALLS; n++) {
    shim->allocations = 0;
    shim->fail_allocation = n;
    otr_status status = run_all();
    if (shim->allocations < n) break;
    /* Host memory that a driver does not take is copied instead. */
    if (status != OTR_STATUS_OK) ck_assert_int_eq(status, OTR_STATUS_NO_MEMORY);
  }
  ck_assert_int_ge(n, 3);
  ck_assert_int_lt(n, MOST_CALLS);
}
END_TEST

/* A device that is lost; _i: when waiting, not at the submission. */
START_TEST(device_that_is_lost) {
  shim->fail_fence = _i;
  long n = 1;
  for (; n < MOST_CALLS; n += 1 + n / 3) {
    shim->submits = 0;
    shim->fail_submit = n;
    otr_status status = run_all();
    if (shim->submits < n) break;
    ck_assert_int_eq(status, OTR_STATUS_DEVICE_LOST);
  }
  ck_assert_int_ge(n, 3);
  ck_assert_int_lt(n, MOST_CALLS);
}
END_TEST

/* ---- the pipeline cache ------------------------------------------------------------------------------------------ */

static long submits_of_create(const void *blob, size_t bytes) {
  otr_runtime_params params = OTR_RUNTIME_PARAMS_INIT;
  otr_runtime *runtime;
  long before = shim->submits;
  params.device = "vulkan";
  params.n_threads = 1;
  params.pipeline_cache = blob;
  params.pipeline_cache_bytes = bytes;
  ck_ok(otr_runtime_create(&params, &runtime));
  ck_assert_int_eq(info_of(runtime).check, OTR_CHECK_PASSED);
  long took = shim->submits - before;
  ck_ok(otr_runtime_destroy(runtime));
  return took;
}

/* A verdict that is kept saves the self-check; one byte changed, and it is made again. */
START_TEST(cache_is_checked) {
  otr_runtime *runtime;
  size_t bytes = 0;
  ck_ok(create(&runtime, true));
  ck_ok(otr_runtime_pipeline_cache(runtime, NULL, &bytes));
  uint8_t *blob = malloc(bytes);
  ck_ok(otr_runtime_pipeline_cache(runtime, blob, &bytes));
  ck_ok(otr_runtime_destroy(runtime));
  long without = submits_of_create(NULL, 0); /* about: how often the ranking's work is repeated is a matter of time */
  ck_assert_int_lt(submits_of_create(blob, bytes), without / 2);
  blob[bytes - 1] ^= 1;
  ck_assert_int_gt(submits_of_create(blob, bytes), without / 2);
  blob[bytes - 1] ^= 1;
  ck_assert_int_gt(submits_of_create(blob, bytes - 1), without / 2);
  blob[20] ^= 1; /* another device's */
  ck_assert_int_gt(submits_of_create(blob, bytes), without / 2);
  free(blob);
  check_nothing_is_held();
}
END_TEST

/* ---- what a token costs ------------------------------------------------------------------------------------------ */

START_TEST(decoding_makes_nothing) {
  otr_runtime *runtime;
  otr_model *model;
  otr_stats before = {.struct_size = sizeof before}, after = before;
  ck_ok(create(&runtime, false));
  ck_ok(otr_model_open_file(runtime, path, NULL, &model));
  otr_session *s = kit_session(model, 256, 32);
  ck_ok(otr_session_eval(s, ids, 20, NULL));
  ck_ok(otr_session_eval(s, ids, 1, NULL));
  ck_ok(otr_session_stats(s, &before));
  long submits = shim->submits, allocations = shim->allocations, made = shim->pipelines_made, sets = shim->sets_written,
       recorded = shim->buffers_recorded;
  for (int i = 0; i < 8; i++) ck_ok(otr_session_eval(s, ids + i, 1, NULL));
  ck_ok(otr_session_stats(s, &after));
  ck_assert_int_eq(shim->submits - submits, 8);
  ck_assert_int_eq(shim->allocations, allocations);
  ck_assert_int_eq(shim->pipelines_made, made);
  ck_assert_int_eq(shim->sets_written, sets);
  ck_assert_int_eq(shim->buffers_recorded, recorded);
  ck_assert_uint_eq(after.n_submissions - before.n_submissions, 8);
  ck_assert_uint_le(after.n_dispatches - before.n_dispatches, 8 * (2 * 14 + 5)); /* two layers */
  otr_session_destroy(s);
  otr_model_close(model);
  ck_ok(otr_runtime_destroy(runtime));
  check_nothing_is_held();
}
END_TEST

/* ---- long passes ------------------------------------------------------------------------------------------------- */

/* A model on the device whose submissions are to take `ms` at most; -1: as long as it takes. */
static kit open_cut(int32_t ms) {
  otr_runtime_params params = OTR_RUNTIME_PARAMS_INIT;
  kit k;
  params.device = "vulkan";
  params.n_threads = 1;
  params.skip_self_check = 1;
  params.max_submit_ms = ms;
  params.allocator = kit_allocator(&counter);
  ck_ok(otr_runtime_create(&params, &k.runtime));
  ck_ok(otr_model_open_file(k.runtime, path, NULL, &k.model));
  return k;
}

static float *long_reference(void) {
  kit k = kit_open(path, "cpu", 1, NULL);
  float *logits = kit_logits(k.model, ids, LONG, LONG);
  kit_close(&k);
  return logits;
}

/* Submissions of a pass when those before have shown how long dispatches take, with many selected rows and with one. */
static uint64_t submissions_of_pass(int32_t ms, const float *want) {
  kit k = open_cut(ms);
  size_t vocab = (size_t)kit_vocab(k.model), n = LONG * vocab;
  otr_session *s = kit_session(k.model, 256, 256);
  otr_stats stats = {.struct_size = sizeof stats};
  float *logits = malloc(n * sizeof *logits);
  ck_ok(otr_session_eval(s, ids, LONG, logits));
  kit_same(logits, want, n, "the first pass");
  for (int i = 0; i < 2; i++) {
    otr_session_reset(s);
    ck_ok(otr_session_eval(s, ids, LONG, NULL));
    kit_same(otr_session_logits(s), want + n - vocab, vocab, "a pass after it");
  }
  ck_ok(otr_session_stats(s, &stats));
  ck_assert_uint_eq(stats.n_passes, 1);
  free(logits);
  otr_session_destroy(s);
  kit_close(&k);
  check_nothing_is_held();
  return stats.n_submissions;
}

START_TEST(long_passes_are_cut) {
  float *want = long_reference();
  uint64_t whole = submissions_of_pass(-1, want), cut = submissions_of_pass(1, want);
  ck_assert_msg(whole <= 2, "%llu submissions of one pass", (unsigned long long)whole); /* the body, the head */
  ck_assert_msg(cut > whole, "%llu submissions of a millisecond, %llu of any length", (unsigned long long)cut,
                (unsigned long long)whole);
  free(want);
}
END_TEST

static otr_session *to_cancel;
static long cancel_at, submitted;

static void cancel_then(void) {
  if (++submitted == cancel_at) otr_session_cancel(to_cancel);
}

/* The submission in progress is the last; what was whole stays, and the session goes on. */
START_TEST(cancelled_between_submissions) {
  float *want = long_reference();
  kit k = open_cut(1);
  size_t vocab = (size_t)kit_vocab(k.model);
  to_cancel = kit_session(k.model, 256, BATCH);
  shim->on_submit = cancel_then;
  for (long at = 1; at < 6; at += 2) {
    otr_session_reset(to_cancel);
    cancel_at = submitted = 0;
    ck_ok(otr_session_eval(to_cancel, ids, BATCH, NULL));
    submitted = 0;
    cancel_at = at;
    ck_assert_int_eq(otr_session_eval(to_cancel, ids + BATCH, LONG - BATCH, NULL), OTR_STATUS_CANCELLED);
    ck_assert_int_eq(submitted, at);
    ck_assert_int_eq(otr_session_position(to_cancel), BATCH);
    cancel_at = 0;
    ck_ok(otr_session_eval(to_cancel, ids + BATCH, LONG - BATCH, NULL));
    kit_same(otr_session_logits(to_cancel), want + (LONG - 1) * vocab, vocab, "after a cancelled pass");
  }
  shim->on_submit = NULL;
  otr_session_destroy(to_cancel);
  kit_close(&k);
  check_nothing_is_held();
  free(want);
}
END_TEST

static void add(TCase *tests) {
  tcase_add_checked_fixture(tests, set_up, tear_down);
  tcase_set_timeout(tests, 600);
  tcase_add_test(tests, true_drivers_pass);
  tcase_add_test(tests, wrong_dot_products_are_switched_off);
  tcase_add_test(tests, wrong_sequences_are_taken_apart);
  tcase_add_test(tests, wrong_rounding_is_refused);
  tcase_add_test(tests, no_loader_is_a_reason);
  tcase_add_test(tests, memory_that_runs_out);
  tcase_add_loop_test(tests, device_that_is_lost, 0, 2);
  tcase_add_test(tests, cache_is_checked);
  tcase_add_test(tests, decoding_makes_nothing);
  tcase_add_test(tests, long_passes_are_cut);
  tcase_add_test(tests, cancelled_between_submissions);
}

int main(int argc, char **argv) {
  if (argc < 2) return 1;
  shim_path = argv[1];
  return suite_run("vulkan_faults", add);
}
