// SPDX-License-Identifier: Apache-2.0
#include "lab_model.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "lab_gptq.h"
#include "lab_matmul.h"
#include "status.h"

/* ---- one tensor -------------------------------------------------------------------------------------------------- */

typedef struct load_job {
  const lab_model *lab;
  lab_tensor *tensor;
  lab_rounding *rounding;  // NULL: as stored
  float *scratch;          // [threads][LAB_PANEL, k]
  atomic_int failed;       // the first failure of any worker
  char detail[OTR_DETAIL_BYTES];
} load_job;

static const float *read_panel(load_job *job, int32_t panel, int32_t worker, int32_t *first, int32_t *count) {
  const lab_tensor *t = job->tensor;
  float *rows = job->scratch + (size_t)worker * LAB_PANEL * (size_t)t->k;
  *first = panel * LAB_PANEL;
  *count = t->n - *first < LAB_PANEL ? t->n - *first : LAB_PANEL;
  otr_status status = source_rows(job->lab->source, t->from, *first, *count, rows);
  int none = OTR_STATUS_OK;
  if (status != OTR_STATUS_OK && atomic_compare_exchange_strong(&job->failed, &none, (int)status))
    otr_detail_get(job->detail);
  return rows;
}

static void scan_panel(void *context, int32_t panel, int32_t worker) {
  load_job *job = context;
  int32_t first, count;
  const float *rows = read_panel(job, panel, worker, &first, &count);
  for (int32_t i = 0; i < count; i++)
    lab_rounding_scan(job->rounding, first + i, rows + (size_t)i * (size_t)job->tensor->k);
}

static void pack_panel(void *context, int32_t panel, int32_t worker) {
  load_job *job = context;
  int32_t first, count;
  float *rows = (float *)(uintptr_t)read_panel(job, panel, worker, &first, &count);
  for (int32_t i = 0; i < count; i++) {
    float *row = rows + (size_t)i * (size_t)job->tensor->k;
    if (job->rounding) lab_round_row(job->rounding, first + i, row);
    if (job->tensor->packed) lab_pack_row(job->tensor->packed, first + i, row, 1, job->tensor->k);
  }
}

static otr_status run_panels(load_job *job, otr_task_fn task) {
  otr_parallel *parallel = job->lab->parallel;
  otr_parallel_begin(parallel);
  otr_parallel_run(parallel, (job->tensor->n + LAB_PANEL - 1) / LAB_PANEL, task, job);
  otr_parallel_end(parallel);
  int failed = atomic_load(&job->failed);
  if (failed) otr_detail_set(job->detail);
  return (otr_status)failed;
}

/* The constants of a rounding that takes more than a row to know. */
static otr_status scan(load_job *job) {
  if (!job->rounding || !lab_rounding_scans(job->rounding)) return OTR_STATUS_OK;
  OTR_TRY(run_panels(job, scan_panel));
  lab_rounding_settle(job->rounding);
  return OTR_STATUS_OK;
}

static otr_status with_scratch(load_job *job, bool pack) {
  const size_t row = (size_t)job->tensor->k, threads = (size_t)otr_parallel_threads(job->lab->parallel);
  OTR_TRY(tool_allocate(threads * LAB_PANEL * row, sizeof *job->scratch, (void **)&job->scratch));
  otr_status status = scan(job);
  if (status == OTR_STATUS_OK && pack) status = run_panels(job, pack_panel);
  free(job->scratch);
  return status;
}

static otr_status load_linear(const lab_model *lab, const lab_scheme *scheme, bool exact, lab_tensor *t) {
  lab_rounding rounding = {0};
  load_job job = {.lab = lab, .tensor = t};
  OTR_TRY(tool_allocate(lab_packed_floats(t->n, t->k), sizeof *t->packed, (void **)&t->packed));
  if (!exact && scheme->weights != LAB_F32) {
    OTR_TRY(lab_rounding_create(&rounding, scheme, t->n, t->k));
    job.rounding = &rounding;
  }
  otr_status status = with_scratch(&job, true);
  lab_rounding_free(&rounding);
  return status;
}

typedef struct pack_job {
  lab_tensor *tensor;
  const float *w;
} pack_job;

static void pack_rows(void *context, int32_t panel, int32_t worker) {
  const pack_job *job = context;
  (void)worker;
  for (int32_t j = panel * LAB_PANEL; j < (panel + 1) * LAB_PANEL && j < job->tensor->n; j++)
    lab_pack_row(job->tensor->packed, j, job->w + (size_t)j * (size_t)job->tensor->k, 1, job->tensor->k);
}

void lab_tensor_pack(const lab_model *lab, lab_tensor *tensor, const float *w) {
  pack_job job = {tensor, w};
  otr_parallel_run(lab->parallel, (tensor->n + LAB_PANEL - 1) / LAB_PANEL, pack_rows, &job);
}

/* ---- layers ------------------------------------------------------------------------------------------------------ */

static otr_status load_values(const lab_model *lab, const source_tensor *from, float **out) {
  OTR_TRY(tool_allocate((size_t)from->n * (size_t)from->k, sizeof **out, (void **)out));
  return source_rows(lab->source, from, 0, from->n, *out);
}

static otr_status load_one(const lab_weights *weights, const source_tensor *from, bool exact, lab_layer *out) {
  const lab_model *lab = weights->lab;
  lab_tensor *t = &out->role[from->rule->role];
  if (from->is_bias) return load_values(lab, from, &t->bias);
  t->from = from;
  t->n = from->n;
  t->k = from->k;
  if (from->is_vector || (from->rule->flags & OTR_TENSOR_TABLE) != 0) return load_values(lab, from, &t->values);
  if (from == lab->embedding && !lab->config->tied_head) return OTR_STATUS_OK; /* read row by row */
  const bool is_head = from->rule->role >= OTR_LAYER_ROLES;
  return load_linear(lab, is_head ? &weights->head_scheme : &weights->scheme, exact, t);
}

otr_status lab_layer_load(const lab_weights *weights, int32_t layer, bool exact, lab_layer *out) {
  const source *from = weights->lab->source;
  const bool ends = layer == weights->lab->config->n_layers;
  memset(out, 0, sizeof *out);
  otr_status status = OTR_STATUS_OK;
  for (int32_t i = 0; i < source_count(from) && status == OTR_STATUS_OK; i++) {
    const source_tensor *t = source_at(from, i);
    if (!t->rule) continue;
    const bool of_model = t->rule->role >= OTR_LAYER_ROLES;
    if (of_model == ends && (ends || t->layer == layer)) status = load_one(weights, t, exact, out);
  }
  if (status != OTR_STATUS_OK) lab_layer_free(out);
  out->loaded = status == OTR_STATUS_OK;
  return status;
}

void lab_layer_free(lab_layer *layer) {
  for (int32_t i = 0; i < OTR_ROLES; i++) {
    free(layer->role[i].packed);
    free(layer->role[i].values);
    free(layer->role[i].bias);
  }
  memset(layer, 0, sizeof *layer);
}

const lab_tensor *lab_head(const lab_weights *weights) {
  return &weights->ends.role[weights->lab->config->tied_head ? OTR_ROLE_TOKEN_EMBD : OTR_ROLE_OUTPUT];
}

/* ---- a scheme's weights ------------------------------------------------------------------------------------------ */

static otr_status prepare(lab_weights *w, const tool_ids *calibration) {
  const lab_model *lab = w->lab;
  OTR_TRY(tool_allocate((size_t)lab->config->n_layers, sizeof *w->layers, (void **)&w->layers));
  OTR_TRY(lab_rounding_create(&w->embedding, &w->head_scheme, lab->embedding->n, lab->embedding->k));
  lab_tensor table = {.from = lab->embedding, .n = lab->embedding->n, .k = lab->embedding->k};
  load_job job = {.lab = lab, .tensor = &table, .rounding = &w->embedding};
  OTR_TRY(with_scratch(&job, false));
  OTR_TRY(lab_layer_load(w, lab->config->n_layers, false, &w->ends));
  return w->scheme.weights == LAB_GPTQ ? lab_gptq_begin(w, calibration) : OTR_STATUS_OK;
}

otr_status lab_weights_create(lab_model *lab, const lab_scheme *scheme, const tool_ids *calibration, bool resident,
                              lab_weights **out) {
  lab_weights *w;
  *out = NULL;
  OTR_TRY(tool_allocate(1, sizeof *w, (void **)&w));
  w->lab = lab;
  w->scheme = *scheme;
  w->head_scheme = lab_scheme_head(scheme);
  w->resident = resident;
  otr_status status = prepare(w, calibration);
  if (status != OTR_STATUS_OK) {
    lab_weights_free(w);
    return status;
  }
  *out = w;
  return OTR_STATUS_OK;
}

void lab_weights_free(lab_weights *w) {
  if (!w) return;
  for (int32_t i = 0; w->layers && i < w->lab->config->n_layers; i++) lab_layer_free(&w->layers[i]);
  free(w->layers);
  lab_layer_free(&w->ends);
  lab_rounding_free(&w->embedding);
  free(w->calibration_x);
  free(w);
}

lab_count lab_weights_count(const lab_weights *weights) {
  return weights->count;
}

otr_status lab_embed(const lab_weights *weights, int32_t id, float *out) {
  const source_tensor *table = weights->lab->embedding;
  if (id < 0 || id >= table->n) return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "token id %d", (int)id);
  OTR_TRY(source_rows(weights->lab->source, table, id, 1, out));
  lab_round_row(&weights->embedding, id, out);
  return OTR_STATUS_OK;
}

uint64_t lab_model_bytes(const lab_model *lab, const lab_scheme *scheme) {
  const lab_scheme head = lab_scheme_head(scheme);
  uint64_t bytes = 0;
  for (int32_t i = 0; i < source_count(lab->source); i++) {
    const source_tensor *t = source_at(lab->source, i);
    if (t->is_vector || (t->rule->flags & OTR_TENSOR_TABLE) != 0) {
      bytes += 4 * (uint64_t)t->n * (uint64_t)t->k;
    } else {
      bytes += lab_scheme_bytes(t->rule->role < OTR_LAYER_ROLES ? scheme : &head, t->n, t->k);
    }
  }
  return bytes;
}

/* ---- the lab ----------------------------------------------------------------------------------------------------- */

static otr_status open(lab_model *lab, const char *path, int32_t n_threads) {
  OTR_TRY(otr_parallel_create(&lab->memory, n_threads, NULL, NULL, &lab->parallel));
  OTR_TRY(source_open(path, &lab->memory, &lab->source));
  lab->config = source_config(lab->source);
  lab->embedding = source_find(lab->source, "token_embd.weight");
  return lab->embedding ? OTR_STATUS_OK : otr_fail(OTR_STATUS_BAD_FORMAT, "%s: no token_embd.weight", path);
}

otr_status lab_open(const char *path, int32_t n_threads, lab_model **out) {
  lab_model *opened;
  *out = NULL;
  OTR_TRY(tool_allocate(1, sizeof *opened, (void **)&opened));
  otr_memory_init(&opened->memory, NULL);
  otr_status status = open(opened, path, n_threads);
  if (status != OTR_STATUS_OK) {
    lab_close(opened);
    return status;
  }
  *out = opened;
  return OTR_STATUS_OK;
}

void lab_close(lab_model *lab) {
  if (!lab) return;
  lab_pass_free(lab);
  source_close(lab->source);
  otr_parallel_destroy(lab->parallel);
  free(lab);
}

const source *lab_source(const lab_model *lab) {
  return lab->source;
}

const otr_config *lab_config(const lab_model *lab) {
  return lab->config;
}

otr_parallel *lab_parallel(const lab_model *lab) {
  return lab->parallel;
}
