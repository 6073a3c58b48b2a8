// SPDX-License-Identifier: Apache-2.0
/* Traces: an operation's output as the host sees it. */
#include "cuda_prepared.h"
#include "status.h"

static otr_status show(cuda_device *d, const otr_op *op, otr_ref out, int32_t rows, int32_t width) {
  size_t bytes;
  if (!otr_size_mul((size_t)rows * sizeof(float), (size_t)width, &bytes)) return OTR_STATUS_NO_MEMORY;
  float *values = otr_memory_take(d->base.memory, bytes, 64);
  if (!values) return OTR_STATUS_NO_MEMORY;
  otr_status status = bytes > 0 ? cuda_buffer_read(&d->base, out.buffer, out.offset, values, bytes) : OTR_STATUS_OK;
  if (status == OTR_STATUS_OK) d->trace(d->trace_user, op, otr_op_name(op->code), values, rows, width);
  otr_memory_give(d->base.memory, values, bytes);
  return status;
}

otr_status cuda_trace_op(cuda_device *d, const otr_op *op, int32_t rows) {
  switch (op->code) {
    case OTR_OP_LINEAR:
    case OTR_OP_LINEAR16:
      for (int32_t i = 0; i < op->u.linear.n_parts; i++)
        OTR_TRY(show(d, op, op->u.linear.part[i].out, rows, op->u.linear.part[i].w.n));
      return OTR_STATUS_OK;
    case OTR_OP_EMBED:
      return show(d, op, op->u.embed.out, rows, op->u.embed.width);
    case OTR_OP_POSITION:
      return show(d, op, op->u.position.x, rows, op->u.position.width);
    case OTR_OP_NORM:
      return show(d, op, op->u.norm.out, rows, op->u.norm.width * op->u.norm.groups);
    case OTR_OP_ATTENTION:
      return show(d, op, op->u.attention.out, rows, op->u.attention.n_heads * op->u.attention.head_dim);
    case OTR_OP_GLU:
      return show(d, op, op->u.glu.out, rows, op->u.glu.width);
    case OTR_OP_ACT:
      return show(d, op, op->u.act.out, rows, op->u.act.width);
    case OTR_OP_ADD:
      return show(d, op, op->u.add.x, rows, op->u.add.width);
    default: /* as on the CPU: no floats of their own, or copies */
      return show(d, op, (otr_ref){0}, 0, 0);
  }
}
