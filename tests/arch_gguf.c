// SPDX-License-Identifier: Apache-2.0
#include "arch_gguf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "gguf.h"
#include "gguf_write.h"
#include "status.h"
#include "tiny_model.h"

enum { MAX_PARTS = 3, MAX_TENSORS = 128 };

/* A tensor of the file: rows of one role, or of several. */
typedef struct tensor {
  int32_t role[MAX_PARTS], n_parts; /* role OTR_ROLE_NONE: RoPE divisors */
  int32_t layer, rows, k, number;
  bool bias;
} tensor;

typedef struct job {
  const arch_model *model;
  otr_config config;
  uint64_t seed;
  otr_gguf_writer *writer;
  tensor tensors[MAX_TENSORS];
  int32_t n;
} job;

/* ---- what a model has -------------------------------------------------------------------------------------------- */

/* The shape as the SDK's tables know it. */
static void describe(const arch_model *m, otr_config *c) {
  memset(c, 0, sizeof *c);
  c->arch = otr_arch_find(m->arch, strlen(m->arch));
  const otr_block *block = otr_arch_block(c->arch, 0);
  for (int32_t i = 0; m->block != NULL && otr_arch_block(c->arch, i) != NULL; ++i)
    if (strcmp(otr_arch_block(c->arch, i)->name, m->block) == 0) block = otr_arch_block(c->arch, i);
  otr_config_set_block(c, block);
  c->dim = m->dim;
  c->embd_dim = m->embd > 0 ? m->embd : m->dim;
  c->ffn_dim = m->ffn;
  c->n_heads = m->n_heads;
  c->n_kv_heads = m->n_kv_heads;
  c->head_dim = m->head_dim;
  c->n_rot = m->n_rot;
  c->n_layers = ARCH_LAYERS;
  c->vocab = ARCH_VOCAB;
  c->n_positions = m->n_ctx;
  c->rotated_order = !m->paired;
  c->tied_head = m->tied;
}

static bool has_weight(const job *j, int32_t role) {
  const otr_tensor_rule *rule = otr_config_role(&j->config, (otr_role)role);
  if (rule == NULL || (role == OTR_ROLE_OUTPUT && j->model->tied)) return false;
  if (rule->flags & OTR_TENSOR_HEADS) return j->model->gains != ARCH_NO_GAINS;
  if (role == OTR_ROLE_PROJECT_IN || role == OTR_ROLE_PROJECT_OUT) return j->model->embd > 0;
  return role != OTR_ROLE_OUTPUT_NORM || (j->config.needed >> role & 1) != 0;
}

static bool has_bias(const job *j, int32_t role) {
  const otr_tensor_rule *rule = otr_config_role(&j->config, (otr_role)role);
  if ((rule->flags & OTR_TENSOR_BIAS) == 0) return false;
  if (rule->flags & OTR_TENSOR_VECTOR) return j->config.arch->norm == OTR_NORM_LAYER;
  bool qkv = role == OTR_ROLE_ATTN_Q || role == OTR_ROLE_ATTN_K || role == OTR_ROLE_ATTN_V;
  return j->model->biases == ARCH_ALL_BIASES || (j->model->biases == ARCH_QKV_BIAS && qkv);
}

/* Values in a row of a role's part of a tensor, and its rows. A vector's values are its rows, of one value. */
static int32_t part_rows(const job *j, int32_t role, bool bias) {
  const otr_tensor_rule *rule = otr_config_role(&j->config, (otr_role)role);
  if (!bias && rule->flags & OTR_TENSOR_HEADS && j->model->gains == ARCH_ONE_GAIN) return j->config.head_dim;
  return otr_config_extent(&j->config, (otr_extent)rule->n);
}

static int32_t part_width(const job *j, int32_t role, bool bias) {
  const otr_tensor_rule *rule = otr_config_role(&j->config, (otr_role)role);
  return bias || rule->flags & OTR_TENSOR_VECTOR ? 1 : otr_config_extent(&j->config, (otr_extent)rule->k);
}

/* ---- the header -------------------------------------------------------------------------------------------------- */

static bool is_given(const arch_model *m, const char *key) {
  for (int32_t i = 0; i < ARCH_MAX_KEYS; ++i)
    if (m->keys[i].key != NULL && strcmp(m->keys[i].key, key) == 0) return true;
  return false;
}

/* Unless the model says otherwise. */
static void put_u32(const job *j, const char *key, int32_t value) {
  char full[96];
  if (is_given(j->model, key)) return;
  snprintf(full, sizeof full, "%s.%s", j->model->arch, key);
  otr_gguf_put_u32(j->writer, full, (uint32_t)value);
}

static void put_key(const job *j, const arch_key *k) {
  const float number = (float)k->number;
  char full[96];
  snprintf(full, sizeof full, "%s%s%s", strncmp(k->key, "outrider.", 9) == 0 ? "" : j->model->arch,
           strncmp(k->key, "outrider.", 9) == 0 ? "" : ".", k->key);
  if (k->type == 'u') otr_gguf_put_u32(j->writer, full, (uint32_t)k->number);
  if (k->type == 'f') otr_gguf_put_f32(j->writer, full, number);
  if (k->type == 'b') otr_gguf_put_bool(j->writer, full, number != 0.0f);
  if (k->type == 's') otr_gguf_put_string(j->writer, full, k->text);
  if (k->type == 'S') otr_gguf_put_strings(j->writer, full, 1, &k->text, NULL);
  if (k->type == 'F') otr_gguf_put_array(j->writer, full, OTR_METADATA_F32, 1, &number);
}

static void put_keys(const job *j) {
  const arch_model *m = j->model;
  bool rms = j->config.arch->norm == OTR_NORM_RMS;
  arch_key eps = {rms ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon", 'f', 1e-5, NULL};
  otr_gguf_put_string(j->writer, "general.architecture", m->arch);
  if (m->block != NULL) otr_gguf_put_string(j->writer, "outrider.block", m->block);
  put_u32(j, "block_count", ARCH_LAYERS);
  put_u32(j, "embedding_length", m->dim);
  put_u32(j, "feed_forward_length", m->ffn);
  put_u32(j, "attention.head_count", m->n_heads);
  put_u32(j, "attention.head_count_kv", m->n_kv_heads);
  put_u32(j, "attention.key_length", m->head_dim);
  put_u32(j, "attention.value_length", m->head_dim);
  if (m->n_rot > 0) put_u32(j, "rope.dimension_count", m->n_rot);
  put_u32(j, "context_length", m->n_ctx);
  if (!is_given(m, eps.key)) put_key(j, &eps);
  for (int32_t i = 0; i < ARCH_MAX_KEYS && m->keys[i].key != NULL; ++i) put_key(j, &m->keys[i]);
}

static void declare(job *j, const char *name, const tensor *like) {
  tensor *t = &j->tensors[j->n];
  const arch_model *m = j->model;
  if (m->left_out != NULL && strcmp(m->left_out, name) == 0) return;
  *t = *like;
  if (m->cut != NULL && strcmp(m->cut, name) == 0) t->rows--;
  bool heads = t->role[0] != OTR_ROLE_NONE && !t->bias && m->gains == ARCH_GAIN_A_HEAD &&
               (t->role[0] == OTR_ROLE_ATTN_Q_NORM || t->role[0] == OTR_ROLE_ATTN_K_NORM);
  uint64_t dims[2] = {(uint64_t)t->k, (uint64_t)t->rows};
  if (heads) {
    dims[0] = (uint64_t)m->head_dim;
    dims[1] = (uint64_t)(t->rows / m->head_dim);
    t->number = otr_gguf_put_tensor(j->writer, name, OTR_GGML_F32, 2, dims);
  } else if (t->k == 1) {
    t->number = otr_gguf_put_tensor(j->writer, name, OTR_GGML_F32, 1, dims + 1);
  } else {
    t->number = otr_gguf_put_tensor(j->writer, name, OTR_GGML_F32, 2, dims);
  }
  ++j->n;
}

/* The weight, or the bias, of roles [role, role + n_parts) as one tensor. */
static void declare_roles(job *j, int32_t role, int32_t n_parts, const char *stem, int32_t layer, bool bias) {
  tensor t = {.n_parts = n_parts, .layer = layer, .bias = bias, .k = part_width(j, role, bias)};
  otr_tensor_rule rule = *otr_config_role(&j->config, (otr_role)role);
  char name[OTR_NAME_BYTES];
  for (int32_t i = 0; i < n_parts; ++i) {
    t.role[i] = role + i;
    t.rows += part_rows(j, role + i, bias);
  }
  if (stem != NULL) snprintf(rule.name, sizeof rule.name, "%s", stem);
  otr_tensor_name(name, &rule, layer, bias ? ".bias" : ".weight");
  declare(j, name, &t);
}

static void declare_role(job *j, int32_t role, int32_t layer) {
  if (!has_weight(j, role)) return;
  bool qkv = j->model->fused && role >= OTR_ROLE_ATTN_Q && role <= OTR_ROLE_ATTN_V;
  bool mlp =
      j->model->fused && has_weight(j, OTR_ROLE_FFN_GATE) && (role == OTR_ROLE_FFN_GATE || role == OTR_ROLE_FFN_UP);
  if ((qkv && role != OTR_ROLE_ATTN_Q) || (mlp && role != OTR_ROLE_FFN_GATE)) return;
  for (int bias = 0; bias < 1 + has_bias(j, role); ++bias)
    declare_roles(j, role, qkv ? 3 : mlp ? 2 : 1, qkv ? "attn_qkv" : mlp ? "ffn_up" : NULL, layer, bias);
}

static void declare_all(job *j) {
  for (int32_t role = OTR_ROLE_TOKEN_EMBD; role < OTR_ROLES; ++role) declare_role(j, role, 0);
  for (int32_t layer = 0; layer < ARCH_LAYERS; ++layer)
    for (int32_t role = 0; role < OTR_LAYER_ROLES; ++role) declare_role(j, role, layer);
  for (int i = 0; i < 2 && j->model->factors[i] != NULL; ++i)
    declare(j, j->model->factors[i],
            &(tensor){.role = {OTR_ROLE_NONE}, .n_parts = 1, .layer = i, .rows = j->model->n_rot / 2, .k = 1});
}

/* ---- values ------------------------------------------------------------------------------------------------------ */

/* Gains have two systematic features and some hidden units answer strongly: the outliers. */
static float value_of(const job *j, int32_t role, bool bias, int32_t row, int32_t rows, uint64_t *state) {
  float v = tiny_model_value(state);
  if (role == OTR_ROLE_NONE) return 3.0f + v;
  const otr_tensor_rule *rule = otr_config_role(&j->config, (otr_role)role);
  if (bias) return 0.125f * v;
  if (rule->flags & OTR_TENSOR_HEADS) return 1.0f + 0.5f * v;
  if (rule->flags & OTR_TENSOR_VECTOR) return row == 7 % rows ? 9.0f : row == 17 % rows ? -6.0f : 1.0f + 0.25f * v;
  if ((role == OTR_ROLE_FFN_GATE || role == OTR_ROLE_FFN_UP) && row == 13 % rows) return 2.0f * v;
  return role >= OTR_LAYER_ROLES ? 0.5f * v : 0.25f * v;
}

/* A part's values in the contract's order to their places in the file's. */
static void fill_part(const job *j, const tensor *t, int32_t role, int32_t rows, float *out) {
  uint64_t state = j->seed + (uint64_t)(role + 1) * 1000003u + (uint64_t)t->layer * 7919u + (t->bias ? 77u : 0u);
  otr_row_order order = {0, 0};
  if (role != OTR_ROLE_NONE) order = otr_config_order(&j->config, otr_config_role(&j->config, (otr_role)role));
  for (int32_t row = 0; row < rows; ++row)
    for (int32_t i = 0; i < t->k; ++i)
      out[(size_t)otr_row_source(order, row) * (size_t)t->k + (size_t)i] =
          value_of(j, role, t->bias, row, rows, &state);
}

static otr_status write_tensor(const job *j, const tensor *t) {
  size_t row = (size_t)t->k * sizeof(float);
  float *values = calloc((size_t)t->rows + 1, row);
  if (values == NULL) return otr_fail(OTR_STATUS_NO_MEMORY, "no memory");
  float *at = values;
  for (int32_t i = 0; i < t->n_parts; ++i) {
    int32_t rows = t->role[i] == OTR_ROLE_NONE ? t->rows : part_rows(j, t->role[i], t->bias);
    fill_part(j, t, t->role[i], rows, at);
    at += (size_t)rows * (size_t)t->k;
  }
  otr_status status = otr_gguf_writer_data(j->writer, t->number, 0, values, (size_t)t->rows * row);
  free(values);
  return status;
}

static otr_status write_all(job *j) {
  put_keys(j);
  declare_all(j);
  OTR_TRY(otr_gguf_writer_begin(j->writer));
  for (int32_t i = 0; i < j->n; ++i) OTR_TRY(write_tensor(j, &j->tensors[i]));
  return otr_gguf_writer_finish(j->writer);
}

otr_status arch_model_write(const char *path, const arch_model *model, uint64_t seed) {
  job j = {.model = model, .seed = seed};
  describe(model, &j.config);
  otr_status status = otr_gguf_writer_create(path, 32, &j.writer);
  if (status == OTR_STATUS_OK) status = write_all(&j);
  otr_gguf_writer_destroy(j.writer);
  return status;
}
