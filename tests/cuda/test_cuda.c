// SPDX-License-Identifier: Apache-2.0
/* The CUDA backend's host side under the fake driver: what it says of devices, what a decode costs, where weights lie,
 * what becomes of the caller's context, and every call of the driver failing. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conversion.h"
#include "cuda_device.h"
#include "fake_driver/fake_cuda.h"
#include "model_kit.h"

enum { N = 9, PROMPT = 4, N_CTX = 256 };

/* ---- the fake ---------------------------------------------------------------------------------------------------- */

static struct {
  void (*count)(fake_cuda_counts *);
  uint64_t (*held)(void);
  void (*begin)(void);
  void (*fail_at)(const char *, uint64_t, int);
  const char *(*call)(uint64_t);
  CUresult (*get_current)(CUcontext *);
  CUresult (*retain)(CUcontext *, CUdevice);
  CUresult (*release)(CUdevice);
  CUresult (*push)(CUcontext);
  CUresult (*pop)(CUcontext *);
} fake;

static char *path, *converted; /* a model, and what the SDK makes of it: weights used where they lie */
static int32_t ids[N];
static float *expected; /* [N, vocab] of the reference */
static size_t vocab;

static void find(void *library, const char *name, void *entry) {
  void *address = dlsym(library, name);
  ck_assert_ptr_nonnull(address);
  memcpy(entry, &address, sizeof address);
}

static void find_fake(void) {
  const char *driver = getenv("OUTRIDER_CUDA_DRIVER");
  void *library = dlopen(driver ? driver : "", RTLD_NOW | RTLD_LOCAL);
  ck_assert_msg(library != NULL, "OUTRIDER_CUDA_DRIVER names no fake driver");
  find(library, "fake_cuda_count", &fake.count);
  find(library, "fake_cuda_held", &fake.held);
  find(library, "fake_cuda_begin", &fake.begin);
  find(library, "fake_cuda_fail_at", &fake.fail_at);
  find(library, "fake_cuda_call", &fake.call);
  find(library, "cuCtxGetCurrent", &fake.get_current);
  find(library, "cuDevicePrimaryCtxRetain", &fake.retain);
  find(library, "cuDevicePrimaryCtxRelease_v2", &fake.release);
  find(library, "cuCtxPushCurrent_v2", &fake.push);
  find(library, "cuCtxPopCurrent_v2", &fake.pop);
}

/* The reference works without a driver here: each test meets it anew, and says what it is like. */
static void set_up(void) {
  find_fake();
  char *driver = strdup(getenv("OUTRIDER_CUDA_DRIVER"));
  setenv("OUTRIDER_CUDA_DRIVER", "/nowhere/libcuda.so.1", 1);
  llama_shape shape = kit_small_shape();
  shape.dim = 32; /* rows that a kernel can read where they lie */
  shape.ffn = 48;
  path = kit_tiny_file(&shape, 5);
  kit k = kit_open(path, "cpu", 1, NULL);
  converted = kit_new_file("converted");
  conversion_params params = {.in = path, .out = converted, .runtime = k.runtime};
  conversion_result result;
  ck_ok(conversion_run(&params, &result));
  vocab = (size_t)kit_vocab(k.model);
  kit_ids(ids, N, (int32_t)vocab, 3);
  expected = kit_logits(k.model, ids, N, N);
  kit_close(&k);
  setenv("OUTRIDER_CUDA_DRIVER", driver, 1);
  free(driver);
}

static void tear_down(void) {
  kit_remove(path);
  kit_remove(converted);
  free(expected);
}

static fake_cuda_counts counts(void) {
  fake_cuda_counts c;
  fake.count(&c);
  return c;
}

static otr_status open_runtime(const char *device, otr_runtime **out) {
  otr_runtime_params params = OTR_RUNTIME_PARAMS_INIT;
  params.device = device;
  params.n_threads = 1;
  params.skip_self_check = 1;
  params.max_submit_ms = -1;
  return otr_runtime_create(&params, out);
}

/* ---- devices ----------------------------------------------------------------------------------------------------- */

/** Device "cuda" is missing for this reason, and "auto" finds another. */
static void check_missing(const char *settings, const char *reason) {
  otr_runtime *runtime;
  setenv("OUTRIDER_FAKE_CUDA", settings, 1);
  ck_assert_int_eq(open_runtime("cuda", &runtime), OTR_STATUS_NO_DEVICE);
  ck_assert_msg(strstr(otr_error_detail(), reason) != NULL, "%s: %s", settings, otr_error_detail());
  otr_device_info all[16] = {{.struct_size = sizeof all[0]}};
  int32_t n;
  ck_ok(otr_devices(all, 16, &n, 0));
  ck_assert_str_eq(all[0].name, "cuda:0");
  ck_assert_int_eq(all[0].available, 0);
  ck_assert_msg(strstr(all[0].reason, reason) != NULL, "%s: %s", settings, all[0].reason);
  ck_ok(open_runtime("auto", &runtime));
  ck_ok(otr_runtime_device(runtime, &all[0]));
  ck_assert_str_ne(all[0].backend, "cuda");
  ck_ok(otr_runtime_destroy(runtime));
}

/* Settings of the fake, or a driver that is not there; and the reason. */
static const char *const missing[][3] = {{"driver=11020", NULL, "too old: CUDA 11.2"},
                                         {"init=34", NULL, "stub"},
                                         {"init=999", NULL, "cuInit answers"},
                                         {"devices=0", NULL, "sees no device"},
                                         {"", "/nowhere/libcuda.so.1", "no CUDA driver: /nowhere/libcuda.so.1"}};

/** Under sanitizers, whose share is what only they find. */
static bool has_little_time(void) {
  return getenv("OUTRIDER_TEST_FEW_DEVICES") != NULL;
}

START_TEST(missing_drivers_have_a_reason) {
  setenv("OUTRIDER_VULKAN_DRIVER", "/nowhere/libvulkan.so.1", 1); /* whose reason is another */
  if (missing[_i][1]) setenv("OUTRIDER_CUDA_DRIVER", missing[_i][1], 1);
  check_missing(missing[_i][0], missing[_i][2]);
}
END_TEST

START_TEST(devices_by_index_and_name) {
  static const char *const names[][2] = {
      {"cuda", "cuda:0"}, {"cuda:1", "cuda:1"}, {"cuda:emulated cuda device 1", "cuda:1"}};
  setenv("OUTRIDER_FAKE_CUDA", "devices=2", 1);
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    otr_runtime *runtime;
    otr_device_info info = {.struct_size = sizeof info};
    ck_ok(open_runtime(names[i][0], &runtime));
    ck_ok(otr_runtime_device(runtime, &info));
    ck_assert_str_eq(info.name, names[i][1]);
    ck_ok(otr_runtime_destroy(runtime));
  }
  otr_runtime *runtime;
  ck_assert_int_eq(open_runtime("cuda:2", &runtime), OTR_STATUS_NO_DEVICE);
}
END_TEST

START_TEST(images_by_capability) {
  static const cuda_image images[] = {{75, 0, NULL, 0, ""}, {80, 0, NULL, 0, "new"}, {80, 0, NULL, 0, "old"},
                                      {87, 0, NULL, 0, ""}, {75, 1, NULL, 0, ""},    {80, 1, NULL, 0, ""}};
  static const struct {
    int32_t major, minor, order[6]; /* places in the table, -1: the end */
  } cases[] = {{7, 0, {-1}},         {7, 5, {0, 4, -1}},      {8, 0, {1, 2, 5, 4, -1}},
               {8, 6, {1, 2, 5, 4}}, {8, 9, {3, 1, 2, 5, 4}}, {12, 1, {5, 4, -1}}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    cuda_caps caps = {.major = cases[i].major, .minor = cases[i].minor};
    const cuda_image *image = NULL;
    for (int32_t j = 0; j < 6 && cases[i].order[j] >= 0; j++) {
      if (j > 0 && cases[i].order[j] == 0) break;
      image = cuda_choose_image(images, 6, &caps, image);
      ck_assert_ptr_eq(image, &images[cases[i].order[j]]);
    }
    ck_assert_ptr_null(cuda_choose_image(images, 6, &caps, image));
  }
}
END_TEST

/* ---- passes ------------------------------------------------------------------------------------------------------ */

static otr_stats stats_of(const otr_session *s) {
  otr_stats stats = {.struct_size = sizeof stats};
  ck_ok(otr_session_stats(s, &stats));
  return stats;
}

START_TEST(a_decoded_token_is_one_graph) {
  kit k = kit_open(path, "cuda", 1, NULL);
  otr_session *s = kit_session(k.model, N_CTX, 8);
  ck_ok(otr_session_eval(s, ids, PROMPT, NULL));
  uint64_t submissions = stats_of(s).n_submissions, dispatches = stats_of(s).n_dispatches;
  ck_assert_uint_gt(submissions, 0);
  ck_assert_uint_gt(dispatches, 0);
  for (int32_t i = PROMPT; i < N; i++) {
    fake.begin();
    ck_ok(otr_session_eval(s, ids + i, 1, NULL));
    kit_same(otr_session_logits(s), expected + (size_t)i * vocab, vocab, "logits");
    fake_cuda_counts c = counts();
    ck_assert_uint_eq(c.graph_launches, 1);
    ck_assert_uint_eq(c.allocations, 0);
    ck_assert_uint_eq(stats_of(s).n_submissions, ++submissions);
    dispatches += c.launches;
    ck_assert_uint_eq(stats_of(s).n_dispatches, dispatches);
    ck_assert_uint_lt(c.calls, 8); /* context in and out, block, launch, wait: the logits come along */
  }
  otr_session_destroy(s);
  kit_close(&k);
  ck_assert_uint_eq(fake.held(), 0);
}
END_TEST

/* Passes of the same few rows become graphs, more kinds of them than are kept. */
START_TEST(graphs_of_few_rows_come_and_go) {
  kit k = kit_open(path, "cuda", 1, NULL);
  for (int32_t round = 0; round < 2; round++)
    for (int32_t rows = 1; rows <= N; rows++) {
      float *got = kit_logits(k.model, ids, N, rows);
      kit_same(got, expected, N * vocab, "logits");
      free(got);
    }
  otr_session *s = kit_session(k.model, N_CTX, N);
  fake.begin();
  for (int32_t i = 0; i < 3 * N; i++) {
    otr_session_reset(s);
    ck_ok(otr_session_eval(s, ids, i / 3 + 1, NULL));
    kit_same(otr_session_logits(s), expected + (size_t)(i / 3) * vocab, vocab, "logits");
  }
  ck_assert_uint_ge(counts().graph_launches, 2 * 8);
  otr_session_destroy(s);
  kit_close(&k);
  ck_assert_uint_eq(fake.held(), 0);
}
END_TEST

START_TEST(long_passes_are_cut) {
  otr_runtime_params params = OTR_RUNTIME_PARAMS_INIT;
  otr_runtime *runtime;
  otr_model *model;
  params.device = "cuda";
  params.n_threads = 1;
  params.skip_self_check = 1;
  params.max_submit_ms = 1;
  params.low_priority = 1;
  ck_ok(otr_runtime_create(&params, &runtime));
  ck_ok(otr_model_open_file(runtime, path, NULL, &model));
  otr_session *s = kit_session(model, N_CTX, N);
  float *got = malloc(N * vocab * sizeof *got);
  ck_ok(otr_session_eval(s, ids, N, got));
  kit_same(got, expected, N * vocab, "logits");
  ck_assert_uint_gt(stats_of(s).n_submissions, 1);
  otr_session_cancel(s);
  ck_assert_int_eq(otr_session_eval(s, ids, N, NULL), OTR_STATUS_CANCELLED);
  free(got);
  otr_session_destroy(s);
  ck_ok(otr_model_close(model));
  ck_ok(otr_runtime_destroy(runtime));
}
END_TEST

/* ---- weights ----------------------------------------------------------------------------------------------------- */

/** Bytes of registered and of device memory that an open model holds; its logits are the reference's. */
static fake_cuda_counts open_with(otr_weights weights) {
  otr_model_params params = OTR_MODEL_PARAMS_INIT;
  params.weights = weights;
  kit k = kit_open(converted, "cuda", 1, &params);
  fake_cuda_counts c = counts();
  float *got = kit_logits(k.model, ids, N, 4);
  kit_same(got, expected, N * vocab, "logits");
  free(got);
  kit_close(&k);
  ck_assert_uint_eq(fake.held(), 0);
  return c;
}

START_TEST(weights_lie_where_they_are_wanted) {
  fake_cuda_counts automatic = open_with(OTR_WEIGHTS_AUTO), copied = open_with(OTR_WEIGHTS_COPIED),
                   mapped = open_with(OTR_WEIGHTS_MAPPED), both = open_with(OTR_WEIGHTS_BOTH);
  ck_assert_uint_eq(automatic.registered_bytes, 0);
  ck_assert_uint_eq(copied.registered_bytes, 0);
  ck_assert_uint_eq(automatic.device_bytes, copied.device_bytes);
  ck_assert_uint_gt(mapped.registered_bytes, 0);
  ck_assert_uint_eq(both.registered_bytes, mapped.registered_bytes);
  ck_assert_uint_ge(both.device_bytes, mapped.device_bytes + mapped.registered_bytes);
}
END_TEST

START_TEST(discrete_gpus_have_copies) {
  setenv("OUTRIDER_FAKE_CUDA", "integrated=0", 1);
  open_with(OTR_WEIGHTS_AUTO);
  otr_model_params params = OTR_MODEL_PARAMS_INIT;
  otr_runtime *runtime = kit_runtime("cuda", 1);
  otr_model *model;
  params.weights = OTR_WEIGHTS_MAPPED;
  ck_assert_int_eq(otr_model_open_file(runtime, converted, &params, &model), OTR_STATUS_UNSUPPORTED);
  ck_ok(otr_runtime_destroy(runtime));
  ck_assert_uint_eq(fake.held(), 0);
}
END_TEST

/* ---- the app's context and threads ------------------------------------------------------------------------------- */

START_TEST(the_apps_context_stays_current) {
  CUcontext own, current;
  kit k = kit_open(path, "cuda", 1, NULL);
  ck_assert_int_eq(fake.get_current(&current), CUDA_SUCCESS);
  ck_assert_ptr_null(current);
  ck_assert_int_eq(fake.retain(&own, 0), CUDA_SUCCESS);
  ck_assert_int_eq(fake.push(own), CUDA_SUCCESS);
  float *got = kit_logits(k.model, ids, N, 1);
  kit_same(got, expected, N * vocab, "logits");
  free(got);
  kit_close(&k);
  ck_assert_int_eq(fake.get_current(&current), CUDA_SUCCESS);
  ck_assert_ptr_eq(current, own);
  ck_assert_int_eq(fake.pop(&current), CUDA_SUCCESS);
  ck_assert_ptr_eq(current, own);
  ck_assert_int_eq(fake.release(0), CUDA_SUCCESS);
  ck_assert_uint_eq(fake.held(), 0);
}
END_TEST

static void *in_thread(void *model) {
  float *got = kit_logits(model, ids, N, 1);
  kit_same(got, expected, N * vocab, "logits of a thread");
  free(got);
  return NULL;
}

START_TEST(threads_share_a_device) {
  kit k = kit_open(path, "cuda", 1, NULL), other = kit_open(path, "cuda", 1, NULL);
  otr_model *models[3] = {k.model, k.model, other.model};
  pthread_t threads[3];
  for (int i = 0; i < 3; i++) ck_assert_int_eq(pthread_create(&threads[i], NULL, in_thread, models[i]), 0);
  for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
  kit_close(&k);
  kit_close(&other);
  ck_assert_uint_eq(fake.held(), 0);
}
END_TEST

static atomic_int others_left;

static void *come_and_go(void *model) {
  for (int i = 0; i < 4; i++) otr_session_destroy(kit_session(model, N_CTX, N));
  atomic_fetch_sub(&others_left, 1);
  return NULL;
}

/* A session's graph is recorded while another session's pass is in the stream. */
START_TEST(sessions_come_while_others_run) {
  setenv("OUTRIDER_FAKE_CUDA", "slow=20", 1);
  kit k = kit_open(path, "cuda", 1, NULL);
  pthread_t threads[2];
  atomic_store(&others_left, 2);
  for (int i = 0; i < 2; i++) ck_assert_int_eq(pthread_create(&threads[i], NULL, come_and_go, k.model), 0);
  while (atomic_load(&others_left) > 0) in_thread(k.model);
  for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
  kit_close(&k);
  ck_assert_uint_eq(fake.held(), 0);
}
END_TEST

/* ---- the verdict ------------------------------------------------------------------------------------------------- */

/** Opens a checked runtime with the app's blob. @return kernels that ran; *blob: what to store now */
static uint64_t launches_of_create(const char *settings, uint8_t blob[OTR_VERDICT_HEAD], size_t bytes) {
  otr_runtime_params params = OTR_RUNTIME_PARAMS_INIT;
  otr_runtime *runtime;
  otr_device_info info = {.struct_size = sizeof info};
  size_t needed = 0;
  setenv("OUTRIDER_FAKE_CUDA", settings, 1);
  params.device = "cuda";
  params.n_threads = 1;
  params.pipeline_cache = bytes ? blob : NULL;
  params.pipeline_cache_bytes = bytes;
  fake.begin();
  ck_ok(otr_runtime_create(&params, &runtime));
  uint64_t launches = counts().launches;
  ck_ok(otr_runtime_device(runtime, &info));
  ck_assert_int_eq(info.check, OTR_CHECK_PASSED);
  ck_ok(otr_runtime_pipeline_cache(runtime, NULL, &needed));
  ck_assert_uint_eq(needed, OTR_VERDICT_HEAD);
  needed--;
  ck_assert_int_eq(otr_runtime_pipeline_cache(runtime, blob, &needed), OTR_STATUS_BUFFER_TOO_SMALL);
  ck_assert_uint_eq(needed, OTR_VERDICT_HEAD);
  ck_ok(otr_runtime_pipeline_cache(runtime, blob, &needed));
  ck_ok(otr_runtime_destroy(runtime));
  ck_assert_uint_eq(fake.held(), 0);
  return launches;
}

/* A process meets one driver: each test of the loop is another that meets a blob of the first. */
static const struct {
  const char *settings;
  size_t bytes;
  int flipped; /* byte of the blob; -1: none */
  bool saves;
} second_starts[] = {{"", OTR_VERDICT_HEAD, -1, true},        {"", OTR_VERDICT_HEAD, OTR_VERDICT_HEAD - 1, false},
                     {"", OTR_VERDICT_HEAD, 0, false},        {"", OTR_VERDICT_HEAD, 20, false},
                     {"", OTR_VERDICT_HEAD, 80, false},       {"", OTR_VERDICT_HEAD - 1, -1, false},
                     {"uuid=2", OTR_VERDICT_HEAD, -1, false}, {"driver=12080", OTR_VERDICT_HEAD, -1, false},
                     {"sm=86", OTR_VERDICT_HEAD, -1, false}};

START_TEST(a_kept_verdict_saves_the_check) {
  int pipe_of[2];
  uint8_t blob[OTR_VERDICT_HEAD];
  ck_assert_int_eq(pipe(pipe_of), 0);
  pid_t child = fork();
  if (child == 0) {
    launches_of_create("", blob, 0);
    _exit(write(pipe_of[1], blob, sizeof blob) == (ssize_t)sizeof blob ? 0 : 1);
  }
  int status = 1;
  ck_assert_int_eq(waitpid(child, &status, 0), child);
  ck_assert_int_eq(status, 0);
  ck_assert_int_eq(read(pipe_of[0], blob, sizeof blob), sizeof blob);
  close(pipe_of[0]);
  close(pipe_of[1]);
  if (second_starts[_i].flipped >= 0) blob[second_starts[_i].flipped] ^= 1;
  uint64_t with = launches_of_create(second_starts[_i].settings, blob, second_starts[_i].bytes);
  uint64_t without = launches_of_create(second_starts[_i].settings, blob, 0);
  if (second_starts[_i].saves)
    ck_assert_uint_lt(with, without / 2);
  else
    ck_assert_uint_gt(with, without / 2);
}
END_TEST

/* ---- failures ---------------------------------------------------------------------------------------------------- */

/** All that an app does, up to the first failure; everything is given back. */
static otr_status everything(void) {
  otr_runtime *runtime = NULL;
  otr_model *model = NULL;
  otr_session *s = NULL, *copy = NULL;
  otr_session_params params = {.struct_size = sizeof params, .n_ctx = N_CTX, .n_batch = N};
  otr_status status = open_runtime("cuda", &runtime);
  if (status == OTR_STATUS_OK) status = otr_model_open_file(runtime, path, NULL, &model);
  if (status == OTR_STATUS_OK) status = otr_session_create(model, &params, &s);
  if (status == OTR_STATUS_OK) status = otr_session_create(model, &params, &copy);
  if (status == OTR_STATUS_OK) status = otr_session_eval(s, ids, PROMPT, NULL);
  if (status == OTR_STATUS_OK) status = otr_session_copy(copy, s);
  for (int32_t i = PROMPT; i < PROMPT + 2 && status == OTR_STATUS_OK; i++) {
    status = otr_session_eval(copy, ids + i, 1, NULL);
    if (status == OTR_STATUS_OK)
      kit_same(otr_session_logits(copy), expected + (size_t)i * vocab, vocab, "logits of a session that works");
  }
  otr_session_destroy(copy);
  otr_session_destroy(s);
  ck_ok(otr_model_close(model));
  ck_ok(otr_runtime_destroy(runtime));
  return status;
}

/** Calls that give something back: what they refuse to take stays. */
static bool gives_back(const char *call) {
  static const char *const words[] = {"Free", "Destroy", "Unload", "Unregister", "Release"};
  for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
    if (strstr(call, words[i])) return true;
  return false;
}

/** One call failing, the n-th: a status or, where the failure does no harm, none; nothing is left behind. */
static void check_failure(uint64_t n, const char *call, int error) {
  uint64_t before = fake.held();
  CUcontext current;
  fake.begin();
  fake.fail_at(NULL, n, error);
  otr_status status = everything();
  fake.fail_at(NULL, 0, 0);
  ck_assert_msg(status == OTR_STATUS_OK || otr_error_detail()[0], "call %d, %s: no reason", (int)n, call);
  ck_assert_msg(status != OTR_STATUS_INVALID_ARGUMENT, "call %d, %s: %s", (int)n, call, otr_error_detail());
  ck_assert_int_eq(fake.get_current(&current), CUDA_SUCCESS);
  ck_assert_msg(current == NULL, "call %d, %s: the context stays", (int)n, call);
  if (gives_back(call)) return;
  ck_assert_msg(fake.held() == before, "call %d, %s: %llu held, %llu before: %s", (int)n, call,
                (unsigned long long)fake.held(), (unsigned long long)before, otr_error_detail());
}

enum { SHARES = 8 };

/* The calls of a whole app, one in SHARES of them in each test, and of these one in ten where
 * OUTRIDER_TEST_FEW_DEVICES asks for less; every third failure takes the context with it. */
START_TEST(every_call_fails_once) {
  static char names[8192][40];
  setenv("OUTRIDER_FAKE_CUDA", "quiet=1", 1);
  ck_ok(everything());
  fake.begin();
  ck_ok(everything());
  uint64_t n = counts().calls;
  ck_assert_uint_lt(n, sizeof names / sizeof names[0]);
  for (uint64_t i = 1; i <= n; i++) snprintf(names[i], sizeof names[i], "%s", fake.call(i));
  uint64_t step = has_little_time() ? 10 * SHARES : SHARES;
  for (uint64_t i = 1 + (uint64_t)_i; i <= n; i += step) {
    int error = gives_back(names[i]) || i / step % 3 > 0 ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_LAUNCH_FAILED;
    check_failure(i, names[i], error);
  }
  fake.begin();
  ck_ok(everything());
}
END_TEST

START_TEST(first_calls_fail) {
  for (uint64_t n = 1; n <= 24; n++) check_failure(n, "first calls", CUDA_ERROR_INVALID_VALUE);
  ck_ok(everything());
}
END_TEST

START_TEST(every_allocation_fails_once) {
  const char *entry = _i == 0 ? "cuMemAlloc_v2" : "cuMemAllocHost_v2";
  ck_ok(everything());
  uint64_t before = fake.held(), n = 1;
  for (;; n++) {
    fake.begin();
    fake.fail_at(entry, n, CUDA_ERROR_OUT_OF_MEMORY);
    otr_status status = everything();
    fake.fail_at(NULL, 0, 0);
    ck_assert_uint_eq(fake.held(), before);
    if (status == OTR_STATUS_OK) break;
    ck_assert_msg(status == OTR_STATUS_NO_MEMORY, "%s %d: %s", entry, (int)n, otr_error_detail());
  }
  ck_assert_uint_gt(n, 3);
}
END_TEST

START_TEST(a_lost_device_is_told_and_left) {
  setenv("OUTRIDER_FAKE_CUDA", "quiet=1", 1);
  kit k = kit_open(path, "cuda", 1, NULL);
  otr_session *s = kit_session(k.model, N_CTX, N);
  ck_ok(otr_session_eval(s, ids, PROMPT, NULL));
  fake.fail_at("run", 3, CUDA_ERROR_ILLEGAL_ADDRESS);
  ck_assert_int_eq(otr_session_eval(s, ids, 1, NULL), OTR_STATUS_DEVICE_LOST);
  ck_assert_msg(strstr(otr_error_detail(), "cuda:0") != NULL, "%s", otr_error_detail());
  ck_assert_int_eq(otr_session_eval(s, ids, 1, NULL), OTR_STATUS_DEVICE_LOST);
  otr_session_destroy(s);
  kit_close(&k);
  ck_assert_uint_eq(fake.held(), 0);
  ck_ok(everything());
}
END_TEST

static void add(TCase *tests) {
  tcase_add_unchecked_fixture(tests, set_up, tear_down);
  tcase_add_loop_test(tests, missing_drivers_have_a_reason, 0, (int)(sizeof missing / sizeof missing[0]));
  tcase_add_test(tests, devices_by_index_and_name);
  tcase_add_test(tests, images_by_capability);
  tcase_add_test(tests, a_decoded_token_is_one_graph);
  tcase_add_test(tests, graphs_of_few_rows_come_and_go);
  tcase_add_test(tests, long_passes_are_cut);
  tcase_add_test(tests, weights_lie_where_they_are_wanted);
  tcase_add_test(tests, discrete_gpus_have_copies);
  tcase_add_test(tests, the_apps_context_stays_current);
  tcase_add_test(tests, threads_share_a_device);
  tcase_add_test(tests, sessions_come_while_others_run);
  const int starts = has_little_time() ? 2 : (int)(sizeof second_starts / sizeof second_starts[0]);
  tcase_add_loop_test(tests, a_kept_verdict_saves_the_check, 0, starts);
  tcase_add_loop_test(tests, every_call_fails_once, 0, SHARES);
  tcase_add_test(tests, first_calls_fail);
  tcase_add_loop_test(tests, every_allocation_fails_once, 0, 2);
  tcase_add_test(tests, a_lost_device_is_told_and_left);
}

int main(void) {
  return suite_run("cuda", add);
}
