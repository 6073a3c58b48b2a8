// SPDX-License-Identifier: Apache-2.0
#include "lab_pass.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lab_matmul.h"
#include "rope.h"
#include "status.h"

/* ---- buffers ----------------------------------------------------------------------------------------------------- */

void lab_pass_free(lab_model *lab) {
  lab_pass *pass = lab->pass;
  if (!pass) return;
  for (int32_t i = 0; i < OTR_SLOTS; i++) free(pass->slot[i]);
  float *others[] = {pass->rounded, pass->scratch, pass->cosine, pass->sine, pass->slopes, pass->scores, pass->packed};
  for (size_t i = 0; i < sizeof others / sizeof *others; i++) free(others[i]);
  free(pass);
  lab->pass = NULL;
}

static int32_t slot_width(const otr_config *c, int32_t slot) {
  return slot == OTR_SLOT_X ? 0 : otr_config_slot_width(c, (otr_slot)slot); /* X is the caller's */
}

static otr_status take(float **out, size_t n, size_t width) {
  return tool_allocate(n * width, sizeof(float), (void **)out);
}

static otr_status take_buffers(const lab_model *lab, lab_pass *pass, size_t n) {
  const otr_config *c = lab->config;
  const size_t threads = (size_t)otr_parallel_threads(lab->parallel), half = (size_t)c->n_rot / 2;
  size_t widest = (size_t)c->dim;
  for (int32_t i = 0; i < OTR_SLOTS; i++) {
    size_t width = (size_t)slot_width(c, i);
    OTR_TRY(take(&pass->slot[i], n, width));
    widest = width > widest ? width : widest;
  }
  size_t keys = lab_packed_floats((int32_t)n, c->head_dim), values = lab_packed_floats(c->head_dim, (int32_t)n);
  pass->packed_stride = keys > values ? keys : values;
  OTR_TRY(take(&pass->rounded, n, widest));
  OTR_TRY(take(&pass->scratch, n + widest, 1));
  OTR_TRY(take(&pass->cosine, n, half));
  OTR_TRY(take(&pass->sine, n, half));
  OTR_TRY(take(&pass->slopes, 1, (size_t)c->n_heads));
  OTR_TRY(take(&pass->scores, n * n, threads));
  return take(&pass->packed, pass->packed_stride, threads);
}

/* RoPE's divisors: the metadata's, or those that are a tensor. NULL: none. @param factors [OTR_MAX_ROT / 2] */
static otr_status rope_factors(const lab_model *lab, bool is_long, float *factors, const float **out) {
  const otr_config *c = lab->config;
  const char *name = c->rope_original == 0 ? "rope_freqs.weight"
                     : is_long             ? "rope_factors_long.weight"
                                           : "rope_factors_short.weight";
  const source_tensor *given = source_find(lab->source, name);
  *out = c->has_rope_factors ? c->rope_factors[0] : NULL;
  if (!given) return OTR_STATUS_OK;
  *out = factors;
  return source_rows(lab->source, given, 0, 1, factors);
}

/* The library's own tables. */
static otr_status fill_tables(const lab_model *lab, lab_pass *pass, int32_t rows) {
  const otr_config *c = lab->config;
  const int32_t half = c->n_rot / 2;
  float given[OTR_MAX_ROT / 2];
  const float *factors;
  double inverse[OTR_MAX_ROT / 2];
  if (c->alibi > 0.0) {
    const double scale = c->arch->flags & OTR_ARCH_SCALED_ALIBI ? 1.0 / sqrt((double)c->head_dim) : 1.0;
    otr_alibi_slopes(pass->slopes, c->n_heads, c->alibi, scale);
  }
  if (half == 0) return OTR_STATUS_OK;
  OTR_TRY(rope_factors(lab, rows > c->rope_original, given, &factors));
  otr_rope_inverse(inverse, c->rope_theta, c->n_rot, factors);
  for (int32_t i = 0; i < rows; i++) {
    size_t at = (size_t)i * (size_t)half;
    otr_rope_row(pass->cosine + at, pass->sine + at, inverse, half, i, c->rope_attention);
  }
  return OTR_STATUS_OK;
}

otr_status lab_pass_fit(lab_model *lab, int32_t rows) {
  if (lab->pass && lab->pass->rows >= rows) return OTR_STATUS_OK;
  lab_pass_free(lab);
  OTR_TRY(tool_allocate(1, sizeof *lab->pass, (void **)&lab->pass));
  OTR_TRY(take_buffers(lab, lab->pass, (size_t)rows));
  OTR_TRY(fill_tables(lab, lab->pass, rows));
  lab->pass->rows = rows;
  return OTR_STATUS_OK;
}

/* ---- linears ----------------------------------------------------------------------------------------------------- */

enum { PANELS_A_TASK = 8 };
typedef struct linear_job {
  const lab_tensor *w;
  float *y;        // [m, n]
  const float *x;  // [m, k]
  int32_t m;
} linear_job;

static void linear_task(void *context, int32_t task, int32_t worker) {
  const linear_job *job = context;
  const lab_tensor *w = job->w;
  (void)worker;
  int32_t panels = (w->n + LAB_PANEL - 1) / LAB_PANEL, first = task * PANELS_A_TASK;
  int32_t last = first + PANELS_A_TASK < panels ? first + PANELS_A_TASK : panels;
  lab_matmul(job->y, (size_t)w->n, job->x, (size_t)w->k, w->packed, job->m, w->n, w->k, first, last);
  int32_t end = last * LAB_PANEL < w->n ? last * LAB_PANEL : w->n;
  for (int32_t i = 0; w->bias && i < job->m; i++) {
    for (int32_t j = first * LAB_PANEL; j < end; j++) job->y[(size_t)i * (size_t)w->n + (size_t)j] += w->bias[j];
  }
}

void lab_linear(const lab_model *lab, float *y, const float *x, const lab_tensor *w, int32_t m) {
  linear_job job = {w, y, x, m};
  int32_t panels = (w->n + LAB_PANEL - 1) / LAB_PANEL;
  otr_parallel_run(lab->parallel, (panels + PANELS_A_TASK - 1) / PANELS_A_TASK, linear_task, &job);
}

/* ---- norms and activations --------------------------------------------------------------------------------------- */

typedef struct norm_job {
  const otr_config *config;
  float *y;
  const float *x;
  const lab_tensor *gain;
  int32_t groups, width;
} norm_job;

static void norm_group(const norm_job *job, float *y, const float *x, int32_t group) {
  const int32_t width = job->width;
  const bool own = job->gain->k == width * job->groups; /* a gain for each value of all groups */
  const float *gain = job->gain->values + (own ? group * width : 0);
  double mean = 0.0, sum = 0.0;
  if (job->config->arch->norm == OTR_NORM_LAYER) {
    for (int32_t i = 0; i < width; i++) mean += (double)x[i];
    mean /= width;
  }
  for (int32_t i = 0; i < width; i++) sum += ((double)x[i] - mean) * ((double)x[i] - mean);
  const double inverse = 1.0 / sqrt(sum / width + (double)job->config->eps);
  for (int32_t i = 0; i < width; i++) y[i] = (float)(((double)x[i] - mean) * inverse) * gain[i];
  for (int32_t i = 0; job->gain->bias && i < width; i++) y[i] += job->gain->bias[i];
}

static void norm_row(void *context, int32_t row, int32_t worker) {
  const norm_job *job = context;
  (void)worker;
  for (int32_t g = 0; g < job->groups; g++) {
    size_t at = ((size_t)row * (size_t)job->groups + (size_t)g) * (size_t)job->width;
    norm_group(job, job->y + at, job->x + at, g);
  }
}

void lab_norm(const lab_model *lab, float *y, const float *x, const lab_tensor *gain, int32_t m, int32_t groups,
              int32_t width) {
  norm_job job = {lab->config, y, x, gain, groups, width};
  otr_parallel_run(lab->parallel, m, norm_row, &job);
}

static float act_of(otr_act_kind act, float x) {
  switch (act) {
    case OTR_ACT_SILU:
      return x / (1.0f + expf(-x));
    case OTR_ACT_GELU_TANH:
      return 0.5f * x * (1.0f + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)));
    case OTR_ACT_GELU_ERF:
      return 0.5f * x * (1.0f + erff(x * 0.7071067812f));
    default:
      return x > 0.0f ? x : 0.0f;
  }
}

enum { ACT_VALUES = 16384 };
typedef struct act_job {
  otr_act_kind act;
  float *x;
  const float *y;
  size_t n;
} act_job;

static void act_task(void *context, int32_t task, int32_t worker) {
  const act_job *job = context;
  (void)worker;
  size_t at = (size_t)task * ACT_VALUES, end = job->n - at < ACT_VALUES ? job->n : at + ACT_VALUES;
  for (size_t i = at; i < end; i++) job->x[i] = act_of(job->act, job->x[i]) * (job->y ? job->y[i] : 1.0f);
}

void lab_activate(const lab_model *lab, otr_act_kind act, float *x, const float *y, size_t n) {
  act_job job = {act, x, y, n};
  otr_parallel_run(lab->parallel, (int32_t)((n + ACT_VALUES - 1) / ACT_VALUES), act_task, &job);
}

/* ---- attention --------------------------------------------------------------------------------------------------- */

typedef struct attention_job {
  const lab_model *lab;
  float *out;
  int32_t n;
} attention_job;

/* Pairs (j, j + n_rot/2), as the contract has them. */
static void rotate(const lab_model *lab, float *rows, int32_t n, int32_t n_heads) {
  const lab_pass *pass = lab->pass;
  const int32_t half = lab->config->n_rot / 2, d = lab->config->head_dim;
  for (int32_t i = 0; i < n; i++) {
    const float *cosine = pass->cosine + (size_t)i * (size_t)half, *sine = pass->sine + (size_t)i * (size_t)half;
    for (int32_t h = 0; h < n_heads; h++) {
      float *head = rows + ((size_t)i * (size_t)n_heads + (size_t)h) * (size_t)d;
      for (int32_t j = 0; j < half; j++) {
        float a = head[j], b = head[j + half];
        head[j] = a * cosine[j] - b * sine[j];
        head[j + half] = a * sine[j] + b * cosine[j];
      }
    }
  }
}

/* Softmax of row i over the positions that it sees; all others become 0. */
static void softmax(const otr_config *c, float *row, int32_t i, int32_t n, float slope) {
  const int32_t first = c->window > 0 && i >= c->window ? i - c->window + 1 : 0;
  const float scale = 1.0f / sqrtf((float)c->head_dim);
  float max = -INFINITY;
  double sum = 0.0;
  for (int32_t j = first; j <= i; j++) {
    row[j] = row[j] * scale + slope * (float)(j - i);
    max = row[j] > max ? row[j] : max;
  }
  for (int32_t j = first; j <= i; j++) {
    row[j] = expf(row[j] - max);
    sum += (double)row[j];
  }
  float inverse = (float)(1.0 / sum);
  for (int32_t j = first; j <= i; j++) row[j] *= inverse;
  for (int32_t j = 0; j < first; j++) row[j] = 0.0f;
  for (int32_t j = i + 1; j < n; j++) row[j] = 0.0f;
}

static void head_task(void *context, int32_t head, int32_t worker) {
  const attention_job *job = context;
  const otr_config *c = job->lab->config;
  lab_pass *pass = job->lab->pass;
  const int32_t n = job->n, d = c->head_dim;
  const size_t q_width = (size_t)(c->n_heads * d), kv_width = (size_t)(c->n_kv_heads * d);
  const size_t kv = (size_t)(head / (c->n_heads / c->n_kv_heads)) * (size_t)d, at = (size_t)(head * d);
  float *scores = pass->scores + (size_t)worker * (size_t)pass->rows * (size_t)pass->rows;
  float *packed = pass->packed + (size_t)worker * pass->packed_stride;
  memset(packed, 0, pass->packed_stride * sizeof *packed);
  for (int32_t j = 0; j < n; j++) lab_pack_row(packed, j, pass->slot[OTR_SLOT_K] + (size_t)j * kv_width + kv, 1, d);
  lab_matmul(scores, (size_t)n, pass->slot[OTR_SLOT_Q] + at, q_width, packed, n, n, d, 0,
             (n + LAB_PANEL - 1) / LAB_PANEL);
  for (int32_t i = 0; i < n; i++)
    softmax(c, scores + (size_t)i * (size_t)n, i, n, c->alibi > 0.0 ? pass->slopes[head] : 0.0f);
  memset(packed, 0, pass->packed_stride * sizeof *packed);
  for (int32_t j = 0; j < d; j++) lab_pack_row(packed, j, pass->slot[OTR_SLOT_V] + kv + (size_t)j, kv_width, n);
  lab_matmul(job->out + at, q_width, scores, (size_t)n, packed, n, d, n, 0, (d + LAB_PANEL - 1) / LAB_PANEL);
}

void lab_attention(lab_model *lab, float *out, int32_t n) {
  attention_job job = {lab, out, n};
  rotate(lab, lab->pass->slot[OTR_SLOT_Q], n, lab->config->n_heads);
  rotate(lab, lab->pass->slot[OTR_SLOT_K], n, lab->config->n_kv_heads);
  otr_parallel_run(lab->parallel, lab->config->n_heads, head_task, &job);
}
