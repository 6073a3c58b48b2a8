// SPDX-License-Identifier: Apache-2.0
/* Scoring rows of logits, in double: for comparison, outside the numerical contract. */
#ifndef TOOL_SCORE_H
#define TOOL_SCORE_H

#include <stdint.h>

typedef struct tool_score {
  double log_sum; /**< log of the sum of exp(logit) */
  int32_t top;    /**< the highest logit's id, the lowest on a tie */
} tool_score;

/** @param logits [vocab] */
tool_score tool_score_row(const float *logits, int32_t vocab);
/** −log p(id). */
static inline double tool_score_nll(tool_score score, const float *logits, int32_t id) {
  return score.log_sum - (double)logits[id];
}
/** KL(p ‖ q): what is lost where rows of p are said by q. */
double tool_score_kl(const float *p, tool_score p_score, const float *q, tool_score q_score, int32_t vocab);

/** Sums over rows of windows. "Half" is of each window's second half: rows from n/2 - 1 on, which predict ids from n/2
 *  on. */
typedef struct tool_tally {
  double nll, nll_squares, nll_half, kl, kl_half;
  double more, more_squares;    /**< nll beyond that of `base` */
  uint64_t tokens, tokens_half; /**< rows whose next id is known */
  uint64_t rows, rows_half, same;
} tool_tally;
/** Adds row i of a window ids [n].
 *  @param logits [vocab] @param base [vocab] what they are compared with, or NULL
 *  @param[out] nll -log p of id i + 1, where there is one; may be NULL */
tool_score tool_tally_row(tool_tally *tally, const int32_t *ids, int32_t n, int32_t i, const float *logits,
                          const float *base, int32_t vocab, double *nll);
/** Standard error of the mean of `count` values of these sums. */
double tool_mean_error(double sum, double squares, uint64_t count);
/** Sum over count, 0 of none. */
static inline double tool_mean(double sum, uint64_t count) {
  return count ? sum / (double)count : 0.0;
}

#endif
