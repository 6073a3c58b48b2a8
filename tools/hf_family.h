// SPDX-License-Identifier: Apache-2.0
/* The model families of Hugging Face that are known, as tables: what their config.json calls things, which tensors they
 * have and how these lie. A new family is a new table. */
#ifndef TOOL_HF_FAMILY_H
#define TOOL_HF_FAMILY_H

#include <stdint.h>

/** How the rows of a tensor lie in theirs. */
typedef enum hf_layout {
  HF_WHOLE,
  HF_Q, /* a part of q|k|v, one after another, or in groups of heads [group][q ..., k, v][head_dim] */
  HF_K,
  HF_V,
  HF_GATE, /* a half of gate|up */
  HF_UP,
  HF_HEADS /* a vector in a tensor for each head */
} hf_layout;

enum {
  HF_CONV1D = 1,    /* stored [k, n] */
  HF_PLUS_ONE = 2,  /* the gain is 1 + what is stored */
  HF_NO_PREFIX = 4, /* outside of the model proper */
  HF_DROP_TWO = 8,  /* its first two rows are never read */
  HF_HEAD = 16      /* the output layer: not there, or not to be read, where it is tied to the embedding */
};

/** A tensor's stem; ".weight" and ".bias" are both looked for. */
typedef struct hf_name {
  const char *ours;   /* "attn_q" for "blk.N.attn_q", or the whole stem */
  const char *theirs; /* after the prefix; {N} is the layer, {H} the head */
  hf_layout layout;
  uint32_t flags;
} hf_name;

/** Names of config.json may be alternatives, "hidden_size|n_embd"; NULL: there is none. */
typedef struct hf_family {
  const char *model_type; /* config.json's */
  const char *arch;       /* general.architecture */
  const char *prefix[3];  /* of tensor names, the first that fits; "" ends the list */
  const hf_name *names;   /* [n_names] */
  int32_t n_names;
  const char *layers, *dim, *heads, *kv_heads, *ffn, *positions;
  int32_t default_kv_heads, default_head_dim; /* 0: as many as heads; dim / heads */
  int32_t default_ffn;                        /* times dim; 0: it must be given */
  const char *eps_name, *eps_key;             /* theirs and GGUF's */
  double default_eps;
  const char *act_name, *default_act;
  double default_theta;  /* 0: no RoPE */
  double default_rotary; /* share of a head that is rotated; 0: all of it */
  int32_t tied;          /* where config.json does not say */
  int32_t grouped_qkv;   /* fused q, k, v lie in groups of heads */
} hf_family;

/** @return NULL for one that is not known. */
const hf_family *hf_family_find(const char *model_type);
/** Whether a tensor that no table names is a buffer without a part in the computation (causal masks, inverse
 *  frequencies). */
int hf_is_buffer(const char *name);

#endif
