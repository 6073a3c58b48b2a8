// SPDX-License-Identifier: Apache-2.0
#include "lab_model.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "dequantize.h"
#include "lab_matmul.h"
#include "status.h"

/* ---- shape ------------------------------------------------------------------------------------------------------ */

static otr_status key_int(const lab_model *model, const char *key, int64_t fallback, int32_t *out) {
  otr_metadata_value value;
  int64_t number = fallback;
  if (otr_metadata_find(&model->gguf->metadata, key, &value) && !otr_metadata_int(&value, 0, &number)) number = 0;
  if (number < 1 || number > 1 << 24) return otr_fail(OTR_STATUS_BAD_FORMAT, "%s: %lld", key, (long long)number);
  *out = (int32_t)number;
  return OTR_STATUS_OK;
}

static otr_status key_number(const lab_model *model, const char *key, double fallback, double *out) {
  otr_metadata_value value;
  *out = fallback;
  if (otr_metadata_find(&model->gguf->metadata, key, &value) && !otr_metadata_number(&value, 0, out)) *out = -1.0;
  if (!(*out >= 0.0)) return otr_fail(OTR_STATUS_BAD_FORMAT, "%s", key);
  return OTR_STATUS_OK;
}

static bool key_is(const lab_model *model, const char *key, const char *text) {
  otr_metadata_value value;
  size_t cursor = 0, n;
  const char *string;
  return otr_metadata_find(&model->gguf->metadata, key, &value) && !value.is_array &&
         otr_metadata_next_string(&value, &cursor, &string, &n) && n == strlen(text) && memcmp(string, text, n) == 0;
}

static otr_status read_rope(lab_model *model) {
  otr_metadata_value value;
  OTR_TRY(key_number(model, "llama.rope.freq_base", 10000.0, &model->rope_base));
  model->rope_scale = 1.0;
  if (!otr_metadata_find(&model->gguf->metadata, "llama.rope.scaling.type", &value)) return OTR_STATUS_OK;
  if (key_is(model, "llama.rope.scaling.type", "none")) return OTR_STATUS_OK;
  if (!key_is(model, "llama.rope.scaling.type", "linear")) {
    return otr_fail(OTR_STATUS_UNSUPPORTED, "the f32 scheme has no RoPE scaling but linear and rope_freqs");
  }
  return key_number(model, "llama.rope.scaling.factor", 1.0, &model->rope_scale);
}

static otr_status read_shape(lab_model *model) {
  if (!key_is(model, "general.architecture", "llama")) {
    return otr_fail(OTR_STATUS_UNSUPPORTED, "the f32 scheme is for the architecture llama");
  }
  OTR_TRY(key_int(model, "llama.block_count", 0, &model->n_layers));
  OTR_TRY(key_int(model, "llama.embedding_length", 0, &model->dim));
  OTR_TRY(key_int(model, "llama.feed_forward_length", 0, &model->ffn_dim));
  OTR_TRY(key_int(model, "llama.attention.head_count", 0, &model->n_heads));
  OTR_TRY(key_int(model, "llama.attention.head_count_kv", model->n_heads, &model->n_kv_heads));
  OTR_TRY(key_int(model, "llama.attention.key_length", model->dim / model->n_heads, &model->head_dim));
  OTR_TRY(key_int(model, "llama.rope.dimension_count", model->head_dim, &model->n_rot));
  if (model->n_layers > 4096 || model->n_heads % model->n_kv_heads || model->n_rot > model->head_dim ||
      model->n_rot % 2) {
    return otr_fail(OTR_STATUS_BAD_FORMAT, "layers, heads and head size that cannot be");
  }
  double eps;
  OTR_TRY(key_number(model, "llama.attention.layer_norm_rms_epsilon", 1e-5, &eps));
  model->eps = (float)eps;
  return read_rope(model);
}

/* ---- tensors ---------------------------------------------------------------------------------------------------- */

static otr_status find(const lab_model *model, const char *name, int64_t k, int64_t n, const otr_gguf_tensor **out) {
  const otr_gguf_tensor *tensor = otr_gguf_find(model->gguf, name);
  *out = tensor;
  if (!tensor) return OTR_STATUS_OK;
  if (tensor->dims[0] != (uint64_t)k || tensor->dims[1] != (uint64_t)n || tensor->dims[2] != 1 ||
      tensor->dims[3] != 1) {
    return otr_fail(OTR_STATUS_BAD_FORMAT, "tensor %s is not [%lld, %lld]", name, (long long)n, (long long)k);
  }
  if (!otr_dequantize_supported(tensor->type)) {
    return otr_fail(OTR_STATUS_UNSUPPORTED,
                    "tensor %s of type %s: the f32 scheme needs the source model, not a "
                    "converted one",
                    name, otr_ggml_type_name(tensor->type));
  }
  return OTR_STATUS_OK;
}

static otr_status read_row(const lab_model *model, const otr_gguf_tensor *tensor, int32_t row, float *out) {
  const uint8_t *data = otr_file_address(&model->file) + tensor->offset + (uint64_t)row * tensor->row_bytes;
  if (!otr_dequantize_row(out, data, tensor->type, (size_t)tensor->dims[0])) {
    return otr_fail(OTR_STATUS_BAD_FORMAT, "tensor %s holds a value that is not finite", tensor->name);
  }
  return OTR_STATUS_OK;
}

/* A vector [n]; NULL where an optional one is absent. */
static otr_status load_vector(const lab_model *model, const char *name, int32_t n, bool optional, float **out) {
  const otr_gguf_tensor *tensor;
  *out = NULL;
  OTR_TRY(find(model, name, n, 1, &tensor));
  if (!tensor) return optional ? OTR_STATUS_OK : otr_fail(OTR_STATUS_BAD_FORMAT, "tensor %s is missing", name);
  OTR_TRY(tool_allocate((size_t)n, sizeof **out, (void **)out));
  return read_row(model, tensor, 0, *out);
}

typedef struct pack_job {
  const lab_model *model;
  const otr_gguf_tensor *tensor;
  const lab_linear *linear;
  atomic_int failed;
} pack_job;

static void pack_panel(void *context, int32_t panel, int32_t worker) {
  pack_job *job = context;
  (void)worker;
  float *row;
  if (tool_allocate((size_t)job->linear->k, sizeof *row, (void **)&row) != OTR_STATUS_OK) {
    atomic_store(&job->failed, OTR_STATUS_NO_MEMORY);
    return;
  }
  for (int32_t j = panel * LAB_PANEL; j < (panel + 1) * LAB_PANEL && j < job->linear->n; j++) {
    otr_status status = read_row(job->model, job->tensor, j, row);
    if (status != OTR_STATUS_OK) atomic_store(&job->failed, status);
    lab_pack_row(job->linear->packed, j, row, 1, job->linear->k);
  }
  free(row);
}

static otr_status load_tensor(const lab_model *model, otr_parallel *parallel, const char *name, lab_linear *out) {
  pack_job job = {.model = model, .linear = out};
  OTR_TRY(find(model, name, out->k, out->n, &job.tensor));
  if (!job.tensor) return otr_fail(OTR_STATUS_BAD_FORMAT, "tensor %s is missing", name);
  OTR_TRY(tool_allocate(lab_packed_floats(out->n, out->k), sizeof *out->packed, (void **)&out->packed));
  otr_parallel_begin(parallel);
  otr_parallel_run(parallel, (out->n + LAB_PANEL - 1) / LAB_PANEL, pack_panel, &job);
  otr_parallel_end(parallel);
  int failed = atomic_load(&job.failed);
  return failed ? otr_fail(failed, "loading tensor %s", name) : OTR_STATUS_OK;
}

static otr_status load_linear(const lab_model *model, otr_parallel *parallel, int32_t layer, const char *part,
                              int32_t n, int32_t k, lab_linear *out) {
  char name[64];
  *out = (lab_linear){.n = n, .k = k};
  snprintf(name, sizeof name, "blk.%d.%s.weight", (int)layer, part);
  OTR_TRY(load_tensor(model, parallel, name, out));
  snprintf(name, sizeof name, "blk.%d.%s.bias", (int)layer, part);
  return load_vector(model, name, n, true, &out->bias);
}

static otr_status load_layer(const lab_model *model, otr_parallel *parallel, int32_t i, lab_layer *out) {
  char name[64];
  const int32_t dim = model->dim, q = model->n_heads * model->head_dim, kv = model->n_kv_heads * model->head_dim;
  snprintf(name, sizeof name, "blk.%d.attn_norm.weight", (int)i);
  OTR_TRY(load_vector(model, name, dim, false, &out->attn_norm));
  snprintf(name, sizeof name, "blk.%d.ffn_norm.weight", (int)i);
  OTR_TRY(load_vector(model, name, dim, false, &out->ffn_norm));
  OTR_TRY(load_linear(model, parallel, i, "attn_q", q, dim, &out->q));
  OTR_TRY(load_linear(model, parallel, i, "attn_k", kv, dim, &out->k));
  OTR_TRY(load_linear(model, parallel, i, "attn_v", kv, dim, &out->v));
  OTR_TRY(load_linear(model, parallel, i, "attn_output", dim, q, &out->out));
  OTR_TRY(load_linear(model, parallel, i, "ffn_gate", model->ffn_dim, dim, &out->gate));
  OTR_TRY(load_linear(model, parallel, i, "ffn_up", model->ffn_dim, dim, &out->up));
  return load_linear(model, parallel, i, "ffn_down", dim, model->ffn_dim, &out->down);
}

/* The embedding, whose rows are the vocabulary, and the output layer. */
static otr_status load_ends(lab_model *model, otr_parallel *parallel) {
  const char *output = otr_gguf_find(model->gguf, "output.weight") ? "output.weight" : "token_embd.weight";
  const otr_gguf_tensor *embedding = otr_gguf_find(model->gguf, "token_embd.weight");
  if (!embedding || embedding->dims[1] > 1 << 24) {
    return otr_fail(OTR_STATUS_BAD_FORMAT, "no usable tensor token_embd.weight");
  }
  model->vocab = (int32_t)embedding->dims[1];
  OTR_TRY(find(model, "token_embd.weight", model->dim, model->vocab, &model->embedding));
  model->output = (lab_linear){.n = model->vocab, .k = model->dim};
  OTR_TRY(load_tensor(model, parallel, output, &model->output));
  OTR_TRY(load_vector(model, "rope_freqs.weight", model->n_rot / 2, true, &model->rope_divisors));
  return load_vector(model, "output_norm.weight", model->dim, false, &model->output_norm);
}

static otr_status load(lab_model *model, otr_parallel *parallel) {
  OTR_TRY(otr_gguf_read(&model->file, &model->memory, &model->gguf));
  OTR_TRY(read_shape(model));
  OTR_TRY(load_ends(model, parallel));
  OTR_TRY(tool_allocate((size_t)model->n_layers, sizeof *model->layers, (void **)&model->layers));
  tool_progress progress;
  tool_progress_start(&progress, "dequantizing to f32");
  otr_status status = OTR_STATUS_OK;
  for (int32_t i = 0; i < model->n_layers && status == OTR_STATUS_OK; i++) {
    status = load_layer(model, parallel, i, &model->layers[i]);
    tool_progress_step(&progress, (uint64_t)i + 1, (uint64_t)model->n_layers);
  }
  tool_progress_end(&progress);
  return status;
}

otr_status lab_model_open(const char *path, otr_parallel *parallel, lab_model *out) {
  memset(out, 0, sizeof *out);
  otr_memory_init(&out->memory, NULL);
  otr_source source = {.kind = OTR_SOURCE_PATH, .path = path};
  otr_status status = otr_file_open(&source, false, &out->file);
  if (status == OTR_STATUS_OK) {
    status = load(out, parallel);
    if (status != OTR_STATUS_OK) status = otr_fail_in(status, "%s", path);
  }
  if (status != OTR_STATUS_OK) lab_model_close(out);
  return status;
}

static void free_linear(lab_linear *linear) {
  free(linear->packed);
  free(linear->bias);
}

void lab_model_close(lab_model *model) {
  for (int32_t i = 0; model->layers && i < model->n_layers; i++) {
    lab_layer *layer = &model->layers[i];
    lab_linear *linears[] = {&layer->q, &layer->k, &layer->v, &layer->out, &layer->gate, &layer->up, &layer->down};
    for (size_t j = 0; j < sizeof linears / sizeof *linears; j++) free_linear(linears[j]);
    free(layer->attn_norm);
    free(layer->ffn_norm);
  }
  free(model->layers);
  free_linear(&model->output);
  free(model->output_norm);
  free(model->rope_divisors);
  otr_gguf_destroy(model->gguf);
  otr_file_close(&model->file);
  memset(model, 0, sizeof *model);
}

otr_status lab_model_embed(const lab_model *model, int32_t id, float *out) {
  if (id < 0 || id >= model->vocab) return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "token id %d", (int)id);
  return read_row(model, model->embedding, id, out);
}
