// SPDX-License-Identifier: Apache-2.0
/* Calibration: what each linear reads while a text runs through the model decides which features keep f16 columns and,
 * where a share of outliers is asked for, each linear's own threshold. */
#ifndef TOOL_CALIBRATION_H
#define TOOL_CALIBRATION_H

#include "common.h"
#include "config.h"

typedef struct calibration_params {
  otr_rule rule;        /**< which values are outliers, where `outlier_share` is 0 */
  double outlier_share; /**< > 0: each linear gets the absolute threshold that this share of its inputs reaches */
  double column_share;  /**< of all linears' columns, at most, in f16; 0: none */
  const char *const *keep_f16; /**< [n_keep_f16] globs of weights that stay f16 and so have neither columns nor rules */
  int32_t n_keep_f16;
} calibration_params;

/** A feature keeps f16 columns where it is an outlier in at least this share of tokens. */
#define CALIBRATION_FREQUENT 0.06

/** What is decided for a linear. */
typedef struct calibration_linear {
  char name[OTR_NAME_BYTES];
  int32_t k;
  int32_t *columns;  // [n_columns] features of the static outlier set, ascending
  int32_t n_columns;
  otr_rule rule; /**< where `outlier_share` was asked for */
} calibration_linear;

typedef struct calibration {
  calibration_linear *linears;  // [n]
  int32_t n;
  uint64_t tokens;
  uint64_t columns, all_columns; /**< in f16, and in all that could be */
} calibration;

typedef struct calibration_counts calibration_counts;
/** @param params must stay. @param[out] out calibration_counts_free on OK; NULL otherwise. */
otr_status calibration_counts_create(const calibration_params *params, calibration_counts **out);
/** NULL is allowed. */
void calibration_counts_free(calibration_counts *counts);
/** A linear's input x [m, k] for some tokens. Layers come in ascending order: a projection of the embedding first, the
 *  output layer last. A failure is kept for calibration_decide.
 *  @param columns false: weights that have no f16 columns to give; they may get a threshold all the same */
void calibration_count(calibration_counts *counts, const otr_tensor_rule *rule, int32_t layer, bool columns,
                       const float *x, int32_t m, int32_t k);
/** @param[out] out calibration_free on OK; zeroed otherwise. */
otr_status calibration_decide(calibration_counts *counts, calibration *out);
void calibration_free(calibration *c);

#endif
