// SPDX-License-Identifier: Apache-2.0
#include "calibrate.h"

#include <stdlib.h>

#include "lab.h"
#include "status.h"
#include "windows.h"

static void watch_input(void *user, const otr_tensor_rule *rule, int32_t layer, const float *x, int32_t m, int32_t k) {
  calibration_count(user, rule, layer, x, m, k);
}

static otr_status run_text(lab_model *lab, const tool_ids *windows, calibration_counts *counts) {
  lab_scheme scheme;
  lab_weights *weights;
  float *out;
  const lab_watch watch = {.user = counts, .input = watch_input};
  OTR_TRY(lab_scheme_parse("f32", &scheme));
  OTR_TRY(tool_allocate(windows->start[windows->n] * (size_t)lab_head_width(lab), sizeof *out, (void **)&out));
  otr_status status = lab_weights_create(lab, &scheme, NULL, false, &weights);
  if (status == OTR_STATUS_OK) status = lab_run(lab, weights, windows, &watch, out);
  lab_weights_free(weights);
  free(out);
  return status;
}

static otr_status calibrate_windows(lab_model *lab, const tool_ids *windows, const calibration_params *params,
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
  const tool_window_rule rule = {.text = text, .n_ctx = CALIBRATE_TOKENS, .limit = CALIBRATE_WINDOWS};
  tool_ids windows;
  lab_model *lab;
  *out = (calibration){0};
  OTR_TRY(tool_windows(model, 0, &rule, &windows));
  otr_status status = lab_open(model, n_threads, &lab);
  if (status == OTR_STATUS_OK) status = calibrate_windows(lab, &windows, params, out);
  lab_close(lab);
  tool_ids_free(&windows);
  return status;
}
