// SPDX-License-Identifier: Apache-2.0
#include "hf_rope.h"

#include <math.h>
#include <string.h>

#include "status.h"

/* A number of the scaling that must be there. */
static otr_status put_needed(const hf_reader *scaling, const char *name, const char *key) {
  double value;
  char found[64];
  if (hf_find(scaling, name, found) == NULL) return otr_fail(OTR_STATUS_BAD_FORMAT, "rope_scaling has no %s", found);
  OTR_TRY(hf_number(scaling, name, 0.0, &value));
  hf_put_f32(scaling, key, value);
  return OTR_STATUS_OK;
}

/* The context that the model was made for before it was stretched: of the scaling, or of the model. */
static otr_status original_context(const hf_reader *r, const hf_reader *scaling, int32_t *out) {
  int32_t context;
  OTR_TRY(hf_int(r, "original_max_position_embeddings|max_position_embeddings", 1, INT32_MAX, NULL, &context));
  OTR_TRY(hf_int(scaling, "original_max_position_embeddings", 1, INT32_MAX, &context, out));
  hf_put_u32(r, "rope.scaling.original_context_length", *out);
  return OTR_STATUS_OK;
}

static otr_status put_llama3(const hf_reader *r, const hf_reader *scaling) {
  int32_t context;
  OTR_TRY(put_needed(scaling, "factor", "rope.scaling.factor"));
  OTR_TRY(put_needed(scaling, "low_freq_factor", "rope.scaling.low_freq_factor"));
  OTR_TRY(put_needed(scaling, "high_freq_factor", "rope.scaling.high_freq_factor"));
  return original_context(r, scaling, &context);
}

/* What cos and sin are multiplied with, by transformers: given, or 0.1 ln(factor) + 1 (Peng et al. 2023, eq. 22), with
 * mscale and mscale_all_dim a quotient of two such. */
static otr_status yarn_attention(const hf_reader *scaling, double factor, double *out) {
  double mscale, all_dim, log_factor = factor > 1.0 ? 0.1 * log(factor) : 0.0;
  OTR_TRY(hf_number(scaling, "mscale", 0.0, &mscale));
  OTR_TRY(hf_number(scaling, "mscale_all_dim", 0.0, &all_dim));
  bool both = mscale != 0.0 && all_dim != 0.0;
  double usual = both ? (mscale * log_factor + 1.0) / (all_dim * log_factor + 1.0) : log_factor + 1.0;
  return hf_number(scaling, "attention_factor", usual, out);
}

static otr_status put_yarn(const hf_reader *r, const hf_reader *scaling) {
  double factor, attention, fast, slow;
  bool truncate;
  int32_t context;
  OTR_TRY(put_needed(scaling, "factor", "rope.scaling.factor"));
  OTR_TRY(hf_number(scaling, "factor", 1.0, &factor));
  OTR_TRY(yarn_attention(scaling, factor, &attention));
  OTR_TRY(hf_number(scaling, "beta_fast", 32.0, &fast));
  OTR_TRY(hf_number(scaling, "beta_slow", 1.0, &slow));
  OTR_TRY(hf_bool(scaling, "truncate", true, &truncate));
  if (!truncate) return otr_fail(OTR_STATUS_UNSUPPORTED, "rope_scaling of type yarn without truncate is not supported");
  hf_put_f32(r, "rope.scaling.yarn_beta_fast", fast);
  hf_put_f32(r, "rope.scaling.yarn_beta_slow", slow);
  /* GGUF's key is what comes on top of the usual factor. */
  hf_put_f32(r, "rope.scaling.attn_factor", attention / (factor > 1.0 ? 0.1 * log(factor) + 1.0 : 1.0));
  return original_context(r, scaling, &context);
}

static otr_status read_factors(const hf_reader *scaling, const char *name, int32_t n, const json_t **out) {
  const json_t *list = json_object_get(scaling->config, name);
  if (!json_is_array(list) || json_array_size(list) != (size_t)n)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "rope_scaling's %s is no list of %d numbers", name, (int)n);
  for (size_t i = 0; i < (size_t)n; ++i) {
    double v = json_number_value(json_array_get(list, i));
    if (!(v >= 0x1p-20 && v <= 0x1p20)) return otr_fail(OTR_STATUS_BAD_FORMAT, "rope_scaling's %s holds %g", name, v);
  }
  *out = list;
  return OTR_STATUS_OK;
}

/* Ding et al. 2024: two sets of divisors, and a factor on cos and sin that grows with the stretch of the context. */
static otr_status put_longrope(const hf_reader *r, const hf_reader *scaling, int32_t n_rot, hf_shape *s) {
  int32_t original, context;
  double factor, attention;
  OTR_TRY(read_factors(scaling, "long_factor", n_rot / 2, &s->long_factors));
  OTR_TRY(read_factors(scaling, "short_factor", n_rot / 2, &s->short_factors));
  OTR_TRY(original_context(r, scaling, &original));
  OTR_TRY(hf_int(r, "max_position_embeddings", 1, INT32_MAX, &original, &context));
  OTR_TRY(hf_number(scaling, "factor", (double)context / original, &factor));
  double usual = factor > 1.0 ? sqrt(1.0 + log(factor) / log((double)original)) : 1.0;
  OTR_TRY(hf_number(scaling, "attention_factor", usual, &attention));
  hf_put_f32(r, "rope.scaling.attn_factor", attention);
  return OTR_STATUS_OK;
}

static otr_status put_scaling(const hf_reader *r, const json_t *object, int32_t n_rot, hf_shape *s) {
  if (object == NULL) return OTR_STATUS_OK;
  if (!json_is_object(object)) return otr_fail(OTR_STATUS_BAD_FORMAT, "rope_scaling is no object");
  const hf_reader scaling = {.config = object, .keys = r->keys, .family = r->family};
  const char *type;
  OTR_TRY(hf_string(&scaling, "rope_type|type", "default", &type));
  if (strcmp(type, "default") == 0) return OTR_STATUS_OK;
  if (strcmp(type, "su") == 0) type = "longrope"; /* its first name */
  hf_put_string(r, "rope.scaling.type", type);
  if (strcmp(type, "linear") == 0) return put_needed(&scaling, "factor", "rope.scaling.factor");
  if (strcmp(type, "llama3") == 0) return put_llama3(r, &scaling);
  if (strcmp(type, "yarn") == 0) return put_yarn(r, &scaling);
  if (strcmp(type, "longrope") == 0) return put_longrope(r, &scaling, n_rot, s);
  return otr_fail(OTR_STATUS_UNSUPPORTED, "rope_scaling of type \"%.32s\" is not supported", type);
}

otr_status hf_rope_put(const hf_reader *r, hf_shape *s) {
  const hf_family *f = s->family;
  const json_t *object = hf_find(r, "rope_scaling|rope_parameters", NULL);
  /* Newer configs keep the base among rope_parameters. */
  const hf_reader inner = {.config = object, .keys = r->keys, .family = f};
  double theta, share;
  OTR_TRY(hf_number(&inner, "rope_theta", f->default_theta, &theta));
  OTR_TRY(hf_number(r, "rope_theta|rotary_emb_base", theta, &theta));
  OTR_TRY(hf_number(&inner, "partial_rotary_factor", f->default_rotary != 0.0 ? f->default_rotary : 1.0, &share));
  OTR_TRY(hf_number(r, "rotary_pct|partial_rotary_factor", share, &share));
  if (!(share >= 0.0 && share <= 1.0)) return otr_fail(OTR_STATUS_BAD_FORMAT, "%g of a head cannot be rotated", share);
  int32_t n_rot = (int32_t)((double)s->head_dim * share);
  hf_put_f32(r, "rope.freq_base", theta);
  hf_put_u32(r, "rope.dimension_count", n_rot);
  return put_scaling(r, object, n_rot, s);
}
