// SPDX-License-Identifier: Apache-2.0
#include "lab_gptq.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lab_matmul.h"
#include "status.h"

#define DAMPING 0.01 /* of the mean of the diagonal, as in the paper */
#define BLOCK LAB_COMBINE
enum { ROWS_A_TASK = 16 };

/* ---- H^-1 = Uᵀ U -------------------------------------------------------------------------------------------------
 * With indices reversed, H = L Lᵀ is a product of an upper and a lower triangle, and U is L^-1 reversed: one
 * factorization and one inverse, both of triangles. */

typedef struct triangle_job {
  double *a;   /* [k, k], lower */
  double *inv; /* [k, ld], lower: its inverse; ld is a multiple of BLOCK */
  int32_t k, ld, first, last;
} triangle_job;

static double *row_of(double *a, int32_t k, int32_t row) {
  return a + (size_t)row * (size_t)k;
}

/* Takes off what the columns before the block have explained. */
static void update_row(void *context, int32_t task, int32_t worker) {
  const triangle_job *job = context;
  const int32_t i = job->first + task;
  (void)worker;
  double *row = row_of(job->a, job->k, i);
  for (int32_t j = job->first; j < job->last && j <= i; j++)
    row[j] -= lab_dot(row, row_of(job->a, job->k, j), job->first);
}

/* Row i of L within the block: all rows above in the block are done. */
static void solve_row(const triangle_job *job, int32_t i) {
  double *row = row_of(job->a, job->k, i);
  for (int32_t j = job->first; j < job->last && j < i; j++) {
    const double *other = row_of(job->a, job->k, j);
    row[j] = (row[j] - lab_dot(row + job->first, other + job->first, j - job->first)) / other[j];
  }
}

static void solve_task(void *context, int32_t task, int32_t worker) {
  const triangle_job *job = context;
  (void)worker;
  solve_row(job, job->last + task);
}

static bool factor_diagonal(const triangle_job *job) {
  for (int32_t i = job->first; i < job->last; i++) {
    double *row = row_of(job->a, job->k, i);
    solve_row(job, i);
    double left = row[i] - lab_dot(row + job->first, row + job->first, i - job->first);
    if (!(left > 0.0)) return false;
    row[i] = sqrt(left);
  }
  return true;
}

static bool factor(otr_parallel *parallel, double *a, int32_t k) {
  for (int32_t at = 0; at < k; at += BLOCK) {
    triangle_job job = {a, NULL, k, 0, at, at + BLOCK < k ? at + BLOCK : k};
    if (at > 0) otr_parallel_run(parallel, k - at, update_row, &job);
    if (!factor_diagonal(&job)) return false;
    otr_parallel_run(parallel, k - job.last, solve_task, &job);
  }
  return true;
}

/* Columns [at, at + BLOCK) of the inverse; rows above them are 0. */
static void invert_columns(void *context, int32_t task, int32_t worker) {
  const triangle_job *job = context;
  const int32_t at = task * BLOCK, k = job->k;
  (void)worker;
  for (int32_t i = at; i < k; i++) {
    double sum[BLOCK], *out = row_of(job->inv, job->ld, i);
    const double *row = row_of(job->a, k, i);
    lab_combine(sum, row + at, row_of(job->inv, job->ld, at) + at, (size_t)job->ld, i - at);
    for (int32_t j = 0; j < BLOCK; j++) out[at + j] = ((at + j == i ? 1.0 : 0.0) - sum[j]) / row[i];
  }
}

/* The damped Hessian's lower half, reversed. */
static void reverse_damped(double *a, const float *hessian, size_t k) {
  double trace = 0.0;
  for (size_t i = 0; i < k; i++) trace += (double)hessian[i * k + i];
  const double damping = DAMPING * (trace > 0.0 ? trace / (double)k : 1.0);
  for (size_t i = 0; i < k; i++)
    for (size_t j = 0; j <= i; j++)
      a[i * k + j] = (double)hessian[(k - 1 - j) * k + (k - 1 - i)] + (i == j ? damping : 0.0);
}

static void reverse_inverse(float *upper, const double *inverse, size_t k, size_t ld) {
  for (size_t i = 0; i < k; i++)
    for (size_t j = i; j < k; j++) upper[i * k + j] = (float)inverse[(k - 1 - i) * ld + (k - 1 - j)];
}

/* U [k, k], upper, of the damped Hessian. */
static otr_status make_upper(otr_parallel *parallel, float *upper, const float *hessian, int32_t k) {
  const int32_t blocks = (k + BLOCK - 1) / BLOCK;
  triangle_job job = {.k = k, .ld = blocks * BLOCK};
  const size_t size = (size_t)k * (size_t)k;
  OTR_TRY(tool_allocate(size + (size_t)k * (size_t)job.ld, sizeof *job.a, (void **)&job.a));
  job.inv = job.a + size;
  reverse_damped(job.a, hessian, (size_t)k);
  bool positive = factor(parallel, job.a, k);
  if (positive) {
    otr_parallel_run(parallel, blocks, invert_columns, &job);
    reverse_inverse(upper, job.inv, (size_t)k, (size_t)job.ld);
  }
  free(job.a);
  return positive ? OTR_STATUS_OK : otr_fail(OTR_STATUS_INVALID_ARGUMENT, "GPTQ: the Hessian is not positive");
}

/* ---- rounding ---------------------------------------------------------------------------------------------------- */

typedef struct rounding_job {
  float *w;           /* [n, k] */
  const float *upper; /* [k, k] */
  int32_t n, k, levels, group;
} rounding_job;

typedef struct grid {
  float scale, zero;
} grid;

/* The paper's grid: from the least to the largest value, 0 among them. */
static grid grid_of(const float *w, int32_t n, int32_t levels) {
  float min = 0.0f, max = 0.0f;
  for (int32_t i = 0; i < n; i++) {
    min = w[i] < min ? w[i] : min;
    max = w[i] > max ? w[i] : max;
  }
  float scale = (max - min) / (float)levels;
  return scale > 0.0f ? (grid){scale, rintf(-min / scale)} : (grid){1.0f, 0.0f};
}

static float on_grid(grid g, float w, int32_t levels) {
  float q = rintf(w / g.scale) + g.zero;
  q = q < 0.0f ? 0.0f : q > (float)levels ? (float)levels : q;
  return (q - g.zero) * g.scale;
}

static void round_rows(void *context, int32_t task, int32_t worker) {
  const rounding_job *job = context;
  const int32_t first = task * ROWS_A_TASK, k = job->k;
  const int32_t rows = job->n - first < ROWS_A_TASK ? job->n - first : ROWS_A_TASK;
  grid grids[ROWS_A_TASK];
  (void)worker;
  for (int32_t i = 0; i < k; i++) { /* a row of U serves all rows of the task */
    const float *u = job->upper + (size_t)i * (size_t)k;
    for (int32_t r = 0; r < rows; r++) {
      float *w = job->w + (size_t)(first + r) * (size_t)k;
      if (i % job->group == 0) grids[r] = grid_of(w + i, k - i < job->group ? k - i : job->group, job->levels);
      const float rounded = on_grid(grids[r], w[i], job->levels), error = (w[i] - rounded) / u[i];
      w[i] = rounded;
      lab_axpy(w + i + 1, -error, u + i + 1, k - i - 1);
    }
  }
}

otr_status lab_gptq_quantize(otr_parallel *parallel, float *w, int32_t n, int32_t k, const float *hessian, int32_t bits,
                             int32_t group) {
  float *upper;
  OTR_TRY(tool_allocate((size_t)k * (size_t)k, sizeof *upper, (void **)&upper));
  otr_parallel_begin(parallel);
  otr_status status = make_upper(parallel, upper, hessian, k);
  rounding_job job = {w, upper, n, k, (1 << bits) - 1, group ? group : k};
  if (status == OTR_STATUS_OK) otr_parallel_run(parallel, (n + ROWS_A_TASK - 1) / ROWS_A_TASK, round_rows, &job);
  otr_parallel_end(parallel);
  free(upper);
  return status;
}

/* ---- the Hessian ------------------------------------------------------------------------------------------------- */

typedef struct gather_job {
  float *hessian, *turned, *packed, *part; /* [k, k], xᵀ [k, m], xᵀ as weights, a task's sums [threads][ROWS, k] */
  const float *x;
  int32_t m, k;
} gather_job;

static void turn_task(void *context, int32_t panel, int32_t worker) {
  const gather_job *job = context;
  (void)worker;
  for (int32_t j = panel * LAB_PANEL; j < (panel + 1) * LAB_PANEL && j < job->k; j++) {
    float *row = job->turned + (size_t)j * (size_t)job->m;
    for (int32_t i = 0; i < job->m; i++) row[i] = job->x[(size_t)i * (size_t)job->k + (size_t)j];
    lab_pack_row(job->packed, j, row, 1, job->m);
  }
}

static void gather_task(void *context, int32_t task, int32_t worker) {
  const gather_job *job = context;
  const size_t k = (size_t)job->k;
  const int32_t first = task * ROWS_A_TASK, rows = job->k - first < ROWS_A_TASK ? job->k - first : ROWS_A_TASK;
  const int32_t panels = (first + rows + LAB_PANEL - 1) / LAB_PANEL; /* the lower half */
  float *part = job->part + (size_t)worker * ROWS_A_TASK * k;
  lab_matmul(part, k, job->turned + (size_t)first * (size_t)job->m, (size_t)job->m, job->packed, rows, job->k, job->m,
             0, panels);
  for (int32_t r = 0; r < rows; r++)
    for (size_t j = 0; j <= (size_t)(first + r); j++)
      job->hessian[(size_t)(first + r) * k + j] += part[(size_t)r * k + j];
}

otr_status lab_gptq_gather(otr_parallel *parallel, float *hessian, const float *x, int32_t m, int32_t k) {
  gather_job job = {.hessian = hessian, .x = x, .m = m, .k = k};
  const size_t turned = (size_t)m * (size_t)k, packed = lab_packed_floats(k, m);
  const size_t part = (size_t)otr_parallel_threads(parallel) * ROWS_A_TASK * (size_t)k;
  OTR_TRY(tool_allocate(turned + packed + part, sizeof *job.turned, (void **)&job.turned));
  job.packed = job.turned + turned;
  job.part = job.packed + packed;
  otr_parallel_run(parallel, (k + LAB_PANEL - 1) / LAB_PANEL, turn_task, &job);
  otr_parallel_run(parallel, (k + ROWS_A_TASK - 1) / ROWS_A_TASK, gather_task, &job);
  free(job.turned);
  return OTR_STATUS_OK;
}
