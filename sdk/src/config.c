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

static const int32_t zero = 0;

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

/** Whether block 0 has the tensors that tell variants apart, and no other of them. */
static bool fits(const otr_gguf *gguf, const otr_config *c) {
  return !(c->needed >> OTR_ROLE_FFN_NORM & 1) == !otr_gguf_find(gguf, "blk.0.ffn_norm.weight") &&
         !(c->needed >> OTR_ROLE_ATTN_NORM_2 & 1) == !otr_gguf_find(gguf, "blk.0.attn_norm_2.weight");
}

/** The block's variant: by name, or the first that the tensors allow; use_parallel_residual decides between two. */
static otr_status choose_block(const otr_gguf *gguf, otr_config *c) {
  char full[KEY_BYTES];
  otr_metadata_value named, value;
  const otr_block *block, *found = NULL;
  int64_t parallel = 1;
  bool by_name = otr_metadata_find(&gguf->metadata, "outrider.block", &named);
  if (find_key(gguf, c->arch, "use_parallel_residual", &value, full) && !otr_metadata_int(&value, 0, &parallel))
    return otr_fail(OTR_STATUS_BAD_FORMAT, "key %s is no bool", full);
  for (int32_t i = 0; (block = otr_arch_block(c->arch, i)) != NULL; i++) {
    otr_config_set_block(c, block);
    bool wanted = by_name ? string_is(&named, block->name) : fits(gguf, c);
    if (!wanted || (found && (by_name || parallel || strcmp(block->name, "serial") != 0))) continue;
    found = block;
  }
  if (!found && by_name)
    return otr_fail(OTR_STATUS_UNSUPPORTED, "key outrider.block names no block of %s", c->arch->name);
  otr_config_set_block(c, found ? found : otr_arch_block(c->arch, 0));
  return OTR_STATUS_OK;
}

static otr_status read_shapes(const otr_gguf *gguf, otr_config *c) {
  const otr_arch *a = c->arch;
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
  int32_t experts;
  OTR_TRY(read_int(gguf, a, "expert_count", 0, INT32_MAX, &zero, &experts));
  if (experts > 0) return otr_fail(OTR_STATUS_UNSUPPORTED, "mixtures of experts are not supported");
  return OTR_STATUS_OK;
}

/** Where positions come from: RoPE, ALiBi, a table; and how far attention looks. */
static otr_status read_positions(const otr_gguf *gguf, otr_config *c) {
  const otr_arch *a = c->arch;
  OTR_TRY(read_int(gguf, a, "attention.sliding_window", 0, INT32_MAX, &zero, &c->window));
  OTR_TRY(read_number(gguf, a, "attention.max_alibi_bias", a->flags & OTR_ARCH_ALIBI ? 8.0 : 0.0, &c->alibi));
  if (!(c->alibi == 0.0 || (c->alibi >= 0x1p-10 && c->alibi <= 64.0)))
    return otr_fail(OTR_STATUS_BAD_FORMAT, "key %s.%s is %g", a->name, "attention.max_alibi_bias", c->alibi);
  if (a->flags & OTR_ARCH_POSITIONS) {
    c->n_positions = c->n_ctx_train;
    if (c->n_positions < 1 || c->n_positions > OTR_MAX_POSITION)
      return otr_fail(OTR_STATUS_BAD_FORMAT, "key %s.context_length is %d: no table is so long", a->name,
                      c->n_positions);
  }
  if (a->flags & OTR_ARCH_NO_ROPE || c->alibi > 0.0) return OTR_STATUS_OK;
  OTR_TRY(read_int(gguf, a, "rope.dimension_count", 0, c->head_dim, &c->head_dim, &c->n_rot));
  if (c->n_rot % 2 != 0) return otr_fail(OTR_STATUS_BAD_FORMAT, "RoPE over an odd number (%d) of values", c->n_rot);
  return OTR_STATUS_OK;
}

static otr_status read_activation(const otr_gguf *gguf, otr_config *c) {
  static const char names[][10] = {"silu", "gelu_tanh", "gelu_erf", "relu"}; /* by otr_act_kind */
  otr_metadata_value value;
  c->act = (otr_act_kind)c->arch->act;
  if (!otr_metadata_find(&gguf->metadata, "outrider.activation", &value)) return OTR_STATUS_OK;
  for (int32_t i = 0; i < 4; i++) {
    c->act = (otr_act_kind)i;
    if (string_is(&value, names[i])) return OTR_STATUS_OK;
  }
  return otr_fail(OTR_STATUS_UNSUPPORTED, "key outrider.activation names none that is known");
}

static otr_status read_numbers(const otr_gguf *gguf, otr_config *c) {
  const char *key = c->arch->norm == OTR_NORM_RMS ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon";
  double eps;
  OTR_TRY(read_number(gguf, c->arch, key, -1.0, &eps));
  if (!(eps == 0.0 || (eps >= 0x1p-60 && eps <= 1e6)))
    return otr_fail(OTR_STATUS_BAD_FORMAT, "key %s.%s is %g; it must be given, 0 or at least 2^-60", c->arch->name, key,
                    eps);
  c->eps = (float)eps;
  if (c->arch->flags & OTR_ARCH_EMBD_SCALE) c->embd_scale = otr_sqrt((float)c->dim);
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
  for (int32_t j = 0; j < c->n_rot / 2; j++) c->rope_factors[0][j] = (float)factor;
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
  otr_rope_llama3(c->rope_factors[0], c->rope_theta, c->n_rot, factor, low, high, original);
  return OTR_STATUS_OK;
}

static otr_status read_attention_factor(const otr_gguf *gguf, otr_config *c, double times) {
  OTR_TRY(read_number(gguf, c->arch, "rope.scaling.attn_factor", 1.0, &c->rope_attention));
  c->rope_attention = c->rope_attention * times;
  if (c->rope_attention >= 0x1p-10 && c->rope_attention <= 0x1p10) return OTR_STATUS_OK;
  return otr_fail(OTR_STATUS_BAD_FORMAT, "a RoPE attention factor of %g", c->rope_attention);
}

static otr_status yarn_scaling(const otr_gguf *gguf, otr_config *c) {
  double factor, fast, slow, original;
  OTR_TRY(read_number(gguf, c->arch, "rope.scaling.factor", 1.0, &factor));
  OTR_TRY(read_number(gguf, c->arch, "rope.scaling.yarn_beta_fast", 32.0, &fast));
  OTR_TRY(read_number(gguf, c->arch, "rope.scaling.yarn_beta_slow", 1.0, &slow));
  OTR_TRY(read_number(gguf, c->arch, "rope.scaling.original_context_length", c->n_ctx_train, &original));
  if (!(factor >= 1.0 && factor <= 0x1p20 && slow >= 0x1p-20 && fast > slow && fast <= 0x1p20 && original >= 1.0 &&
        original <= 0x1p31 && c->rope_theta > 1.0))
    return otr_fail(OTR_STATUS_BAD_FORMAT, "YaRN RoPE scaling of factor %g, betas %g and %g, context %g", factor, fast,
                    slow, original);
  c->has_rope_factors = 1;
  double times = otr_rope_yarn(c->rope_factors[0], c->rope_theta, c->n_rot, factor, fast, slow, original);
  return read_attention_factor(gguf, c, times);
}

static const char factors_long[] = "rope_factors_long.weight", factors_short[] = "rope_factors_short.weight";

/** Factors that are tensors, one array for short sessions and one for long ones (phi3). */
static otr_status longrope_scaling(const otr_gguf *gguf, otr_config *c) {
  if (!otr_gguf_find(gguf, factors_long) || !otr_gguf_find(gguf, factors_short))
    return otr_fail(OTR_STATUS_BAD_FORMAT, "tensor %s or %s is missing", factors_long, factors_short);
  OTR_TRY(
      read_int(gguf, c->arch, "rope.scaling.original_context_length", 1, OTR_MAX_POSITION, NULL, &c->rope_original));
  return read_attention_factor(gguf, c, 1.0);
}

static otr_status read_rope_scaling(const otr_gguf *gguf, otr_config *c) {
  char full[KEY_BYTES];
  otr_metadata_value value;
  bool named = find_key(gguf, c->arch, "rope.scaling.type", &value, full);
  bool longrope = otr_gguf_find(gguf, factors_long) || otr_gguf_find(gguf, factors_short);
  c->rope_attention = 1.0;
  if (!named && !longrope)
    OTR_TRY(linear_scaling(gguf, c, "rope.scale_linear"));
  else if (!named || string_is(&value, "longrope"))
    OTR_TRY(longrope_scaling(gguf, c));
  else if (string_is(&value, "linear"))
    OTR_TRY(linear_scaling(gguf, c, "rope.scaling.factor"));
  else if (string_is(&value, "llama3"))
    OTR_TRY(llama3_scaling(gguf, c));
  else if (string_is(&value, "yarn"))
    OTR_TRY(yarn_scaling(gguf, c));
  else if (!string_is(&value, "none"))
    return otr_fail(OTR_STATUS_UNSUPPORTED, "key %s names a scaling that is not supported", full);
  int32_t ways = (c->has_rope_factors != 0) + longrope + (otr_gguf_find(gguf, "rope_freqs.weight") != NULL);
  if (ways <= 1) return OTR_STATUS_OK;
  return otr_fail(OTR_STATUS_UNSUPPORTED, "RoPE is scaled in two ways, by keys or tensors");
}

otr_status otr_rule_parse(const char *name, size_t n_bytes, double value, otr_rule *rule) {
  static const struct {
    char name[9];
    int8_t rule;
  } rules[] = {{"relative", OTR_OUTLIERS_RELATIVE}, {"absolute", OTR_OUTLIERS_ABSOLUTE}, {"off", OTR_OUTLIERS_OFF}};
  for (int32_t i = 0; i < 3; i++) {
    otr_outliers o = {.rule = rules[i].rule, .value = (float)value};
    if (strlen(rules[i].name) != n_bytes || memcmp(rules[i].name, name, n_bytes) != 0) continue;
    return otr_rule_override(&o, rule) == OTR_STATUS_OK ? OTR_STATUS_OK : OTR_STATUS_BAD_FORMAT;
  }
  return otr_fail(OTR_STATUS_BAD_FORMAT, "\"%.*s\" is no rule", n_bytes > 64 ? 64 : (int)n_bytes, name);
}

static otr_status read_rule(const otr_gguf *gguf, otr_config *c) {
  otr_metadata_value rule, value;
  double number = 0.0;
  size_t cursor = 0, n = 0;
  const char *name = "";
  c->rule = (otr_rule){OTR_RULE_RELATIVE, DEFAULT_TAU};
  if (!otr_metadata_find(&gguf->metadata, "outrider.outliers.rule", &rule)) return OTR_STATUS_OK;
  if (otr_metadata_find(&gguf->metadata, "outrider.outliers.value", &value) &&
      (value.is_array || !otr_metadata_number(&value, 0, &number)))
    return otr_fail(OTR_STATUS_BAD_FORMAT, "key outrider.outliers.value is not a number");
  if (!rule.is_array) otr_metadata_next_string(&rule, &cursor, &name, &n);
  otr_status status = otr_rule_parse(name, n, number, &c->rule);
  return status == OTR_STATUS_OK ? status : otr_fail_in(status, "keys outrider.outliers.rule and .value");
}

static otr_status read_format(const otr_gguf *gguf, otr_config *c) {
  otr_metadata_value value;
  int64_t number;
  bool half = otr_metadata_find(&gguf->metadata, "outrider.rope.order", &value) && string_is(&value, "half");
  c->rotated_order = half || !(c->arch->flags & OTR_ARCH_INTERLEAVED);
  if (!otr_metadata_find(&gguf->metadata, "outrider.format.version", &value)) return OTR_STATUS_OK;
  if (value.is_array || !otr_metadata_int(&value, 0, &number))
    return otr_fail(OTR_STATUS_BAD_FORMAT, "key outrider.format.version is not an integer");
  if (number != 1)
    return otr_fail(OTR_STATUS_UNSUPPORTED, "format version %lld; this library reads 1", (long long)number);
  if (!otr_metadata_find(&gguf->metadata, "outrider.contract_revision", &value) || value.is_array ||
      !otr_metadata_int(&value, 0, &number) || number != OTR_CONTRACT_REVISION)
    return otr_fail(OTR_STATUS_UNSUPPORTED, "the file is not of contract revision %d: convert it again",
                    OTR_CONTRACT_REVISION);
  if (!half) return otr_fail(OTR_STATUS_BAD_FORMAT, "key outrider.rope.order is not \"half\"");
  c->converted = 1;
  return OTR_STATUS_OK;
}

/** What the embedding's own shape says: vocabulary, width, whether it is the output layer, too. */
static otr_status read_embedding(const otr_gguf *gguf, otr_config *c) {
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
  c->embd_dim = c->dim;
  bool in = otr_gguf_find(gguf, "project_in.weight") != NULL, out = otr_gguf_find(gguf, "project_out.weight") != NULL;
  if (!in && !out) return OTR_STATUS_OK;
  if (!in || !out || embedding->dims[0] > OTR_MAX_K)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "tensors project_in.weight and project_out.weight do not fit");
  c->embd_dim = (int32_t)embedding->dims[0];
  return OTR_STATUS_OK;
}

otr_status otr_config_read(const otr_gguf *gguf, otr_config *c) {
  memset(c, 0, sizeof *c);
  OTR_TRY(find_architecture(gguf, c));
  OTR_TRY(choose_block(gguf, c));
  OTR_TRY(read_shapes(gguf, c));
  OTR_TRY(read_positions(gguf, c));
  OTR_TRY(read_activation(gguf, c));
  OTR_TRY(read_numbers(gguf, c));
  OTR_TRY(read_rope_scaling(gguf, c));
  OTR_TRY(read_rule(gguf, c));
  OTR_TRY(read_format(gguf, c));
  return read_embedding(gguf, c);
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
