// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>
#include <string.h>

#include "lab_gptq.h"
#include "lab_matmul.h"
#include "lab_pass.h"
#include "status.h"

/* ---- a block ----------------------------------------------------------------------------------------------------- */

/* What the linears of `tensors` read where their input is x [m, k]: told, edited and rounded. */
static const float *prepare_input(lab_model *lab, const lab_block *b, const lab_tensor *const *tensors,
                                  int32_t n_tensors, const float *x, int32_t m) {
  const lab_watch *watch = b->watch;
  const int32_t k = tensors[0]->k;
  float *rounded = lab->pass->rounded;
  for (int32_t i = 0; watch && watch->input && i < n_tensors; i++)
    watch->input(watch->user, tensors[i]->from->rule, b->layer, x, m, k);
  if (watch && watch->edit) {
    memcpy(rounded, x, (size_t)m * (size_t)k * sizeof *x);
    watch->edit(watch->user, tensors[0]->from->rule, b->layer, rounded, m, k);
    x = rounded;
  }
  if (b->scheme->inputs == LAB_F32) return x;
  lab_round_inputs(b->scheme, rounded, x, m, k, lab->pass->scratch, lab->parallel, b->count);
  return rounded;
}

static void run_linears(lab_model *lab, const lab_block *b, const otr_block_step *s, const float *x, float *const *slot,
                        int32_t m) {
  const lab_tensor *tensors[OTR_LINEAR_PARTS] = {NULL};
  for (int32_t i = 0; i < s->n_parts; i++) tensors[i] = &b->tensors->role[s->role[i]];
  x = prepare_input(lab, b, tensors, s->n_parts, x, m);
  for (int32_t i = 0; i < s->n_parts; i++) lab_linear(lab, slot[s->out[i]], x, tensors[i], m);
}

static void add(float *x, const float *y, size_t n) {
  for (size_t i = 0; i < n; i++) x[i] += y[i];
}

static void run_step(lab_model *lab, const lab_block *b, const otr_block_step *s, float *const *slot, int32_t m) {
  const otr_config *c = lab->config;
  const size_t rows = (size_t)m;
  switch ((otr_step_kind)s->kind) {
    case OTR_STEP_NORM:
      lab_norm(lab, slot[s->out[0]], slot[s->in], &b->tensors->role[s->role[0]], m, 1, c->dim);
      break;
    case OTR_STEP_HEAD_NORM:
      if (b->tensors->role[s->role[0]].values) {
        const int32_t heads = s->in == OTR_SLOT_Q ? c->n_heads : c->n_kv_heads;
        lab_norm(lab, slot[s->in], slot[s->in], &b->tensors->role[s->role[0]], m, heads, c->head_dim);
      }
      break;
    case OTR_STEP_LINEAR:
      run_linears(lab, b, s, slot[s->in], slot, m);
      break;
    case OTR_STEP_ATTENTION:
      lab_attention(lab, slot[s->out[0]], m);
      break;
    case OTR_STEP_GLU:
      lab_activate(lab, c->act, slot[s->out[0]], slot[s->in], rows * (size_t)c->ffn_dim);
      break;
    case OTR_STEP_ACT:
      lab_activate(lab, c->act, slot[s->in], NULL, rows * (size_t)c->ffn_dim);
      break;
    case OTR_STEP_ADD:
      add(slot[s->out[0]], slot[s->in], rows * (size_t)c->dim);
      break;
    case OTR_STEP_END:
      break;
  }
}

otr_status lab_block_run(lab_model *lab, const lab_block *block, float *x, int32_t n) {
  OTR_TRY(lab_pass_fit(lab, n));
  float *slot[OTR_SLOTS];
  memcpy(slot, lab->pass->slot, sizeof slot);
  slot[OTR_SLOT_X] = x;
  otr_parallel_begin(lab->parallel);
  for (int32_t i = 0; i < lab->config->n_steps; i++) run_step(lab, block, &lab->config->block[i], slot, n);
  otr_parallel_end(lab->parallel);
  return OTR_STATUS_OK;
}

/* ---- before and behind the blocks -------------------------------------------------------------------------------- */

/* One linear of the model itself. */
static void run_linear(lab_model *lab, const lab_block *b, const lab_tensor *t, float *y, const float *x, int32_t m) {
  lab_linear(lab, y, prepare_input(lab, b, &t, 1, x, m), t, m);
}

static lab_block model_block(lab_weights *w, const lab_watch *watch, int32_t layer) {
  return (lab_block){&w->ends, &w->head_scheme, watch, &w->count, layer};
}

/* The table's rows, times the architecture's constant. */
static otr_status read_embedding(const lab_weights *w, const int32_t *ids, int32_t n, float *out) {
  const otr_config *c = w->lab->config;
  for (int32_t i = 0; i < n; i++, out += c->embd_dim) {
    OTR_TRY(lab_embed(w, ids[i], out));
    for (int32_t j = 0; c->embd_scale != 0.0f && j < c->embd_dim; j++) out[j] *= c->embd_scale;
  }
  return OTR_STATUS_OK;
}

otr_status lab_embed_rows(lab_model *lab, lab_weights *weights, const lab_watch *watch, const int32_t *ids, int32_t n,
                          float *x) {
  const lab_tensor *role = weights->ends.role, *project = &role[OTR_ROLE_PROJECT_IN];
  const otr_config *c = lab->config;
  if (c->n_positions > 0 && n > c->n_positions)
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "a window of %d ids: the model has %d positions", (int)n,
                    (int)c->n_positions);
  OTR_TRY(lab_pass_fit(lab, n));
  float *rows = project->packed ? lab->pass->slot[OTR_SLOT_E] : x;
  OTR_TRY(read_embedding(weights, ids, n, rows));
  const lab_block block = model_block(weights, watch, -1);
  otr_parallel_begin(lab->parallel);
  if (project->packed) run_linear(lab, &block, project, x, rows, n);
  if (role[OTR_ROLE_POSITION_EMBD].values) add(x, role[OTR_ROLE_POSITION_EMBD].values, (size_t)n * (size_t)c->dim);
  if (role[OTR_ROLE_TOKEN_EMBD_NORM].values) lab_norm(lab, x, x, &role[OTR_ROLE_TOKEN_EMBD_NORM], n, 1, c->dim);
  otr_parallel_end(lab->parallel);
  return OTR_STATUS_OK;
}

/* What the output layer is multiplied with, of x [n, dim]. */
static void finish(lab_model *lab, lab_weights *w, const lab_watch *watch, float *x, int32_t n, float *out) {
  const lab_tensor *head = lab_head(w), *norm = &w->ends.role[OTR_ROLE_OUTPUT_NORM];
  const lab_tensor *project = &w->ends.role[OTR_ROLE_PROJECT_OUT];
  const lab_block block = model_block(w, watch, lab->config->n_layers);
  otr_parallel_begin(lab->parallel);
  if (norm->values) lab_norm(lab, x, x, norm, n, 1, lab->config->dim);
  if (project->packed) {
    run_linear(lab, &block, project, lab->pass->slot[OTR_SLOT_E], x, n);
    x = lab->pass->slot[OTR_SLOT_E];
  }
  memcpy(out, prepare_input(lab, &block, &head, 1, x, n), (size_t)n * (size_t)head->k * sizeof *out);
  otr_parallel_end(lab->parallel);
}

/* ---- all layers, all windows ------------------------------------------------------------------------------------- */

typedef struct run {
  lab_model *lab;
  lab_weights *weights;
  const tool_ids *windows;
  const lab_watch *watch;
  float *x;  // [ids of all windows, dim]
} run;

static float *window_x(const run *r, size_t window) {
  return r->x + (r->windows->start[window] - r->windows->start[0]) * (size_t)r->lab->config->dim;
}

static otr_status run_layer(const run *r, int32_t layer, const lab_layer *tensors) {
  lab_weights *w = r->weights;
  const lab_block block = {tensors, &w->scheme, r->watch, &w->count, layer};
  for (size_t i = 0; i < r->windows->n; i++) {
    int32_t n = (int32_t)tool_ids_length(r->windows, i);
    OTR_TRY(lab_block_run(r->lab, &block, window_x(r, i), n));
    if (r->watch && r->watch->state) r->watch->state(r->watch->user, layer, i, window_x(r, i), n, r->lab->config->dim);
  }
  return OTR_STATUS_OK;
}

/* Rows of the linear that the watch asks for. */
static otr_status show_weights(const lab_watch *watch, const lab_layer *tensors) {
  for (int32_t role = 0; watch && watch->weight && role < OTR_ROLES; role++) {
    const lab_tensor *t = &tensors->role[role];
    if (!t->packed || strcmp(t->from->name, watch->weight_name) != 0) continue;
    float *row;
    OTR_TRY(tool_allocate((size_t)t->k, sizeof *row, (void **)&row));
    for (int32_t i = 0; i < t->n; i++) {
      lab_unpack_row(row, t->packed, i, t->k);
      watch->weight(watch->user, i, row, t->k);
    }
    free(row);
  }
  return OTR_STATUS_OK;
}

static otr_status load(lab_weights *w, int32_t layer) {
  lab_layer *tensors = &w->layers[layer];
  if (tensors->loaded) return OTR_STATUS_OK;
  return w->scheme.weights == LAB_GPTQ ? lab_gptq_layer(w, layer, tensors) : lab_layer_load(w, layer, false, tensors);
}

static otr_status run_all(const run *r, float *out) {
  const int32_t n_layers = r->lab->config->n_layers;
  tool_progress progress;
  tool_progress_start(&progress, r->weights->scheme.name);
  otr_status status = OTR_STATUS_OK;
  for (int32_t layer = 0; layer < n_layers && status == OTR_STATUS_OK; layer++) {
    tool_progress_step(&progress, (uint64_t)layer, (uint64_t)n_layers);
    status = load(r->weights, layer);
    if (status == OTR_STATUS_OK) status = show_weights(r->watch, &r->weights->layers[layer]);
    if (status == OTR_STATUS_OK) status = run_layer(r, layer, &r->weights->layers[layer]);
    if (!r->weights->resident) lab_layer_free(&r->weights->layers[layer]);
  }
  tool_progress_end(&progress);
  const size_t width = (size_t)lab_head_width(r->lab);
  for (size_t i = 0; status == OTR_STATUS_OK && i < r->windows->n; i++)
    finish(r->lab, r->weights, r->watch, window_x(r, i), (int32_t)tool_ids_length(r->windows, i),
           out + (r->windows->start[i] - r->windows->start[0]) * width);
  return status;
}

otr_status lab_run(lab_model *lab, lab_weights *weights, const tool_ids *windows, const lab_watch *watch, float *out) {
  run r = {lab, weights, windows, watch, NULL};
  const size_t rows = windows->start[windows->n] - windows->start[0], dim = (size_t)lab->config->dim;
  OTR_TRY(tool_allocate(rows * dim, sizeof *r.x, (void **)&r.x));
  otr_status status = OTR_STATUS_OK;
  for (size_t i = 0; i < windows->n && status == OTR_STATUS_OK; i++) {
    int32_t n = (int32_t)tool_ids_length(windows, i);
    status = lab_embed_rows(lab, weights, watch, windows->ids + windows->start[i], n, window_x(&r, i));
  }
  if (status == OTR_STATUS_OK) status = run_all(&r, out);
  free(r.x);
  return status;
}

int32_t lab_head_width(const lab_model *lab) {
  return lab->config->embd_dim;
}

otr_status lab_logits(lab_model *lab, lab_weights *weights, const float *x, int32_t m, float *logits) {
  otr_parallel_begin(lab->parallel);
  lab_linear(lab, logits, x, lab_head(weights), m);
  otr_parallel_end(lab->parallel);
  return OTR_STATUS_OK;
}
