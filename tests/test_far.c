// SPDX-License-Identifier: Apache-2.0
/* The runtime on devices whose memory the host does not see: each of their calls failing in turn, the device lost at
 * each, where weights lie, and which device is taken after what its self-check said. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "conversion.h"
#include "far_device.h"
#include "model_kit.h"

enum { N = 270, DIM = 32, VOCAB = 320, LINEAR_N = 24, LINEAR_K = 40 };

static char *source, *converted;
static int32_t ids[N];
static float rows[4 * DIM];

static void set_up(void) {
  static const int32_t columns[] = {3, 20};
  const conversion_linear linear = {.name = "blk.0.attn_q.weight", .columns = columns, .n_columns = 2};
  llama_shape shape = tiny_model_shape();
  conversion_result result;
  shape.dim = DIM;
  shape.n_heads = 2;
  shape.n_kv_heads = 1;
  shape.ffn = 48;
  shape.n_layers = 1;
  source = kit_tiny_file(&shape, 1);
  converted = kit_new_file("far");
  otr_runtime *runtime = kit_runtime("cpu", 1);
  const conversion_params params = {
      .in = source, .out = converted, .runtime = runtime, .linears = &linear, .n_linears = 1};
  ck_ok(conversion_run(&params, &result));
  ck_ok(otr_runtime_destroy(runtime));
  kit_ids(ids, N, VOCAB, 5);
  for (int i = 0; i < 4 * DIM; i++) rows[i] = (float)(i % 17 - 8) * 0.25f;
}

static void tear_down(void) {
  kit_remove(source);
  kit_remove(converted);
}

static void check_nothing_is_held(const char *when) {
  ck_assert_msg(far.buffers == 0 && far.prepared == 0 && far.devices == 0 && far.bytes == 0,
                "%s: %ld buffers of %ld bytes, %ld programs and %ld devices are held", when, (long)far.buffers,
                (long)far.bytes, (long)far.prepared, (long)far.devices);
}

/* ---- all that uses a device --------------------------------------------------------------------------------------
 */

/* What the work gives: the same on every device. */
typedef struct results {
  float logits[4][VOCAB];
  float y[5 * LINEAR_N];
} results;

static otr_status save_and_load(otr_session *from, otr_session *to) {
  kit_bytes state = {NULL, 0};
  otr_status status = otr_session_save(from, kit_write, &state);
  if (status == OTR_STATUS_OK) status = otr_session_load(to, state.data, state.n);
  free(state.data);
  return status;
}

static otr_status use_sessions(otr_session *a, otr_session *b, results *out) {
  const otr_eval_item together[] = {{a, ids, NULL, 2, NULL}, {b, NULL, rows, 3, NULL}};
  otr_status status = otr_session_eval(a, ids, N, NULL);
  if (status == OTR_STATUS_OK) memcpy(out->logits[0], otr_session_logits(a), sizeof out->logits[0]);
  if (status == OTR_STATUS_OK) status = otr_session_copy(b, a); /* the next eval writes into a shared page */
  if (status == OTR_STATUS_OK) status = otr_eval_together(together, 2);
  if (status == OTR_STATUS_OK) memcpy(out->logits[1], otr_session_logits(b), sizeof out->logits[1]);
  if (status == OTR_STATUS_OK) status = save_and_load(a, b);
  if (status == OTR_STATUS_OK) status = otr_session_eval_embeddings(b, rows, 4, NULL);
  if (status == OTR_STATUS_OK) memcpy(out->logits[2], otr_session_logits(b), sizeof out->logits[2]);
  if (status == OTR_STATUS_OK) status = otr_session_slide(b, 0, 256);
  if (status == OTR_STATUS_OK) status = otr_session_eval(b, ids, 5, NULL);
  if (status == OTR_STATUS_OK) memcpy(out->logits[3], otr_session_logits(b), sizeof out->logits[3]);
  return status;
}

static otr_status work_with_model(otr_model *model, results *out) {
  const otr_session_params params = {sizeof params, 512, 256, 1};
  otr_session *a, *b = NULL;
  otr_status status = otr_session_create(model, &params, &a);
  if (status == OTR_STATUS_OK) status = otr_session_create(model, &params, &b);
  if (status == OTR_STATUS_OK) status = use_sessions(a, b, out);
  otr_session_destroy(a);
  otr_session_destroy(b);
  return status;
}

static otr_status work_with_linear(otr_runtime *runtime, results *out) {
  static const int32_t columns[] = {3, 20};
  static float weights[LINEAR_N * LINEAR_K], x[5 * LINEAR_K];
  otr_linear_params p = {sizeof p, .n = LINEAR_N, .k = LINEAR_K, .weights = weights, .bias = weights, .max_rows = 4};
  otr_linear *linear;
  int32_t n;
  int8_t q[LINEAR_K];
  p.n_f16_columns = 2;
  p.f16_columns = columns;
  for (int i = 0; i < LINEAR_N * LINEAR_K; i++) weights[i] = (float)(i % 23 - 11) * 0.01f;
  for (int i = 0; i < 5 * LINEAR_K; i++) x[i] = i % LINEAR_K == 20 ? 30.0f : (float)(i % 13 - 6) * 0.3f;
  otr_status status = otr_linear_create(runtime, &p, &linear);
  if (status == OTR_STATUS_OK) status = otr_linear_run(linear, out->y, x, 5);
  if (status == OTR_STATUS_OK) status = otr_linear_outliers(linear, 0, NULL, 0, &n);
  if (status == OTR_STATUS_OK) status = otr_linear_quantized(linear, 0, q, NULL);
  otr_linear_destroy(linear);
  return status;
}

static otr_status work(otr_runtime *runtime, otr_model *model, results *out) {
  otr_status status = work_with_model(model, out);
  return status == OTR_STATUS_OK ? work_with_linear(runtime, out) : status;
}

/* Everything from the runtime on. After a failure all calls work again, but for those of a device that is lost, and
 * what can still be used is used: then that is the status. */
static otr_status live(const char *device, const char *file, kit_counter *counter, results *out) {
  otr_runtime_params params = OTR_RUNTIME_PARAMS_INIT;
  otr_runtime *runtime;
  otr_model *model = NULL;
  params.device = device;
  params.n_threads = 1;
  params.skip_self_check = 1;
  params.allocator = kit_allocator(counter);
  otr_status status = otr_runtime_create(&params, &runtime);
  if (status == OTR_STATUS_OK) status = otr_model_open_file(runtime, file, NULL, &model);
  if (status == OTR_STATUS_OK) status = work(runtime, model, out);
  if (status != OTR_STATUS_OK && runtime) {
    atomic_store(&far.fail_at, 0);
    otr_status then = model ? OTR_STATUS_OK : otr_model_open_file(runtime, file, NULL, &model);
    status = then == OTR_STATUS_OK ? work(runtime, model, out) : then;
  }
  ck_assert_int_eq(otr_model_close(model), OTR_STATUS_OK);
  ck_assert_int_eq(otr_runtime_destroy(runtime), OTR_STATUS_OK);
  return status;
}

static void expected_results(results *out, const char *file) {
  kit_counter counter = {0};
  ck_ok(live("cpu", file, &counter, out));
}

static const struct {
  const char *device;
  bool converted;
} places[] = {{"far:0", false}, {"far:0", true}, {"far:1", true}};
enum { PLACES = sizeof places / sizeof places[0] };

static const char *file_of(int place) {
  return places[place].converted ? converted : source;
}

/* Makes call after call fail, each in a life of its own; some of them where OUTRIDER_TEST_FEW_DEVICES asks for less. */
static void fail_each(int place, otr_status with) {
  static results want, got;
  long step = getenv("OUTRIDER_TEST_FEW_DEVICES") ? 7 : 1;
  expected_results(&want, file_of(place));
  far.fail_with = with;
  bool failed = true;
  for (long n = 1; failed; n += n < 16 ? 1 : step) {
    kit_counter counter = {0};
    char when[64];
    snprintf(when, sizeof when, "call %ld of %s", n, places[place].device);
    memset(&got, 0, sizeof got);
    atomic_store(&far.calls, 0);
    atomic_store(&far.fail_at, n);
    otr_status status = live(places[place].device, file_of(place), &counter, &got);
    failed = atomic_load(&far.calls) >= n;
    atomic_store(&far.fail_at, 0);
    bool works = !failed || (n > 1 && with != OTR_STATUS_DEVICE_LOST); /* the first call opens the device */
    ck_assert_msg(status == (works ? OTR_STATUS_OK : with), "%s: %s (%s)", when, otr_status_text(status),
                  otr_error_detail());
    if (works) ck_assert_msg(memcmp(&got, &want, sizeof want) == 0, "%s: other bits", when);
    check_nothing_is_held(when);
    ck_assert_int_eq(atomic_load(&counter.blocks), 0);
  }
}

START_TEST(what_is_left_works_after_each_failure) {
  fail_each(_i, OTR_STATUS_NO_MEMORY);
}
END_TEST

START_TEST(all_can_be_closed_when_the_device_is_lost) {
  fail_each(_i, OTR_STATUS_DEVICE_LOST);
}
END_TEST

/* ---- memory ------------------------------------------------------------------------------------------------------ */

static float *logits_with(const char *device, const char *file, otr_weights weights, otr_plan_info *plan) {
  otr_runtime *runtime = kit_runtime(device, 1);
  otr_model_params params = OTR_MODEL_PARAMS_INIT;
  const otr_session_params session_params = {sizeof session_params, 512, 64, 0};
  const otr_source from = {.kind = OTR_SOURCE_PATH, .path = file};
  otr_model *model;
  otr_session *s;
  long before = far.bytes;
  params.weights = weights;
  *plan = (otr_plan_info){.struct_size = sizeof *plan};
  ck_ok(otr_model_plan(runtime, &from, &params, &session_params, plan));
  ck_ok(otr_model_open(runtime, &from, &params, &model));
  if (device[0] == 'f' && weights != OTR_WEIGHTS_BOTH)
    ck_assert_uint_eq((uint64_t)(far.bytes - before), plan->weights_device_bytes);
  before = far.bytes;
  ck_ok(otr_session_create(model, &session_params, &s));
  if (device[0] == 'f') {
    uint64_t took = (uint64_t)(far.bytes - before);
    ck_assert(took > plan->kv_device_bytes && took <= plan->kv_device_bytes + plan->scratch_device_bytes);
    ck_assert(plan->weights_host_bytes == 0 && plan->kv_host_bytes == 0);
  }
  otr_session_destroy(s);
  float *logits = kit_logits(model, ids, N, 100);
  ck_ok(otr_model_close(model));
  ck_ok(otr_runtime_destroy(runtime));
  return logits;
}

START_TEST(weights_lie_where_they_are_told) {
  static const otr_weights all[] = {OTR_WEIGHTS_AUTO, OTR_WEIGHTS_MAPPED, OTR_WEIGHTS_COPIED, OTR_WEIGHTS_BOTH};
  static const char *const devices[] = {"far:1", "cpu"};
  otr_plan_info plan[4];
  float *want = logits_with("cpu", converted, OTR_WEIGHTS_AUTO, &plan[0]);
  for (int d = 0; d < 2; d++) {
    for (int i = 0; i < 4; i++) {
      float *got = logits_with(devices[d], converted, all[i], &plan[i]);
      kit_same(got, want, N * VOCAB, devices[d]);
      free(got);
    }
    ck_assert(plan[0].weights_mapped_bytes > 0 && plan[0].weights_mapped_bytes == plan[1].weights_mapped_bytes);
    ck_assert_uint_eq(plan[2].weights_mapped_bytes, 0);
    uint64_t own[4];
    for (int i = 0; i < 4; i++) own[i] = plan[i].weights_host_bytes + plan[i].weights_device_bytes;
    ck_assert(own[2] > own[0] && own[1] == own[0]);
    ck_assert_uint_eq(own[3] - own[0], d == 0 ? plan[3].weights_mapped_bytes : 0);
  }
  free(want);
}
END_TEST

START_TEST(weights_that_cannot_lie_there) {
  otr_model_params params = OTR_MODEL_PARAMS_INIT;
  otr_model *model;
  otr_runtime *runtime = kit_runtime("far:0", 1);
  params.weights = OTR_WEIGHTS_MAPPED;
  ck_assert_int_eq(otr_model_open_file(runtime, converted, &params, &model), OTR_STATUS_UNSUPPORTED);
  ck_ok(otr_model_open_file(runtime, source, &params, &model)); /* is quantized: there is nothing to map */
  ck_ok(otr_model_close(model));
  params.weights = OTR_WEIGHTS_BOTH + 1;
  ck_assert_int_eq(otr_model_open_file(runtime, source, &params, &model), OTR_STATUS_INVALID_ARGUMENT);
  ck_ok(otr_runtime_destroy(runtime));
  check_nothing_is_held("refused weights");
}
END_TEST

START_TEST(large_buffers_are_cut) {
  kit k = kit_open(source, "far:0", 1, NULL);
  ck_assert_int_gt(far.buffers, 1);
  long before = far.buffers;
  otr_session *s = kit_session(k.model, 2048, 16); /* eight pages of 16640 bytes */
  ck_assert_int_ge(far.buffers - before, 1 + 4);
  otr_session_destroy(s);
  ck_assert_int_eq(far.buffers, before);
  kit_close(&k);
}
END_TEST

START_TEST(submissions_are_counted) {
  kit k = kit_open(source, "far:0", 1, NULL);
  otr_session *s = kit_session(k.model, 512, 100);
  otr_stats first = {.struct_size = sizeof first}, then = first;
  ck_ok(otr_session_eval(s, ids, N, NULL));
  ck_ok(otr_session_stats(s, &first));
  ck_ok(otr_session_eval(s, ids, 1, NULL));
  ck_ok(otr_session_stats(s, &then));
  ck_assert_uint_eq(first.n_submissions, 3);
  ck_assert_uint_eq(then.n_submissions, 4);
  ck_assert(first.n_dispatches > 30 && then.n_dispatches == first.n_dispatches / 3 * 4);
  otr_session_destroy(s);
  kit_close(&k);
}
END_TEST

/* ---- choosing ---------------------------------------------------------------------------------------------------- */

static otr_status create(const char *name, int32_t skip, otr_device_info *info) {
  otr_runtime_params params = OTR_RUNTIME_PARAMS_INIT;
  otr_runtime *runtime;
  params.device = name;
  params.n_threads = 1;
  params.skip_self_check = skip;
  otr_status status = otr_runtime_create(&params, &runtime);
  *info = (otr_device_info){.struct_size = sizeof *info};
  if (status == OTR_STATUS_OK) ck_ok(otr_runtime_device(runtime, info));
  ck_ok(otr_runtime_destroy(runtime));
  return status;
}

START_TEST(names) {
  static const char *const named[][2] = {{"far", "far:0"},
                                         {"far:1", "far:1"},
                                         {"far:UNIFIED", "far:1"},
                                         {"far:distant", "far:0"},
                                         {"far:distant h", "far:wrong"},
                                         {"far:wrong", "far:wrong"},
                                         {"cpu", "cpu"},
                                         {"auto", "far:0"}};
  static const char *const unknown[] = {"far:", "far:2", "fa", "farther", "FAR", "cpu:abacus", ""};
  otr_device_info info;
  far.show_wrong = 1;
  for (size_t i = 0; i < sizeof named / sizeof named[0]; i++) {
    ck_ok(create(named[i][0], 1, &info));
    ck_assert_str_eq(info.name, named[i][1]);
  }
  for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++)
    ck_assert_msg(create(unknown[i], 1, &info) == OTR_STATUS_NO_DEVICE, "\"%s\" is %s", unknown[i], info.name);
  far.hide_others = 1; /* a backend's name takes the one that "auto" never takes, where it is all there is */
  ck_ok(create("far", 1, &info));
  ck_assert_str_eq(info.name, "far:wrong");
  ck_ok(create("auto", 1, &info));
  ck_assert_str_eq(info.name, "cpu");
  ck_assert_int_eq(create("far:0", 1, &info), OTR_STATUS_NO_DEVICE);
  ck_assert_ptr_nonnull(strstr(otr_error_detail(), "hidden"));
}
END_TEST

static otr_device_info listed_wrong(void) {
  otr_device_info infos[4];
  int32_t n;
  infos[0].struct_size = sizeof infos[0];
  ck_ok(otr_devices(infos, 4, &n, 1));
  ck_assert_int_eq(n, 4);
  ck_assert_str_eq(infos[2].name, "far:wrong");
  return infos[2];
}

START_TEST(wrong_kernels_are_demoted) {
  otr_device_info info;
  far.show_wrong = 1;
  far.demotions = 5;
  far.demotions_cure = 3;
  ck_ok(create("far:wrong", 0, &info));
  ck_assert_int_eq(info.check, OTR_CHECK_DEMOTED);
  ck_assert_ptr_nonnull(strstr(info.reason, "add"));
  ck_assert(far.demoted == 3 && far.demoted_op == OTR_OP_ADD && far.told_proven);
  ck_assert(info.available && info.check_seconds > 0);
  far.demoted = 0;
  ck_assert_int_eq(listed_wrong().check, OTR_CHECK_DEMOTED);
  check_nothing_is_held("demoted");
}
END_TEST

START_TEST(wrong_kernels_are_refused) {
  otr_device_info info;
  far.show_wrong = 1;
  far.demotions = 2;
  far.demotions_cure = 3;
  ck_assert_int_eq(create("far:wrong", 0, &info), OTR_STATUS_NO_DEVICE);
  ck_assert_ptr_nonnull(strstr(otr_error_detail(), "add gives other bits"));
  ck_assert(far.demoted == 2 && !far.told_proven);
  info = listed_wrong();
  ck_assert(info.check == OTR_CHECK_FAILED && !info.available && strstr(info.reason, "add") != NULL);
  check_nothing_is_held("refused");
}
END_TEST

/* A verdict in the pipeline cache stands for the check; how fast the device is is measured all the same. */
START_TEST(proven_devices_are_only_timed) {
  otr_device_info info;
  far.show_wrong = far.checks_proven = 1;
  far.demotions_cure = 1;
  ck_ok(create("far:wrong", 0, &info));
  ck_assert(info.check == OTR_CHECK_PASSED && info.check_seconds > 0 && info.reason[0] == '\0');
  far.demoted = 1;
  ck_ok(create("far:wrong", 0, &info));
  ck_assert_int_eq(info.check, OTR_CHECK_DEMOTED);
  ck_assert_str_eq(info.reason, "demoted another time");
}
END_TEST

START_TEST(device_params) {
  otr_runtime_params params = OTR_RUNTIME_PARAMS_INIT;
  otr_runtime *runtime;
  static const int32_t given[] = {0, -1, 7}, taken[] = {50, INT32_MAX, 7};
  char blob[64];
  size_t bytes = 0;
  params.device = "far:0";
  params.n_threads = 1;
  params.skip_self_check = params.low_priority = 1;
  params.pipeline_cache = "old";
  params.pipeline_cache_bytes = 3;
  for (int i = 0; i < 3; i++) {
    params.max_submit_ms = given[i];
    ck_ok(otr_runtime_create(&params, &runtime));
    ck_assert_int_eq(far.opened_with.max_submit_ms, taken[i]);
    ck_assert(far.opened_with.low_priority == 1 && far.opened_with.cache_bytes == 3);
    ck_assert_ptr_eq(far.opened_with.cache, params.pipeline_cache);
    ck_ok(otr_runtime_pipeline_cache(runtime, NULL, &bytes));
    ck_assert_uint_eq(bytes, sizeof "pipelines");
    bytes--;
    ck_assert_int_eq(otr_runtime_pipeline_cache(runtime, blob, &bytes), OTR_STATUS_BUFFER_TOO_SMALL);
    ck_ok(otr_runtime_pipeline_cache(runtime, blob, &bytes));
    ck_assert_str_eq(blob, "pipelines");
    ck_assert_int_eq(otr_runtime_pipeline_cache(runtime, blob, NULL), OTR_STATUS_INVALID_ARGUMENT);
    ck_ok(otr_runtime_destroy(runtime));
  }
  runtime = kit_runtime("cpu", 1);
  ck_ok(otr_runtime_pipeline_cache(runtime, NULL, &bytes));
  ck_assert_uint_eq(bytes, 0);
  ck_ok(otr_runtime_destroy(runtime));
}
END_TEST

static void add(TCase *tests) {
  tcase_add_checked_fixture(tests, set_up, tear_down);
  tcase_add_loop_test(tests, what_is_left_works_after_each_failure, 0, PLACES);
  tcase_add_loop_test(tests, all_can_be_closed_when_the_device_is_lost, 0, PLACES);
  tcase_add_test(tests, weights_lie_where_they_are_told);
  tcase_add_test(tests, weights_that_cannot_lie_there);
  tcase_add_test(tests, large_buffers_are_cut);
  tcase_add_test(tests, submissions_are_counted);
  tcase_add_test(tests, names);
  tcase_add_test(tests, wrong_kernels_are_demoted);
  tcase_add_test(tests, wrong_kernels_are_refused);
  tcase_add_test(tests, proven_devices_are_only_timed);
  tcase_add_test(tests, device_params);
}

int main(void) {
  return suite_run("far", add);
}
