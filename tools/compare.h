// SPDX-License-Identifier: Apache-2.0
/* outrider compare: what its files share. */
#ifndef TOOL_COMPARE_H
#define TOOL_COMPARE_H

#include <math.h>

#include "lab.h"
#include "score.h"

typedef struct compare_params {
  const char *path;
  tool_options options;                   // for the runtime's speed
  const tool_ids *windows, *calibration;  // calibration: NULL where there is none
  const char *weight;                     // the linear whose weights are drawn; NULL: a down projection in the middle
  const char *prompt;                     // NULL: none
  int32_t prompt_tokens;
  bool speed;
} compare_params;

enum { COMPARE_BINS = 96 };

/** What a scheme comes to. */
typedef struct compare_result {
  lab_scheme scheme;
  tool_tally tally;
  lab_count count;
  uint64_t bytes;
  double seconds;             // of the lab
  double prefill, decode;     // tokens/s of the runtime; NaN where it does not run the scheme
  double *layer_error;        // [n_layers] |x - f32's x| / |f32's x| behind each layer, first window
  double bins[COMPARE_BINS];  // the drawn weights, those beyond the ends in the end bins
  double weight_error;        // |w - w f32| / |w f32| of them
  char *text;                 // the prompt's continuation, or NULL
} compare_result;

typedef struct comparison {
  compare_params params;
  compare_result *results;  // [n], f32 first
  int32_t n, n_layers;
  char weight[OTR_NAME_BYTES];
  double bin_end;  // bins go from -bin_end to bin_end
} comparison;

/** Measures all schemes. @param[out] out compare_free, also after a failure */
otr_status compare_measure(const compare_params *params, const lab_scheme *schemes, int32_t n, comparison *out);
void compare_free(comparison *c);

void compare_print(const comparison *c);
otr_status compare_print_json(const comparison *c);
otr_status compare_write_page(const comparison *c, const char *path);

static inline double compare_ppl(const compare_result *r) {
  return exp(tool_mean(r->tally.nll, r->tally.tokens));
}
static inline double compare_ratio(const compare_result *r) {
  return exp(tool_mean(r->tally.more, r->tally.tokens));
}
static inline double compare_kl(const compare_result *r) {
  return tool_mean(r->tally.kl, r->tally.rows);
}
static inline double compare_same(const compare_result *r) {
  return tool_mean((double)r->tally.same, r->tally.rows);
}
/** Outliers of the values that linears read; NaN for a scheme without a rule. */
double compare_outlier_share(const compare_result *r);

#endif
