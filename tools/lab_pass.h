// SPDX-License-Identifier: Apache-2.0
/* A block's steps in f32: what lab_forward.c puts together. All of them between otr_parallel_begin and end. */
#ifndef TOOL_LAB_PASS_H
#define TOOL_LAB_PASS_H

#include "lab_model.h"

/** Buffers for windows of up to `rows` positions. */
typedef struct lab_pass {
  int32_t rows;
  float *slot[OTR_SLOTS];  // [rows, width of the slot]; X is the caller's
  float *rounded;          // [rows, widest input]
  float *scratch;          // [rows + widest input]
  float *cosine, *sine;    // [rows, n_rot / 2]
  float *slopes;           // [n_heads] of ALiBi
  float *scores;           // [threads][rows, rows]
  float *packed;           // [threads][K or V of a head as lab_matmul's weights]
  size_t packed_stride;    // floats of packed for one thread
} lab_pass;

/** Makes lab->pass fit windows of `rows` positions. */
otr_status lab_pass_fit(lab_model *lab, int32_t rows);

/** y[m, n] = x[m, k] · Wᵀ + b. */
void lab_linear(const lab_model *lab, float *y, const float *x, const lab_tensor *w, int32_t m);
/** Norm of `groups` parts of each row [groups · width]; y may be x. */
void lab_norm(const lab_model *lab, float *y, const float *x, const lab_tensor *gain, int32_t m, int32_t groups,
              int32_t width);
/** x[n] = act(x), and times y where that is given. */
void lab_activate(const lab_model *lab, otr_act_kind act, float *x, const float *y, size_t n);
/** RoPE of q and k, then causal attention of n positions: slots Q, K, V to `out`. */
void lab_attention(lab_model *lab, float *out, int32_t n);

#endif
