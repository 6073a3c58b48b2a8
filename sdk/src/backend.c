// SPDX-License-Identifier: Apache-2.0
/* What backends share of traces. */
#include "backend.h"

#include "status.h"

/** An f32 output [rows, width]. buffer NULL, width 0: none, or a copy of another's. */
typedef struct output {
  otr_ref out;
  int32_t width;
} output;

static output output_of(const otr_op *op) {
  switch (op->code) {
    case OTR_OP_EMBED:
      return (output){op->u.embed.out, op->u.embed.width};
    case OTR_OP_POSITION:
      return (output){op->u.position.x, op->u.position.width};
    case OTR_OP_NORM:
      return (output){op->u.norm.out, op->u.norm.width * op->u.norm.groups};
    case OTR_OP_ATTENTION:
      return (output){op->u.attention.out, op->u.attention.n_heads * op->u.attention.head_dim};
    case OTR_OP_GLU:
      return (output){op->u.glu.out, op->u.glu.width};
    case OTR_OP_ACT:
      return (output){op->u.act.out, op->u.act.width};
    case OTR_OP_ADD:
      return (output){op->u.add.x, op->u.add.width};
    default:
      return (output){{NULL, 0}, 0};
  }
}

static otr_status show(otr_device *device, const otr_op *op, output o, int32_t rows) {
  char *host = o.out.buffer ? device->ops->buffer_host(o.out.buffer) : NULL;
  size_t count = (size_t)rows * (size_t)o.width;
  float *copy = NULL;
  if (host) host += o.out.offset;
  if (!host && o.out.buffer && count > 0) {
    copy = otr_memory_take_array(device->memory, count, sizeof *copy);
    if (!copy) return OTR_STATUS_NO_MEMORY;
    otr_status status = device->ops->buffer_read(device, o.out.buffer, o.out.offset, copy, count * sizeof *copy);
    if (status != OTR_STATUS_OK) {
      otr_memory_give_array(device->memory, copy, count, sizeof *copy);
      return status;
    }
  }
  device->trace(device->trace_user, op, otr_op_name(op->code), host ? (const void *)host : copy, rows, o.width);
  if (copy) otr_memory_give_array(device->memory, copy, count, sizeof *copy);
  return OTR_STATUS_OK;
}

otr_status otr_device_trace(otr_device *device, const otr_op *op, int32_t rows) {
  if (op->code != OTR_OP_LINEAR && op->code != OTR_OP_LINEAR16) return show(device, op, output_of(op), rows);
  const otr_op_linear *o = op->code == OTR_OP_LINEAR ? &op->u.linear : &op->u.linear16;
  for (int32_t i = 0; i < o->n_parts; i++)
    OTR_TRY(show(device, op, (output){o->part[i].out, o->part[i].w.n}, rows));
  return OTR_STATUS_OK;
}
