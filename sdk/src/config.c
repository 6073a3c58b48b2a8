// SPDX-License-Identifier: Apache-2.0
#include "config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "numerics.h"
#include "rope.h"
#include "status.h"

#define MAX_LAYERS 4096
#define MAX_HEADS 4096
#define MIN_HEAD_DIM 2 /* kernels read keys four at a time: the rest falls into the values of the page */
#define MAX_HEAD_DIM 1024
#define MAX_VOCAB (1 << 24)
#define DEFAULT_TAU 4.0f
#define KEY_BYTES 96

static bool find_key(const otr_gguf *gguf, const otr_arch *arch, const char *key, otr_metadata_value *value,
                     char full[KEY_BYTES]) {
  snprintf(full, KEY_BYTES, "%s.%s", arch->name, key);
  return otr_metadata_find(&gguf->metadata, full, value) != 0;
}

/** An integer key in [low, high]; an array is taken where all its elements are equal. */
static otr_status read_int(const otr_gguf *gguf, const otr_arch *arch, const char *key, int64_t low, int64_t high,
                           const int32_t *fallback, int32_t *out) {
  char full[KEY_BYTES];
  otr_metadata_value value;
  if (!find_key(gguf, arch, key, &value, full)) {
    if (!fallback) return otr_fail(OTR_STATUS_BAD_FORMAT, "key %s is missing", full);
    *out = *fallback;
    return OTR_STATUS_OK;
  }
  int64_t first, other;
  if (!otr_metadata_int(&value, 0, &first)) return otr_fail(OTR_STATUS_BAD_FORMAT, "key %s is not an integer", full);
  for (uint64_t i = 1; i < value.count; i++)
    if (!otr_metadata_int(&value, i, &other) || other != first)
      return otr_fail(OTR_STATUS_UNSUPPORTED, "key %s differs from layer to layer", full);
  if (first < low || first > high)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "key %s is %lld; it must lie in %lld to %lld", full, (long long)first,
                    (long long)low, (long long)high);
  *out = (int32_t)first;
  return OTR_STATUS_OK;
}

static otr_status read_number(const otr_gguf *gguf, const otr_arch *arch, const char *key, double fallback,
                              double *out) {
  char full[KEY_BYTES];
  otr_metadata_value value;
  *out = fallback;
  if (!find_key(gguf, arch, key, &value, full)) return OTR_STATUS_OK;
  if (value.is_array || !otr_metadata_number(&value, 0, out))
    return otr_fail(OTR_STATUS_BAD_FORMAT, "key %s is not a number", full);
  if (!isfinite(*out)) return otr_fail(OTR_STATUS_BAD_FORMAT, "key %s is not finite", full);
  return OTR_STATUS_OK;
}

static bool string_is(const otr_metadata_value *value, const char *text) {
  size_t cursor = 0, n;
  const char *string;
  return !value->is_array && otr_metadata_next_string(value, &cursor, &string, &n) && n == strlen(text) &&
         memcmp(string, text, n) == 0;
}

static otr_status find_architecture(const otr_gguf *gguf, otr_config *c) {
  otr_metadata_value value;
  size_t cursor = 0, n;
  const char *name;
  if (!otr_metadata_find(&gguf->metadata, "general.architecture", &value) || value.is_array ||
      !otr_metadata_next_string(&value, &cursor, &name, &n))
    return otr_fail(OTR_STATUS_BAD_FORMAT, "key general.architecture is missing or no string");
  c->arch = otr_arch_find(name, n);
  if (!c->arch)
    return otr_fail(OTR_STATUS_UNSUPPORTED, "architecture \"%.*s\" is not supported", n > 64 ? 64 : (int)n, name);
  return OTR_STATUS_OK;
}

static otr_status read_shapes(const otr_gguf *gguf, otr_config *c) {
  const otr_arch *a = c->arch;
  static const int32_t zero = 0;
  OTR_TRY(read_int(gguf, a, "block_count", 1, MAX_LAYERS, NULL, &c->n_layers));
  OTR_TRY(read_int(gguf, a, "embedding_length", 1, OTR_MAX_K, NULL, &c->dim));
  OTR_TRY(read_int(gguf, a, "feed_forward_length", 1, OTR_MAX_K, NULL, &c->ffn_dim));
  OTR_TRY(read_int(gguf, a, "attention.head_count", 1, MAX_HEADS, NULL, &c->n_heads));
  OTR_TRY(read_int(gguf, a, "attention.head_count_kv", 1, MAX_HEADS, &c->n_heads, &c->n_kv_heads));
  OTR_TRY(read_int(gguf, a, "context_length", 1, INT32_MAX, &zero, &c->n_ctx_train));
  if (c->n_heads % c->n_kv_heads != 0)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "%d heads cannot be shared out over %d KV heads", c->n_heads, c->n_kv_heads);
  int32_t shared = c->dim % c->n_heads == 0 ? c->dim / c->n_heads : 0, value_dim;
  OTR_TRY(read_int(gguf, a, "attention.key_length", MIN_HEAD_DIM, MAX_HEAD_DIM, &shared, &c->head_dim));
  if (c->head_dim < MIN_HEAD_DIM || c->head_dim > MAX_HEAD_DIM)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "%d values cannot be shared out over %d heads", c->dim, c->n_heads);
  OTR_TRY(read_int(gguf, a, "attention.value_length", MIN_HEAD_DIM, MAX_HEAD_DIM, &c->head_dim, &value_dim));
  if (value_dim != c->head_dim)
    return otr_fail(OTR_STATUS_UNSUPPORTED, "keys of %d and values of %d values a head", c->head_dim, value_dim);
  if ((int64_t)c->n_heads * c->head_dim > OTR_MAX_K)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "%d heads of %d values are too wide", c->n_heads, c->head_dim);
  OTR_TRY(read_int(gguf, a, "rope.dimension_count", 0, c->head_dim, &c->head_dim, &c->n_rot));
  if (c->n_rot % 2 != 0) return otr_fail(OTR_STATUS_BAD_FORMAT, "RoPE over an odd number (%d) of values", c->n_rot);
  int32_t experts;
  OTR_TRY(read_int(gguf, a, "expert_count", 0, INT32_MAX, &zero, &experts));
  if (experts > 0) return otr_fail(OTR_STATUS_UNSUPPORTED, "mixtures of experts are not supported");
  return OTR_STATUS_OK;
}

static otr_status read_numbers(const otr_gguf *gguf, otr_config *c) {
  double eps;
  OTR_TRY(read_number(gguf, c->arch, c->arch->eps_key, -1.0, &eps));
  if (!(eps == 0.0 || (eps >= 0x1p-60 && eps <= 1e6)))
    return otr_fail(OTR_STATUS_BAD_FORMAT, "key %s.%s is %g; it must be given, 0 or at least 2^-60", c->arch->name,
                    c->arch->eps_key, eps);
  c->eps = (float)eps;
  double scale;
  OTR_TRY(read_number(gguf, c->arch, "attention.scale", 0.0, &scale));
  if (scale != 0.0)
    return otr_fail(OTR_STATUS_UNSUPPORTED,
                    "key %s.attention.scale is %g: a score scale of a file's own is not supported", c->arch->name,
                    scale);
  OTR_TRY(read_number(gguf, c->arch, "rope.freq_base", 10000.0, &c->rope_theta));
  if (!(c->rope_theta >= 1.0 && c->rope_theta <= 1e30))
    return otr_fail(OTR_STATUS_BAD_FORMAT, "key %s.rope.freq_base is %g; it must be at least 1", c->arch->name,
                    c->rope_theta);
  return OTR_STATUS_OK;
}

static otr_status linear_scaling(const otr_gguf *gguf, otr_config *c, const char *key) {
  double factor;
  OTR_TRY(read_number(gguf, c->arch, key, 1.0, &factor));
  if (factor == 0.0) factor = 1.0; /* written so by older converters for "none" */
  if (!(factor >= 0x1p-20 && factor <= 0x1p20))
    return otr_fail(OTR_STATUS_BAD_FORMAT, "key %s.%s is %g", c->arch->name, key, factor);
  if (factor == 1.0) return OTR_STATUS_OK;
  c->has_rope_factors = 1;
  for (int32_t j = 0; j < c->n_rot / 2; j++) c->rope_factors[j] = (float)factor;
  return OTR_STATUS_OK;
}

static otr_status llama3_scaling(const otr_gguf *gguf, otr_config *c) {
  double factor, low, high, original;
  OTR_TRY(read_number(gguf, c->arch, "rope.scaling.factor", 8.0, &factor));
  OTR_TRY(read_number(gguf, c->arch, "rope.scaling.low_freq_factor", 1.0, &low));
  OTR_TRY(read_number(gguf, c->arch, "rope.scaling.high_freq_factor", 4.0, &high));
  OTR_TRY(read_number(gguf, c->arch, "rope.scaling.original_context_length", 8192.0, &original));
  if (!(factor >= 1.0 && factor <= 0x1p20 && low > 0.0 && high > low && high <= 0x1p20 && original >= 1.0 &&
        original <= 0x1p31))
    return otr_fail(OTR_STATUS_BAD_FORMAT, "llama3 RoPE scaling of factor %g, low %g, high %g, context %g", factor, low,
                    high, original);
  c->has_rope_factors = 1;
  otr_rope_llama3(c->rope_factors, c->rope_theta, c->n_rot, factor, low, high, original);
  return OTR_STATUS_OK;
}

static otr_status read_rope_scaling(const otr_gguf *gguf, otr_config *c) {
  char full[KEY_BYTES];
  otr_metadata_value value;
  if (!find_key(gguf, c->arch, "rope.scaling.type", &value, full)) return linear_scaling(gguf, c, "rope.scale_linear");
  if (string_is(&value, "none")) return OTR_STATUS_OK;
  if (string_is(&value, "linear")) return linear_scaling(gguf, c, "rope.scaling.factor");
  if (string_is(&value, "llama3")) return llama3_scaling(gguf, c);
  return otr_fail(OTR_STATUS_UNSUPPORTED, "key %s names a scaling that is not supported", full);
}

static otr_status read_rule(const otr_gguf *gguf, otr_config *c) {
  otr_metadata_value rule, value;
  double number = 0.0;
  c->rule = (otr_rule){OTR_RULE_RELATIVE, DEFAULT_TAU};
  if (!otr_metadata_find(&gguf->metadata, "outrider.outliers.rule", &rule)) return OTR_STATUS_OK;
  if (otr_metadata_find(&gguf->metadata, "outrider.outliers.value", &value) &&
      (value.is_array || !otr_metadata_number(&value, 0, &number)))
    return otr_fail(OTR_STATUS_BAD_FORMAT, "key outrider.outliers.value is not a number");
  otr_outliers o = {.value = (float)number};
  if (string_is(&rule, "relative"))
    o.rule = OTR_OUTLIERS_RELATIVE;
  else if (string_is(&rule, "absolute"))
    o.rule = OTR_OUTLIERS_ABSOLUTE;
  else if (string_is(&rule, "off"))
    o.rule = OTR_OUTLIERS_OFF;
  else
    return otr_fail(OTR_STATUS_BAD_FORMAT, "key outrider.outliers.rule names no rule");
  if (otr_rule_override(&o, &c->rule) != OTR_STATUS_OK) return otr_fail_in(OTR_STATUS_BAD_FORMAT, "outrider.outliers");
  return OTR_STATUS_OK;
}

static otr_status read_format(const otr_gguf *gguf, otr_config *c) {
  otr_metadata_value value;
  int64_t number;
  c->rotated_order = !c->arch->source_pairs_interleaved;
  if (!otr_metadata_find(&gguf->metadata, "outrider.format.version", &value)) return OTR_STATUS_OK;
  if (value.is_array || !otr_metadata_int(&value, 0, &number))
    return otr_fail(OTR_STATUS_BAD_FORMAT, "key outrider.format.version is not an integer");
  if (number != 1)
    return otr_fail(OTR_STATUS_UNSUPPORTED, "format version %lld; this library reads 1", (long long)number);
  if (!otr_metadata_find(&gguf->metadata, "outrider.contract_revision", &value) || value.is_array ||
      !otr_metadata_int(&value, 0, &number) || number != OTR_CONTRACT_REVISION)
    return otr_fail(OTR_STATUS_UNSUPPORTED, "the file is not of contract revision %d: convert it again",
                    OTR_CONTRACT_REVISION);
  if (!otr_metadata_find(&gguf->metadata, "outrider.rope.order", &value) || !string_is(&value, "half"))
    return otr_fail(OTR_STATUS_BAD_FORMAT, "key outrider.rope.order is not \"half\"");
  c->converted = 1;
  c->rotated_order = 1;
  return OTR_STATUS_OK;
}

otr_status otr_config_read(const otr_gguf *gguf, otr_config *c) {
  memset(c, 0, sizeof *c);
  OTR_TRY(find_architecture(gguf, c));
  OTR_TRY(read_shapes(gguf, c));
  OTR_TRY(read_numbers(gguf, c));
  OTR_TRY(read_rope_scaling(gguf, c));
  OTR_TRY(read_rule(gguf, c));
  OTR_TRY(read_format(gguf, c));
  const otr_gguf_tensor *embedding = otr_gguf_find(gguf, "token_embd.weight");
  if (!embedding) return otr_fail(OTR_STATUS_BAD_FORMAT, "tensor token_embd.weight is missing");
  if (embedding->dims[1] > MAX_VOCAB)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "a vocabulary of %llu", (unsigned long long)embedding->dims[1]);
  c->vocab = (int32_t)embedding->dims[1];
  int32_t declared;
  OTR_TRY(read_int(gguf, c->arch, "vocab_size", 1, MAX_VOCAB, &c->vocab, &declared));
  if (declared != c->vocab)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "key %s.vocab_size is %d, the embedding has %d rows", c->arch->name,
                    declared, c->vocab);
  c->tied_head = otr_gguf_find(gguf, "output.weight") == NULL;
  return OTR_STATUS_OK;
}

int32_t otr_config_extent(const otr_config *c, otr_extent extent) {
  switch (extent) {
    case OTR_EXTENT_DIM:
      return c->dim;
    case OTR_EXTENT_FFN:
      return c->ffn_dim;
    case OTR_EXTENT_Q:
      return c->n_heads * c->head_dim;
    case OTR_EXTENT_KV:
      return c->n_kv_heads * c->head_dim;
    case OTR_EXTENT_VOCAB:
      return c->vocab;
    default:
      return 1;
  }
}

otr_status otr_rule_override(const otr_outliers *o, otr_rule *rule) {
  switch (o->rule) {
    case OTR_OUTLIERS_DEFAULT:
      return OTR_STATUS_OK;
    case OTR_OUTLIERS_OFF:
      *rule = (otr_rule){OTR_RULE_OFF, 0.0f};
      return OTR_STATUS_OK;
    case OTR_OUTLIERS_RELATIVE:
      rule->kind = OTR_RULE_RELATIVE;
      rule->value = o->value == 0.0f ? DEFAULT_TAU : o->value;
      if (!(rule->value >= 0x1p-8f && rule->value <= 0x1p20f))
        return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "a relative threshold of %g; it must be at least 2^-8",
                        (double)rule->value);
      return OTR_STATUS_OK;
    case OTR_OUTLIERS_ABSOLUTE:
      rule->kind = OTR_RULE_ABSOLUTE;
      rule->value = o->value == 0.0f ? 6.0f : o->value;
      if (!(rule->value > 0.0f && rule->value <= 0x1p48f))
        return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "an absolute threshold of %g; it must be positive",
                        (double)rule->value);
      return OTR_STATUS_OK;
    default:
      return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "outlier rule %d does not exist", o->rule);
  }
}

void otr_tensor_name(char out[OTR_NAME_BYTES], const otr_tensor_rule *rule, int32_t layer, const char *suffix) {
  if (rule->role < OTR_LAYER_ROLES)
    snprintf(out, OTR_NAME_BYTES, "blk.%d.%s%s", layer, rule->name, suffix);
  else
    snprintf(out, OTR_NAME_BYTES, "%s%s", rule->name, suffix);
}
