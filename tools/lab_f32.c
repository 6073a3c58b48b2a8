// SPDX-License-Identifier: Apache-2.0
#include "lab_f32.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "lab_matmul.h"
#include "lab_model.h"
#include "status.h"

struct lab_f32 {
  lab_model model;
  otr_parallel *parallel;
  otr_memory memory;
  int32_t capacity;      // rows that the buffers hold
  int32_t n;             // rows of the last eval
  float *x;              // [n, dim] residual stream; after an eval what the output layer reads
  float *normed, *part;  // [n, dim]
  float *q, *attended;   // [n, n_heads · head_dim]
  float *k, *v;          // [n, n_kv_heads · head_dim]
  float *gate, *up;      // [n, ffn_dim]
  float *cosine, *sine;  // [n, n_rot / 2]
  float *scores;         // [n_heads][n, n]
  float *packed;         // [n_heads][K or V of a head as lab_matmul's weights]
  size_t packed_stride;  // floats of packed for one head
};

/* ---- buffers ---------------------------------------------------------------------------------------------------- */

static void free_buffers(lab_f32 *lab) {
  float **all[] = {&lab->x,    &lab->normed, &lab->part,   &lab->q,    &lab->attended, &lab->k,     &lab->v,
                   &lab->gate, &lab->up,     &lab->cosine, &lab->sine, &lab->scores,   &lab->packed};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    free(*all[i]);
    *all[i] = NULL;
  }
  lab->capacity = 0;
}

static otr_status take_buffers(lab_f32 *lab, int32_t rows) {
  const lab_model *model = &lab->model;
  const size_t n = (size_t)rows, heads = (size_t)model->n_heads;
  const size_t q = heads * (size_t)model->head_dim, kv = (size_t)(model->n_kv_heads * model->head_dim);
  size_t keys = lab_packed_floats(rows, model->head_dim), values = lab_packed_floats(model->head_dim, rows);
  lab->packed_stride = keys > values ? keys : values;
  const struct {
    float **to;
    size_t width, rows;
  } all[] = {{&lab->x, (size_t)model->dim, n},
             {&lab->normed, (size_t)model->dim, n},
             {&lab->part, (size_t)model->dim, n},
             {&lab->q, q, n},
             {&lab->attended, q, n},
             {&lab->k, kv, n},
             {&lab->v, kv, n},
             {&lab->gate, (size_t)model->ffn_dim, n},
             {&lab->up, (size_t)model->ffn_dim, n},
             {&lab->cosine, (size_t)model->n_rot / 2, n},
             {&lab->sine, (size_t)model->n_rot / 2, n},
             {&lab->scores, n * n, heads},
             {&lab->packed, lab->packed_stride, heads}};
  free_buffers(lab);
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    OTR_TRY(tool_allocate(all[i].width * all[i].rows, sizeof(float), (void **)all[i].to));
  }
  lab->capacity = rows;
  return OTR_STATUS_OK;
}

/* cos and sin of position · base^(−2j / n_rot) / scaling. */
static void fill_rope(lab_f32 *lab, int32_t rows) {
  const lab_model *model = &lab->model;
  const int32_t half = model->n_rot / 2;
  for (int32_t j = 0; j < half; j++) {
    double divisor = model->rope_scale * (model->rope_divisors ? (double)model->rope_divisors[j] : 1.0);
    double step = pow(model->rope_base, -2.0 * j / model->n_rot) / divisor;
    for (int32_t i = 0; i < rows; i++) {
      lab->cosine[(size_t)i * (size_t)half + (size_t)j] = (float)cos(i * step);
      lab->sine[(size_t)i * (size_t)half + (size_t)j] = (float)sin(i * step);
    }
  }
}

/* ---- parallel steps --------------------------------------------------------------------------------------------- */

enum { PANELS_A_TASK = 8 };
typedef struct linear_job {
  const lab_linear *linear;
  float *y;        // [m, n]
  const float *x;  // [m, k]
  int32_t m;
} linear_job;

static void linear_task(void *context, int32_t task, int32_t worker) {
  const linear_job *job = context;
  const lab_linear *linear = job->linear;
  (void)worker;
  int32_t panels = (linear->n + LAB_PANEL - 1) / LAB_PANEL, first = task * PANELS_A_TASK;
  int32_t last = first + PANELS_A_TASK < panels ? first + PANELS_A_TASK : panels;
  lab_matmul(job->y, (size_t)linear->n, job->x, (size_t)linear->k, linear->packed, job->m, linear->n, linear->k, first,
             last);
  int32_t end = last * LAB_PANEL < linear->n ? last * LAB_PANEL : linear->n;
  for (int32_t i = 0; linear->bias && i < job->m; i++) {
    for (int32_t j = first * LAB_PANEL; j < end; j++)
      job->y[(size_t)i * (size_t)linear->n + (size_t)j] += linear->bias[j];
  }
}

/* y[m, n] = x[m, k] · Wᵀ + b. Between otr_parallel_begin and end, as all steps below. */
static void linear(lab_f32 *lab, float *y, const float *x, const lab_linear *weights, int32_t m) {
  linear_job job = {weights, y, x, m};
  int32_t panels = (weights->n + LAB_PANEL - 1) / LAB_PANEL;
  otr_parallel_run(lab->parallel, (panels + PANELS_A_TASK - 1) / PANELS_A_TASK, linear_task, &job);
}

static void rotate(const lab_f32 *lab, float *rows, int32_t n_heads) {
  const lab_model *model = &lab->model;
  const int32_t half = model->n_rot / 2;
  for (int32_t i = 0; i < lab->n; i++) {
    const float *cosine = lab->cosine + (size_t)i * (size_t)half, *sine = lab->sine + (size_t)i * (size_t)half;
    for (int32_t h = 0; h < n_heads; h++) {
      float *head = rows + ((size_t)i * (size_t)n_heads + (size_t)h) * (size_t)model->head_dim;
      for (int32_t j = 0; j < half; j++) {
        float a = head[2 * j], b = head[2 * j + 1];
        head[2 * j] = a * cosine[j] - b * sine[j];
        head[2 * j + 1] = a * sine[j] + b * cosine[j];
      }
    }
  }
}

/* Causal softmax of row i; what lies after i becomes 0. */
static void softmax(float *row, int32_t i, int32_t n, float scale) {
  float max = -INFINITY;
  double sum = 0.0;
  for (int32_t j = 0; j <= i; j++) max = row[j] > max ? row[j] : max;
  for (int32_t j = 0; j <= i; j++) {
    row[j] = expf((row[j] - max) * scale);
    sum += (double)row[j];
  }
  float inverse = (float)(1.0 / sum);
  for (int32_t j = 0; j <= i; j++) row[j] *= inverse;
  for (int32_t j = i + 1; j < n; j++) row[j] = 0.0f;
}

static void head_task(void *context, int32_t head, int32_t worker) {
  const lab_f32 *lab = context;
  const lab_model *model = &lab->model;
  (void)worker;
  const int32_t n = lab->n, d = model->head_dim;
  const size_t q_width = (size_t)(model->n_heads * d), kv_width = (size_t)(model->n_kv_heads * d);
  const size_t kv = (size_t)(head / (model->n_heads / model->n_kv_heads)) * (size_t)d, at = (size_t)(head * d);
  float *scores = lab->scores + (size_t)head * (size_t)n * (size_t)n;
  float *packed = lab->packed + (size_t)head * lab->packed_stride;
  memset(packed, 0, lab->packed_stride * sizeof *packed);
  for (int32_t j = 0; j < n; j++) lab_pack_row(packed, j, lab->k + (size_t)j * kv_width + kv, 1, d);
  lab_matmul(scores, (size_t)n, lab->q + at, q_width, packed, n, n, d, 0, (n + LAB_PANEL - 1) / LAB_PANEL);
  for (int32_t i = 0; i < n; i++) softmax(scores + (size_t)i * (size_t)n, i, n, 1.0f / sqrtf((float)d));
  memset(packed, 0, lab->packed_stride * sizeof *packed);
  for (int32_t j = 0; j < d; j++) lab_pack_row(packed, j, lab->v + kv + (size_t)j, kv_width, n);
  lab_matmul(lab->attended + at, q_width, scores, (size_t)n, packed, n, d, n, 0, (d + LAB_PANEL - 1) / LAB_PANEL);
}

/* ---- the forward pass ------------------------------------------------------------------------------------------- */

static void rms_norm(const lab_f32 *lab, float *y, const float *x, const float *gain) {
  const int32_t dim = lab->model.dim;
  for (int32_t i = 0; i < lab->n; i++, x += dim, y += dim) {
    double sum = 0.0;
    for (int32_t j = 0; j < dim; j++) sum += (double)x[j] * (double)x[j];
    float inverse = (float)(1.0 / sqrt(sum / dim + (double)lab->model.eps));
    for (int32_t j = 0; j < dim; j++) y[j] = x[j] * inverse * gain[j];
  }
}

static void add(float *x, const float *y, size_t n) {
  for (size_t i = 0; i < n; i++) x[i] += y[i];
}

static void run_layer(lab_f32 *lab, const lab_layer *layer) {
  const lab_model *model = &lab->model;
  const size_t values = (size_t)lab->n * (size_t)model->dim, hidden = (size_t)lab->n * (size_t)model->ffn_dim;
  rms_norm(lab, lab->normed, lab->x, layer->attn_norm);
  linear(lab, lab->q, lab->normed, &layer->q, lab->n);
  linear(lab, lab->k, lab->normed, &layer->k, lab->n);
  linear(lab, lab->v, lab->normed, &layer->v, lab->n);
  rotate(lab, lab->q, model->n_heads);
  rotate(lab, lab->k, model->n_kv_heads);
  otr_parallel_run(lab->parallel, model->n_heads, head_task, lab);
  linear(lab, lab->part, lab->attended, &layer->out, lab->n);
  add(lab->x, lab->part, values);
  rms_norm(lab, lab->normed, lab->x, layer->ffn_norm);
  linear(lab, lab->gate, lab->normed, &layer->gate, lab->n);
  linear(lab, lab->up, lab->normed, &layer->up, lab->n);
  for (size_t i = 0; i < hidden; i++) lab->gate[i] = lab->gate[i] / (1.0f + expf(-lab->gate[i])) * lab->up[i];
  linear(lab, lab->part, lab->gate, &layer->down, lab->n);
  add(lab->x, lab->part, values);
}

otr_status lab_f32_eval(lab_f32 *lab, const int32_t *ids, int32_t n) {
  lab->n = 0;
  if (n > lab->capacity) {
    OTR_TRY(take_buffers(lab, n));
    fill_rope(lab, n);
  }
  for (int32_t i = 0; i < n; i++) {
    OTR_TRY(lab_model_embed(&lab->model, ids[i], lab->x + (size_t)i * (size_t)lab->model.dim));
  }
  lab->n = n;
  otr_parallel_begin(lab->parallel);
  for (int32_t i = 0; i < lab->model.n_layers; i++) run_layer(lab, &lab->model.layers[i]);
  rms_norm(lab, lab->x, lab->x, lab->model.output_norm);
  otr_parallel_end(lab->parallel);
  return OTR_STATUS_OK;
}

void lab_f32_logits(lab_f32 *lab, int32_t first, int32_t count, float *logits) {
  otr_parallel_begin(lab->parallel);
  linear(lab, logits, lab->x + (size_t)first * (size_t)lab->model.dim, &lab->model.output, count);
  otr_parallel_end(lab->parallel);
}

otr_status lab_f32_open(const char *path, int32_t n_threads, lab_f32 **out) {
  lab_f32 *lab;
  *out = NULL;
  OTR_TRY(tool_allocate(1, sizeof *lab, (void **)&lab));
  otr_memory_init(&lab->memory, NULL);
  otr_status status = otr_parallel_create(&lab->memory, n_threads, NULL, NULL, &lab->parallel);
  if (status == OTR_STATUS_OK) status = lab_model_open(path, lab->parallel, &lab->model);
  if (status != OTR_STATUS_OK) {
    lab_f32_close(lab);
    return status;
  }
  *out = lab;
  return OTR_STATUS_OK;
}

void lab_f32_close(lab_f32 *lab) {
  if (!lab) return;
  free_buffers(lab);
  lab_model_close(&lab->model);
  otr_parallel_destroy(lab->parallel);
  free(lab);
}

int32_t lab_f32_vocab(const lab_f32 *lab) {
  return lab->model.vocab;
}
