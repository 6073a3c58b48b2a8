// SPDX-License-Identifier: Apache-2.0
#include "hf_config.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "hf_rope.h"
#include "hf_values.h"
#include "status.h"

#define MAX_SIZE (1 << 24)

/* ---- shapes ------------------------------------------------------------------------------------------------------ */

static otr_status read_kv_heads(const hf_reader *r, hf_shape *s) {
  int32_t fallback = s->family->default_kv_heads != 0 ? s->family->default_kv_heads : s->n_heads;
  return hf_int(r, s->family->kv_heads, 1, MAX_SIZE, &fallback, &s->n_kv_heads);
}

/* A head is dim / heads wide where the file does not say otherwise. */
static otr_status read_head_dim(const hf_reader *r, hf_shape *s) {
  int32_t fallback = s->family->default_head_dim;
  if (fallback == 0 && s->dim % s->n_heads == 0) fallback = s->dim / s->n_heads;
  OTR_TRY(hf_int(r, "head_dim", 1, MAX_SIZE, &fallback, &s->head_dim));
  if (s->head_dim == 0)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "%d values cannot be shared out over %d heads", (int)s->dim,
                    (int)s->n_heads);
  return OTR_STATUS_OK;
}

static otr_status read_sizes(const hf_reader *r, hf_shape *s) {
  const hf_family *f = s->family;
  OTR_TRY(hf_int(r, f->layers, 1, MAX_SIZE, NULL, &s->n_layers));
  OTR_TRY(hf_int(r, f->dim, 1, MAX_SIZE, NULL, &s->dim));
  OTR_TRY(hf_int(r, f->heads, 1, MAX_SIZE, NULL, &s->n_heads));
  OTR_TRY(read_kv_heads(r, s));
  OTR_TRY(read_head_dim(r, s));
  int64_t usual = (int64_t)f->default_ffn * s->dim;
  int32_t fallback = usual <= MAX_SIZE ? (int32_t)usual : MAX_SIZE;
  return hf_int(r, f->ffn, 1, MAX_SIZE, f->default_ffn != 0 ? &fallback : NULL, &s->ffn);
}

static otr_status put_sizes(const hf_reader *r, hf_shape *s) {
  static const int32_t zero = 0;
  int32_t positions;
  hf_put_u32(r, "block_count", s->n_layers);
  hf_put_u32(r, "embedding_length", s->dim);
  hf_put_u32(r, "feed_forward_length", s->ffn);
  hf_put_u32(r, "attention.head_count", s->n_heads);
  hf_put_u32(r, "attention.head_count_kv", s->n_kv_heads);
  hf_put_u32(r, "attention.key_length", s->head_dim);
  hf_put_u32(r, "attention.value_length", s->head_dim);
  OTR_TRY(hf_int(r, s->family->positions, 1, INT32_MAX, &zero, &positions));
  if (positions > 0) hf_put_u32(r, "context_length", positions);
  OTR_TRY(hf_int(r, "vocab_size", 1, MAX_SIZE, NULL, &s->vocab));
  hf_put_u32(r, "vocab_size", s->vocab);
  return OTR_STATUS_OK;
}

/* ---- norms, activation ------------------------------------------------------------------------------------------- */

static otr_status put_eps(const hf_reader *r, const hf_family *f) {
  double eps;
  OTR_TRY(hf_number(r, f->eps_name, f->default_eps, &eps));
  if (!(eps >= 0.0)) return otr_fail(OTR_STATUS_BAD_FORMAT, "%s is %g", f->eps_name, eps);
  hf_put_f32(r, f->eps_key, eps);
  return OTR_STATUS_OK;
}

static otr_status put_activation(const hf_reader *r, const hf_family *f) {
  static const char *const names[][2] = {
      {"silu", "silu"},           {"swish", "silu"},         {"relu", "relu"},
      {"gelu", "gelu_erf"},       {"gelu_new", "gelu_tanh"}, {"gelu_pytorch_tanh", "gelu_tanh"},
      {"gelu_fast", "gelu_tanh"},
  };
  const char *act;
  OTR_TRY(hf_string(r, f->act_name, f->default_act, &act));
  /* Gemma's first configs say "gelu" where the tanh form is meant; hidden_activation was added to mend that. */
  if (strcmp(f->arch, "gemma") == 0) {
    if (strcmp(act, "gelu") == 0) act = f->default_act;
    OTR_TRY(hf_string(r, "hidden_activation", act, &act));
  }
  for (size_t i = 0; i < sizeof names / sizeof names[0]; ++i) {
    if (strcmp(act, names[i][0]) != 0) continue;
    otr_gguf_put_string(r->keys, "outrider.activation", names[i][1]);
    return OTR_STATUS_OK;
  }
  return otr_fail(OTR_STATUS_UNSUPPORTED, "%s \"%.32s\" is not supported", f->act_name, act);
}

/* ---- what families have of their own ----------------------------------------------------------------------------- */

/* An entry that changes the computation in a way that is not known here. */
static otr_status refuse(const hf_reader *r, const char *name, bool when, bool fallback) {
  bool value;
  OTR_TRY(hf_bool(r, name, fallback, &value));
  if (value != when) return OTR_STATUS_OK;
  return otr_fail(OTR_STATUS_UNSUPPORTED, "%s %s is not supported", name, when ? "true" : "false");
}

static otr_status put_window(const hf_reader *r, int32_t fallback) {
  int32_t window;
  OTR_TRY(hf_int(r, "sliding_window", 1, INT32_MAX, &fallback, &window));
  if (window > 0 && !hf_is_null(r, "sliding_window")) hf_put_u32(r, "attention.sliding_window", window);
  return OTR_STATUS_OK;
}

/* Layers from max_window_layers on have the window, where it is used at all. */
static otr_status qwen_window(const hf_reader *r, const hf_shape *s) {
  static const int32_t usual = 28;
  bool used;
  int32_t full;
  OTR_TRY(hf_bool(r, "use_sliding_window", false, &used));
  OTR_TRY(hf_int(r, "max_window_layers", 0, INT32_MAX, &usual, &full));
  if (!used || full >= s->n_layers) return OTR_STATUS_OK;
  if (full > 0)
    return otr_fail(OTR_STATUS_UNSUPPORTED, "a sliding_window in some layers only (max_window_layers %d)", (int)full);
  return put_window(r, 4096);
}

static otr_status gpt2_entries(const hf_reader *r) {
  OTR_TRY(refuse(r, "scale_attn_by_inverse_layer_idx", true, false));
  OTR_TRY(refuse(r, "scale_attn_weights", false, true));
  return refuse(r, "add_cross_attention", true, false);
}

static otr_status opt_entries(const hf_reader *r) {
  bool before;
  OTR_TRY(refuse(r, "layer_norm_elementwise_affine", false, true));
  OTR_TRY(hf_bool(r, "do_layer_norm_before", true, &before));
  otr_gguf_put_string(r->keys, "outrider.block", before ? "serial" : "post");
  return OTR_STATUS_OK;
}

static otr_status bloom_entries(const hf_reader *r) {
  hf_put_f32(r, "attention.max_alibi_bias", 8.0);
  return refuse(r, "apply_residual_connection_post_layernorm", true, false);
}

/* GGUF's own key, and the name of the block here. */
static otr_status parallel_entry(const hf_reader *r, bool fallback, const char *block) {
  bool parallel;
  OTR_TRY(hf_bool(r, "use_parallel_residual", fallback, &parallel));
  hf_put_bool(r, "use_parallel_residual", parallel);
  otr_gguf_put_string(r->keys, "outrider.block", parallel ? block : "serial");
  return OTR_STATUS_OK;
}

/* The three forms: 7B (one KV head, one norm), 40B (groups, mostly two norms), RW (serial, ALiBi). num_kv_heads counts
 * in the 40B form only. */
static otr_status falcon_heads(const hf_reader *r, hf_shape *s) {
  bool grouped, multi_query;
  OTR_TRY(hf_bool(r, "new_decoder_architecture", false, &grouped));
  OTR_TRY(hf_bool(r, "multi_query", true, &multi_query));
  s->grouped_qkv = grouped || !multi_query;
  s->n_kv_heads = !grouped && multi_query ? 1 : s->n_heads;
  return grouped ? hf_int(r, "num_kv_heads|n_head_kv", 1, MAX_SIZE, &s->n_heads, &s->n_kv_heads) : OTR_STATUS_OK;
}

static otr_status falcon_entries(const hf_reader *r) {
  static const int32_t two = 2;
  bool grouped, parallel, alibi;
  int32_t norms;
  OTR_TRY(hf_bool(r, "new_decoder_architecture", false, &grouped));
  OTR_TRY(hf_bool(r, "parallel_attn", true, &parallel));
  OTR_TRY(hf_bool(r, "alibi", false, &alibi));
  OTR_TRY(hf_int(r, "num_ln_in_parallel_attn", 1, 2, &two, &norms));
  parallel = parallel || grouped;
  otr_gguf_put_string(r->keys, "outrider.block",
                      !parallel               ? "serial"
                      : grouped && norms == 2 ? "parallel2"
                                              : "parallel");
  if (alibi) hf_put_f32(r, "attention.max_alibi_bias", 8.0);
  return OTR_STATUS_OK;
}

static otr_status put_entries(const hf_reader *r, const hf_shape *s) {
  const char *type = s->family->model_type;
  if (strcmp(type, "mistral") == 0) return put_window(r, 4096);
  if (strcmp(type, "phi3") == 0) return put_window(r, 0);
  if (strcmp(s->family->arch, "qwen2") == 0 || strcmp(s->family->arch, "qwen3") == 0) return qwen_window(r, s);
  if (strcmp(type, "gpt2") == 0) return gpt2_entries(r);
  if (strcmp(type, "opt") == 0) return opt_entries(r);
  if (strcmp(type, "bloom") == 0) return bloom_entries(r);
  if (strcmp(type, "falcon") == 0) return falcon_entries(r);
  if (strcmp(type, "gpt_neox") == 0) return parallel_entry(r, true, "parallel2");
  if (strcmp(type, "stablelm") == 0) return parallel_entry(r, false, "parallel");
  return OTR_STATUS_OK;
}

/* ---- quantized checkpoints --------------------------------------------------------------------------------------- */

static otr_status read_quantization(const hf_reader *r, hf_shape *s) {
  const json_t *q = json_object_get(r->config, "quantization_config");
  if (q == NULL || json_is_null(q)) return OTR_STATUS_OK;
  const hf_reader inner = {.config = q, .keys = r->keys, .family = r->family};
  const char *method;
  bool in_8bit, in_4bit;
  double threshold;
  OTR_TRY(hf_bool(&inner, "load_in_8bit|_load_in_8bit", false, &in_8bit));
  OTR_TRY(hf_bool(&inner, "load_in_4bit|_load_in_4bit", false, &in_4bit));
  OTR_TRY(hf_string(&inner, "quant_method", in_8bit || in_4bit ? "bitsandbytes" : "unknown", &method));
  if (strcmp(method, "bitsandbytes") != 0)
    return otr_fail(OTR_STATUS_UNSUPPORTED,
                    "quantization_config of method \"%.32s\" is not supported (its scales are its own): convert the "
                    "unquantized model",
                    method);
  if (!in_8bit)
    return otr_fail(OTR_STATUS_UNSUPPORTED, "bitsandbytes in 4 bits is not supported: convert the unquantized model");
  OTR_TRY(hf_number(&inner, "llm_int8_threshold", 6.0, &threshold));
  if (!(threshold >= 0.0 && threshold <= 0x1p48))
    return otr_fail(OTR_STATUS_BAD_FORMAT, "llm_int8_threshold is %g", threshold);
  s->is_bnb = 1;
  s->bnb_threshold = (float)threshold;
  return OTR_STATUS_OK;
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

static otr_status find_family(const json_t *config, const hf_family **out) {
  const char *type = json_string_value(json_object_get(config, "model_type"));
  if (type == NULL) return otr_fail(OTR_STATUS_BAD_FORMAT, "model_type is missing");
  *out = hf_family_find(type);
  if (*out == NULL) return otr_fail(OTR_STATUS_UNSUPPORTED, "model_type \"%.64s\" is not supported", type);
  return OTR_STATUS_OK;
}

otr_status hf_config_read(const json_t *config, otr_gguf_writer *keys, hf_shape *s) {
  memset(s, 0, sizeof *s);
  OTR_TRY(find_family(config, &s->family));
  const hf_reader r = {.config = config, .keys = keys, .family = s->family};
  bool tied;
  s->grouped_qkv = s->family->grouped_qkv;
  OTR_TRY(hf_bool(&r, "tie_word_embeddings", s->family->tied != 0, &tied));
  s->tied = tied;
  OTR_TRY(read_sizes(&r, s));
  if (strcmp(s->family->arch, "falcon") == 0) OTR_TRY(falcon_heads(&r, s));
  OTR_TRY(read_quantization(&r, s));
  otr_gguf_put_string(keys, "general.architecture", s->family->arch);
  OTR_TRY(put_sizes(&r, s));
  OTR_TRY(put_eps(&r, s->family));
  OTR_TRY(put_activation(&r, s->family));
  OTR_TRY(put_entries(&r, s));
  return s->family->default_theta != 0.0 ? hf_rope_put(&r, s) : OTR_STATUS_OK;
}
