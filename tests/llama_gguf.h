// SPDX-License-Identifier: Apache-2.0
/* For tests: writes a llama model of f32 values as a GGUF file, as a converter of a real checkpoint would. */
#ifndef LLAMA_GGUF_H
#define LLAMA_GGUF_H

#include <stdbool.h>
#include <stdint.h>

#include "gguf_write.h"

typedef enum llama_role {
  LLAMA_TOKEN_EMBD,  /* [vocab, dim] */
  LLAMA_ATTN_NORM,   /* [dim] */
  LLAMA_ATTN_Q,      /* [n_heads * head_dim, dim], rows in GGUF's order: pairs (2j, 2j+1) */
  LLAMA_ATTN_K,      /* [n_kv_heads * head_dim, dim], the same */
  LLAMA_ATTN_V,      /* [n_kv_heads * head_dim, dim] */
  LLAMA_ATTN_OUTPUT, /* [dim, n_heads * head_dim] */
  LLAMA_ATTN_Q_BIAS, /* only with `bias` */
  LLAMA_ATTN_K_BIAS,
  LLAMA_ATTN_V_BIAS,
  LLAMA_FFN_NORM,    /* [dim] */
  LLAMA_FFN_GATE,    /* [ffn, dim] */
  LLAMA_FFN_UP,      /* [ffn, dim] */
  LLAMA_FFN_DOWN,    /* [dim, ffn] */
  LLAMA_OUTPUT_NORM, /* [dim] */
  LLAMA_OUTPUT,      /* [vocab, dim], only without `tied` */
  LLAMA_ROPE_FREQS,  /* [head_dim / 2], only with `rope_freqs` */
  LLAMA_ROLES
} llama_role;

typedef struct llama_shape {
  const char *name;
  int32_t dim, ffn, n_layers, n_heads, n_kv_heads, head_dim, vocab, n_ctx;
  float rope_base, eps;
  bool tied, bias, rope_freqs;
  bool f16; /* matrices are stored as F16 (values are rounded), otherwise everything is F32 */
} llama_shape;

/* A SentencePiece vocabulary: ids 0 unknown, 1 begin, 2 end. */
typedef struct llama_vocab {
  const char *const *tokens; /* [vocab] */
  const float *scores;       /* [vocab] */
  const int32_t *types;      /* [vocab] 1 normal, 2 unknown, 3 control, 6 byte */
} llama_vocab;

/** The values [n, k] of a tensor; valid until the next call. NULL: failed. */
typedef const float *(*llama_values_fn)(void *user, llama_role role, int32_t layer, int32_t n, int32_t k);

otr_status llama_gguf_write(const char *path, const llama_shape *shape, const llama_vocab *vocab,
                            llama_values_fn values, void *user);

#endif
