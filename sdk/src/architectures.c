// SPDX-License-Identifier: Apache-2.0
/* The architectures, as tables. */
#include <string.h>

#include "config.h"

/* ---- blocks ------------------------------------------------------------------------------------------------------ */

#define NORM(ROLE, IN, OUT) \
  { OTR_STEP_NORM, OTR_SLOT_##IN, {OTR_SLOT_##OUT}, {OTR_ROLE_##ROLE}, 1 }
#define LINEAR(ROLE, IN, OUT) \
  { OTR_STEP_LINEAR, OTR_SLOT_##IN, {OTR_SLOT_##OUT}, {OTR_ROLE_##ROLE}, 1 }
#define HEAD_NORM(ROLE, IN) \
  { OTR_STEP_HEAD_NORM, OTR_SLOT_##IN, {OTR_SLOT_##IN}, {OTR_ROLE_##ROLE}, 1 }
#define QKV(IN)                                                           \
  {                                                                       \
    OTR_STEP_LINEAR, OTR_SLOT_##IN, {OTR_SLOT_Q, OTR_SLOT_K, OTR_SLOT_V}, \
        {OTR_ROLE_ATTN_Q, OTR_ROLE_ATTN_K, OTR_ROLE_ATTN_V}, 3            \
  }
#define GATE_UP \
  { OTR_STEP_LINEAR, OTR_SLOT_Y, {OTR_SLOT_G, OTR_SLOT_U}, {OTR_ROLE_FFN_GATE, OTR_ROLE_FFN_UP}, 2 }
#define ATTEND \
  { OTR_STEP_ATTENTION, OTR_SLOT_Q, {OTR_SLOT_A}, {OTR_ROLE_NONE}, 1 }
#define GLU \
  { OTR_STEP_GLU, OTR_SLOT_U, {OTR_SLOT_G}, {OTR_ROLE_NONE}, 1 }
#define ACT \
  { OTR_STEP_ACT, OTR_SLOT_U, {OTR_SLOT_U}, {OTR_ROLE_NONE}, 1 }
#define ADD \
  { OTR_STEP_ADD, OTR_SLOT_O, {OTR_SLOT_X}, {OTR_ROLE_NONE}, 1 }

enum { GATED, GATED_PARALLEL, PLAIN, PLAIN_POST, PLAIN_PARALLEL, NEOX, FALCON_40B, NONE = -1 };

/* In parallel blocks attention and MLP read the same residual stream: their sums are added to it in turn. Linears of
 * one input stand together, so that they share its quantization. */
static const otr_block blocks[] = {
    /* pre-norm, gated MLP (Touvron et al. 2023) */
    [GATED] = {"serial",
               {NORM(ATTN_NORM, X, Y), QKV(Y), HEAD_NORM(ATTN_Q_NORM, Q), HEAD_NORM(ATTN_K_NORM, K), ATTEND,
                LINEAR(ATTN_OUT, A, O), ADD, NORM(FFN_NORM, X, Y), GATE_UP, GLU, LINEAR(FFN_DOWN, G, O), ADD}},
    [GATED_PARALLEL] = {"parallel",
                        {NORM(ATTN_NORM, X, Y), QKV(Y), GATE_UP, HEAD_NORM(ATTN_Q_NORM, Q), HEAD_NORM(ATTN_K_NORM, K),
                         ATTEND, LINEAR(ATTN_OUT, A, O), ADD, GLU, LINEAR(FFN_DOWN, G, O), ADD}},
    /* pre-norm, one activation (Radford et al. 2019) */
    [PLAIN] = {"serial",
               {NORM(ATTN_NORM, X, Y), QKV(Y), ATTEND, LINEAR(ATTN_OUT, A, O), ADD, NORM(FFN_NORM, X, Y),
                LINEAR(FFN_UP, Y, U), ACT, LINEAR(FFN_DOWN, U, O), ADD}},
    /* norms behind the residual sums (Vaswani et al. 2017; OPT-350M) */
    [PLAIN_POST] = {"post",
                    {QKV(X), ATTEND, LINEAR(ATTN_OUT, A, O), ADD, NORM(ATTN_NORM, X, X), LINEAR(FFN_UP, X, U), ACT,
                     LINEAR(FFN_DOWN, U, O), ADD, NORM(FFN_NORM, X, X)}},
    /* one norm for both (Falcon-7B) */
    [PLAIN_PARALLEL] = {"parallel",
                        {NORM(ATTN_NORM, X, Y), QKV(Y), LINEAR(FFN_UP, Y, U), ATTEND, LINEAR(ATTN_OUT, A, O), ADD, ACT,
                         LINEAR(FFN_DOWN, U, O), ADD}},
    /* a norm for each (Black et al. 2022) */
    [NEOX] = {"parallel2",
              {NORM(ATTN_NORM, X, Y), QKV(Y), ATTEND, NORM(FFN_NORM, X, Y), LINEAR(ATTN_OUT, A, O), ADD,
               LINEAR(FFN_UP, Y, U), ACT, LINEAR(FFN_DOWN, U, O), ADD}},
    [FALCON_40B] = {"parallel2",
                    {NORM(ATTN_NORM_2, X, Y), QKV(Y), ATTEND, NORM(ATTN_NORM, X, Y), LINEAR(ATTN_OUT, A, O), ADD,
                     LINEAR(FFN_UP, Y, U), ACT, LINEAR(FFN_DOWN, U, O), ADD}},
};

/* ---- architectures ----------------------------------------------------------------------------------------------- */

static const otr_arch architectures[] = {
    {"llama", OTR_NORM_RMS, OTR_ACT_SILU, {GATED, NONE, NONE}, OTR_ARCH_INTERLEAVED},
    {"qwen2", OTR_NORM_RMS, OTR_ACT_SILU, {GATED, NONE, NONE}, 0},
    {"qwen3", OTR_NORM_RMS, OTR_ACT_SILU, {GATED, NONE, NONE}, OTR_ARCH_HEAD_NORMS},
    {"phi3", OTR_NORM_RMS, OTR_ACT_SILU, {GATED, NONE, NONE}, 0},
    {"gemma", OTR_NORM_RMS, OTR_ACT_GELU_TANH, {GATED, NONE, NONE}, OTR_ARCH_EMBD_SCALE},
    {"stablelm", OTR_NORM_LAYER, OTR_ACT_SILU, {GATED, GATED_PARALLEL, NONE}, 0},
    {"gpt2",
     OTR_NORM_LAYER,
     OTR_ACT_GELU_TANH,
     {PLAIN, NONE, NONE},
     OTR_ARCH_POSITIONS | OTR_ARCH_NO_ROPE | OTR_ARCH_BIASED},
    {"opt",
     OTR_NORM_LAYER,
     OTR_ACT_RELU,
     {PLAIN, PLAIN_POST, NONE},
     OTR_ARCH_POSITIONS | OTR_ARCH_NO_ROPE | OTR_ARCH_PROJECTED},
    {"bloom",
     OTR_NORM_LAYER,
     OTR_ACT_GELU_TANH,
     {PLAIN, NONE, NONE},
     OTR_ARCH_NO_ROPE | OTR_ARCH_ALIBI | OTR_ARCH_EMBD_NORM | OTR_ARCH_BIASED},
    {"gptneox", OTR_NORM_LAYER, OTR_ACT_GELU_ERF, {NEOX, PLAIN, NONE}, 0},
    {"falcon", OTR_NORM_LAYER, OTR_ACT_GELU_ERF, {PLAIN_PARALLEL, FALCON_40B, PLAIN}, OTR_ARCH_SCALED_ALIBI},
};

const otr_arch *otr_arch_find(const char *name, size_t n_bytes) {
  for (size_t i = 0; i < sizeof architectures / sizeof architectures[0]; i++)
    if (strlen(architectures[i].name) == n_bytes && memcmp(architectures[i].name, name, n_bytes) == 0)
      return &architectures[i];
  return NULL;
}

const otr_block *otr_arch_block(const otr_arch *arch, int32_t index) {
  return index < 3 && arch->block[index] >= 0 ? &blocks[arch->block[index]] : NULL;
}

#define BIT(role) (UINT32_C(1) << (role))

void otr_config_set_block(otr_config *c, const otr_block *block) {
  uint32_t flags = c->arch->flags, head_norms = BIT(OTR_ROLE_ATTN_Q_NORM) | BIT(OTR_ROLE_ATTN_K_NORM);
  c->block = block->step;
  c->block_name = block->name;
  c->needed = BIT(OTR_ROLE_TOKEN_EMBD) | BIT(OTR_ROLE_OUTPUT_NORM);
  for (c->n_steps = 0; block->step[c->n_steps].kind != OTR_STEP_END; c->n_steps++)
    for (int32_t i = 0; i < block->step[c->n_steps].n_parts; i++)
      if (block->step[c->n_steps].role[i] != OTR_ROLE_NONE) c->needed |= BIT(block->step[c->n_steps].role[i]);
  if (flags & OTR_ARCH_POSITIONS) c->needed |= BIT(OTR_ROLE_POSITION_EMBD);
  if (flags & OTR_ARCH_EMBD_NORM) c->needed |= BIT(OTR_ROLE_TOKEN_EMBD_NORM);
  c->roles = c->needed | BIT(OTR_ROLE_OUTPUT);
  if (flags & OTR_ARCH_PROJECTED) c->roles |= BIT(OTR_ROLE_PROJECT_IN) | BIT(OTR_ROLE_PROJECT_OUT);
  if (!(flags & OTR_ARCH_HEAD_NORMS)) c->needed &= ~head_norms;
  if (block == &blocks[PLAIN_POST]) c->needed &= ~BIT(OTR_ROLE_OUTPUT_NORM);
}
