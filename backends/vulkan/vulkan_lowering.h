// SPDX-License-Identifier: Apache-2.0
/* What lowering one operation takes: shared by vulkan_lower.c and vulkan_lower_attention.c. */
#ifndef OTR_VULKAN_LOWERING_H
#define OTR_VULKAN_LOWERING_H

#include "shaders/step.glsl"
#include "status.h"
#include "vulkan_lower.h"

enum {
  OWN = VULKAN_OPERANDS, /* the first push word that is a shader's own; [0] and [1] of these are set by begin() */
  ELEMENT_THREADS = 64,
  ROW_THREADS = 256, /* most threads for one row */
  WORD = 4
};

typedef struct lowering {
  const vulkan_lowering *l;
  const otr_op *op;
  vulkan_emit emit;
  void *user;
} lowering;

static inline uint32_t ceil_div(uint64_t a, uint64_t b) {
  return (uint32_t)((a + b - 1) / b);
}

static inline uint32_t max_rows_of(const lowering *w) {
  const otr_program *p = w->l->program;
  return (uint32_t)otr_rows_of(w->op->rows, p->max_rows, p->max_logits);
}

/** A dispatch of `shader` in both recordings, axis y over the op's rows, one group on the others. */
static inline vulkan_dispatch begin(const lowering *w, vulkan_shader shader) {
  bool logits = w->op->rows == OTR_ROWS_LOGITS;
  vulkan_dispatch d = {.shader = shader, .phases = VULKAN_FEW_ROWS | VULKAN_MANY_ROWS};
  for (int axis = 0; axis < 3; axis++) d.groups[axis] = (vulkan_axis){VULKAN_FIXED, 1};
  d.groups[1].scale = logits ? VULKAN_LOGITS : VULKAN_ROWS;
  d.push[OWN] = (uint32_t)(w->op->layer + 1);
  d.push[OWN + 1] = logits ? STEP_N_LOGITS : STEP_N_ROWS;
  return d;
}

static inline void add_operand(vulkan_dispatch *d, otr_ref ref, uint64_t bytes, bool writes) {
  d->operand[d->n_operands++] = (vulkan_operand){ref, ref.buffer ? (bytes + WORD - 1) / WORD * WORD : 0, writes};
}

static inline void reads(vulkan_dispatch *d, otr_ref ref, uint64_t bytes) {
  add_operand(d, ref, bytes, false);
}

static inline void writes(vulkan_dispatch *d, otr_ref ref, uint64_t bytes) {
  add_operand(d, ref, bytes, true);
}

static inline otr_ref at(otr_ref ref, uint64_t bytes) {
  if (ref.buffer) ref.offset += (size_t)bytes;
  return ref;
}

static inline uint64_t floats(uint64_t rows, int32_t width) {
  return rows * (uint64_t)width * sizeof(float);
}

static inline otr_status send(const lowering *w, const vulkan_dispatch *d) {
  for (uint32_t i = 0; i < d->n_operands; i++) {
    if (d->operand[i].bytes > w->l->caps->max_operand_bytes)
      return otr_fail(OTR_STATUS_UNSUPPORTED,
                      "%s: operand %u has %llu bytes, the device binds %llu at most (fewer rows at a time may help)",
                      otr_op_name(w->op->code), i, (unsigned long long)d->operand[i].bytes,
                      (unsigned long long)w->l->caps->max_operand_bytes);
  }
  for (int axis = 0; axis < 3; axis++) {
    if (d->groups[axis].scale == VULKAN_FIXED && d->groups[axis].per > w->l->caps->max_groups[axis])
      return otr_fail(OTR_STATUS_UNSUPPORTED, "%s: too many workgroups", otr_op_name(w->op->code));
  }
  return w->emit(w->user, d);
}

otr_status vulkan_lower_rope_kv(const lowering *w);
otr_status vulkan_lower_attention(const lowering *w);

#endif
