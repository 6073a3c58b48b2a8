// SPDX-License-Identifier: Apache-2.0
/* What `outrider analyze` finds out about a model, and how it is shown. */
#ifndef TOOL_ANALYSIS_H
#define TOOL_ANALYSIS_H

#include "common.h"
#include "outlier_stats.h"

/** How a text is predicted. */
typedef struct analysis_score {
  double perplexity;
  double top1; /**< mean probability of the likeliest token */
} analysis_score;

/** Zeroed features of the inputs of attention, or of attention and MLP, in all layers at once. */
typedef enum analysis_ablation {
  ABLATE_OUTLIERS_ATTENTION,
  ABLATE_OUTLIERS_BOTH,
  ABLATE_RANDOM_ATTENTION, /**< as many others, drawn at random */
  ABLATE_RANDOM_BOTH,
  ABLATIONS
} analysis_ablation;
extern const char *const analysis_ablation_names[ABLATIONS];

typedef struct analysis {
  char name[64];
  double parameters;
  int32_t n_layers, dim;
  uint64_t tokens;
  outlier_stats stats;
  outlier_total total[OUTLIER_INPUTS];
  outlier_feature *features;  // [n_features]
  int32_t n_features;
  analysis_score score;
  int32_t ablated; /**< 1: `ablation` is there */
  analysis_score ablation[ABLATIONS];
} analysis;

/** Values that are outliers, per window. */
double analysis_outliers_per_window(const analysis *a);
/** Share of all linears' inputs that stays in int8. */
double analysis_int8_share(const analysis *a);

void analysis_print(const analysis *list, int32_t n);
json_t *analysis_json(const analysis *list, int32_t n);
/** One page for all. */
otr_status analysis_write_page(const analysis *list, int32_t n, const char *path);

#endif
