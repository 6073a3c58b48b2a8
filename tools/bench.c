// SPDX-License-Identifier: Apache-2.0
/* outrider bench: tokens per second beside the machine's limits, both the best of one run. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "common.h"
#include "device_limits.h"
#include "machine_limits.h"
#include "runtime.h"
#include "status.h"

enum { MAX_LIST = 16 };
typedef struct int_list {
  int32_t n, values[MAX_LIST];
} int_list;

typedef struct arguments {
  tool_options options;
  tool_subject subject;
  int32_t repeat;
  int_list prefill, decode, threads;
} arguments;

enum { KEY_PREFILL = TOOL_KEY_OWN, KEY_DECODE, KEY_REPEAT };
static const struct argp_option rows[] = {
    {"prefill", KEY_PREFILL, "N,...", 0, "prompt lengths (default 128,512; 0: none)", 0},
    {"decode", KEY_DECODE, "N,...", 0, "tokens one by one from an empty context (default 64; 0: none)", 0},
    {"threads", TOOL_KEY_THREADS, "N,...", 0, "thread counts (default: one for each core)", 0},
    {"repeat", KEY_REPEAT, "N", 0, "runs of each test, of which the best counts (default 5)", 0},
    {0}};
static const struct argp_child children[] = {{&tool_unthreaded_argp, 0, NULL, 0}, {&tool_model_argp, 0, NULL, 0}, {0}};

static void take_list(const struct argp_state *state, const char *option, const char *arg, int64_t min, int64_t max,
                      int_list *out) {
  out->n = tool_integers(state, option, arg, min, max, out->values, MAX_LIST);
}

static error_t parse(int key, char *arg, struct argp_state *state) {
  arguments *a = state->input;
  switch (key) {
    case ARGP_KEY_INIT:
      state->child_inputs[0] = &a->options;
      state->child_inputs[1] = &a->subject;
      return 0;
    case KEY_PREFILL:
      take_list(state, "--prefill", arg, 0, 1 << 19, &a->prefill);
      return 0;
    case KEY_DECODE:
      take_list(state, "--decode", arg, 0, 1 << 19, &a->decode);
      return 0;
    case TOOL_KEY_THREADS:
      take_list(state, "--threads", arg, 1, 1024, &a->threads);
      return 0;
    case KEY_REPEAT:
      a->repeat = (int32_t)tool_integer(state, "--repeat", arg, 1, 1000);
      return 0;
    default:
      return ARGP_ERR_UNKNOWN;
  }
}

static const struct argp argp = {
    .options = rows,
    .parser = parse,
    .args_doc = "MODEL",
    .doc =
        "Measures tokens per second and, in the same run, the machine's limits. The share of the limit is, for "
        "prefill, the layers' multiply-adds against the peak of int8 multiply-adds; for decode, the weight bytes "
        "read for a token against the read bandwidth, on a GPU against a copy in its own memory." TOOL_EXIT_DOC,
    .children = children,
};

/* ---- measuring -------------------------------------------------------------------------------------------------- */

typedef struct result {
  bool prefill;
  int32_t n, threads;
  double seconds;                        // of the best run
  double share;                          // of the limit; negative where none is known: a GPU's int8 peak
  uint64_t n_submissions, n_dispatches;  // of a run
} result;

typedef struct report {
  result results[2 * MAX_LIST * MAX_LIST];
  int32_t n;
  bool on_gpu;
  tool_limits limits[MAX_LIST];  // of the CPU by thread count
  double copy_gbs;               // of a GPU's own memory
  char device[64], outliers[32];
} report;

/* One run: n ids in one eval, or one by one. */
static otr_status run_once(otr_session *session, const int32_t *ids, int32_t n, bool prefill, double *seconds) {
  otr_session_reset(session);
  double start = tool_seconds();
  if (prefill) {
    OTR_TRY(otr_session_eval(session, ids, n, NULL));
  } else {
    for (int32_t i = 0; i < n; i++) OTR_TRY(otr_session_eval(session, ids + i, 1, NULL));
  }
  *seconds = tool_seconds() - start;
  return OTR_STATUS_OK;
}

static otr_status run_best(otr_session *session, const int32_t *ids, int32_t repeat, result *out) {
  out->seconds = 1e9;
  for (int32_t i = 0; i < repeat; i++) {
    double seconds;
    OTR_TRY(run_once(session, ids, out->n, out->prefill, &seconds));
    if (seconds < out->seconds) out->seconds = seconds;
  }
  otr_stats stats = {.struct_size = sizeof stats};
  OTR_TRY(otr_session_stats(session, &stats)); /* each run has reset them */
  out->n_submissions = stats.n_submissions;
  out->n_dispatches = stats.n_dispatches;
  return OTR_STATUS_OK;
}

/* All tests of one thread count. */
static otr_status run_tests(const arguments *a, otr_session *session, const int32_t *ids, int32_t threads,
                            report *out) {
  for (int32_t i = 0; i < a->prefill.n + a->decode.n; i++) {
    bool prefill = i < a->prefill.n;
    result *r = &out->results[out->n];
    *r = (result){.prefill = prefill,
                  .n = prefill ? a->prefill.values[i] : a->decode.values[i - a->prefill.n],
                  .threads = threads};
    if (r->n == 0) continue;
    OTR_TRY(run_best(session, ids, a->repeat, r));
    out->n++;
  }
  return OTR_STATUS_OK;
}

static int32_t longest(const arguments *a) {
  int32_t n = 1;
  for (int32_t i = 0; i < a->prefill.n; i++) n = a->prefill.values[i] > n ? a->prefill.values[i] : n;
  for (int32_t i = 0; i < a->decode.n; i++) n = a->decode.values[i] > n ? a->decode.values[i] : n;
  return n;
}

/* Ids that repeat nothing in particular. */
static otr_status make_ids(int32_t n, int32_t vocab, int32_t **out) {
  OTR_TRY(tool_allocate((size_t)n, sizeof **out, (void **)out));
  uint32_t state = 1;
  for (int32_t i = 0; i < n; i++) {
    state = state * 1664525u + 1013904223u;
    (*out)[i] = (int32_t)((state >> 8) % (uint32_t)vocab);
  }
  return OTR_STATUS_OK;
}

static void add_shares(const tool_model *model, const tool_limits *limits, report *out, int32_t first) {
  const double bytes = out->on_gpu ? out->copy_gbs : limits->read_gbs, macs = out->on_gpu ? 0.0 : limits->int8_gmacs;
  for (int32_t i = first; i < out->n; i++) {
    result *r = &out->results[i];
    double rate = r->n / r->seconds, limit = r->prefill ? macs : bytes;
    double work = (double)(r->prefill ? model->info.token_layer_macs : model->info.token_weight_bytes);
    r->share = limit > 0.0 ? 1e-9 * rate * work / limit : -1.0;
  }
}

static otr_status measure_limits(const tool_model *model, int32_t threads, tool_limits *limits, report *out) {
  otr_runtime *runtime = model->runtime;
  OTR_TRY(tool_limits_measure(threads, limits));
  if (!out->on_gpu) return OTR_STATUS_OK;
  OTR_TRY(otr_runtime_begin(runtime));
  otr_status status = tool_device_copy_measure(runtime->device, &out->copy_gbs);
  otr_runtime_end(runtime);
  return status;
}

static otr_status with_session(const arguments *a, const tool_model *model, int32_t threads, report *out) {
  otr_session *session;
  int32_t *ids = NULL;
  OTR_TRY(tool_session(model, longest(a), 0, 0, &session));
  otr_status status = make_ids(longest(a), model->info.vocab, &ids);
  if (status == OTR_STATUS_OK) status = run_tests(a, session, ids, threads, out);
  free(ids);
  otr_session_destroy(session);
  return status;
}

/* Limits before and after, so that a slow moment of a shared machine is no limit. */
static otr_status bench_threads(const arguments *a, int32_t index, report *out) {
  tool_options options = a->options;
  tool_model model;
  options.n_threads = a->threads.values[index];
  OTR_TRY(tool_open(&options, a->subject.model, &model));
  const int32_t threads = otr_runtime_threads(model.runtime), first = out->n;
  tool_limits *limits = &out->limits[index];
  otr_device_info device = {.struct_size = sizeof device};
  otr_status status = otr_runtime_device(model.runtime, &device);
  snprintf(out->device, sizeof out->device, "%s", device.name);
  out->on_gpu = strcmp(device.backend, "vulkan") == 0 || strcmp(device.backend, "cuda") == 0;
  tool_outliers_text(model.info.outliers, out->outliers);
  if (status == OTR_STATUS_OK) status = measure_limits(&model, threads, limits, out);
  if (status == OTR_STATUS_OK) status = with_session(a, &model, threads, out);
  if (status == OTR_STATUS_OK) status = measure_limits(&model, threads, limits, out);
  if (status == OTR_STATUS_OK) add_shares(&model, limits, out, first);
  tool_close(&model);
  return status;
}

/* ---- output ----------------------------------------------------------------------------------------------------- */

static json_t *limits_json(const arguments *a, const report *r) {
  json_t *read = json_object(), *macs = json_object();
  for (int32_t i = 0; i < a->threads.n; i++) {
    char key[16];
    snprintf(key, sizeof key, "%d", (int)a->threads.values[i]);
    json_object_set_new(read, key, json_real(r->limits[i].read_gbs));
    json_object_set_new(macs, key, json_real(r->limits[i].int8_gmacs));
  }
  json_t *copy = r->on_gpu ? json_real(r->copy_gbs) : json_null();
  return json_pack("{s:o, s:o, s:s, s:o}", "read_gbs", read, "int8_gmacs", macs, "int8_instruction",
                   r->limits[0].instruction, "device_copy_gbs", copy);
}

static otr_status print_json(const arguments *a, const report *r) {
  json_t *results = json_array();
  for (int32_t i = 0; i < r->n; i++) {
    const result *one = &r->results[i];
    json_t *share = one->share < 0.0 ? json_null() : json_real(one->share);
    json_array_append_new(
        results, json_pack("{s:s, s:i, s:i, s:f, s:o, s:f, s:I, s:I}", "test", one->prefill ? "prefill" : "decode", "n",
                           (int)one->n, "threads", (int)one->threads, "tokens_per_s", one->n / one->seconds,
                           "share_of_limit", share, "ms", 1e3 * one->seconds, "n_submissions",
                           (json_int_t)one->n_submissions, "n_dispatches", (json_int_t)one->n_dispatches));
  }
  return tool_print_json(json_pack("{s:s, s:s, s:o, s:o}", "device", r->device, "outliers", r->outliers, "limits",
                                   limits_json(a, r), "results", results));
}

static void print_text(const arguments *a, const report *r) {
  printf("device %s, outliers %s\n", r->device, r->outliers);
  for (int32_t i = 0; i < a->threads.n; i++) {
    printf("limits on %d thread%s: read %.1f GB/s, int8 %.0f GMAC/s (%s)\n", (int)a->threads.values[i],
           a->threads.values[i] == 1 ? "" : "s", r->limits[i].read_gbs, r->limits[i].int8_gmacs,
           r->limits[i].instruction);
  }
  if (r->on_gpu) printf("limit of the device: copies in its memory %.1f GB/s, read and written\n", r->copy_gbs);
  printf("%-8s %6s %8s %12s %10s %16s\n", "test", "n", "threads", "tokens/s", "ms", "share of limit");
  for (int32_t i = 0; i < r->n; i++) {
    const result *one = &r->results[i];
    printf("%-8s %6d %8d %12.1f %10.2f ", one->prefill ? "prefill" : "decode", (int)one->n, (int)one->threads,
           one->n / one->seconds, 1e3 * one->seconds);
    if (one->share < 0.0)
      printf("%16s\n", "-");
    else
      printf("%16.3f\n", one->share);
  }
}

int tool_bench(int argc, char **argv) {
  arguments a = {.repeat = 5, .prefill = {2, {128, 512}}, .decode = {1, {64}}, .threads = {0}};
  tool_parse(&argp, argc, argv, &a);
  if (a.threads.n == 0) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    a.threads = (int_list){1, {cores > 0 && cores <= 1024 ? (int32_t)cores : 1}};
  }
  static report r;
  otr_status status = OTR_STATUS_OK;
  for (int32_t i = 0; i < a.threads.n && status == OTR_STATUS_OK; i++) status = bench_threads(&a, i, &r);
  if (status != OTR_STATUS_OK) return tool_report(status);
  if (a.subject.json) return tool_report(print_json(&a, &r));
  print_text(&a, &r);
  return TOOL_EXIT_OK;
}
