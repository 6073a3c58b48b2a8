// SPDX-License-Identifier: Apache-2.0
/* Outliers of a model's activations, counted while a forward pass shows what goes into each linear (Dettmers et al.
 * 2022, section 4). The hidden features are those of the inputs of attention and MLP; the inputs of the attention's
 * output projection, the MLP's contraction and the output layer are counted beside them. */
#ifndef TOOL_OUTLIER_STATS_H
#define TOOL_OUTLIER_STATS_H

#include "config.h"

/** What linears read. */
typedef enum outlier_input {
  OUTLIER_ATTENTION,     /**< q, k, v: a norm of the hidden state */
  OUTLIER_MLP,           /**< gate, up: a norm of the hidden state */
  OUTLIER_ATTENTION_OUT, /**< the attention's result */
  OUTLIER_MLP_DOWN,      /**< the MLP's inner values */
  OUTLIER_HEAD,          /**< the output layer */
  OUTLIER_INPUTS
} outlier_input;
enum { OUTLIER_HIDDEN = 2 /**< inputs whose features are the hidden ones come first */ };
extern const char *const outlier_input_names[OUTLIER_INPUTS];

enum {
  OUTLIER_LEVELS = 14, /**< batches of 1, 2, 4 … 8192 rows */
  OUTLIER_PLACES = 8,  /**< parts of a window in which positions are counted */
  OUTLIER_BINS = 128,  /**< of magnitudes: OUTLIER_BINS_OCTAVE from the threshold on for each doubling */
  OUTLIER_BINS_OCTAVE = 8
};

/** What an outlier feature is: the paper's 6, 0.25 and 0.06. */
typedef struct outlier_criteria {
  float magnitude;  /**< |x| at least, > 0 */
  double layers;    /**< share of layers with such a value */
  double positions; /**< share of positions over all layers' attention and MLP inputs */
} outlier_criteria;

/** One input of one layer. */
typedef struct outlier_count {
  int32_t k;                  /**< 0: never seen */
  otr_role role;              /**< of the linear that was counted: one of those that share the input */
  uint64_t rows, outliers;    /**< rows · k values in all */
  uint32_t *hits, *positive;  // [k] rows in which the feature is an outlier; of these positive ones
  float *peak;                // [k] largest magnitude
  uint64_t *met;              // [ceil(k / 64)] features that were an outlier in any row
  /** Columns that are an outlier in any row of a batch of 2^level rows: the sum over n batches. Windows that are whole
   *  batches go on into larger ones. */
  uint64_t columns[OUTLIER_LEVELS], batches[OUTLIER_LEVELS];
  uint64_t *held;  // [OUTLIER_LEVELS][ceil(k / 64)] batches that wait for another of their size
  uint32_t holds;  /**< bit level: there is one */
} outlier_count;

typedef struct outlier_stats {
  outlier_criteria criteria;
  int32_t n_layers, dim;
  outlier_count *counts;  // [n_layers + 1][OUTLIER_INPUTS], the output layer's in the last
  uint32_t *places;       // [dim][OUTLIER_PLACES] of hidden features
  uint32_t *magnitudes;   // [dim][OUTLIER_BINS] of hidden features
  uint64_t windows;
  otr_status status; /**< a failure on the way, with its detail kept */
  char detail[320];
} outlier_stats;

/** @param[out] stats outlier_stats_free, on failure, too */
otr_status outlier_stats_create(outlier_stats *stats, outlier_criteria criteria, int32_t n_layers, int32_t dim);
void outlier_stats_free(outlier_stats *stats);
/** Counts a window's input x [m, k] of the linear `role` of `layer`. Linears that share an input are counted once.
 *  A failure is kept in stats->status. */
void outlier_stats_add(outlier_stats *stats, otr_role role, int32_t layer, const float *x, int32_t m, int32_t k);

/** @return OUTLIER_INPUTS for a role that is no linear's. */
outlier_input outlier_input_of(otr_role role);
const outlier_count *outlier_count_at(const outlier_stats *stats, int32_t layer, outlier_input input);

/** A hidden feature that meets the criteria. */
typedef struct outlier_feature {
  int32_t feature;
  int32_t layers;     /**< with such a value */
  double positions;   /**< share over all layers' attention and MLP inputs */
  double positive;    /**< share of its outliers that are above 0: 0 or 1 is one-sided */
  double quartile[3]; /**< of the outliers' magnitudes, to 9 % */
  float peak;
  int32_t peak_layer;
  double place[OUTLIER_PLACES]; /**< share of positions in each part of a window */
} outlier_feature;

/** Hidden features by the criteria, those in most positions first. @param[out] out [*n], free with free */
otr_status outlier_stats_features(const outlier_stats *stats, outlier_feature **out, int32_t *n);

/** Sums over layers of one input. */
typedef struct outlier_total {
  uint64_t values, outliers, rows; /**< rows: of one layer */
  int32_t layers, k;
  float peak;
  int32_t features;               /**< in the layer that has most of them: features ever an outlier */
  double columns[OUTLIER_LEVELS]; /**< mean over layers and batches; < 0: no such batch */
} outlier_total;
outlier_total outlier_stats_total(const outlier_stats *stats, outlier_input input);

#endif
