// SPDX-License-Identifier: Apache-2.0
#include "hf_family.h"

#include <stddef.h>
#include <string.h>

#define COUNT(array) ((int32_t)(sizeof(array) / sizeof(array)[0]))

/* ---- names of tensors ------------------------------------------------------------------------------------------- */

/* Rows that families share. */
#define ROW(ours, theirs, layout, flags) \
  { ours, theirs, layout, flags }
#define WHOLE(ours, theirs) ROW(ours, theirs, HF_WHOLE, 0)
#define HEAD(theirs) ROW("output", theirs, HF_WHOLE, HF_NO_PREFIX | HF_HEAD)
#define QKV(theirs, flags) \
  ROW("attn_q", theirs, HF_Q, flags), ROW("attn_k", theirs, HF_K, flags), ROW("attn_v", theirs, HF_V, flags)
#define Q_K_V                                                                                     \
  WHOLE("attn_q", "layers.{N}.self_attn.q_proj"), WHOLE("attn_k", "layers.{N}.self_attn.k_proj"), \
      WHOLE("attn_v", "layers.{N}.self_attn.v_proj")
#define GATE_UP WHOLE("ffn_gate", "layers.{N}.mlp.gate_proj"), WHOLE("ffn_up", "layers.{N}.mlp.up_proj")
/* What llama's descendants have beside q, k, v, gate and up. */
#define LLAMA_FRAME(norm_flags)                                                                           \
  WHOLE("token_embd", "embed_tokens"), ROW("output_norm", "norm", HF_WHOLE, norm_flags), HEAD("lm_head"), \
      ROW("attn_norm", "layers.{N}.input_layernorm", HF_WHOLE, norm_flags),                               \
      WHOLE("attn_output", "layers.{N}.self_attn.o_proj"),                                                \
      ROW("ffn_norm", "layers.{N}.post_attention_layernorm", HF_WHOLE, norm_flags),                       \
      WHOLE("ffn_down", "layers.{N}.mlp.down_proj")
/* A block of bloom; falcon's and gpt_neox's are the same but for its path. */
#define BLOOM_BLOCK(block, attention)                                                                      \
  WHOLE("attn_norm", block "input_layernorm"), QKV(block attention ".query_key_value", 0),                 \
      WHOLE("attn_output", block attention ".dense"), WHOLE("ffn_norm", block "post_attention_layernorm"), \
      WHOLE("ffn_up", block "mlp.dense_h_to_4h"), WHOLE("ffn_down", block "mlp.dense_4h_to_h")

/* qwen3 has the norms of q and k. */
static const hf_name llama_names[] = {
    LLAMA_FRAME(0),
    Q_K_V,
    GATE_UP,
    WHOLE("attn_q_norm", "layers.{N}.self_attn.q_norm"),
    WHOLE("attn_k_norm", "layers.{N}.self_attn.k_norm"),
};

static const hf_name phi3_names[] = {
    LLAMA_FRAME(0),
    QKV("layers.{N}.self_attn.qkv_proj", 0),
    ROW("ffn_gate", "layers.{N}.mlp.gate_up_proj", HF_GATE, 0),
    ROW("ffn_up", "layers.{N}.mlp.gate_up_proj", HF_UP, 0),
};

static const hf_name gemma_names[] = {LLAMA_FRAME(HF_PLUS_ONE), Q_K_V, GATE_UP};

static const hf_name stablelm_names[] = {
    LLAMA_FRAME(0),
    Q_K_V,
    GATE_UP,
    ROW("attn_q_norm", "layers.{N}.self_attn.q_layernorm.norms.{H}", HF_HEADS, 0),
    ROW("attn_k_norm", "layers.{N}.self_attn.k_layernorm.norms.{H}", HF_HEADS, 0),
};

static const hf_name gpt2_names[] = {
    WHOLE("token_embd", "wte"),
    WHOLE("position_embd", "wpe"),
    WHOLE("output_norm", "ln_f"),
    HEAD("lm_head"),
    WHOLE("attn_norm", "h.{N}.ln_1"),
    QKV("h.{N}.attn.c_attn", HF_CONV1D),
    ROW("attn_output", "h.{N}.attn.c_proj", HF_WHOLE, HF_CONV1D),
    WHOLE("ffn_norm", "h.{N}.ln_2"),
    ROW("ffn_up", "h.{N}.mlp.c_fc", HF_WHOLE, HF_CONV1D),
    ROW("ffn_down", "h.{N}.mlp.c_proj", HF_WHOLE, HF_CONV1D),
};

static const hf_name opt_names[] = {
    WHOLE("token_embd", "embed_tokens"),
    ROW("position_embd", "embed_positions", HF_WHOLE, HF_DROP_TWO),
    WHOLE("project_in", "project_in"),
    WHOLE("project_out", "project_out"),
    WHOLE("output_norm", "final_layer_norm"),
    HEAD("lm_head"),
    WHOLE("attn_norm", "layers.{N}.self_attn_layer_norm"),
    Q_K_V,
    WHOLE("attn_output", "layers.{N}.self_attn.out_proj"),
    WHOLE("ffn_norm", "layers.{N}.final_layer_norm"),
    WHOLE("ffn_up", "layers.{N}.fc1"),
    WHOLE("ffn_down", "layers.{N}.fc2"),
};

static const hf_name bloom_names[] = {
    WHOLE("token_embd", "word_embeddings"),
    WHOLE("token_embd_norm", "word_embeddings_layernorm"),
    WHOLE("output_norm", "ln_f"),
    HEAD("lm_head"),
    BLOOM_BLOCK("h.{N}.", "self_attention"),
};

/* ln_attn and ln_mlp are the two norms of the 40B form; post_attention_layernorm is of the serial one. */
static const hf_name falcon_names[] = {
    WHOLE("token_embd", "word_embeddings"),  WHOLE("output_norm", "ln_f"),       HEAD("lm_head"),
    BLOOM_BLOCK("h.{N}.", "self_attention"), WHOLE("attn_norm", "h.{N}.ln_mlp"), WHOLE("attn_norm_2", "h.{N}.ln_attn"),
};

static const hf_name gptneox_names[] = {
    WHOLE("token_embd", "embed_in"),
    WHOLE("output_norm", "final_layer_norm"),
    HEAD("embed_out"),
    BLOOM_BLOCK("layers.{N}.", "attention"),
};

/* ---- families --------------------------------------------------------------------------------------------------- */

#define NAMES(table) .names = (table), .n_names = COUNT(table)
#define RMS .eps_name = "rms_norm_eps", .eps_key = "attention.layer_norm_rms_epsilon"
#define LAYER_NORM(theirs) .eps_name = (theirs), .eps_key = "attention.layer_norm_epsilon", .default_eps = 1e-5
/* The names that most of them share. */
#define USUAL                                                                                            \
  .layers = "num_hidden_layers", .dim = "hidden_size", .heads = "num_attention_heads",                   \
  .kv_heads = "num_key_value_heads", .ffn = "intermediate_size", .positions = "max_position_embeddings", \
  .act_name = "hidden_act", .default_theta = 10000.0
#define OLDER .layers = "num_hidden_layers|n_layer", .dim = "hidden_size|n_embed", .heads = "num_attention_heads|n_head"
#define LLAMA(table) .prefix = {"model.", ""}, NAMES(table), USUAL, RMS, .default_eps = 1e-6
#define SILU .default_act = "silu"

static const hf_family families[] = {
    {"llama", "llama", LLAMA(llama_names), SILU},
    {"mistral", "llama", LLAMA(llama_names), SILU, .default_kv_heads = 8},
    {"qwen2", "qwen2", LLAMA(llama_names), SILU, .default_kv_heads = 32},
    {"qwen3", "qwen3", LLAMA(llama_names), SILU, .default_kv_heads = 32, .default_head_dim = 128},
    {"phi3", "phi3", {"model.", ""}, NAMES(phi3_names), USUAL, RMS, .default_eps = 1e-5, SILU},
    {"gemma", "gemma", LLAMA(gemma_names), .default_act = "gelu_pytorch_tanh", .default_kv_heads = 16,
     .default_head_dim = 256, .tied = 1},
    {"stablelm",
     "stablelm",
     {"model.", ""},
     NAMES(stablelm_names),
     USUAL,
     LAYER_NORM("layer_norm_eps"),
     SILU,
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
