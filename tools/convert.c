// SPDX-License-Identifier: Apache-2.0
/* outrider convert: a published model becomes an LLM.int8() model file that opens in milliseconds. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "common.h"
#include "conversion.h"

typedef struct arguments {
  tool_options options;
  const char *in, *out;
  const char **keep_f16;  // [n_keep_f16]
  int32_t n_keep_f16, f16_columns_all, json;
} arguments;

enum { KEY_COLUMNS = TOOL_KEY_OWN, KEY_KEEP };
static const struct argp_option rows[] = {
    {"f16-columns", KEY_COLUMNS, "none|all", 0, "also keep every column of every linear as f16 (default: none)", 0},
    {"keep-f16", KEY_KEEP, "GLOB", 0, "keep weights of this GGUF name as f16 linears (repeatable; * and ?)", 0},
    TOOL_JSON_OPTION,
    {0}};
static const struct argp_child children[] = {{&tool_options_argp, 0, NULL, 0}, {0}};

static void add_glob(struct argp_state *state, arguments *a, const char *glob) {
  const char **more = realloc(a->keep_f16, ((size_t)a->n_keep_f16 + 1) * sizeof *more);
  if (!more) argp_failure(state, TOOL_EXIT_FAILURE, 0, "no memory");
  a->keep_f16 = more;
  a->keep_f16[a->n_keep_f16++] = glob;
}

static void take_path(struct argp_state *state, arguments *a, const char *path) {
  if (!a->in) {
    a->in = path;
  } else if (!a->out) {
    a->out = path;
  } else {
    argp_error(state, "one file too many: `%s'", path);
  }
}

static error_t parse(int key, char *arg, struct argp_state *state) {
  arguments *a = state->input;
  switch (key) {
    case ARGP_KEY_INIT:
      state->child_inputs[0] = &a->options;
      return 0;
    case KEY_COLUMNS:
      a->f16_columns_all = strcmp(arg, "all") == 0;
      if (!a->f16_columns_all && strcmp(arg, "none") != 0) argp_error(state, "--f16-columns is none or all");
      return 0;
    case KEY_KEEP:
      add_glob(state, a, arg);
      return 0;
    case TOOL_KEY_JSON:
      a->json = 1;
      return 0;
    case ARGP_KEY_ARG:
      take_path(state, a, arg);
      return 0;
    case ARGP_KEY_END:
      if (!a->out) argp_error(state, "IN and OUT are needed");
      return 0;
    default:
      return ARGP_ERR_UNKNOWN;
  }
}

static const struct argp argp = {
    .options = rows,
    .parser = parse,
    .args_doc = "IN OUT",
    .doc =
        "Converts a GGUF file (F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K) or a Hugging Face "
        "directory (config.json and safetensors in F32, F16, BF16, F8_E4M3, F8_E5M2, or int8 of bitsandbytes) to an "
        "LLM.int8() model file: int8 weights that are mapped and used in place, and a hash of its logits for `outrider "
        "verify'. "
        "--outliers is the rule that the file will hold. The same input and options give the same bytes." TOOL_EXIT_DOC,
    .children = children,
};

static volatile sig_atomic_t interrupted;

static void interrupt(int signal) {
  (void)signal;
  interrupted = 1;
}

/* A signal ends the conversion between two pieces, so that the unfinished file is removed; a second one ends at once.
 */
static void catch_signals(void) {
  static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
  struct sigaction action = {.sa_handler = interrupt, .sa_flags = (int)SA_RESETHAND};
  sigemptyset(&action.sa_mask);
  for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) sigaction(signals[i], &action, NULL);
}

static int32_t step(void *user, uint64_t done, uint64_t total) {
  tool_progress_step(user, done, total);
  return interrupted;
}

static otr_status print(const arguments *a, const conversion_result *r, double seconds) {
  char rule[32];
  tool_outliers_text(r->outliers, rule);
  if (a->json) {
    return tool_print_json(json_pack("{s:s, s:I, s:I, s:i, s:i, s:s, s:s, s:f}", "out", a->out, "source_bytes",
                                     (json_int_t)r->source_bytes, "bytes", (json_int_t)r->bytes, "int8_weights",
                                     (int)r->n_int8, "f16_weights", (int)r->n_f16, "outliers", rule, "sha256",
                                     r->sha256, "seconds", seconds));
  }
  printf("%s: %.1f MB from %.1f MB in %.1f s; %d int8 and %d f16 weights, outliers %s\nlogits    %s\n", a->out,
         (double)r->bytes * 1e-6, (double)r->source_bytes * 1e-6, seconds, (int)r->n_int8, (int)r->n_f16, rule,
         r->sha256);
  return OTR_STATUS_OK;
}

static otr_status convert(const arguments *a, conversion_result *result) {
  tool_progress progress;
  conversion_params params = {.in = a->in,
                              .out = a->out,
                              .keep_f16 = a->keep_f16,
                              .n_keep_f16 = a->n_keep_f16,
                              .f16_columns_all = a->f16_columns_all,
                              .outliers = a->options.outliers,
                              .progress = step,
                              .progress_user = &progress};
  otr_status status = tool_runtime(&a->options, &params.runtime);
  if (status != OTR_STATUS_OK) return status;
  catch_signals();
  tool_progress_start(&progress, "converting");
  status = conversion_run(&params, result);
  tool_progress_end(&progress);
  (void)otr_runtime_destroy(params.runtime);
  return status;
}

int tool_convert(int argc, char **argv) {
  arguments a = {0};
  tool_parse(&argp, argc, argv, &a);
  conversion_result result;
  double start = tool_seconds();
  otr_status status = convert(&a, &result);
  if (status == OTR_STATUS_OK) status = print(&a, &result, tool_seconds() - start);
  free(a.keep_f16);
  return tool_report(status);
}
