// SPDX-License-Identifier: Apache-2.0
#include "ops.h"

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
