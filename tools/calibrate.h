// SPDX-License-Identifier: Apache-2.0
/* Calibration of a model on a text: its forward pass in f32, watched. */
#ifndef TOOL_CALIBRATE_H
#define TOOL_CALIBRATE_H

#include "calibration.h"

enum { CALIBRATE_WINDOWS = 8, CALIBRATE_TOKENS = 512 /* of a window */ };

/** Runs the first windows of a text and decides (calibration.h).
 *  @param model what source_open takes
 *  @param n_threads 0: one for each core
 *  @param[out] out calibration_free on OK; zeroed otherwise. */
otr_status calibrate(const char *model, const char *text, int32_t n_threads, const calibration_params *params,
                     calibration *out);

#endif
