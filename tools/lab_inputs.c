// SPDX-License-Identifier: Apache-2.0
/* Rounding of a linear's inputs to the grids of the lab's schemes. */
#include <math.h>
#include <stdatomic.h>

#include "lab_scheme.h"
#include "numerics.h"

typedef struct job {
  const lab_scheme *scheme;
  float *out;
  const float *x;        /* [m, k] */
  float *limit;          /* [m]: from this |x| on a value of the row is an outlier */
  float *outlier_column; /* [k]: 1 where batch scope takes the column; token scope: NULL */
  int32_t k;
  float min, max; /* of the tensor, or of the row at hand */
  atomic_ullong outliers;
} job;

/* What the rule calls an outlier in this row: |x| of at least this (contract, section 2, 1). */
static float outlier_limit(otr_rule rule, const float *x, int32_t k) {
  if (rule.kind == OTR_RULE_OFF) return INFINITY;
  if (rule.kind == OTR_RULE_ABSOLUTE) return rule.value;
  double sum = 0.0;
  for (int32_t i = 0; i < k; i++) sum += (double)x[i] * (double)x[i];
  return sum > 0.0 ? rule.value * (float)sqrt(sum / k) : INFINITY;
}

static void widen(float *min, float *max, const float *x, int32_t k, float limit) {
  for (int32_t i = 0; i < k; i++) {
    if (fabsf(x[i]) >= limit) continue;
    *min = x[i] < *min ? x[i] : *min;
    *max = x[i] > *max ? x[i] : *max;
  }
}

/* Values of the grid per unit; 0: there is nothing to round. */
static float per_unit(lab_grid grid, float min, float max) {
  float range = grid == LAB_ZEROPOINT ? 0.5f * (max - min) : -min > max ? -min : max;
  float inverse = 127.0f / range;
  return range > 0.0f && isfinite(inverse) ? inverse : 0.0f;
}

/* Outliers as f16 with an exponent of the row's own, as the contract's x16. */
static float sixteen(float x, float largest) {
  int e = otr_exponent(largest) - 14;
  return ldexpf(otr_f16_round(ldexpf(x, -e)), e);
}

static void round_row(job *j, float *out, const float *x, float limit) {
  const lab_scheme *s = j->scheme;
  float min = INFINITY, max = -INFINITY, largest = 0.0f;
  uint64_t found = 0;
  if (s->inputs_tensor) {
    min = j->min;
    max = j->max;
  } else {
    widen(&min, &max, x, j->k, limit);
  }
  for (int32_t i = 0; i < j->k; i++) largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
  const float units = per_unit(s->inputs, min, max), step = units > 0.0f ? 1.0f / units : 0.0f;
  for (int32_t i = 0; i < j->k; i++) {
    bool outlier = fabsf(x[i]) >= limit || (j->outlier_column && j->outlier_column[i] > 0.0f);
    out[i] = outlier ? sixteen(x[i], largest) : rintf(x[i] * units) * step;
    found += outlier;
  }
  atomic_fetch_add(&j->outliers, found);
}

static void row_task(void *context, int32_t row, int32_t worker) {
  job *j = context;
  (void)worker;
  const float *x = j->x + (size_t)row * (size_t)j->k;
  float *out = j->out + (size_t)row * (size_t)j->k;
  if (j->scheme->inputs == LAB_F16) {
    for (int32_t i = 0; i < j->k; i++) out[i] = lab_f16(x[i]);
  } else {
    round_row(j, out, x, j->limit[row]);
  }
}

static void limit_task(void *context, int32_t row, int32_t worker) {
  job *j = context;
  (void)worker;
  j->limit[row] = outlier_limit(j->scheme->outliers, j->x + (size_t)row * (size_t)j->k, j->k);
}

/* Columns in which some row has an outlier, as bitsandbytes takes them. */
static void mark_columns(job *j, int32_t m, float *column) {
  for (int32_t i = 0; i < j->k; i++) column[i] = 0.0f;
  for (int32_t row = 0; row < m; row++) {
    const float *x = j->x + (size_t)row * (size_t)j->k;
    for (int32_t i = 0; i < j->k; i++)
      if (fabsf(x[i]) >= j->limit[row]) column[i] = 1.0f;
  }
  j->outlier_column = column;
}

void lab_round_inputs(const lab_scheme *scheme, float *out, const float *x, int32_t m, int32_t k, float *scratch,
                      otr_parallel *parallel, lab_count *count) {
  job j = {.scheme = scheme, .out = out, .x = x, .limit = scratch, .k = k, .min = INFINITY, .max = -INFINITY};
  otr_parallel_run(parallel, m, limit_task, &j);
  if (scheme->batch) mark_columns(&j, m, scratch + m);
  for (int32_t row = 0; scheme->inputs_tensor && row < m; row++)
    widen(&j.min, &j.max, x + (size_t)row * (size_t)k, k, j.limit[row]);
  otr_parallel_run(parallel, m, row_task, &j);
  count->outliers += (uint64_t)atomic_load(&j.outliers);
  count->values += (uint64_t)m * (uint64_t)k;
}
