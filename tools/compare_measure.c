// SPDX-License-Identifier: Apache-2.0
/* Runs each scheme over the windows and scores it against f32. */
#include <stdlib.h>
#include <string.h>

#include "compare.h"
#include "language.h"
#include "status.h"

enum { ROWS = 64, SPEED_PREFILL = 128, SPEED_DECODE = 16 };

typedef struct bench {
  comparison *c;
  lab_model *lab;
  lab_weights *base;   // f32
  float *base_x, *x;   // [ids of all windows, width]
  float *base_states;  // [n_layers, first window's ids, dim]
  float *base_weight;  // the drawn weights [n, k] as stored
  const source_tensor *weight;
  float *logits, *base_logits;  // [ROWS, vocab]
  compare_result *result;       // being measured
  double off_squares, squares;  // of the drawn weights
} bench;

/* ---- what is seen on the way ------------------------------------------------------------------------------------- */

static void see_state(void *user, int32_t layer, size_t window, const float *x, int32_t n, int32_t dim) {
  bench *b = user;
  if (window != 0) return;
  const size_t values = (size_t)n * (size_t)dim;
  float *base = b->base_states + (size_t)layer * values;
  if (b->result == &b->c->results[0]) memcpy(base, x, values * sizeof *x);
  double off = 0.0, all = 0.0;
  for (size_t i = 0; i < values; i++) {
    double d = (double)x[i] - (double)base[i];
    off += d * d;
    all += (double)base[i] * (double)base[i];
  }
  b->result->layer_error[layer] = all > 0.0 ? sqrt(off / all) : 0.0;
}

static void see_weight(void *user, int32_t row, const float *w, int32_t k) {
  bench *b = user;
  const float *base = b->base_weight + (size_t)row * (size_t)k;
  for (int32_t i = 0; i < k; i++) {
    double d = (double)w[i] - (double)base[i];
    int32_t bin = (int32_t)floor(((double)w[i] / b->c->bin_end + 1.0) * 0.5 * COMPARE_BINS);
    bin = bin < 0 ? 0 : bin >= COMPARE_BINS ? COMPARE_BINS - 1 : bin;
    b->result->bins[bin] += 1.0;
    b->off_squares += d * d;
    b->squares += (double)base[i] * (double)base[i];
  }
}

/* ---- scores ------------------------------------------------------------------------------------------------------ */

static otr_status score_rows(bench *b, lab_weights *weights, size_t window, int32_t first, int32_t count) {
  const tool_ids *windows = b->c->params.windows;
  const size_t at = (windows->start[window] - windows->start[0] + (size_t)first) * (size_t)lab_head_width(b->lab);
  const int32_t *ids = windows->ids + windows->start[window], vocab = lab_config(b->lab)->vocab;
  const bool is_base = weights == b->base;
  OTR_TRY(lab_logits(b->lab, weights, (is_base ? b->base_x : b->x) + at, count, b->logits));
  if (!is_base) OTR_TRY(lab_logits(b->lab, b->base, b->base_x + at, count, b->base_logits));
  for (int32_t i = 0; i < count; i++) {
    const size_t row = (size_t)i * (size_t)vocab;
    (void)tool_tally_row(&b->result->tally, ids, (int32_t)tool_ids_length(windows, window), first + i, b->logits + row,
                         is_base ? b->logits + row : b->base_logits + row, vocab, NULL);
  }
  return OTR_STATUS_OK;
}

static otr_status score(bench *b, lab_weights *weights) {
  const tool_ids *windows = b->c->params.windows;
  for (size_t i = 0; i < windows->n; i++) {
    const int32_t n = (int32_t)tool_ids_length(windows, i);
    for (int32_t at = 0; at < n; at += ROWS) OTR_TRY(score_rows(b, weights, i, at, n - at < ROWS ? n - at : ROWS));
  }
  return OTR_STATUS_OK;
}

/* ---- a prompt's greedy text -------------------------------------------------------------------------------------- */

static otr_status next_id(bench *b, lab_weights *weights, const int32_t *ids, int32_t n, float *x, int32_t *next) {
  size_t start[2] = {0, (size_t)n};
  const tool_ids window = {(int32_t *)(uintptr_t)ids, start, 1};
  OTR_TRY(lab_run(b->lab, weights, &window, NULL, x));
  OTR_TRY(lab_logits(b->lab, weights, x + (size_t)(n - 1) * (size_t)lab_head_width(b->lab), 1, b->logits));
  *next = tool_score_row(b->logits, lab_config(b->lab)->vocab).top;
  return OTR_STATUS_OK;
}

static otr_status decode(const tool_language *language, const int32_t *ids, int32_t n, char **text) {
  size_t n_bytes = 0;
  (void)otr_tokenizer_decode(language->tokenizer, ids, n, 0, NULL, 0, &n_bytes);
  OTR_TRY(tool_allocate(n_bytes + 1, 1, (void **)text));
  return tool_text_status(otr_tokenizer_decode(language->tokenizer, ids, n, 0, *text, n_bytes, &n_bytes));
}

/* Every token runs all positions again: slow, and the same pass as everywhere. */
static otr_status continue_ids(bench *b, lab_weights *weights, const tool_language *language, int32_t *ids,
                               int32_t n_prompt) {
  const int32_t most = n_prompt + b->c->params.prompt_tokens;
  float *x;
  int32_t n = n_prompt;
  OTR_TRY(tool_allocate((size_t)most * (size_t)lab_head_width(b->lab), sizeof *x, (void **)&x));
  otr_status status = OTR_STATUS_OK;
  while (status == OTR_STATUS_OK && n < most) {
    status = next_id(b, weights, ids, n, x, &ids[n]);
    if (status == OTR_STATUS_OK && ids[n++] == language->info.eos) break;
  }
  free(x);
  return status == OTR_STATUS_OK ? decode(language, ids + n_prompt, n - n_prompt, &b->result->text) : status;
}

static otr_status continue_prompt(bench *b, lab_weights *weights, const tool_language *language) {
  const compare_params *p = &b->c->params;
  int32_t *prompt = NULL, *ids = NULL, n = 0;
  otr_status status = tool_encode_prompt(language, NULL, p->prompt, strlen(p->prompt), &prompt, &n);
  if (status == OTR_STATUS_OK) status = tool_allocate((size_t)n + (size_t)p->prompt_tokens, sizeof *ids, (void **)&ids);
  if (status == OTR_STATUS_OK) {
    memcpy(ids, prompt, (size_t)n * sizeof *ids);
    status = continue_ids(b, weights, language, ids, n);
  }
  free(prompt);
  free(ids);
  return status;
}

static otr_status answer(bench *b, lab_weights *weights) {
  tool_language language;
  if (!b->c->params.prompt) return OTR_STATUS_OK;
  OTR_TRY(tool_language_open(b->c->params.path, &language));
  otr_status status = tool_language_chat(b->c->params.path, NULL, &language);
  if (status == OTR_STATUS_OK) status = continue_prompt(b, weights, &language);
  tool_language_close(&language);
  return status;
}

/* ---- speed of the runtime ---------------------------------------------------------------------------------------- */

static otr_status last_speed(const otr_session *session, double *out) {
  otr_stats stats = {.struct_size = sizeof stats};
  OTR_TRY(otr_session_stats(session, &stats));
  *out = stats.last_rows_per_second;
  return OTR_STATUS_OK;
}

static otr_status time_session(const bench *b, otr_session *session) {
  const tool_ids *windows = b->c->params.windows;
  const int32_t *ids = windows->ids + windows->start[0];
  int32_t n = (int32_t)tool_ids_length(windows, 0);
  n = n < SPEED_PREFILL ? n : SPEED_PREFILL;
  OTR_TRY(otr_session_eval(session, ids, n, NULL)); /* the first pass also warms up */
  OTR_TRY(otr_session_truncate(session, 0));
  OTR_TRY(otr_session_eval(session, ids, n, NULL));
  OTR_TRY(last_speed(session, &b->result->prefill));
  double start = tool_seconds();
  for (int32_t i = 0; i < SPEED_DECODE; i++) OTR_TRY(otr_session_eval(session, ids + i % n, 1, NULL));
  b->result->decode = SPEED_DECODE / (tool_seconds() - start);
  return OTR_STATUS_OK;
}

static otr_outliers runtime_rule(otr_rule rule) {
  otr_outliers outliers = {.rule = OTR_OUTLIERS_OFF, .value = rule.value};
  if (rule.kind == OTR_RULE_ABSOLUTE) outliers.rule = OTR_OUTLIERS_ABSOLUTE;
  if (rule.kind == OTR_RULE_RELATIVE) outliers.rule = OTR_OUTLIERS_RELATIVE;
  return outliers;
}

static otr_status measure_speed(bench *b) {
  tool_options options = b->c->params.options;
  tool_model model;
  otr_session *session = NULL;
  b->result->prefill = b->result->decode = NAN;
  if (!b->c->params.speed || !b->result->scheme.in_runtime) return OTR_STATUS_OK;
  if (source_is_directory(lab_source(b->lab))) return OTR_STATUS_OK; /* the library reads GGUF alone */
  options.outliers = runtime_rule(b->result->scheme.outliers);
  OTR_TRY(tool_open(&options, b->c->params.path, &model));
  otr_status status = tool_session(&model, SPEED_PREFILL + SPEED_DECODE, SPEED_PREFILL, 0, &session);
  /* A table of positions may be shorter. */
  if (status == OTR_STATUS_OK && otr_session_room(session) >= SPEED_PREFILL + SPEED_DECODE)
    status = time_session(b, session);
  otr_session_destroy(session);
  tool_close(&model);
  return status;
}

/* ---- one scheme -------------------------------------------------------------------------------------------------- */

static otr_status run_scheme(bench *b, lab_weights *weights) {
  const bool is_base = weights == b->base;
  const lab_watch watch = {.user = b, .state = see_state, .weight = see_weight, .weight_name = b->weight->name};
  b->off_squares = b->squares = 0.0;
  OTR_TRY(lab_run(b->lab, weights, b->c->params.windows, &watch, is_base ? b->base_x : b->x));
  b->result->weight_error = b->squares > 0.0 ? sqrt(b->off_squares / b->squares) : 0.0;
  b->result->count = lab_weights_count(weights);
  b->result->bytes = lab_model_bytes(b->lab, &b->result->scheme);
  OTR_TRY(score(b, weights));
  return answer(b, weights);
}

static otr_status measure_scheme(bench *b, const lab_scheme *scheme) {
  const compare_params *p = &b->c->params;
  lab_weights *weights;
  const double start = tool_seconds();
  b->result = &b->c->results[b->c->n];
  b->result->scheme = *scheme;
  OTR_TRY(tool_allocate((size_t)b->c->n_layers, sizeof(double), (void **)&b->result->layer_error));
  b->c->n++;
  OTR_TRY(lab_weights_create(b->lab, scheme, p->calibration, p->prompt != NULL, &weights));
  if (b->c->n == 1) b->base = weights;
  otr_status status = run_scheme(b, weights);
  if (weights != b->base) lab_weights_free(weights);
  b->result->seconds = tool_seconds() - start;
  return status == OTR_STATUS_OK ? measure_speed(b) : status;
}

/* ---- all --------------------------------------------------------------------------------------------------------- */

/* The linear whose weights are drawn: the one that is named, or a down projection in the middle. */
static otr_status choose_weight(bench *b) {
  const source *from = lab_source(b->lab);
  const char *name = b->c->params.weight;
  for (int32_t i = 0; i < source_count(from) && !b->weight; i++) {
    const source_tensor *t = source_at(from, i);
    if (t->is_vector || !t->rule || t->rule->role >= OTR_LAYER_ROLES) continue;
    bool chosen = name ? strcmp(t->name, name) == 0
                       : t->rule->role == OTR_ROLE_FFN_DOWN && t->layer == lab_config(b->lab)->n_layers / 2;
    if (chosen) b->weight = t;
  }
  if (!b->weight) return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "\"%s\" is no linear of a block", name ? name : "");
  snprintf(b->c->weight, sizeof b->c->weight, "%s", b->weight->name);
  return OTR_STATUS_OK;
}

/* The drawn weights as stored; what is drawn ends at four standard deviations. */
static otr_status read_weight(bench *b) {
  const size_t values = (size_t)b->weight->n * (size_t)b->weight->k;
  double squares = 0.0;
  OTR_TRY(tool_allocate(values, sizeof(float), (void **)&b->base_weight));
  OTR_TRY(source_rows(lab_source(b->lab), b->weight, 0, b->weight->n, b->base_weight));
  for (size_t i = 0; i < values; i++) squares += (double)b->base_weight[i] * (double)b->base_weight[i];
  b->c->bin_end = squares > 0.0 ? 4.0 * sqrt(squares / (double)values) : 1.0;
  return OTR_STATUS_OK;
}

static otr_status prepare(bench *b) {
  const compare_params *p = &b->c->params;
  OTR_TRY(lab_open(p->path, p->options.n_threads, &b->lab));
  b->c->n_layers = lab_config(b->lab)->n_layers;
  OTR_TRY(choose_weight(b));
  OTR_TRY(read_weight(b));
  const size_t rows = p->windows->start[p->windows->n] - p->windows->start[0];
  const size_t width = (size_t)lab_head_width(b->lab), vocab = (size_t)lab_config(b->lab)->vocab;
  const size_t state = tool_ids_length(p->windows, 0) * (size_t)lab_config(b->lab)->dim;
  OTR_TRY(tool_allocate(rows * width, sizeof(float), (void **)&b->x));
  OTR_TRY(tool_allocate(rows * width, sizeof(float), (void **)&b->base_x));
  OTR_TRY(tool_allocate(state * (size_t)b->c->n_layers, sizeof(float), (void **)&b->base_states));
  OTR_TRY(tool_allocate(ROWS * vocab, sizeof(float), (void **)&b->logits));
  return tool_allocate(ROWS * vocab, sizeof(float), (void **)&b->base_logits);
}

static void bench_free(bench *b) {
  lab_weights_free(b->base);
  lab_close(b->lab);
  float *all[] = {b->base_x, b->x, b->base_states, b->base_weight, b->logits, b->base_logits};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

otr_status compare_measure(const compare_params *params, const lab_scheme *schemes, int32_t n, comparison *out) {
  lab_scheme f32;
  *out = (comparison){.params = *params};
  bench b = {.c = out};
  OTR_TRY(lab_scheme_parse("f32", &f32));
  OTR_TRY(tool_allocate((size_t)n + 1, sizeof *out->results, (void **)&out->results));
  otr_status status = prepare(&b);
  if (status == OTR_STATUS_OK) status = measure_scheme(&b, &f32);
  if (status == OTR_STATUS_OK && out->results[0].tally.tokens == 0)
    status = otr_fail(OTR_STATUS_INVALID_ARGUMENT, "no window has two tokens: nothing to compare");
  for (int32_t i = 0; i < n && status == OTR_STATUS_OK; i++)
    if (strcmp(schemes[i].name, "f32") != 0) status = measure_scheme(&b, &schemes[i]);
  bench_free(&b);
  return status;
}

void compare_free(comparison *c) {
  for (int32_t i = 0; i < c->n; i++) {
    free(c->results[i].layer_error);
    free(c->results[i].text);
  }
  free(c->results);
}

double compare_outlier_share(const compare_result *r) {
  if (r->scheme.outliers.kind == OTR_RULE_OFF || r->count.values == 0) return NAN;
  return (double)r->count.outliers / (double)r->count.values;
}
