// SPDX-License-Identifier: Apache-2.0
#include "hf_family.h"

#include <stddef.h>
#include <string.h>

#define COUNT(array) ((int32_t)(sizeof(array) / sizeof(array)[0]))

/* llama and what follows its names; qwen3 has the norms of q and k. */
static const hf_name llama_names[] = {
    {"token_embd", "embed_tokens", HF_WHOLE, 0},
    {"output_norm", "norm", HF_WHOLE, 0},
    {"output", "lm_head", HF_WHOLE, HF_NO_PREFIX | HF_HEAD},
    {"attn_norm", "layers.{N}.input_layernorm", HF_WHOLE, 0},
    {"attn_q", "layers.{N}.self_attn.q_proj", HF_WHOLE, 0},
    {"attn_k", "layers.{N}.self_attn.k_proj", HF_WHOLE, 0},
    {"attn_v", "layers.{N}.self_attn.v_proj", HF_WHOLE, 0},
    {"attn_q_norm", "layers.{N}.self_attn.q_norm", HF_WHOLE, 0},
    {"attn_k_norm", "layers.{N}.self_attn.k_norm", HF_WHOLE, 0},
    {"attn_output", "layers.{N}.self_attn.o_proj", HF_WHOLE, 0},
    {"ffn_norm", "layers.{N}.post_attention_layernorm", HF_WHOLE, 0},
    {"ffn_gate", "layers.{N}.mlp.gate_proj", HF_WHOLE, 0},
    {"ffn_up", "layers.{N}.mlp.up_proj", HF_WHOLE, 0},
    {"ffn_down", "layers.{N}.mlp.down_proj", HF_WHOLE, 0},
};

static const hf_name phi3_names[] = {
    {"token_embd", "embed_tokens", HF_WHOLE, 0},
    {"output_norm", "norm", HF_WHOLE, 0},
    {"output", "lm_head", HF_WHOLE, HF_NO_PREFIX | HF_HEAD},
    {"attn_norm", "layers.{N}.input_layernorm", HF_WHOLE, 0},
    {"attn_q", "layers.{N}.self_attn.qkv_proj", HF_Q, 0},
    {"attn_k", "layers.{N}.self_attn.qkv_proj", HF_K, 0},
    {"attn_v", "layers.{N}.self_attn.qkv_proj", HF_V, 0},
    {"attn_output", "layers.{N}.self_attn.o_proj", HF_WHOLE, 0},
    {"ffn_norm", "layers.{N}.post_attention_layernorm", HF_WHOLE, 0},
    {"ffn_gate", "layers.{N}.mlp.gate_up_proj", HF_GATE, 0},
    {"ffn_up", "layers.{N}.mlp.gate_up_proj", HF_UP, 0},
    {"ffn_down", "layers.{N}.mlp.down_proj", HF_WHOLE, 0},
};

static const hf_name gemma_names[] = {
    {"token_embd", "embed_tokens", HF_WHOLE, 0},
    {"output_norm", "norm", HF_WHOLE, HF_PLUS_ONE},
    {"output", "lm_head", HF_WHOLE, HF_NO_PREFIX | HF_HEAD},
    {"attn_norm", "layers.{N}.input_layernorm", HF_WHOLE, HF_PLUS_ONE},
    {"attn_q", "layers.{N}.self_attn.q_proj", HF_WHOLE, 0},
    {"attn_k", "layers.{N}.self_attn.k_proj", HF_WHOLE, 0},
    {"attn_v", "layers.{N}.self_attn.v_proj", HF_WHOLE, 0},
    {"attn_output", "layers.{N}.self_attn.o_proj", HF_WHOLE, 0},
    {"ffn_norm", "layers.{N}.post_attention_layernorm", HF_WHOLE, HF_PLUS_ONE},
    {"ffn_gate", "layers.{N}.mlp.gate_proj", HF_WHOLE, 0},
    {"ffn_up", "layers.{N}.mlp.up_proj", HF_WHOLE, 0},
    {"ffn_down", "layers.{N}.mlp.down_proj", HF_WHOLE, 0},
};

static const hf_name stablelm_names[] = {
    {"token_embd", "embed_tokens", HF_WHOLE, 0},
    {"output_norm", "norm", HF_WHOLE, 0},
    {"output", "lm_head", HF_WHOLE, HF_NO_PREFIX | HF_HEAD},
    {"attn_norm", "layers.{N}.input_layernorm", HF_WHOLE, 0},
    {"attn_q", "layers.{N}.self_attn.q_proj", HF_WHOLE, 0},
    {"attn_k", "layers.{N}.self_attn.k_proj", HF_WHOLE, 0},
    {"attn_v", "layers.{N}.self_attn.v_proj", HF_WHOLE, 0},
    {"attn_q_norm", "layers.{N}.self_attn.q_layernorm.norms.{H}", HF_HEADS, 0},
    {"attn_k_norm", "layers.{N}.self_attn.k_layernorm.norms.{H}", HF_HEADS, 0},
    {"attn_output", "layers.{N}.self_attn.o_proj", HF_WHOLE, 0},
    {"ffn_norm", "layers.{N}.post_attention_layernorm", HF_WHOLE, 0},
    {"ffn_gate", "layers.{N}.mlp.gate_proj", HF_WHOLE, 0},
    {"ffn_up", "layers.{N}.mlp.up_proj", HF_WHOLE, 0},
    {"ffn_down", "layers.{N}.mlp.down_proj", HF_WHOLE, 0},
};

static const hf_name gpt2_names[] = {
    {"token_embd", "wte", HF_WHOLE, 0},
    {"position_embd", "wpe", HF_WHOLE, 0},
    {"output_norm", "ln_f", HF_WHOLE, 0},
    {"output", "lm_head", HF_WHOLE, HF_NO_PREFIX | HF_HEAD},
    {"attn_norm", "h.{N}.ln_1", HF_WHOLE, 0},
    {"attn_q", "h.{N}.attn.c_attn", HF_Q, HF_CONV1D},
    {"attn_k", "h.{N}.attn.c_attn", HF_K, HF_CONV1D},
    {"attn_v", "h.{N}.attn.c_attn", HF_V, HF_CONV1D},
    {"attn_output", "h.{N}.attn.c_proj", HF_WHOLE, HF_CONV1D},
    {"ffn_norm", "h.{N}.ln_2", HF_WHOLE, 0},
    {"ffn_up", "h.{N}.mlp.c_fc", HF_WHOLE, HF_CONV1D},
    {"ffn_down", "h.{N}.mlp.c_proj", HF_WHOLE, HF_CONV1D},
};

static const hf_name opt_names[] = {
    {"token_embd", "embed_tokens", HF_WHOLE, 0},
    {"position_embd", "embed_positions", HF_WHOLE, HF_DROP_TWO},
    {"project_in", "project_in", HF_WHOLE, 0},
    {"project_out", "project_out", HF_WHOLE, 0},
    {"output_norm", "final_layer_norm", HF_WHOLE, 0},
    {"output", "lm_head", HF_WHOLE, HF_NO_PREFIX | HF_HEAD},
    {"attn_norm", "layers.{N}.self_attn_layer_norm", HF_WHOLE, 0},
    {"attn_q", "layers.{N}.self_attn.q_proj", HF_WHOLE, 0},
    {"attn_k", "layers.{N}.self_attn.k_proj", HF_WHOLE, 0},
    {"attn_v", "layers.{N}.self_attn.v_proj", HF_WHOLE, 0},
    {"attn_output", "layers.{N}.self_attn.out_proj", HF_WHOLE, 0},
    {"ffn_norm", "layers.{N}.final_layer_norm", HF_WHOLE, 0},
    {"ffn_up", "layers.{N}.fc1", HF_WHOLE, 0},
    {"ffn_down", "layers.{N}.fc2", HF_WHOLE, 0},
};

static const hf_name bloom_names[] = {
    {"token_embd", "word_embeddings", HF_WHOLE, 0},
    {"token_embd_norm", "word_embeddings_layernorm", HF_WHOLE, 0},
    {"output_norm", "ln_f", HF_WHOLE, 0},
    {"output", "lm_head", HF_WHOLE, HF_NO_PREFIX | HF_HEAD},
    {"attn_norm", "h.{N}.input_layernorm", HF_WHOLE, 0},
    {"attn_q", "h.{N}.self_attention.query_key_value", HF_Q, 0},
    {"attn_k", "h.{N}.self_attention.query_key_value", HF_K, 0},
    {"attn_v", "h.{N}.self_attention.query_key_value", HF_V, 0},
    {"attn_output", "h.{N}.self_attention.dense", HF_WHOLE, 0},
    {"ffn_norm", "h.{N}.post_attention_layernorm", HF_WHOLE, 0},
    {"ffn_up", "h.{N}.mlp.dense_h_to_4h", HF_WHOLE, 0},
    {"ffn_down", "h.{N}.mlp.dense_4h_to_h", HF_WHOLE, 0},
};

/* ln_attn and ln_mlp are the two norms of the 40B form; post_attention_layernorm is of the serial one. */
static const hf_name falcon_names[] = {
    {"token_embd", "word_embeddings", HF_WHOLE, 0},
    {"output_norm", "ln_f", HF_WHOLE, 0},
    {"output", "lm_head", HF_WHOLE, HF_NO_PREFIX | HF_HEAD},
    {"attn_norm", "h.{N}.input_layernorm", HF_WHOLE, 0},
    {"attn_norm", "h.{N}.ln_mlp", HF_WHOLE, 0},
    {"attn_norm_2", "h.{N}.ln_attn", HF_WHOLE, 0},
    {"attn_q", "h.{N}.self_attention.query_key_value", HF_Q, 0},
    {"attn_k", "h.{N}.self_attention.query_key_value", HF_K, 0},
    {"attn_v", "h.{N}.self_attention.query_key_value", HF_V, 0},
    {"attn_output", "h.{N}.self_attention.dense", HF_WHOLE, 0},
    {"ffn_norm", "h.{N}.post_attention_layernorm", HF_WHOLE, 0},
    {"ffn_up", "h.{N}.mlp.dense_h_to_4h", HF_WHOLE, 0},
    {"ffn_down", "h.{N}.mlp.dense_4h_to_h", HF_WHOLE, 0},
};

static const hf_name gptneox_names[] = {
    {"token_embd", "embed_in", HF_WHOLE, 0},
    {"output_norm", "final_layer_norm", HF_WHOLE, 0},
    {"output", "embed_out", HF_WHOLE, HF_NO_PREFIX | HF_HEAD},
    {"attn_norm", "layers.{N}.input_layernorm", HF_WHOLE, 0},
    {"attn_q", "layers.{N}.attention.query_key_value", HF_Q, 0},
    {"attn_k", "layers.{N}.attention.query_key_value", HF_K, 0},
    {"attn_v", "layers.{N}.attention.query_key_value", HF_V, 0},
    {"attn_output", "layers.{N}.attention.dense", HF_WHOLE, 0},
    {"ffn_norm", "layers.{N}.post_attention_layernorm", HF_WHOLE, 0},
    {"ffn_up", "layers.{N}.mlp.dense_h_to_4h", HF_WHOLE, 0},
    {"ffn_down", "layers.{N}.mlp.dense_4h_to_h", HF_WHOLE, 0},
};

#define NAMES(table) .names = (table), .n_names = COUNT(table)
#define RMS .eps_name = "rms_norm_eps", .eps_key = "attention.layer_norm_rms_epsilon"
#define LAYER_NORM(theirs) .eps_name = (theirs), .eps_key = "attention.layer_norm_epsilon", .default_eps = 1e-5
/* The names that most of them share. */
#define USUAL                                                                                            \
  .layers = "num_hidden_layers", .dim = "hidden_size", .heads = "num_attention_heads",                   \
  .kv_heads = "num_key_value_heads", .ffn = "intermediate_size", .positions = "max_position_embeddings", \
  .act_name = "hidden_act", .default_theta = 10000.0
#define OLDER .layers = "num_hidden_layers|n_layer", .dim = "hidden_size|n_embed", .heads = "num_attention_heads|n_head"

static const hf_family families[] = {
    {"llama", "llama", {"model.", ""}, NAMES(llama_names), USUAL, RMS, .default_eps = 1e-6, .default_act = "silu"},
    {"mistral",
     "llama",
     {"model.", ""},
     NAMES(llama_names),
     USUAL,
     RMS,
     .default_eps = 1e-6,
     .default_act = "silu",
     .default_kv_heads = 8},
    {"qwen2",
     "qwen2",
     {"model.", ""},
     NAMES(llama_names),
     USUAL,
     RMS,
     .default_eps = 1e-6,
     .default_act = "silu",
     .default_kv_heads = 32},
    {"qwen3",
     "qwen3",
     {"model.", ""},
     NAMES(llama_names),
     USUAL,
     RMS,
     .default_eps = 1e-6,
     .default_act = "silu",
     .default_kv_heads = 32,
     .default_head_dim = 128},
    {"phi3", "phi3", {"model.", ""}, NAMES(phi3_names), USUAL, RMS, .default_eps = 1e-5, .default_act = "silu"},
    {"gemma",
     "gemma",
     {"model.", ""},
     NAMES(gemma_names),
     USUAL,
     RMS,
     .default_eps = 1e-6,
     .default_act = "gelu_pytorch_tanh",
     .default_kv_heads = 16,
     .default_head_dim = 256,
     .tied = 1},
    {"stablelm",
     "stablelm",
     {"model.", ""},
     NAMES(stablelm_names),
     USUAL,
     LAYER_NORM("layer_norm_eps"),
     .default_act = "silu",
     .default_kv_heads = 32,
     .default_rotary = 0.25},
    {"gpt2",
     "gpt2",
     {"transformer.", ""},
     NAMES(gpt2_names),
     .layers = "n_layer",
     .dim = "n_embd",
     .heads = "n_head",
     .ffn = "n_inner",
     .default_ffn = 4,
     .positions = "n_positions|n_ctx",
     LAYER_NORM("layer_norm_epsilon"),
     .act_name = "activation_function",
     .default_act = "gelu_new",
     .tied = 1},
    {"opt",
     "opt",
     {"model.decoder.", "decoder.", ""},
     NAMES(opt_names),
     .layers = "num_hidden_layers",
     .dim = "hidden_size",
     .heads = "num_attention_heads",
     .ffn = "ffn_dim",
     .positions = "max_position_embeddings",
     LAYER_NORM(NULL),
     .act_name = "activation_function",
     .default_act = "relu",
     .tied = 1},
    {"bloom",
     "bloom",
     {"transformer.", ""},
     NAMES(bloom_names),
     OLDER,
     .default_ffn = 4,
     .positions = "seq_length",
     LAYER_NORM("layer_norm_epsilon"),
     .default_act = "gelu_new",
     .tied = 1,
     .grouped_qkv = 1},
    {"falcon",
     "falcon",
     {"transformer.", ""},
     NAMES(falcon_names),
     OLDER,
     .ffn = "ffn_hidden_size",
     .default_ffn = 4,
     .positions = "max_position_embeddings",
     LAYER_NORM("layer_norm_epsilon"),
     .act_name = "activation",
     .default_act = "gelu",
     .default_theta = 10000.0,
     .tied = 1},
    {"gpt_neox",
     "gptneox",
     {"gpt_neox.", ""},
     NAMES(gptneox_names),
     USUAL,
     LAYER_NORM("layer_norm_eps"),
     .default_act = "gelu",
     .default_rotary = 0.25,
     .grouped_qkv = 1},
};

const hf_family *hf_family_find(const char *model_type) {
  for (int32_t i = 0; i < COUNT(families); ++i)
    if (strcmp(families[i].model_type, model_type) == 0) return &families[i];
  return NULL;
}

int hf_is_buffer(const char *name) {
  static const char *const ends[] = {".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias",
                                     ".rotary_emb.inv_freq"};
  size_t n = strlen(name);
  for (int32_t i = 0; i < COUNT(ends); ++i) {
    size_t m = strlen(ends[i]);
    if (n > m && strcmp(name + n - m, ends[i]) == 0) return 1;
  }
  return 0;
}
