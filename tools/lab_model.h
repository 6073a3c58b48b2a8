// SPDX-License-Identifier: Apache-2.0
/* A llama GGUF as the lab holds it: every stored value exactly, in f32. */
#ifndef TOOL_LAB_MODEL_H
#define TOOL_LAB_MODEL_H

#include "gguf.h"
#include "io.h"
#include "memory.h"
#include "parallel.h"

typedef struct lab_linear {
  int32_t n, k;
  float *packed;  // lab_matmul's panels of [n, k]; NULL: absent
  float *bias;    // [n] or NULL
} lab_linear;

typedef struct lab_layer {
  float *attn_norm, *ffn_norm;  // [dim]
  lab_linear q, k, v, out;      // rows of q and k in the GGUF's order: pairs (2j, 2j + 1)
  lab_linear gate, up, down;
} lab_layer;

typedef struct lab_model {
  int32_t n_layers, dim, ffn_dim, n_heads, n_kv_heads, head_dim, n_rot, vocab;
  double rope_base, rope_scale;  // angles are position · base^(-2j / n_rot) / (rope_scale · rope_divisors[j])
  float eps;
  float *rope_divisors;  // [n_rot / 2] or NULL
  lab_layer *layers;     // [n_layers]
  float *output_norm;    // [dim]
  lab_linear output;     // the token embedding where the file has none
  const otr_gguf_tensor *embedding;
  otr_file file;
  otr_gguf *gguf;
  otr_memory memory;
} lab_model;

/** Opens and dequantizes. @param[out] out lab_model_close on OK. @return also UNSUPPORTED (architecture, type, RoPE).
 */
otr_status lab_model_open(const char *path, otr_parallel *parallel, lab_model *out);
/** A zeroed or closed model is allowed. */
void lab_model_close(lab_model *model);
/** Row `id` of the token embedding. @param out [dim] */
otr_status lab_model_embed(const lab_model *model, int32_t id, float *out);

#endif
