// SPDX-License-Identifier: Apache-2.0
#include "score.h"

#include <math.h>

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
