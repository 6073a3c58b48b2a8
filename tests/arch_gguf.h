// SPDX-License-Identifier: Apache-2.0
/* For tests: small models of any architecture with seeded values, as GGUF files: with tensors of their own or fused,
 * with pairs as the contract has them or interleaved, and with mistakes on demand. */
#ifndef ARCH_GGUF_H
#define ARCH_GGUF_H

#include <stdbool.h>
#include <stdint.h>

#include "outrider/outrider.h"

#define ARCH_VOCAB 64
#define ARCH_LAYERS 2

/** A key beyond the usual ones. */
typedef struct arch_key {
  const char *key;
  char type; /* u: u32, f: f32, b: bool, s: string; S, F: arrays of them, one element */
  double number;
  const char *text; /* of s and S */
} arch_key;

typedef enum arch_biases { ARCH_NO_BIAS, ARCH_QKV_BIAS, ARCH_ALL_BIASES } arch_biases;
typedef enum arch_gains { ARCH_NO_GAINS, ARCH_ONE_GAIN, ARCH_GAIN_A_HEAD } arch_gains;

#define ARCH_MAX_KEYS 6
typedef struct arch_model {
  const char *arch, *block; /* block NULL: no key, the first variant's tensors */
  int32_t dim, embd, ffn, n_heads, n_kv_heads, head_dim, n_rot, n_ctx; /* embd 0: dim */
  bool tied;
  bool fused;  /* attn_qkv, and ffn_up = gate|up */
  bool paired; /* RoPE pairs (2j, 2j + 1) in the file */
  arch_biases biases;
  arch_gains gains; /* of q and k, over each head */
  arch_key keys[ARCH_MAX_KEYS];
  const char *left_out;   /* a tensor that is missing */
  const char *cut;        /* a tensor that is a row (a value) short */
  const char *factors[2]; /* tensors of RoPE divisors, F32 [n_rot / 2] */
} arch_model;

/** Writes the model. @return OK or what the writer says. */
otr_status arch_model_write(const char *path, const arch_model *model, uint64_t seed);

#endif
