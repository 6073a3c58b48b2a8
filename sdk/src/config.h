// SPDX-License-Identifier: Apache-2.0
/* What a model is, read from metadata and checked: every size from a file is bounded here, before it is used.
 *
 * An architecture is data (architectures.c): the names of its tensors and a description of its block. A new one is a
 * new table, not a new forward pass. */
#ifndef OTR_CONFIG_H
#define OTR_CONFIG_H

#include "gguf.h"
#include "ops.h"

/** What a tensor is for. Layer roles come first. */
typedef enum otr_role {
  OTR_ROLE_ATTN_NORM,
  OTR_ROLE_ATTN_Q,
  OTR_ROLE_ATTN_K,
  OTR_ROLE_ATTN_V,
  OTR_ROLE_ATTN_OUT,
  OTR_ROLE_FFN_NORM,
  OTR_ROLE_FFN_GATE,
  OTR_ROLE_FFN_UP,
  OTR_ROLE_FFN_DOWN,
  OTR_LAYER_ROLES,
  OTR_ROLE_TOKEN_EMBD = OTR_LAYER_ROLES,
  OTR_ROLE_OUTPUT_NORM,
  OTR_ROLE_OUTPUT,
  OTR_ROLES,
  OTR_ROLE_NONE = -1
} otr_role;

/** A dimension of a tensor, by its meaning. */
typedef enum otr_extent {
  OTR_EXTENT_DIM,
  OTR_EXTENT_FFN,
  OTR_EXTENT_Q,  /* n_heads * head_dim */
  OTR_EXTENT_KV, /* n_kv_heads * head_dim */
  OTR_EXTENT_VOCAB,
  OTR_EXTENT_ONE
} otr_extent;

enum {
  OTR_TENSOR_OPTIONAL = 1, /* the model can do without */
  OTR_TENSOR_BIAS = 2,     /* a linear that may have a bias beside it */
  OTR_TENSOR_ROTATED = 4,  /* rows are rotated by RoPE: put into the order (j, j + n_rot/2) on import */
  OTR_TENSOR_VECTOR = 8    /* a gain: f32 [n] */
};

typedef struct otr_tensor_rule {
  otr_role role;
  const char *name; /* "attn_q" of "blk.0.attn_q.weight"; the whole stem for others */
  otr_extent n, k;  /* [n, k] */
  uint32_t flags;
} otr_tensor_rule;

/** Activations of a block, each a slot of the forward pass. */
typedef enum otr_slot {
  OTR_SLOT_X, /* the residual stream [dim] */
  OTR_SLOT_Y, /* a norm's output [dim] */
  OTR_SLOT_Q,
  OTR_SLOT_K,
  OTR_SLOT_V,
  OTR_SLOT_A, /* attention's output [n_heads * head_dim] */
  OTR_SLOT_O, /* what is added to the residual [dim] */
  OTR_SLOT_G, /* [ffn] */
  OTR_SLOT_U, /* [ffn] */
  OTR_SLOTS
} otr_slot;

typedef enum otr_step_kind {
  OTR_STEP_NORM,      /* out[0] = norm(in) with role[0] */
  OTR_STEP_LINEAR,    /* out[i] = linear(in) with role[i] */
  OTR_STEP_ATTENTION, /* rope, KV and attention of Q, K, V: out[0] */
  OTR_STEP_GLU,       /* out[0] = act(out[0]) * in */
  OTR_STEP_ADD        /* X += in */
} otr_step_kind;

typedef struct otr_block_step {
  otr_step_kind kind;
  otr_slot in;
  otr_slot out[OTR_LINEAR_PARTS];
  otr_role role[OTR_LINEAR_PARTS];
  int32_t n_parts;
} otr_block_step;

typedef struct otr_arch {
  const char *name; /* general.architecture, and the prefix of its keys */
  const otr_tensor_rule *tensors;
  int32_t n_tensors;
  const otr_block_step *block;
  int32_t n_steps;
  otr_norm_kind norm;
  otr_act_kind act;
  const char *eps_key;              /* after "<arch>." */
  int32_t source_pairs_interleaved; /* its GGUF files hold RoPE pairs (2j, 2j + 1) */
} otr_arch;

/** @return the table of an architecture, or NULL. */
const otr_arch *otr_arch_find(const char *name, size_t n_bytes);

#define OTR_MAX_ROT 1024

typedef struct otr_config {
  const otr_arch *arch;
  int32_t n_layers, dim, ffn_dim, n_heads, n_kv_heads, head_dim, n_rot, vocab, n_ctx_train;
  float eps;
  double rope_theta;
  int32_t has_rope_factors;
  float rope_factors[OTR_MAX_ROT / 2];
  otr_rule rule;         /* the file's, or relative 4 */
  int32_t converted;     /* the SDK's own format */
  int32_t rotated_order; /* q and k rows are in the order (j, j + n_rot/2) already */
  int32_t tied_head;
} otr_config;

/** Reads and checks a model's metadata and the shapes that follow from it. rope_freqs and the tensors' own shapes are
 *  checked by the loader.
 *  @return OK, BAD_FORMAT (a key is missing or impossible: the detail names it), UNSUPPORTED. */
otr_status otr_config_read(const otr_gguf *gguf, otr_config *config);

/** The value of an extent. */
int32_t otr_config_extent(const otr_config *config, otr_extent extent);

/** Checks an outlier override and applies it. @return OK or INVALID_ARGUMENT. */
otr_status otr_rule_override(const otr_outliers *outliers, otr_rule *rule);

/** The tensor's name in a GGUF file: "blk.3.attn_q.weight". `suffix` is ".weight", ".bias" … */
#define OTR_NAME_BYTES 96
void otr_tensor_name(char out[OTR_NAME_BYTES], const otr_tensor_rule *rule, int32_t layer, const char *suffix);

#endif
