// SPDX-License-Identifier: Apache-2.0
/* outrider perplexity: how well a model predicts a text, by LLM.int8() or by the lab's f32, and how far one is from the
 * other. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "common.h"
#include "lab.h"
#include "score.h"
#include "status.h"
#include "windows.h"

enum { ROWS = 64 }; /* rows of logits held at a time */

typedef struct arguments {
  tool_options options;
  tool_window_rule rule;
  const char *model, *nll_out, *top1_out, *kl_base;
  int32_t f32, json;
} arguments;

enum { KEY_NLL = TOOL_KEY_OWN, KEY_TOP1, KEY_SCHEME, KEY_BOS, KEY_PIECES, KEY_KL };
static const struct argp_option rows[] = {
    {"bos", KEY_BOS, NULL, 0, "begin every window with the model's begin token", 0},
    {"pieces", KEY_PIECES, NULL, 0, "cut the text at blank lines: each piece is a window, cut at --ctx", 0},
    {"scheme", KEY_SCHEME, "NAME", 0, "int8 (the default) or f32: the source GGUF's values with nothing rounded", 0},
    {"kl-base", KEY_KL, "GGUF", 0,
     "also compare with the f32 scheme of this source: KL divergence and how often the "
     "likeliest token is the same",
     0},
    {"nll-out", KEY_NLL, "FILE", 0, "write -log p of each token after a window's first, f32 [windows, n - 1]", 0},
    {"top1-out", KEY_TOP1, "FILE", 0, "write the likeliest token at each position, i32 [windows, n]", 0},
    TOOL_JSON_OPTION,
    {0}};
static const struct argp_child children[] = {
    {&tool_options_argp, 0, NULL, 0}, {&tool_windows_plain_argp, 0, NULL, 0}, {0}};

static void take_argument(struct argp_state *state, arguments *a, char *arg) {
  if (a->model) {
    tool_take_file(state, &a->rule.text, arg);
  } else {
    a->model = arg;
  }
}

static void check(const struct argp_state *state, const arguments *a) {
  if (!a->rule.text == !a->rule.tokens) argp_error(state, "either a text FILE (- for standard input) or --tokens");
  if (a->f32 && a->kl_base) argp_error(state, "--kl-base is for the scheme int8");
  if (a->rule.tokens && a->rule.pieces) argp_error(state, "--pieces is for a text");
}

static error_t parse(int key, char *arg, struct argp_state *state) {
  arguments *a = state->input;
  switch (key) {
    case ARGP_KEY_INIT:
      state->child_inputs[0] = &a->options;
      state->child_inputs[1] = &a->rule;
      return 0;
    case KEY_NLL:
      a->nll_out = arg;
      return 0;
    case KEY_TOP1:
      a->top1_out = arg;
      return 0;
    case KEY_SCHEME:
      a->f32 = strcmp(arg, "f32") == 0;
      if (!a->f32 && strcmp(arg, "int8") != 0) argp_error(state, "--scheme: `%s' is not int8 or f32", arg);
      return 0;
    case KEY_BOS:
      a->rule.bos = 1;
      return 0;
    case KEY_PIECES:
      a->rule.pieces = 1;
      return 0;
    case KEY_KL:
      a->kl_base = arg;
      return 0;
    case TOOL_KEY_JSON:
      a->json = 1;
      return 0;
    case ARGP_KEY_ARG:
      take_argument(state, a, arg);
      return 0;
    case ARGP_KEY_NO_ARGS:
      argp_error(state, "MODEL is missing");
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
    .args_doc = "MODEL [FILE]",
    .doc =
        "Measures perplexity over windows of a text: of all tokens but each window's first, and of the second "
        "halves, which have at least half a window before them (what llama.cpp reports)." TOOL_EXIT_DOC,
    .children = children,
};

/* ---- where logits come from ------------------------------------------------------------------------------------- */

/** One of the two schemes, or both. */
typedef struct sources {
  tool_model model;
  otr_session *session;  // int8
  lab_model *lab;        // f32, all its layers kept
  lab_weights *weights;
  int32_t vocab;
} sources;

static otr_status open_lab(const char *path, int32_t n_threads, sources *out) {
  lab_scheme f32;
  OTR_TRY(lab_scheme_parse("f32", &f32));
  OTR_TRY(lab_open(path, n_threads, &out->lab));
  return lab_weights_create(out->lab, &f32, NULL, true, &out->weights);
}

static otr_status open_sources(const arguments *a, sources *out) {
  *out = (sources){0};
  if (!a->f32) OTR_TRY(tool_open(&a->options, a->model, &out->model));
  if (a->f32 || a->kl_base) OTR_TRY(open_lab(a->f32 ? a->model : a->kl_base, a->options.n_threads, out));
  out->vocab = a->f32 ? lab_config(out->lab)->vocab : out->model.info.vocab;
  if (out->lab && lab_config(out->lab)->vocab != out->vocab) {
    return otr_fail(OTR_STATUS_MISMATCH, "%s has another vocabulary", a->kl_base);
  }
  return OTR_STATUS_OK;
}

static void close_sources(sources *s) {
  otr_session_destroy(s->session);
  lab_weights_free(s->weights);
  lab_close(s->lab);
  tool_close(&s->model);
}

/* ---- windows ---------------------------------------------------------------------------------------------------- */

typedef struct work {
  const arguments *a;
  sources s;
  tool_ids windows;
  float *logits, *base;  // [ROWS, vocab]; base: f32 beside int8, or NULL
  float *hidden;         // [longest window, width]: what the lab's output layer reads
  FILE *nll_out, *top1_out;
  tool_tally t;
} work;

static otr_status begin_window(work *w, size_t window) {
  if (w->s.session) OTR_TRY(otr_session_truncate(w->s.session, 0));
  if (!w->s.lab) return OTR_STATUS_OK;
  const tool_ids one = {w->windows.ids, w->windows.start + window, 1};
  return lab_run(w->s.lab, w->s.weights, &one, NULL, w->hidden);
}

/* Row i of a window of n ids: `logits` predicts id i + 1. */
static otr_status add_row(work *w, const int32_t *ids, int32_t n, int32_t i, const float *logits, const float *base) {
  double nll = 0.0;
  tool_score score = tool_tally_row(&w->t, ids, n, i, logits, base, w->s.vocab, &nll);
  OTR_TRY(tool_write_words(w->top1_out, &score.top, 1));
  if (i + 1 == n) return OTR_STATUS_OK;
  float stored = (float)nll;
  return tool_write_words(w->nll_out, &stored, 1);
}

static otr_status score_rows(work *w, const int32_t *ids, int32_t n, int32_t first, int32_t count) {
  if (w->s.session) OTR_TRY(otr_session_eval(w->s.session, ids + first, count, w->logits));
  if (w->s.lab) {
    const float *x = w->hidden + (size_t)first * (size_t)lab_head_width(w->s.lab);
    OTR_TRY(lab_logits(w->s.lab, w->s.weights, x, count, w->base ? w->base : w->logits));
  }
  for (int32_t i = 0; i < count; i++) {
    const size_t at = (size_t)i * (size_t)w->s.vocab;
    OTR_TRY(add_row(w, ids, n, first + i, w->logits + at, w->base ? w->base + at : NULL));
  }
  return OTR_STATUS_OK;
}

static otr_status score_window(work *w, size_t window) {
  const int32_t *ids = w->windows.ids + w->windows.start[window];
  const int32_t n = (int32_t)tool_ids_length(&w->windows, window);
  OTR_TRY(begin_window(w, window));
  for (int32_t i = 0; i < n; i += ROWS) OTR_TRY(score_rows(w, ids, n, i, n - i < ROWS ? n - i : ROWS));
  return OTR_STATUS_OK;
}

static otr_status score_all(work *w) {
  tool_progress progress;
  tool_progress_start(&progress, "scoring");
  otr_status status = OTR_STATUS_OK;
  for (size_t i = 0; i < w->windows.n && status == OTR_STATUS_OK; i++) {
    tool_progress_step(&progress, i, w->windows.n);
    status = score_window(w, i);
  }
  tool_progress_end(&progress);
  if (status == OTR_STATUS_OK && w->t.tokens == 0) {
    status = otr_fail(OTR_STATUS_INVALID_ARGUMENT, "no window has two tokens: nothing to score");
  }
  return status;
}

/* ---- output ----------------------------------------------------------------------------------------------------- */

static otr_status outlier_share(const work *w, double *share) {
  otr_stats stats = {.struct_size = sizeof stats};
  *share = 0.0;
  if (!w->s.session) return OTR_STATUS_OK;
  OTR_TRY(otr_session_stats(w->s.session, &stats));
  *share = stats.outlier_share;
  return OTR_STATUS_OK;
}

static void describe(const work *w, char device[64], char outliers[32]) {
  otr_device_info info = {.struct_size = sizeof info};
  snprintf(device, 64, "lab");
  snprintf(outliers, 32, "none");
  if (!w->s.session) return;
  tool_outliers_text(w->s.model.info.outliers, outliers);
  if (otr_runtime_device(w->s.model.runtime, &info) == OTR_STATUS_OK) snprintf(device, 64, "%s", info.name);
}

static otr_status print_json(const work *w, double share, double seconds) {
  char device[64], outliers[32];
  const tool_tally *t = &w->t;
  describe(w, device, outliers);
  double nll = tool_mean(t->nll, t->tokens), half = tool_mean(t->nll_half, t->tokens_half);
  json_t *json =
      json_pack("{s:f, s:f, s:f, s:f, s:I, s:I, s:I, s:f, s:s, s:s, s:s, s:f}", "ppl", exp(nll), "ppl_second_half",
                exp(half), "nll", nll, "nll_second_half", half, "tokens", (json_int_t)t->tokens, "tokens_second_half",
                (json_int_t)t->tokens_half, "windows", (json_int_t)w->windows.n, "outlier_share", share, "scheme",
                w->a->f32 ? "f32" : "int8", "device", device, "outliers", outliers, "seconds", seconds);
  if (json && w->base) {
    json_object_set_new(json, "kl", json_real(tool_mean(t->kl, t->rows)));
    json_object_set_new(json, "kl_second_half", json_real(tool_mean(t->kl_half, t->rows_half)));
    json_object_set_new(json, "top1_same", json_real(tool_mean((double)t->same, t->rows)));
  }
  return tool_print_json(json);
}

static void print_text(const work *w, double share, double seconds) {
  const tool_tally *t = &w->t;
  char device[64], outliers[32];
  describe(w, device, outliers);
  printf("scheme             %s, device %s, outliers %s\n", w->a->f32 ? "f32" : "int8", device, outliers);
  printf("perplexity         %.6f on %llu tokens of %zu windows\n", exp(tool_mean(t->nll, t->tokens)),
         (unsigned long long)t->tokens, w->windows.n);
  printf("of second halves   %.6f on %llu tokens\n", exp(tool_mean(t->nll_half, t->tokens_half)),
         (unsigned long long)t->tokens_half);
  if (!w->a->f32) printf("outlier share      %.4f %%\n", 100.0 * share);
  if (w->base) {
    printf("KL(f32 || int8)    %.6f, of second halves %.6f\n", tool_mean(t->kl, t->rows),
           tool_mean(t->kl_half, t->rows_half));
    printf("same top token     %.3f %%\n", 100.0 * tool_mean((double)t->same, t->rows));
  }
  printf("seconds            %.2f\n", seconds);
}

/* ---- the part --------------------------------------------------------------------------------------------------- */

static int32_t longest(const tool_ids *windows) {
  size_t n = 1;
  for (size_t i = 0; i < windows->n; i++) n = tool_ids_length(windows, i) > n ? tool_ids_length(windows, i) : n;
  return (int32_t)n;
}

static otr_status prepare(work *w) {
  const arguments *a = w->a;
  const size_t values = (size_t)ROWS * (size_t)w->s.vocab;
  OTR_TRY(tool_windows(a->model, w->s.vocab, &a->rule, &w->windows));
  OTR_TRY(tool_allocate(values, sizeof *w->logits, (void **)&w->logits));
  if (a->kl_base) OTR_TRY(tool_allocate(values, sizeof *w->base, (void **)&w->base));
  if (w->s.lab) {
    const size_t hidden = (size_t)longest(&w->windows) * (size_t)lab_head_width(w->s.lab);
    OTR_TRY(tool_allocate(hidden, sizeof *w->hidden, (void **)&w->hidden));
  }
  if (!a->f32) OTR_TRY(tool_session(&w->s.model, longest(&w->windows), ROWS, 0, &w->s.session));
  OTR_TRY(tool_create(a->nll_out, &w->nll_out));
  return tool_create(a->top1_out, &w->top1_out);
}

static otr_status perplexity(work *w) {
  OTR_TRY(open_sources(w->a, &w->s));
  OTR_TRY(prepare(w));
  double start = tool_seconds(), share;
  OTR_TRY(score_all(w));
  double seconds = tool_seconds() - start;
  OTR_TRY(outlier_share(w, &share));
  if (w->a->json) return print_json(w, share, seconds);
  print_text(w, share, seconds);
  return OTR_STATUS_OK;
}

int tool_perplexity(int argc, char **argv) {
  arguments a = {.rule = {.n_ctx = 512}};
  tool_parse(&argp, argc, argv, &a);
  work w = {.a = &a};
  otr_status status = perplexity(&w);
  status = tool_finish(w.nll_out, a.nll_out, status);
  status = tool_finish(w.top1_out, a.top1_out, status);
  int code = tool_report(status);
  close_sources(&w.s);
  tool_ids_free(&w.windows);
  free(w.logits);
  free(w.base);
  free(w.hidden);
  return code;
}
