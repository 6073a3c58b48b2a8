// SPDX-License-Identifier: Apache-2.0
#include "score.h"

#include <math.h>
#include <stdbool.h>

tool_score tool_score_row(const float *logits, int32_t vocab) {
  tool_score score = {0.0, 0};
  for (int32_t i = 1; i < vocab; i++) {
    if (logits[i] > logits[score.top]) score.top = i;
  }
  const float max = logits[score.top];
  double sum = 0.0;
  for (int32_t i = 0; i < vocab; i++) sum += (double)expf(logits[i] - max);
  score.log_sum = (double)max + log(sum);
  return score;
}

double tool_score_kl(const float *p, tool_score p_score, const float *q, tool_score q_score, int32_t vocab) {
  double kl = 0.0;
  for (int32_t i = 0; i < vocab; i++) {
    double log_p = (double)p[i] - p_score.log_sum;
    kl += (double)expf((float)log_p) * (log_p - ((double)q[i] - q_score.log_sum));
  }
  return kl;
}

tool_score tool_tally_row(tool_tally *t, const int32_t *ids, int32_t n, int32_t i, const float *logits,
                          const float *base, int32_t vocab, double *nll) {
  const bool half = i >= n / 2 - 1;
  tool_score score = tool_score_row(logits, vocab);
  tool_score other = {0.0, 0};
  if (base) {
    other = tool_score_row(base, vocab);
    double kl = tool_score_kl(base, other, logits, score, vocab);
    t->kl += kl;
    if (half) t->kl_half += kl;
    t->same += other.top == score.top;
  }
  t->rows++;
  t->rows_half += half;
  if (i + 1 == n) return score;
  double value = tool_score_nll(score, logits, ids[i + 1]);
  if (nll) *nll = value;
  double more = base ? value - tool_score_nll(other, base, ids[i + 1]) : 0.0;
  t->more += more;
  t->more_squares += more * more;
  t->nll += value;
  t->nll_squares += value * value;
  t->tokens++;
  if (half) t->nll_half += value;
  t->tokens_half += half;
  return score;
}

double tool_mean_error(double sum, double squares, uint64_t count) {
  if (count < 2) return 0.0;
  const double n = (double)count, variance = (squares - sum * sum / n) / (n - 1.0);
  return variance > 0.0 ? sqrt(variance / n) : 0.0;
}
