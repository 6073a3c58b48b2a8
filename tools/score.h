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

#endif
