// SPDX-License-Identifier: Apache-2.0
/* The architectures, as tables. */
#include <string.h>

#include "config.h"

static const otr_tensor_rule llama_tensors[] = {
    {OTR_ROLE_ATTN_NORM, "attn_norm", OTR_EXTENT_DIM, OTR_EXTENT_ONE, OTR_TENSOR_VECTOR},
    {OTR_ROLE_ATTN_Q, "attn_q", OTR_EXTENT_Q, OTR_EXTENT_DIM, OTR_TENSOR_BIAS | OTR_TENSOR_ROTATED},
    {OTR_ROLE_ATTN_K, "attn_k", OTR_EXTENT_KV, OTR_EXTENT_DIM, OTR_TENSOR_BIAS | OTR_TENSOR_ROTATED},
    {OTR_ROLE_ATTN_V, "attn_v", OTR_EXTENT_KV, OTR_EXTENT_DIM, OTR_TENSOR_BIAS},
    {OTR_ROLE_ATTN_OUT, "attn_output", OTR_EXTENT_DIM, OTR_EXTENT_Q, OTR_TENSOR_BIAS},
    {OTR_ROLE_FFN_NORM, "ffn_norm", OTR_EXTENT_DIM, OTR_EXTENT_ONE, OTR_TENSOR_VECTOR},
    {OTR_ROLE_FFN_GATE, "ffn_gate", OTR_EXTENT_FFN, OTR_EXTENT_DIM, OTR_TENSOR_BIAS},
    {OTR_ROLE_FFN_UP, "ffn_up", OTR_EXTENT_FFN, OTR_EXTENT_DIM, OTR_TENSOR_BIAS},
    {OTR_ROLE_FFN_DOWN, "ffn_down", OTR_EXTENT_DIM, OTR_EXTENT_FFN, OTR_TENSOR_BIAS},
    {OTR_ROLE_TOKEN_EMBD, "token_embd", OTR_EXTENT_VOCAB, OTR_EXTENT_DIM, 0},
    {OTR_ROLE_OUTPUT_NORM, "output_norm", OTR_EXTENT_DIM, OTR_EXTENT_ONE, OTR_TENSOR_VECTOR},
    {OTR_ROLE_OUTPUT, "output", OTR_EXTENT_VOCAB, OTR_EXTENT_DIM, OTR_TENSOR_OPTIONAL},
};

/* Pre-norm, gated MLP (Touvron et al. 2023). */
static const otr_block_step llama_block[] = {
    {OTR_STEP_NORM, OTR_SLOT_X, {OTR_SLOT_Y}, {OTR_ROLE_ATTN_NORM}, 1},
    {OTR_STEP_LINEAR,
     OTR_SLOT_Y,
     {OTR_SLOT_Q, OTR_SLOT_K, OTR_SLOT_V},
     {OTR_ROLE_ATTN_Q, OTR_ROLE_ATTN_K, OTR_ROLE_ATTN_V},
     3},
    {OTR_STEP_ATTENTION, OTR_SLOT_Q, {OTR_SLOT_A}, {OTR_ROLE_NONE}, 1},
    {OTR_STEP_LINEAR, OTR_SLOT_A, {OTR_SLOT_O}, {OTR_ROLE_ATTN_OUT}, 1},
    {OTR_STEP_ADD, OTR_SLOT_O, {OTR_SLOT_X}, {OTR_ROLE_NONE}, 1},
    {OTR_STEP_NORM, OTR_SLOT_X, {OTR_SLOT_Y}, {OTR_ROLE_FFN_NORM}, 1},
    {OTR_STEP_LINEAR, OTR_SLOT_Y, {OTR_SLOT_G, OTR_SLOT_U}, {OTR_ROLE_FFN_GATE, OTR_ROLE_FFN_UP}, 2},
    {OTR_STEP_GLU, OTR_SLOT_U, {OTR_SLOT_G}, {OTR_ROLE_NONE}, 1},
    {OTR_STEP_LINEAR, OTR_SLOT_G, {OTR_SLOT_O}, {OTR_ROLE_FFN_DOWN}, 1},
    {OTR_STEP_ADD, OTR_SLOT_O, {OTR_SLOT_X}, {OTR_ROLE_NONE}, 1},
};

#define COUNT(array) ((int32_t)(sizeof(array) / sizeof(array)[0]))

static const otr_arch architectures[] = {
    {"llama", llama_tensors, COUNT(llama_tensors), llama_block, COUNT(llama_block), OTR_NORM_RMS, OTR_ACT_SILU,
     "attention.layer_norm_rms_epsilon", 1},
};

const otr_arch *otr_arch_find(const char *name, size_t n_bytes) {
  for (int32_t i = 0; i < COUNT(architectures); i++)
    if (strlen(architectures[i].name) == n_bytes && memcmp(architectures[i].name, name, n_bytes) == 0)
      return &architectures[i];
  return NULL;
}
