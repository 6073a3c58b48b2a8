// SPDX-License-Identifier: Apache-2.0
/* GPTQ over a model: layer by layer, each fitted to what reaches it through the quantized layers before it (Frantar et
 * al., section 4, "Calibration"). */
#include <stdlib.h>
#include <string.h>

#include "lab_gptq.h"
#include "status.h"

/* The Hessians of one layer's inputs. Linears with one input share one. */
typedef struct collector {
  otr_parallel *parallel;
  float *hessian[OTR_LAYER_ROLES]; /* [k, k]; NULL where the role shares that of owner[role] */
  int32_t owner[OTR_LAYER_ROLES];  /* role + 1; 0: not met yet */
  const float *last_x;
  int32_t last;
  otr_status status;
} collector;

static void collect(void *user, const otr_tensor_rule *rule, int32_t layer, const float *x, int32_t m, int32_t k) {
  collector *c = user;
  const int32_t role = rule->role;
  (void)layer;
  if (c->status != OTR_STATUS_OK) return;
  if (c->owner[role] == 0) { /* q, k and v come one after the other, with one x */
    c->owner[role] = x == c->last_x ? c->owner[c->last] : role + 1;
    if (c->owner[role] == role + 1)
      c->status = tool_allocate((size_t)k * (size_t)k, sizeof(float), (void **)&c->hessian[role]);
  }
  c->last_x = x;
  c->last = role;
  if (c->status == OTR_STATUS_OK && c->hessian[role])
    c->status = lab_gptq_gather(c->parallel, c->hessian[role], x, m, k);
}

static void collector_free(collector *c) {
  for (int32_t i = 0; i < OTR_LAYER_ROLES; i++) free(c->hessian[i]);
}

static float *calibration_x(const lab_weights *w, size_t window) {
  return w->calibration_x + (w->calibration->start[window] - w->calibration->start[0]) * (size_t)w->lab->config->dim;
}

/* Runs the layer over the calibration windows; with a collector on a copy of their rows. */
static otr_status run_windows(lab_weights *w, int32_t layer, const lab_layer *tensors, collector *c) {
  static const lab_scheme exact = {.name = "f32"};
  const lab_watch watch = {.user = c, .input = collect};
  lab_count unused = {0, 0};
  const lab_block block = {tensors, &exact, c ? &watch : NULL, &unused, layer};
  for (size_t i = 0; i < w->calibration->n; i++) {
    const int32_t n = (int32_t)tool_ids_length(w->calibration, i);
    const size_t values = (size_t)n * (size_t)w->lab->config->dim;
    float *x = calibration_x(w, i), *copy = NULL;
    if (c) {
      OTR_TRY(tool_allocate(values, sizeof *copy, (void **)&copy));
      memcpy(copy, x, values * sizeof *copy);
      c->last_x = NULL;
    }
    otr_status status = lab_block_run(w->lab, &block, copy ? copy : x, n);
    free(copy);
    OTR_TRY(status);
    if (c) OTR_TRY(c->status);
  }
  return OTR_STATUS_OK;
}

static otr_status quantize_tensor(const lab_weights *w, lab_tensor *t, const float *hessian) {
  float *rows;
  OTR_TRY(tool_allocate((size_t)t->n * (size_t)t->k, sizeof *rows, (void **)&rows));
  otr_status status = source_rows(w->lab->source, t->from, 0, t->n, rows);
  if (status == OTR_STATUS_OK)
    status = lab_gptq_quantize(w->lab->parallel, rows, t->n, t->k, hessian, w->scheme.bits, w->scheme.group);
  if (status == OTR_STATUS_OK) {
    otr_parallel_begin(w->lab->parallel);
    lab_tensor_pack(w->lab, t, rows);
    otr_parallel_end(w->lab->parallel);
  } else {
    status = otr_fail_in(status, "tensor %s", t->from->name);
  }
  free(rows);
  return status;
}

static otr_status quantize_layer(lab_weights *w, int32_t layer, lab_layer *out) {
  collector c = {.parallel = w->lab->parallel};
  otr_status status = run_windows(w, layer, out, &c);
  for (int32_t role = 0; role < OTR_LAYER_ROLES && status == OTR_STATUS_OK; role++) {
    if (c.owner[role]) status = quantize_tensor(w, &out->role[role], c.hessian[c.owner[role] - 1]);
  }
  collector_free(&c);
  return status == OTR_STATUS_OK ? run_windows(w, layer, out, NULL) : status;
}

otr_status lab_gptq_layer(lab_weights *w, int32_t layer, lab_layer *out) {
  if (layer != w->calibrated)
    return otr_fail(OTR_STATUS_INTERNAL, "GPTQ: layer %d is not the next one, %d", (int)layer, (int)w->calibrated);
  OTR_TRY(lab_layer_load(w, layer, true, out));
  otr_status status = quantize_layer(w, layer, out);
  if (status == OTR_STATUS_OK)
    w->calibrated++;
  else
    lab_layer_free(out);
  return status;
}

otr_status lab_gptq_begin(lab_weights *w, const tool_ids *calibration) {
  const size_t dim = (size_t)w->lab->config->dim;
  if (!calibration || calibration->n == 0)
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "%s needs calibration text", w->scheme.name);
  w->calibration = calibration;
  const size_t rows = calibration->start[calibration->n] - calibration->start[0];
  OTR_TRY(tool_allocate(rows * dim, sizeof(float), (void **)&w->calibration_x));
  for (size_t i = 0; i < calibration->n; i++) {
    int32_t n = (int32_t)tool_ids_length(calibration, i);
    OTR_TRY(lab_embed_rows(w->lab, w, NULL, calibration->ids + calibration->start[i], n, calibration_x(w, i)));
  }
  return OTR_STATUS_OK;
}
