// SPDX-License-Identifier: Apache-2.0
#include "calibrate.h"

#include <stdlib.h>

#include "lab.h"
#include "status.h"
#include "windows.h"

typedef struct watcher {
  const source *source;
  bool is_bnb;
  calibration_counts *counts;
} watcher;

static void watch_input(void *user, const otr_tensor_rule *rule, int32_t layer, const float *x, int32_t m, int32_t k) {
  const watcher *w = user;
  char name[OTR_NAME_BYTES];
  otr_tensor_name(name, rule, layer, ".weight");
  const source_tensor *t = source_find(w->source, name);
  /* int8 weights of bitsandbytes have no finer columns, and those beside them stay f16. */
  if (!t || (w->is_bnb && !t->is_int8)) return;
  calibration_count(w->counts, rule, layer, !t->is_int8, x, m, k);
}

static watcher watch_source(const source *s, calibration_counts *counts) {
  watcher w = {.source = s, .counts = counts};
  for (int32_t i = 0; i < source_count(s); i++) w.is_bnb = w.is_bnb || source_at(s, i)->is_int8;
  return w;
}

static otr_status run_text(lab_model *lab, const tool_ids *windows, calibration_counts *counts) {
  lab_scheme scheme;
  lab_weights *weights;
  float *out;
  watcher seen = watch_source(lab_source(lab), counts);
  const lab_watch watch = {.user = &seen, .input = watch_input};
  OTR_TRY(lab_scheme_parse("f32", &scheme));
  OTR_TRY(tool_allocate(windows->start[windows->n] * (size_t)lab_head_width(lab), sizeof *out, (void **)&out));
  otr_status status = lab_weights_create(lab, &scheme, NULL, false, &weights);
  if (status == OTR_STATUS_OK) status = lab_run(lab, weights, windows, &watch, out);
  lab_weights_free(weights);
  free(out);
  return status;
}

/* Windows are no longer than the positions that a model has a table of. */
static otr_status read_windows(lab_model *lab, const char *model, const char *text, tool_ids *out) {
  const otr_config *config = lab_config(lab);
  tool_window_rule rule = {.text = text, .n_ctx = CALIBRATE_TOKENS, .limit = CALIBRATE_WINDOWS};
  if (config->n_positions > 0 && config->n_positions < rule.n_ctx) rule.n_ctx = config->n_positions;
  return tool_windows(model, config->vocab, &rule, out);
}

static otr_status calibrate_lab(lab_model *lab, const tool_ids *windows, const calibration_params *params,
                                calibration *out) {
  calibration_counts *counts;
  OTR_TRY(calibration_counts_create(params, &counts));
  otr_status status = run_text(lab, windows, counts);
  if (status == OTR_STATUS_OK) status = calibration_decide(counts, out);
  calibration_counts_free(counts);
  return status;
}

otr_status calibrate(const char *model, const char *text, int32_t n_threads, const calibration_params *params,
                     calibration *out) {
  tool_ids windows = {0};
  lab_model *lab;
  *out = (calibration){0};
  OTR_TRY(lab_open(model, n_threads, &lab));
  otr_status status = read_windows(lab, model, text, &windows);
  if (status == OTR_STATUS_OK) status = calibrate_lab(lab, &windows, params, out);
  lab_close(lab);
  tool_ids_free(&windows);
  return status;
}
