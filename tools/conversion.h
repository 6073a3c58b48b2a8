// SPDX-License-Identifier: Apache-2.0
/* What `outrider convert` does: a published model becomes the SDK's own file (docs/format.md), row block by row block,
 * so that little memory is taken whatever the model's size. */
#ifndef TOOL_CONVERSION_H
#define TOOL_CONVERSION_H

#include "outrider/outrider.h"

struct source; /* source.h */

/** What one linear is to have of its own. */
typedef struct conversion_linear {
  const char *name;       /**< the SDK's: "blk.0.attn_q.weight" */
  otr_outliers outliers;  /**< default: the file's rule */
  const int32_t *columns; /**< [n_columns] features, ascending, that are kept as f16 columns, too */
  int32_t n_columns;
} conversion_linear;

typedef struct conversion_params {
  const char *in, *out;        /**< a GGUF file or a Hugging Face directory; the new file */
  const struct source *source; /**< instead of `in`, where the caller has it open; NULL otherwise */
  const char *const *keep_f16; /**< [n_keep_f16] globs of weights kept as f16 linears; each must match one */
  int32_t n_keep_f16;
  int32_t f16_columns_all;          /**< 1: every linear keeps all its columns as f16, too */
  otr_outliers outliers;            /**< the rule that the file will hold; default: relative 4, and for int8 weights of
                                         bitsandbytes their own. Another one is every linear's */
  const conversion_linear *linears; /**< [n_linears] or NULL */
  int32_t n_linears;
  otr_runtime *runtime; /**< its threads quantize, its device computes the verify hash */
  otr_progress_fn progress;
  void *progress_user;
} conversion_params;

typedef struct conversion_result {
  uint64_t source_bytes, bytes;
  int32_t n_int8, n_f16; /**< weights of each kind */
  otr_outliers outliers;
  char sha256[65]; /**< the verify hash that the file carries */
} conversion_result;

/** Whether the source and the names in params are in order: what conversion_run would say of them, before minutes of
 *  calibrating. The runtime may be missing. @return as there */
otr_status conversion_check(const conversion_params *params);
/** @return OK, INVALID_ARGUMENT, IO, BAD_FORMAT, UNSUPPORTED, NO_MEMORY, CANCELLED, NONFINITE. On failure there is no
 *  new file. */
otr_status conversion_run(const conversion_params *params, conversion_result *result);

#endif
