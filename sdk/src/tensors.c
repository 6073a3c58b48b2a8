// SPDX-License-Identifier: Apache-2.0
/* A model's tensors: their names, shapes and places in a file. */
#include <stdio.h>
#include <string.h>

#include "config.h"
#include "status.h"

static const otr_tensor_rule rules[OTR_ROLES] = {
    {"attn_norm", OTR_ROLE_ATTN_NORM, OTR_EXTENT_DIM, OTR_EXTENT_ONE, OTR_TENSOR_VECTOR | OTR_TENSOR_BIAS},
    {"attn_norm_2", OTR_ROLE_ATTN_NORM_2, OTR_EXTENT_DIM, OTR_EXTENT_ONE, OTR_TENSOR_VECTOR | OTR_TENSOR_BIAS},
    {"attn_q", OTR_ROLE_ATTN_Q, OTR_EXTENT_Q, OTR_EXTENT_DIM, OTR_TENSOR_BIAS | OTR_TENSOR_ROTATED},
    {"attn_k", OTR_ROLE_ATTN_K, OTR_EXTENT_KV, OTR_EXTENT_DIM, OTR_TENSOR_BIAS | OTR_TENSOR_ROTATED},
    {"attn_v", OTR_ROLE_ATTN_V, OTR_EXTENT_KV, OTR_EXTENT_DIM, OTR_TENSOR_BIAS},
    {"attn_q_norm", OTR_ROLE_ATTN_Q_NORM, OTR_EXTENT_Q, OTR_EXTENT_ONE,
     OTR_TENSOR_VECTOR | OTR_TENSOR_HEADS | OTR_TENSOR_ROTATED},
    {"attn_k_norm", OTR_ROLE_ATTN_K_NORM, OTR_EXTENT_KV, OTR_EXTENT_ONE,
     OTR_TENSOR_VECTOR | OTR_TENSOR_HEADS | OTR_TENSOR_ROTATED},
    {"attn_output", OTR_ROLE_ATTN_OUT, OTR_EXTENT_DIM, OTR_EXTENT_Q, OTR_TENSOR_BIAS},
    {"ffn_norm", OTR_ROLE_FFN_NORM, OTR_EXTENT_DIM, OTR_EXTENT_ONE, OTR_TENSOR_VECTOR | OTR_TENSOR_BIAS},
    {"ffn_gate", OTR_ROLE_FFN_GATE, OTR_EXTENT_FFN, OTR_EXTENT_DIM, OTR_TENSOR_BIAS},
    {"ffn_up", OTR_ROLE_FFN_UP, OTR_EXTENT_FFN, OTR_EXTENT_DIM, OTR_TENSOR_BIAS},
    {"ffn_down", OTR_ROLE_FFN_DOWN, OTR_EXTENT_DIM, OTR_EXTENT_FFN, OTR_TENSOR_BIAS},
    {"token_embd", OTR_ROLE_TOKEN_EMBD, OTR_EXTENT_VOCAB, OTR_EXTENT_EMBD, 0},
    {"project_in", OTR_ROLE_PROJECT_IN, OTR_EXTENT_DIM, OTR_EXTENT_EMBD, 0},
    {"position_embd", OTR_ROLE_POSITION_EMBD, OTR_EXTENT_POSITIONS, OTR_EXTENT_DIM, OTR_TENSOR_TABLE},
    {"token_embd_norm", OTR_ROLE_TOKEN_EMBD_NORM, OTR_EXTENT_DIM, OTR_EXTENT_ONE, OTR_TENSOR_VECTOR | OTR_TENSOR_BIAS},
    {"output_norm", OTR_ROLE_OUTPUT_NORM, OTR_EXTENT_DIM, OTR_EXTENT_ONE, OTR_TENSOR_VECTOR | OTR_TENSOR_BIAS},
    {"project_out", OTR_ROLE_PROJECT_OUT, OTR_EXTENT_EMBD, OTR_EXTENT_DIM, 0},
    {"output", OTR_ROLE_OUTPUT, OTR_EXTENT_VOCAB, OTR_EXTENT_EMBD, 0},
};

const otr_tensor_rule *otr_config_role(const otr_config *c, otr_role role) {
  return c->roles >> role & 1 ? &rules[role] : NULL;
}

bool otr_config_multiplies(const otr_config *c, otr_role role) {
  if (rules[role].flags & (OTR_TENSOR_VECTOR | OTR_TENSOR_TABLE)) return false;
  return role != OTR_ROLE_TOKEN_EMBD || c->tied_head;
}

int32_t otr_config_extent(const otr_config *c, otr_extent extent) {
  switch (extent) {
    case OTR_EXTENT_DIM:
      return c->dim;
    case OTR_EXTENT_EMBD:
      return c->embd_dim;
    case OTR_EXTENT_FFN:
      return c->ffn_dim;
    case OTR_EXTENT_Q:
      return c->n_heads * c->head_dim;
    case OTR_EXTENT_KV:
      return c->n_kv_heads * c->head_dim;
    case OTR_EXTENT_VOCAB:
      return c->vocab;
    case OTR_EXTENT_POSITIONS:
      return c->n_positions;
    default:
      return 1;
  }
}

int32_t otr_config_slot_width(const otr_config *c, otr_slot slot) {
  switch (slot) {
    case OTR_SLOT_Q:
    case OTR_SLOT_A:
      return c->n_heads * c->head_dim;
    case OTR_SLOT_K:
    case OTR_SLOT_V:
      return c->n_kv_heads * c->head_dim;
    case OTR_SLOT_G:
    case OTR_SLOT_U:
      return c->ffn_dim;
    case OTR_SLOT_E:
      return c->embd_dim;
    default:
      return c->dim;
  }
}

otr_row_order otr_config_order(const otr_config *c, const otr_tensor_rule *rule) {
  if (!(rule->flags & OTR_TENSOR_ROTATED) || c->rotated_order) return (otr_row_order){0, 0};
  return (otr_row_order){c->head_dim, c->n_rot};
}

void otr_tensor_name(char out[OTR_NAME_BYTES], const otr_tensor_rule *rule, int32_t layer, const char *suffix) {
  if (rule->role < OTR_LAYER_ROLES)
    snprintf(out, OTR_NAME_BYTES, "blk.%d.%.15s%s", layer, rule->name, suffix);
  else
    snprintf(out, OTR_NAME_BYTES, "%.15s%s", rule->name, suffix);
}

/* ---- places in a file -------------------------------------------------------------------------------------------- */

/** The fused tensor that a role may be a part of: its stem, the role's first row in it and all its rows. */
static const char *fused_stem(const otr_config *c, otr_role role, int32_t *first, int32_t *rows) {
  int32_t q = otr_config_extent(c, OTR_EXTENT_Q), kv = otr_config_extent(c, OTR_EXTENT_KV);
  switch (role) {
    case OTR_ROLE_ATTN_Q:
    case OTR_ROLE_ATTN_K:
    case OTR_ROLE_ATTN_V:
      *first = role == OTR_ROLE_ATTN_Q ? 0 : role == OTR_ROLE_ATTN_K ? q : q + kv;
      *rows = q + 2 * kv;
      return "attn_qkv";
    case OTR_ROLE_FFN_GATE:
    case OTR_ROLE_FFN_UP:
      *first = role == OTR_ROLE_FFN_GATE ? 0 : c->ffn_dim;
      *rows = 2 * c->ffn_dim;
      return otr_config_role(c, OTR_ROLE_FFN_GATE) ? "ffn_up" : NULL;
    default:
      return NULL;
  }
}

/** Whether a file has a role in a fused tensor: then the first of the fused roles has no tensor of its own. */
static bool is_fused(const otr_config *c, const otr_gguf *gguf, otr_role role, int32_t layer) {
  char name[OTR_NAME_BYTES];
  otr_role lead = role <= OTR_ROLE_ATTN_V ? OTR_ROLE_ATTN_Q : OTR_ROLE_FFN_GATE;
  otr_tensor_name(name, &rules[lead], layer, ".weight");
  return !c->converted && !otr_gguf_find(gguf, name);
}

static otr_status check_shape(const otr_gguf_tensor *t, int32_t n, int32_t k) {
  if (t->dims[0] == (uint64_t)k && t->dims[1] == (uint64_t)n && t->dims[2] == 1 && t->dims[3] == 1)
    return OTR_STATUS_OK;
  return otr_fail(OTR_STATUS_BAD_FORMAT, "tensor %s is [%llu, %llu, %llu, %llu]; the metadata asks for [%d, %d]",
                  t->name, (unsigned long long)t->dims[0], (unsigned long long)t->dims[1],
                  (unsigned long long)t->dims[2], (unsigned long long)t->dims[3], k, n);
}

/** Gains over each head: one for all heads, or [n_heads, head_dim], written as a row or as a matrix. */
static otr_status check_heads(const otr_config *c, const otr_gguf_tensor *t, otr_tensor_view *v) {
  if (t->dims[0] == (uint64_t)c->head_dim && t->dims[1] == 1) v->k = c->head_dim;
  bool matrix = t->dims[0] == (uint64_t)c->head_dim && t->dims[1] == (uint64_t)(v->k / c->head_dim);
  return matrix && t->dims[2] == 1 && t->dims[3] == 1 ? OTR_STATUS_OK : check_shape(t, 1, v->k);
}

static otr_status missing(const otr_config *c, const otr_tensor_rule *rule, bool bias, const char *name) {
  bool needed = bias ? c->arch->flags & OTR_ARCH_BIASED : c->needed >> rule->role & 1;
  return needed ? otr_fail(OTR_STATUS_BAD_FORMAT, "tensor %s is missing", name) : OTR_STATUS_OK;
}

otr_status otr_config_view(const otr_config *c, const otr_gguf *gguf, const otr_tensor_rule *rule, int32_t layer,
                           bool bias, otr_tensor_view *v) {
  char name[OTR_NAME_BYTES];
  const char *suffix = bias ? ".bias" : ".weight";
  bool vector = bias || rule->flags & OTR_TENSOR_VECTOR;
  int32_t rows = otr_config_extent(c, (otr_extent)rule->n), k = otr_config_extent(c, (otr_extent)rule->k);
  *v = (otr_tensor_view){.n = vector ? 1 : rows, .k = vector ? rows : k};
  /* An RMS norm has none, whatever a file says. */
  bool biased = rule->flags & OTR_TENSOR_BIAS && !(rule->flags & OTR_TENSOR_VECTOR && c->arch->norm == OTR_NORM_RMS);
  if (bias && !biased) return OTR_STATUS_OK;
  otr_tensor_rule whole = *rule;
  const char *stem = fused_stem(c, (otr_role)rule->role, &v->first, &rows);
  if (stem && is_fused(c, gguf, (otr_role)rule->role, layer)) {
    snprintf(whole.name, sizeof whole.name, "%s", stem);
  } else {
    v->first = 0;
    rows = otr_config_extent(c, (otr_extent)rule->n);
  }
  otr_tensor_name(name, &whole, layer, suffix);
  const otr_gguf_tensor *t = otr_gguf_find(gguf, name);
  if (!t) return missing(c, rule, bias, name);
  OTR_TRY(rule->flags & OTR_TENSOR_HEADS ? check_heads(c, t, v) : check_shape(t, vector ? 1 : rows, vector ? rows : k));
  v->tensor = t;
  return OTR_STATUS_OK;
}

/* ---- outlier rules of single linears ----------------------------------------------------------------------------- */

/** The linear that a name means; a tied output layer goes by both of its names. */
static const otr_tensor_rule *linear_of(const otr_config *c, const char *name, size_t n, int32_t *layer) {
  char full[OTR_NAME_BYTES];
  *layer = 0;
  if (n > 4 && memcmp(name, "blk.", 4) == 0)
    for (size_t i = 4; i < n && i < 8 && name[i] >= '0' && name[i] <= '9'; i++) *layer = 10 * *layer + (name[i] - '0');
  if (*layer >= c->n_layers) return NULL;
  for (int32_t role = 0; role < OTR_ROLES; role++) {
    otr_role means = role == OTR_ROLE_OUTPUT && c->tied_head ? OTR_ROLE_TOKEN_EMBD : (otr_role)role;
    if (!otr_config_role(c, means) || !otr_config_multiplies(c, means)) continue;
    otr_tensor_name(full, &rules[role], *layer, ".weight");
    if (strlen(full) == n && memcmp(full, name, n) == 0) return &rules[means];
  }
  return NULL;
}

otr_status otr_config_rules(const otr_config *c, const otr_gguf *gguf, otr_rule_fn set, void *user) {
  otr_metadata_value names, kinds, values;
  size_t at_name = 0, at_kind = 0, n, n_kind;
  const char *name, *kind;
  double value;
  if (!otr_metadata_find(&gguf->metadata, "outrider.outliers.names", &names)) return OTR_STATUS_OK;
  bool fit = otr_metadata_find(&gguf->metadata, "outrider.outliers.rules", &kinds) && kinds.count == names.count &&
             otr_metadata_find(&gguf->metadata, "outrider.outliers.values", &values) && values.count == names.count;
  for (uint64_t i = 0; i < names.count || !fit; i++) {
    int32_t layer;
    otr_rule rule;
    if (!fit || !otr_metadata_next_string(&names, &at_name, &name, &n) ||
        !otr_metadata_next_string(&kinds, &at_kind, &kind, &n_kind) || !otr_metadata_number(&values, i, &value))
      return otr_fail(OTR_STATUS_BAD_FORMAT, "keys outrider.outliers.names, .rules, .values: wrong types or lengths");
    const otr_tensor_rule *linear = linear_of(c, name, n, &layer);
    if (!linear)
      return otr_fail(OTR_STATUS_BAD_FORMAT, "outrider.outliers.names: \"%.*s\" is no linear", n > 64 ? 64 : (int)n,
                      name);
    otr_status status = otr_rule_parse(kind, n_kind, value, &rule);
    if (status != OTR_STATUS_OK) return otr_fail_in(status, "%.*s", (int)n, name);
    OTR_TRY(set(user, linear, layer, rule));
  }
  return OTR_STATUS_OK;
}
