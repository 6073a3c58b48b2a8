// SPDX-License-Identifier: Apache-2.0
/* outrider analyze: where a model's outliers are, by the paper's criteria, and what they are for. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "analysis.h"
#include "commands.h"
#include "lab.h"
#include "score.h"
#include "status.h"
#include "windows.h"

enum { ROWS = 64 /* rows of logits held at a time */ };

typedef struct arguments {
  const char **models;  // [n_models]
  int32_t n_models;
  const char *page;
  tool_window_rule rule;
  outlier_criteria criteria;
  int32_t n_threads, ablate, json;
  uint64_t seed;
} arguments;

enum {
  KEY_MAGNITUDE = TOOL_KEY_OWN,
  KEY_LAYERS,
  KEY_POSITIONS,
  KEY_ABLATE,
  KEY_SEED,
  KEY_HTML
};
static const struct argp_option rows[] = {
    {"magnitude", KEY_MAGNITUDE, "X", 0, "an outlier is a value of at least X (default 6)", 1},
    {"layers", KEY_LAYERS, "PERCENT", 0, "an outlier feature has one in this share of layers (default 25)", 1},
    {"positions", KEY_POSITIONS, "PERCENT", 0, "and in this share of positions (default 6)", 1},
    {"ablate", KEY_ABLATE, NULL, 0, "also predict the text with the outlier features zeroed, and with as many others",
     2},
    {"seed", KEY_SEED, "N", 0, "which others (default 0)", 2},
    {"html", KEY_HTML, "FILE", 0, "write a page with drawings", 3},
    {"threads", TOOL_KEY_THREADS, "N", 0, "threads to compute with (default: one for each core)", 3},
    TOOL_JSON_OPTION,
    {0}};
static const struct argp_child children[] = {{&tool_windows_argp, 0, NULL, 0}, {0}};

static error_t parse(int key, char *arg, struct argp_state *state) {
  arguments *a = state->input;
  switch (key) {
    case ARGP_KEY_INIT:
      state->child_inputs[0] = &a->rule;
      return 0;
    case KEY_MAGNITUDE:
      a->criteria.magnitude = (float)tool_number(state, "--magnitude", arg, 1e-6, 1e9);
      return 0;
    case KEY_LAYERS:
      a->criteria.layers = tool_number(state, "--layers", arg, 0.0, 100.0) / 100.0;
      return 0;
    case KEY_POSITIONS:
      a->criteria.positions = tool_number(state, "--positions", arg, 0.0, 100.0) / 100.0;
      return 0;
    case KEY_ABLATE:
      a->ablate = 1;
      return 0;
    case KEY_SEED:
      a->seed = (uint64_t)tool_integer(state, "--seed", arg, 0, INT64_MAX);
      return 0;
    case KEY_HTML:
      a->page = arg;
      return 0;
    case TOOL_KEY_THREADS:
      a->n_threads = (int32_t)tool_integer(state, "--threads", arg, 1, 1024);
      return 0;
    case TOOL_KEY_JSON:
      a->json = 1;
      return 0;
    case ARGP_KEY_ARG:
      a->models[a->n_models++] = arg;
      return 0;
    case ARGP_KEY_NO_ARGS:
      argp_error(state, "MODEL is missing");
      return 0;
    case ARGP_KEY_END:
      if (a->n_models > 1 && strcmp(a->rule.text ? a->rule.text : a->rule.tokens, "-") == 0)
        argp_error(state, "standard input is read once: one MODEL with -");
      return 0;
    default:
      return ARGP_ERR_UNKNOWN;
  }
}

static const struct argp argp = {
    .options = rows,
    .parser = parse,
    .args_doc = "MODEL...",
    .doc =
        "Runs a text through published models in f32 and shows their outlier features by the criteria of Dettmers et "
        "al. 2022: which features, in which layers and positions, how large, and what is lost without "
        "them." TOOL_EXIT_DOC,
    .children = children,
};

/* ---- one run of the text ---------------------------------------------------------------------------------------- */

/* Some hidden features, zeroed where attention, or attention and MLP, read them. */
typedef struct zeroed {
  const int32_t *features;  // [n]
  int32_t n, dim;
  bool mlp;
} zeroed;

typedef struct work {
  const arguments *a;
  lab_model *lab;
  lab_weights *weights;
  tool_ids windows;
  float *out, *logits;  // [ids, head width], [ROWS, vocab]
  analysis *result;
} work;

static void count_input(void *user, const otr_tensor_rule *rule, int32_t layer, const float *x, int32_t m, int32_t k) {
  outlier_stats_add(user, rule->role, layer, x, m, k);
}

static void zero_features(void *user, const otr_tensor_rule *rule, int32_t layer, float *x, int32_t m, int32_t k) {
  const zeroed *z = user;
  const outlier_input input = outlier_input_of(rule->role);
  (void)layer;
  if (k != z->dim || !(input == OUTLIER_ATTENTION || (z->mlp && input == OUTLIER_MLP))) return;
  for (int32_t i = 0; i < m; i++, x += k) {
    for (int32_t f = 0; f < z->n; f++) x[z->features[f]] = 0.0f;
  }
}

static otr_status score_window(const work *w, size_t window, tool_tally *tally, double *top1) {
  const int32_t *ids = w->windows.ids + w->windows.start[window], vocab = lab_config(w->lab)->vocab;
  const int32_t n = (int32_t)tool_ids_length(&w->windows, window);
  const size_t width = (size_t)lab_head_width(w->lab);
  const float *x = w->out + w->windows.start[window] * width;
  for (int32_t first = 0; first < n; first += ROWS) {
    const int32_t count = n - first < ROWS ? n - first : ROWS;
    OTR_TRY(lab_logits(w->lab, w->weights, x + (size_t)first * width, count, w->logits));
    for (int32_t i = 0; i < count; i++) {
      const float *logits = w->logits + (size_t)i * (size_t)vocab;
      const tool_score score = tool_tally_row(tally, ids, n, first + i, logits, NULL, vocab, NULL);
      *top1 += exp(-tool_score_nll(score, logits, score.top));
    }
  }
  return OTR_STATUS_OK;
}

static otr_status run(work *w, const lab_watch *watch, analysis_score *score) {
  tool_tally tally = {0};
  double top1 = 0.0;
  OTR_TRY(lab_run(w->lab, w->weights, &w->windows, watch, w->out));
  for (size_t i = 0; i < w->windows.n; i++) OTR_TRY(score_window(w, i, &tally, &top1));
  if (tally.tokens == 0) return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "no window has two tokens: nothing to analyze");
  w->result->tokens = tally.rows;
  *score = (analysis_score){exp(tool_mean(tally.nll, tally.tokens)), tool_mean(top1, tally.rows)};
  return OTR_STATUS_OK;
}

/* ---- ablation --------------------------------------------------------------------------------------------------- */

static uint64_t next_random(uint64_t *state) { /* splitmix64 */
  uint64_t z = *state += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

static bool contains(const int32_t *list, int32_t n, int32_t value) {
  for (int32_t i = 0; i < n; i++) {
    if (list[i] == value) return true;
  }
  return false;
}

/* list[0 … n − 1] are the outlier features; as many others are drawn behind them (fewer where there are no more). */
static int32_t draw_others(int32_t *list, int32_t n, int32_t dim, uint64_t seed) {
  const int32_t others = n < dim - n ? n : dim - n;
  for (int32_t i = 0; i < others;) {
    int32_t feature = (int32_t)(next_random(&seed) % (uint64_t)dim);
    if (!contains(list, n + i, feature)) list[n + i++] = feature;
  }
  return others;
}

static otr_status ablate(work *w) {
  analysis *r = w->result;
  int32_t *list;
  OTR_TRY(tool_allocate((size_t)r->n_features * 2, sizeof *list, (void **)&list));
  for (int32_t i = 0; i < r->n_features; i++) list[i] = r->features[i].feature;
  const int32_t others = draw_others(list, r->n_features, r->dim, w->a->seed);
  otr_status status = OTR_STATUS_OK;
  for (int i = 0; i < ABLATIONS && status == OTR_STATUS_OK; i++) {
    const bool random = i == ABLATE_RANDOM_ATTENTION || i == ABLATE_RANDOM_BOTH;
    zeroed z = {random ? list + r->n_features : list, random ? others : r->n_features, r->dim,
                i == ABLATE_OUTLIERS_BOTH || i == ABLATE_RANDOM_BOTH};
    const lab_watch watch = {.user = &z, .edit = zero_features};
    status = run(w, &watch, &r->ablation[i]);
  }
  r->ablated = status == OTR_STATUS_OK;
  free(list);
  return status;
}

/* ---- one model -------------------------------------------------------------------------------------------------- */

static double count_parameters(const source *s) {
  double n = 0.0;
  for (int32_t i = 0; i < source_count(s); i++) n += (double)source_at(s, i)->n * (double)source_at(s, i)->k;
  return n;
}

static otr_status prepare(work *w, const char *path) {
  const arguments *a = w->a;
  lab_scheme scheme;
  OTR_TRY(lab_open(path, a->n_threads, &w->lab));
  const int32_t vocab = lab_config(w->lab)->vocab;
  OTR_TRY(tool_windows(path, vocab, &a->rule, &w->windows));
  OTR_TRY(lab_scheme_parse("f32", &scheme));
  OTR_TRY(lab_weights_create(w->lab, &scheme, NULL, false, &w->weights));
  OTR_TRY(tool_allocate((size_t)ROWS * (size_t)vocab, sizeof *w->logits, (void **)&w->logits));
  const size_t rows_in_all = w->windows.start[w->windows.n];
  return tool_allocate(rows_in_all * (size_t)lab_head_width(w->lab), sizeof *w->out, (void **)&w->out);
}

static otr_status analyze_model(work *w, const char *path) {
  analysis *r = w->result;
  OTR_TRY(prepare(w, path));
  const otr_config *config = lab_config(w->lab);
  tool_base_name(path, r->name, sizeof r->name);
  r->parameters = count_parameters(lab_source(w->lab));
  r->n_layers = config->n_layers;
  r->dim = config->dim;
  OTR_TRY(outlier_stats_create(&r->stats, w->a->criteria, config->n_layers, config->dim));
  const lab_watch watch = {.user = &r->stats, .input = count_input};
  OTR_TRY(run(w, &watch, &r->score));
  if (r->stats.status != OTR_STATUS_OK) {
    otr_detail_set(r->stats.detail);
    return r->stats.status;
  }
  for (int i = 0; i < OUTLIER_INPUTS; i++) r->total[i] = outlier_stats_total(&r->stats, (outlier_input)i);
  OTR_TRY(outlier_stats_features(&r->stats, &r->features, &r->n_features));
  return w->a->ablate && r->n_features > 0 ? ablate(w) : OTR_STATUS_OK;
}

static otr_status analyze_path(const arguments *a, const char *path, analysis *result) {
  work w = {.a = a, .result = result};
  otr_status status = analyze_model(&w, path);
  lab_weights_free(w.weights);
  lab_close(w.lab);
  tool_ids_free(&w.windows);
  free(w.out);
  free(w.logits);
  return status;
}

/* ---- the part --------------------------------------------------------------------------------------------------- */

/* The page last: where it cannot be written, minutes of computing are not lost with it. */
static otr_status show(const arguments *a, const analysis *list) {
  if (a->json)
    OTR_TRY(tool_print_json(analysis_json(list, a->n_models)));
  else
    analysis_print(list, a->n_models);
  return a->page ? analysis_write_page(list, a->n_models, a->page) : OTR_STATUS_OK;
}

static otr_status analyze(const arguments *a) {
  analysis *list;
  OTR_TRY(tool_allocate((size_t)a->n_models, sizeof *list, (void **)&list));
  otr_status status = OTR_STATUS_OK;
  for (int32_t i = 0; i < a->n_models && status == OTR_STATUS_OK; i++) {
    status = analyze_path(a, a->models[i], &list[i]);
  }
  if (status == OTR_STATUS_OK) status = show(a, list);
  for (int32_t i = 0; i < a->n_models; i++) {
    outlier_stats_free(&list[i].stats);
    free(list[i].features);
  }
  free(list);
  return status;
}

int tool_analyze(int argc, char **argv) {
  arguments a = {.rule = {.n_ctx = 512, .limit = 8}, .criteria = {6.0f, 0.25, 0.06}};
  otr_status status = tool_allocate((size_t)argc, sizeof *a.models, (void **)&a.models);
  if (status == OTR_STATUS_OK) {
    tool_parse(&argp, argc, argv, &a);
    status = analyze(&a);
  }
  free(a.models);
  return tool_report(status);
}
