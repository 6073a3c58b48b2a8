// SPDX-License-Identifier: Apache-2.0
#include "ops.h"

#include <stdbool.h>

#include "status.h"

const char *otr_op_name(otr_op_code code) {
  static const char *const names[] = {
#define X(CODE, name) #name,
      OTR_OP_LIST(X)
#undef X
  };
  return (unsigned)code < OTR_OP_COUNT ? names[code] : "?";
}

uint64_t otr_step_activations(const otr_program *program, const otr_step *step) {
  uint64_t n = 0;
  for (const otr_op *op = program->ops; op < program->ops + program->n_ops; op++)
    if (op->code == OTR_OP_QUANTIZE)
      n += (uint64_t)otr_rows_of(op->rows, step->n_rows, step->n_logits) * (uint64_t)op->u.quantize.k;
  return n;
}

otr_status otr_step_check_cancel(const otr_step *step) {
  for (int32_t i = 0; i < step->n_cancel; i++)
    if (atomic_load_explicit(step->cancel[i], memory_order_relaxed)) return otr_fail(OTR_STATUS_CANCELLED, "cancelled");
  return OTR_STATUS_OK;
}

otr_program otr_program_filled(const otr_program *program) {
  otr_program p = *program;
  if (p.max_table == 0) p.max_table = p.max_pages;
  if (p.max_sequences == 0) p.max_sequences = p.max_rows;
  return p;
}

static bool same_ref(otr_ref a, otr_ref b) {
  return a.buffer == b.buffer && a.offset == b.offset;
}

/** Whether `op` is a quantizer (not in batch scope) of the `width` values at x. */
static bool quantizes(const otr_op *op, otr_ref x, int32_t width) {
  const otr_op_quantize *q = &op->u.quantize;
  return op->code == OTR_OP_QUANTIZE && !q->batch && q->k == width && same_ref(q->x, x);
}

static bool adds_to(const otr_op *op, const otr_op_norm *norm) {
  return op->code == OTR_OP_ADD && op->u.add.width == norm->width && same_ref(op->u.add.x, norm->x);
}

int32_t otr_row_sequence_at(const otr_op *op, int32_t n_left, otr_row_sequence *out) {
  int32_t last = op->code == OTR_OP_ADD ? 2 : 1;
  *out = (otr_row_sequence){0};
  if (n_left <= last) return 0;
  for (int32_t i = 1; i <= last; i++)
    if (op[i].rows != op->rows) return 0;
  const otr_op *before = &op[last - 1];
  if (before->code == OTR_OP_NORM) {
    const otr_op_norm *norm = &before->u.norm;
    if (norm->groups != 1 || (last == 2 && !adds_to(op, norm))) return 0;
    if (!quantizes(&op[last], norm->out, norm->width)) return 0;
    out->norm = before;
    if (last == 2) out->add = op;
  } else {
    bool glu = op->code == OTR_OP_GLU && quantizes(&op[last], op->u.glu.out, op->u.glu.width);
    if (!glu && !(op->code == OTR_OP_ACT && quantizes(&op[last], op->u.act.out, op->u.act.width))) return 0;
    out->act = op;
  }
  out->quantize = &op[last];
  return last + 1;
}
