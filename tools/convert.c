// SPDX-License-Identifier: Apache-2.0
/* outrider convert: a published model becomes an LLM.int8() model file that opens in milliseconds. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "calibrate.h"
#include "commands.h"
#include "common.h"
#include "conversion.h"
#include "status.h"

enum { COLUMNS_DEFAULT, COLUMNS_NONE, COLUMNS_ALL, COLUMNS_CALIBRATED };
typedef struct arguments {
  tool_options options;
  const char *in, *out;
  const char **keep_f16;  // [n_keep_f16]
  int32_t n_keep_f16, json;
  const char *calibration;  // a text, or NULL
  int columns;              // COLUMNS_...
  double outlier_share, column_share;
} arguments;

enum { KEY_COLUMNS = TOOL_KEY_OWN, KEY_KEEP, KEY_CALIBRATE, KEY_OUTLIER_SHARE, KEY_COLUMN_SHARE };
static const struct argp_option rows[] = {
    {"calibrate", KEY_CALIBRATE, "TEXT", 0,
     "run this text through the model first: columns of features that are outliers often stay f16, too", 0},
    {"f16-columns", KEY_COLUMNS, "none|all|calibrated", 0,
     "columns of linears that are kept as f16, too (default: none; with --calibrate calibrated)", 0},
    {"column-share", KEY_COLUMN_SHARE, "PERCENT", 0, "of all columns at most, with --calibrate (default 2)", 0},
    {"outlier-share", KEY_OUTLIER_SHARE, "PERCENT", 0,
     "with --calibrate: an absolute threshold for each linear, so that this share of its inputs are outliers", 0},
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

static void take_columns(const struct argp_state *state, arguments *a, const char *name) {
  static const char *const names[] = {"", "none", "all", "calibrated"};
  for (int i = COLUMNS_NONE; i <= COLUMNS_CALIBRATED; i++) {
    if (strcmp(name, names[i]) == 0) a->columns = i;
  }
  if (a->columns == COLUMNS_DEFAULT) argp_error(state, "--f16-columns is none, all or calibrated");
}

static void check(const struct argp_state *state, arguments *a) {
  if (!a->out) argp_error(state, "IN and OUT are needed");
  if (!a->calibration && (a->columns == COLUMNS_CALIBRATED || a->outlier_share > 0.0 || a->column_share >= 0.0))
    argp_error(state, "--f16-columns calibrated, --column-share and --outlier-share need --calibrate");
  if (a->outlier_share > 0.0 && a->options.outliers.rule != OTR_OUTLIERS_DEFAULT)
    argp_error(state, "--outlier-share makes the rules that --outliers would replace");
  if (a->calibration && a->columns == COLUMNS_DEFAULT) a->columns = COLUMNS_CALIBRATED;
}

static error_t parse(int key, char *arg, struct argp_state *state) {
  arguments *a = state->input;
  switch (key) {
    case ARGP_KEY_INIT:
      state->child_inputs[0] = &a->options;
      return 0;
    case KEY_COLUMNS:
      take_columns(state, a, arg);
      return 0;
    case KEY_CALIBRATE:
      a->calibration = arg;
      return 0;
    case KEY_COLUMN_SHARE:
      a->column_share = tool_number(state, "--column-share", arg, 0.0, 100.0) / 100.0;
      return 0;
    case KEY_OUTLIER_SHARE:
      a->outlier_share = tool_number(state, "--outlier-share", arg, 0.001, 50.0) / 100.0;
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
      check(state, a);
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

/* ---- calibration ------------------------------------------------------------------------------------------------ */

/* What the text decided, as the conversion takes it. */
typedef struct decided {
  calibration calibration;
  conversion_linear *linears;  // [calibration.n]
} decided;

static otr_status run_calibration(const arguments *a, decided *out) {
  calibration_params params = {.outlier_share = a->outlier_share,
                               .column_share = a->column_share >= 0.0 ? a->column_share : 0.02,
                               .keep_f16 = a->keep_f16,
                               .n_keep_f16 = a->n_keep_f16};
  static const otr_outliers standard = {OTR_OUTLIERS_RELATIVE, 0.0f}; /* of a file that is told nothing */
  if (a->columns != COLUMNS_CALIBRATED) params.column_share = 0.0;
  OTR_TRY(otr_rule_override(&standard, &params.rule));
  OTR_TRY(otr_rule_override(&a->options.outliers, &params.rule));
  OTR_TRY(calibrate(a->in, a->calibration, a->options.n_threads, &params, &out->calibration));
  OTR_TRY(tool_allocate((size_t)out->calibration.n, sizeof *out->linears, (void **)&out->linears));
  for (int32_t i = 0; i < out->calibration.n; i++) {
    const calibration_linear *from = &out->calibration.linears[i];
    conversion_linear *linear = &out->linears[i];
    *linear = (conversion_linear){.name = from->name, .columns = from->columns, .n_columns = from->n_columns};
    if (a->outlier_share > 0.0) linear->outliers = (otr_outliers){OTR_OUTLIERS_ABSOLUTE, from->rule.value};
  }
  return OTR_STATUS_OK;
}

/* ---- the part --------------------------------------------------------------------------------------------------- */

static otr_status print(const arguments *a, const conversion_result *r, const decided *d, double seconds) {
  const calibration *c = &d->calibration;
  char rule[32];
  tool_outliers_text(r->outliers, rule);
  if (a->json) {
    json_t *json = json_pack("{s:s, s:I, s:I, s:i, s:i, s:s, s:s, s:f}", "out", a->out, "source_bytes",
                             (json_int_t)r->source_bytes, "bytes", (json_int_t)r->bytes, "int8_weights", (int)r->n_int8,
                             "f16_weights", (int)r->n_f16, "outliers", rule, "sha256", r->sha256, "seconds", seconds);
    if (json && a->calibration) {
      json_object_set_new(json, "calibration_tokens", json_integer((json_int_t)c->tokens));
      json_object_set_new(json, "f16_columns", json_integer((json_int_t)c->columns));
      json_object_set_new(json, "columns", json_integer((json_int_t)c->all_columns));
    }
    return tool_print_json(json);
  }
  printf("%s: %.1f MB from %.1f MB in %.1f s; %d int8 and %d f16 weights, outliers %s\nlogits    %s\n", a->out,
         (double)r->bytes * 1e-6, (double)r->source_bytes * 1e-6, seconds, (int)r->n_int8, (int)r->n_f16, rule,
         r->sha256);
  if (a->calibration && c->all_columns == 0)
    printf("calibrated with %llu tokens: no weight here has f16 columns to give\n", (unsigned long long)c->tokens);
  else if (a->calibration)
    printf("calibrated with %llu tokens: %llu of %llu columns in f16, too (%.2f %%)\n", (unsigned long long)c->tokens,
           (unsigned long long)c->columns, (unsigned long long)c->all_columns,
           100.0 * (double)c->columns / (double)c->all_columns);
  return OTR_STATUS_OK;
}

static otr_status convert(const arguments *a, decided *d, conversion_result *result) {
  tool_progress progress;
  conversion_params params = {.in = a->in,
                              .out = a->out,
                              .keep_f16 = a->keep_f16,
                              .n_keep_f16 = a->n_keep_f16,
                              .f16_columns_all = a->columns == COLUMNS_ALL,
                              .outliers = a->options.outliers,
                              .progress = step,
                              .progress_user = &progress};
  if (a->calibration) {
    OTR_TRY(conversion_check(&params));
    OTR_TRY(run_calibration(a, d));
  }
  params.linears = d->linears;
  params.n_linears = d->calibration.n;
  OTR_TRY(tool_runtime(&a->options, &params.runtime));
  catch_signals();
  tool_progress_start(&progress, "converting");
  otr_status status = conversion_run(&params, result);
  tool_progress_end(&progress);
  (void)otr_runtime_destroy(params.runtime);
  return status;
}

int tool_convert(int argc, char **argv) {
  arguments a = {.column_share = -1.0};
  decided d = {0};
  tool_parse(&argp, argc, argv, &a);
  conversion_result result;
  double start = tool_seconds();
  otr_status status = convert(&a, &d, &result);
  if (status == OTR_STATUS_OK) status = print(&a, &result, &d, tool_seconds() - start);
  calibration_free(&d.calibration);
  free(d.linears);
  free(a.keep_f16);
  return tool_report(status);
}
