// SPDX-License-Identifier: Apache-2.0
/* ROPE_KV and ATTENTION: what uses KV pages. */
#include "numerics.h"
#include "vulkan_layout.h"
#include "vulkan_lowering.h"

/* Scratch for attention's partial results beyond which rows take turns. */
#define ATTENTION_SCRATCH_BYTES ((uint64_t)64 << 20)

/* A driver without a GPU may end loops silently that go round more than 65,535 times in all: features of a head times
 * pages that stay below. */
#define CPU_MOST_DIM_PAGES 2048

static uint32_t layer_words(const lowering *w, int32_t kv_layer) {
  return (uint32_t)(vulkan_kv_layer_bytes(&w->l->program->kv) / WORD * (size_t)kv_layer);
}

otr_status vulkan_lower_rope_kv(const lowering *w) {
  const otr_op_rope_kv *o = &w->op->u.rope_kv;
  uint64_t rows = max_rows_of(w);
  int32_t width = o->n_heads * o->head_dim, kv_width = o->n_kv_heads * o->head_dim;
  vulkan_dispatch d = begin(w, VULKAN_SHADER_rope_kv);
  writes(&d, o->q16, floats(rows, width));
  reads(&d, o->q, floats(rows, width));
  reads(&d, o->k, floats(rows, kv_width));
  reads(&d, o->v, floats(rows, kv_width));
  d.kv = VULKAN_KV_WRITES;
  d.groups[0].per = ceil_div((uint64_t)(width + 2 * o->n_kv_heads * ((o->head_dim + 1) / 2)), ELEMENT_THREADS);
  d.push[OWN + 2] = (uint32_t)o->n_heads;
  d.push[OWN + 3] = (uint32_t)o->n_kv_heads;
  d.push[OWN + 4] = (uint32_t)o->head_dim;
  d.push[OWN + 5] = (uint32_t)o->n_rot / 2;
  d.push[OWN + 6] = layer_words(w, o->kv_layer);
  return send(w, &d);
}

/** Bytes of a row's partial results. */
static uint64_t part_bytes(const otr_program *program, const otr_op_attention *o) {
  return (uint64_t)o->n_heads * (uint64_t)program->max_pages * ((uint64_t)o->head_dim + 2) * sizeof(float);
}

/** Rows whose partial results the scratch holds at a time. */
static uint32_t attention_rows(const vulkan_caps *caps, const otr_program *program, const otr_op_attention *o) {
  uint64_t most = caps->max_operand_bytes < ATTENTION_SCRATCH_BYTES ? caps->max_operand_bytes : ATTENTION_SCRATCH_BYTES;
  uint64_t rows = most / part_bytes(program, o);
  if (rows > (uint64_t)program->max_rows) rows = (uint64_t)program->max_rows;
  return rows > 0 ? (uint32_t)rows : 1;
}

/** Rows [first, end) in the recordings `phases`; `all`: these are all rows that a pass can have there. */
static otr_status attend_rows(const lowering *w, uint32_t first, uint32_t end, bool all, uint32_t phases) {
  const otr_op_attention *o = &w->op->u.attention;
  const vulkan_caps *caps = w->l->caps;
  uint64_t rows = max_rows_of(w), scratch = (uint64_t)(end - first) * part_bytes(w->l->program, o);
  vulkan_dispatch d = begin(w, VULKAN_SHADER_attention);
  if (!all) d.groups[1] = (vulkan_axis){VULKAN_FIXED, end - first};
  d.groups[0].per = (uint32_t)o->n_heads;
  d.phases = phases;
  d.constant[0] = caps->is_cpu || caps->max_invocations < ROW_THREADS ? ELEMENT_THREADS : ROW_THREADS;
  d.constant[1] = all;
  d.constant[2] = o->slopes.buffer != NULL;
  d.push[OWN + 2] = (uint32_t)o->n_heads;
  d.push[OWN + 3] = (uint32_t)o->n_kv_heads;
  d.push[OWN + 4] = (uint32_t)o->head_dim;
  d.push[OWN + 5] = (uint32_t)o->window;
  d.push[OWN + 6] = OTR_BITS(o->scale);
  d.push[OWN + 7] = first;
  d.push[OWN + 8] = end;
  d.push[OWN + 9] = (uint32_t)w->l->program->max_pages;
  d.push[OWN + 10] = layer_words(w, o->kv_layer);
  vulkan_dispatch merge = d;
  writes(&d, w->l->scratch, scratch);
  reads(&d, o->q16, floats(rows, o->n_heads * o->head_dim));
  reads(&d, o->slopes, floats(1, o->n_heads));
  uint32_t pages = CPU_MOST_DIM_PAGES / (uint32_t)o->head_dim;
  d.groups[2] = (vulkan_axis){VULKAN_CHUNKS, caps->is_cpu && pages > 0 ? pages : 1};
  d.kv = VULKAN_KV_READS;
  OTR_TRY(send(w, &d));
  merge.shader = VULKAN_SHADER_attention_merge;
  reads(&merge, w->l->scratch, scratch);
  writes(&merge, o->out, floats(rows, o->n_heads * o->head_dim));
  return send(w, &merge);
}

static otr_status attend_in_turns(const lowering *w, uint32_t rows, uint32_t at_a_time, uint32_t phases) {
  if (rows <= at_a_time) return attend_rows(w, 0, rows, true, phases);
  for (uint32_t first = 0; first < rows; first += at_a_time)
    OTR_TRY(attend_rows(w, first, first + at_a_time < rows ? first + at_a_time : rows, false, phases));
  return OTR_STATUS_OK;
}

otr_status vulkan_lower_attention(const lowering *w) {
  uint32_t rows = max_rows_of(w), at_a_time = attention_rows(w->l->caps, w->l->program, &w->op->u.attention);
  if (rows <= at_a_time) return attend_rows(w, 0, rows, true, VULKAN_FEW_ROWS | VULKAN_MANY_ROWS);
  OTR_TRY(attend_in_turns(w, rows < VULKAN_FEW ? rows : VULKAN_FEW, at_a_time, VULKAN_FEW_ROWS));
  return attend_in_turns(w, rows, at_a_time, VULKAN_MANY_ROWS);
}

size_t vulkan_scratch_bytes(const vulkan_caps *caps, const otr_program *program) {
  uint64_t most = 0;
  for (int32_t i = 0; i < program->n_ops; i++) {
    if (program->ops[i].code != OTR_OP_ATTENTION) continue;
    const otr_op_attention *o = &program->ops[i].u.attention;
    uint64_t bytes = attention_rows(caps, program, o) * part_bytes(program, o);
    if (bytes > most) most = bytes;
  }
  return (size_t)most;
}
