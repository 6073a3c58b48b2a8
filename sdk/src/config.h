// SPDX-License-Identifier: Apache-2.0
/* What a model is, read from metadata and checked: every size from a file is bounded here, before it is used.
 *
 * An architecture is data (architectures.c): what its block does, step by step, and which tensors that takes. A new one
 * is a new line in a table, not a new forward pass. */
#ifndef OTR_CONFIG_H
#define OTR_CONFIG_H

#include "gguf.h"
#include "ops.h"
#include "quantize_weights.h"

/** What a tensor is for. Layer roles come first, in the order in which a token meets them; then the model's own. */
typedef enum otr_role {
  OTR_ROLE_ATTN_NORM,
  OTR_ROLE_ATTN_NORM_2, /* a second norm of the block's input (falcon 40B: it feeds attention, attn_norm the MLP) */
  OTR_ROLE_ATTN_Q,
  OTR_ROLE_ATTN_K,
  OTR_ROLE_ATTN_V,
  OTR_ROLE_ATTN_Q_NORM, /* over each head; gains [head_dim], or one for every value of all heads */
  OTR_ROLE_ATTN_K_NORM,
  OTR_ROLE_ATTN_OUT,
  OTR_ROLE_FFN_NORM,
  OTR_ROLE_FFN_GATE,
  OTR_ROLE_FFN_UP,
  OTR_ROLE_FFN_DOWN,
  OTR_LAYER_ROLES,
  OTR_ROLE_TOKEN_EMBD = OTR_LAYER_ROLES,
  OTR_ROLE_PROJECT_IN,
  OTR_ROLE_POSITION_EMBD,
  OTR_ROLE_TOKEN_EMBD_NORM,
  OTR_ROLE_OUTPUT_NORM,
  OTR_ROLE_PROJECT_OUT,
  OTR_ROLE_OUTPUT,
  OTR_ROLES,
  OTR_ROLE_NONE = -1
} otr_role;

/** A dimension of a tensor, by its meaning. */
typedef enum otr_extent {
  OTR_EXTENT_ONE,
  OTR_EXTENT_DIM,
  OTR_EXTENT_EMBD, /* width of the token embedding: dim, but for models that project it */
  OTR_EXTENT_FFN,
  OTR_EXTENT_Q,  /* n_heads * head_dim */
  OTR_EXTENT_KV, /* n_kv_heads * head_dim */
  OTR_EXTENT_VOCAB,
  OTR_EXTENT_POSITIONS
} otr_extent;

enum {
  OTR_TENSOR_BIAS = 1,    /* may have a bias beside it */
  OTR_TENSOR_ROTATED = 2, /* rows are rotated by RoPE: put into the order (j, j + n_rot/2) on import */
  OTR_TENSOR_VECTOR = 4,  /* a gain: f32 [n] */
  OTR_TENSOR_HEADS = 8,   /* a gain over each head: [n], or [head_dim] where all heads share one */
  OTR_TENSOR_TABLE = 16   /* f32 [n, k] */
};

/** Small and without pointers, so that tables of it need no relocations. */
typedef struct otr_tensor_rule {
  char name[16]; /* "attn_q" of "blk.0.attn_q.weight"; the whole stem for others */
  int8_t role;   /* otr_role */
  int8_t n, k;   /* [n, k], each an otr_extent */
  uint8_t flags;
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
  OTR_SLOT_E, /* the embedding before and after its projections [embd]; not of the block */
  OTR_SLOTS
} otr_slot;

typedef enum otr_step_kind {
  OTR_STEP_END,       /* behind the last step */
  OTR_STEP_NORM,      /* out[0] = norm(in) with role[0] */
  OTR_STEP_HEAD_NORM, /* in = norm over each head of in with role[0], where the model has that */
  OTR_STEP_LINEAR,    /* out[i] = linear(in) with role[i] */
  OTR_STEP_ATTENTION, /* rope, KV and attention of Q, K, V: out[0] */
  OTR_STEP_GLU,       /* out[0] = act(out[0]) * in */
  OTR_STEP_ACT,       /* in = act(in) */
  OTR_STEP_ADD        /* out[0] += in */
} otr_step_kind;

typedef struct otr_block_step {
  int8_t kind; /* otr_step_kind */
  int8_t in;   /* otr_slot */
  int8_t out[OTR_LINEAR_PARTS];
  int8_t role[OTR_LINEAR_PARTS];
  int8_t n_parts;
} otr_block_step;

enum {
  OTR_ARCH_INTERLEAVED = 1,   /* its GGUF files hold RoPE pairs (2j, 2j + 1) */
  OTR_ARCH_POSITIONS = 2,     /* a table of positions is added to the embedding */
  OTR_ARCH_NO_ROPE = 4,       /* positions come in otherwise */
  OTR_ARCH_ALIBI = 8,         /* by ALiBi always; other architectures only where the metadata say so */
  OTR_ARCH_SCALED_ALIBI = 16, /* slopes are multiplied with the score scale (falcon) */
  OTR_ARCH_EMBD_NORM = 32,    /* the embedding is normed */
  OTR_ARCH_EMBD_SCALE = 64,   /* the embedding is multiplied with sqrt(dim) */
  OTR_ARCH_HEAD_NORMS = 128,  /* q and k are normed over each head, always */
  OTR_ARCH_PROJECTED = 256,   /* the embedding may be narrower than the model */
  OTR_ARCH_BIASED = 512       /* every linear of a block has a bias */
};

typedef struct otr_arch {
  char name[12];   /* general.architecture, and the prefix of its keys */
  uint8_t norm;    /* otr_norm_kind */
  uint8_t act;     /* otr_act_kind, where outrider.activation does not say otherwise */
  int8_t block[3]; /* its variants; -1: none */
  uint16_t flags;
} otr_arch;

/** @return the table of an architecture, or NULL. */
const otr_arch *otr_arch_find(const char *name, size_t n_bytes);

#define OTR_MAX_ROT 1024

typedef struct otr_config {
  const otr_arch *arch;
  const otr_block_step *block; /* up to OTR_STEP_END */
  const char *block_name;      /* "serial", "parallel" ... */
  int32_t n_steps;
  uint32_t roles, needed; /* bit r: the model may have, must have, role r */
  int32_t n_layers, dim, embd_dim, ffn_dim, n_heads, n_kv_heads, head_dim, n_rot, vocab, n_ctx_train;
  int32_t n_positions; /* rows of the position table; 0: none */
  int32_t window;      /* of attention; 0: none */
  otr_act_kind act;
  float eps;
  float embd_scale; /* 0: none */
  double alibi;     /* the largest exponent of its slopes; 0: no ALiBi */
  double rope_theta;
  double rope_attention; /* multiplies cos and sin */
  int32_t rope_original; /* longrope: sessions of more positions than this take rope_factors[1] */
  int32_t has_rope_factors;
  float rope_factors[2][OTR_MAX_ROT / 2];
  otr_rule rule;         /* the file's, or relative 4, or the caller's */
  int32_t rule_given;    /* the caller's, who replaces those of single linears, too */
  int32_t converted;     /* the SDK's own format */
  int32_t rotated_order; /* q and k rows are in the order (j, j + n_rot/2) already */
  int32_t tied_head;
} otr_config;

/** Reads and checks a model's metadata and the shapes that follow from it. RoPE factors that are tensors and the
 *  tensors' own shapes are checked by the loader.
 *  @return OK, BAD_FORMAT (a key is missing or impossible: the detail names it), UNSUPPORTED. */
otr_status otr_config_read(const otr_gguf *gguf, otr_config *config);

/** The value of an extent. */
int32_t otr_config_extent(const otr_config *config, otr_extent extent);

/** Values of an activation's row. */
int32_t otr_config_slot_width(const otr_config *config, otr_slot slot);

/** The rule of a role; NULL: the model has no such tensor. */
const otr_tensor_rule *otr_config_role(const otr_config *config, otr_role role);

/** Whether a role's weight is multiplied with activations: a linear, or an embedding that is the output layer, too. */
bool otr_config_multiplies(const otr_config *config, otr_role role);

/** The order of a tensor's rows (or of a bias, or of gains), from the source's to the contract's. */
otr_row_order otr_config_order(const otr_config *config, const otr_tensor_rule *rule);

/** Where a tensor's values lie in a file: in a tensor of its own, or in rows of a fused one (attn_qkv = q|k|v, an
 * ffn_up of twice the rows = gate|up). */
typedef struct otr_tensor_view {
  const otr_gguf_tensor *tensor; /* NULL: the model can do without and the file has none */
  int32_t first;                 /* row of `tensor` (vector: value) that it begins with */
  int32_t n, k;                  /* [n, k]; a vector of k: n is 1 */
} otr_tensor_view;

/** Finds the weight of a role, or the bias beside it. The shape of the tensor is that of the metadata.
 *  @return OK, or BAD_FORMAT: a tensor is missing or has another shape. Threads: any. */
otr_status otr_config_view(const otr_config *config, const otr_gguf *gguf, const otr_tensor_rule *rule, int32_t layer,
                           bool bias, otr_tensor_view *out);

/** Calls `set` for each linear that has an outlier rule of its own in the file (docs/format.md).
 *  @return OK, BAD_FORMAT (a name is no linear of the model, a rule does not exist or has no such value), or what `set`
 *  answers. */
typedef otr_status (*otr_rule_fn)(void *user, const otr_tensor_rule *rule, int32_t layer, otr_rule outliers);
otr_status otr_config_rules(const otr_config *config, const otr_gguf *gguf, otr_rule_fn set, void *user);

/** A rule by its name in a file, and its value (0: the default). @return OK or BAD_FORMAT. */
otr_status otr_rule_parse(const char *name, size_t n_bytes, double value, otr_rule *rule);

/** Checks an outlier override and applies it. @return OK or INVALID_ARGUMENT. */
otr_status otr_rule_override(const otr_outliers *outliers, otr_rule *rule);

/** The tensor's name in a GGUF file: "blk.3.attn_q.weight". `suffix` is ".weight", ".bias" … */
#define OTR_NAME_BYTES 96
void otr_tensor_name(char out[OTR_NAME_BYTES], const otr_tensor_rule *rule, int32_t layer, const char *suffix);

/* ---- for config.c, from architectures.c ---------------------------------------------------------------------------
 */

/** A variant of a block: its name and steps. */
typedef struct otr_block {
  char name[12];
  otr_block_step step[14];
} otr_block;

/** @return variant `index` of an architecture's block, or NULL. The first is taken where nothing is said. */
const otr_block *otr_arch_block(const otr_arch *arch, int32_t index);
/** Sets block, n_steps, roles and needed. */
void otr_config_set_block(otr_config *config, const otr_block *block);

#endif
