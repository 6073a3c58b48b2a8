// SPDX-License-Identifier: Apache-2.0
/* What `outrider convert` does: a source GGUF becomes the SDK's own file (docs/format.md), row block by row block, so
 * that little memory is taken whatever the model's size. */
#ifndef TOOL_CONVERSION_H
#define TOOL_CONVERSION_H

#include "outrider/outrider.h"

typedef struct conversion_params {
  const char *in, *out;
  const char *const *keep_f16; /**< [n_keep_f16] globs of weights kept as f16 linears; each must match one */
  int32_t n_keep_f16;
  int32_t f16_columns_all; /**< 1: every linear keeps all its columns as f16, too */
  otr_outliers outliers;   /**< the rule that the file will hold; default: relative 4 */
  otr_runtime *runtime;    /**< its threads quantize, its device computes the verify hash */
  otr_progress_fn progress;
  void *progress_user;
} conversion_params;

typedef struct conversion_result {
  uint64_t source_bytes, bytes;
  int32_t n_int8, n_f16; /**< weights of each kind */
  otr_outliers outliers;
  char sha256[65]; /**< the verify hash that the file carries */
} conversion_result;

/** @return OK, INVALID_ARGUMENT, IO, BAD_FORMAT, UNSUPPORTED (also: converted already), NO_MEMORY, CANCELLED,
 * NONFINITE. On failure there is no new file. */
otr_status conversion_run(const conversion_params *params, conversion_result *result);

#endif
