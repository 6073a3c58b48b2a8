// SPDX-License-Identifier: Apache-2.0
/* The CPU device: buffers, layouts, and programs made ready. One otr_device for the reference and every CPU ISA; they
 * differ by their kernel table. */
#include <string.h>

#include "cpu_device.h"
#include "status.h"

#define CACHE_LINE 64

/* ---- buffers ----------------------------------------------------------------------------------------------------- */

static otr_status buffer_create(otr_device *device, size_t bytes, otr_buffer **out) {
  *out = NULL;
  otr_buffer *b = otr_memory_take_array(device->memory, 1, sizeof *b);
  if (!b) return OTR_STATUS_NO_MEMORY;
  b->bytes = bytes;
  b->owned = true;
  b->host = otr_memory_take(device->memory, bytes, 256);
  if (!b->host) {
    otr_memory_give_array(device->memory, b, 1, sizeof *b);
    return OTR_STATUS_NO_MEMORY;
  }
  memset(b->host, 0, bytes);
  *out = b;
  return OTR_STATUS_OK;
}

static otr_status buffer_import(otr_device *device, const void *host, size_t bytes, otr_weights weights,
                                otr_buffer **out) {
  (void)weights; /* in place is best for every phase */
  *out = otr_memory_take_array(device->memory, 1, sizeof **out);
  if (!*out) return OTR_STATUS_NO_MEMORY;
  /* Imported memory is only ever read: weights. */
  memcpy(&(*out)->host, &host, sizeof host);
  (*out)->bytes = bytes;
  return OTR_STATUS_OK;
}

static void buffer_destroy(otr_device *device, otr_buffer *buffer) {
  if (!buffer) return;
  if (buffer->owned) otr_memory_give(device->memory, buffer->host, buffer->bytes);
  otr_memory_give_array(device->memory, buffer, 1, sizeof *buffer);
}

static otr_status check_range(const otr_buffer *buffer, size_t offset, size_t bytes) {
  if (offset > buffer->bytes || bytes > buffer->bytes - offset)
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "%zu bytes at %zu of a buffer of %zu", bytes, offset, buffer->bytes);
  return OTR_STATUS_OK;
}

static otr_status buffer_write(otr_device *device, otr_buffer *buffer, size_t offset, const void *source,
                               size_t bytes) {
  (void)device;
  OTR_TRY(check_range(buffer, offset, bytes));
  if (!buffer->owned) return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "an imported buffer cannot be written");
  memcpy((char *)buffer->host + offset, source, bytes);
  return OTR_STATUS_OK;
}

static otr_status buffer_read(otr_device *device, const otr_buffer *buffer, size_t offset, void *destination,
                              size_t bytes) {
  (void)device;
  OTR_TRY(check_range(buffer, offset, bytes));
  memcpy(destination, (const char *)buffer->host + offset, bytes);
  return OTR_STATUS_OK;
}

static void *buffer_host(const otr_buffer *buffer) {
  return buffer->host;
}

/* ---- sizes and the canonical forms ------------------------------------------------------------------------------- */

static size_t q16_bytes(int32_t max_rows, int32_t width) {
  size_t bytes;
  if (!otr_size_mul((size_t)max_rows, (size_t)width * sizeof(uint16_t), &bytes)) return 0;
  return bytes;
}

static size_t kv_page_bytes(const otr_kv_shape *s) {
  size_t bytes;
  if (!otr_size_mul(otr_page_head_halves(s) * 2 * sizeof(uint16_t), (size_t)s->n_layers, &bytes) ||
      !otr_size_mul(bytes, (size_t)s->n_kv_heads, &bytes) || !otr_size_add(bytes, OTR_PAGE_SLACK, &bytes) ||
      !otr_size_round(bytes, 256, &bytes))
    return 0;
  return bytes;
}

static otr_status quantized_read(otr_device *device, otr_ref ref, int32_t max_rows, int32_t k, int32_t row, int8_t *q,
                                 float *scale, float *pow2e, int32_t *n_outliers, int32_t *outliers, uint16_t *x16) {
  (void)device;
  otr_quantized v = otr_quantized_view(otr_cpu_host(ref), max_rows, k);
  int32_t n = v.n_out[row];
  size_t first = (size_t)row * (size_t)k;
  if (q) memcpy(q, v.q + (size_t)row * (size_t)v.q_stride, (size_t)k);
  if (scale) *scale = v.scale[row];
  if (pow2e) *pow2e = v.pow2e[row];
  if (n_outliers) *n_outliers = n;
  if (outliers) memcpy(outliers, v.out_index + first, (size_t)n * sizeof *outliers);
  for (int32_t j = 0; x16 && j < n; j++) x16[j] = (uint16_t)otr_f16_bits(v.out_value[first + (size_t)j]);
  return OTR_STATUS_OK;
}

static otr_status rounded_read(otr_device *device, otr_ref ref, int32_t max_rows, int32_t k, int32_t row, uint16_t *x16,
                               float *pow2e) {
  (void)device;
  otr_rounded v = otr_rounded_view(otr_cpu_host(ref), max_rows, k);
  if (x16) memcpy(x16, v.x16 + (size_t)row * (size_t)v.stride, (size_t)k * sizeof *x16);
  if (pow2e) *pow2e = v.pow2e[row];
  return OTR_STATUS_OK;
}

static otr_status q16_read(otr_device *device, otr_ref ref, int32_t width, int32_t row, uint16_t *f16) {
  (void)device;
  memcpy(f16, (const uint16_t *)otr_cpu_host(ref) + (size_t)row * (size_t)width, (size_t)width * sizeof *f16);
  return OTR_STATUS_OK;
}

static otr_status kv_read(otr_device *device, const otr_kv_shape *s, otr_page page, int32_t layer, int32_t first,
                          int32_t n, uint16_t *k, uint16_t *v) {
  (void)device;
  int32_t d = s->head_dim;
  for (int32_t h = 0; h < s->n_kv_heads; h++) {
    const uint16_t *k_page = otr_page_k(otr_cpu_host(page), s, layer, h),
                   *v_page = otr_page_v(otr_cpu_host(page), s, layer, h);
    for (int32_t i = 0; i < n; i++) {
      size_t at = ((size_t)i * (size_t)s->n_kv_heads + (size_t)h) * (size_t)d;
      for (int32_t j = 0; j < d; j++) k[at + (size_t)j] = k_page[(size_t)j * OTR_CHUNK + (size_t)(first + i)];
      memcpy(v + at, v_page + (size_t)(first + i) * (size_t)d, (size_t)d * sizeof *v);
    }
  }
  return OTR_STATUS_OK;
}

/** A page must stay finite whatever a state blob holds: exponent 31 is stored as ±65504, exponent 0 as +0. */
static otr_status kv_write(otr_device *device, const otr_kv_shape *s, otr_page page, int32_t layer, int32_t first,
                           int32_t n, const uint16_t *k, const uint16_t *v) {
  (void)device;
  int32_t d = s->head_dim;
  for (int32_t h = 0; h < s->n_kv_heads; h++) {
    uint16_t *k_page = otr_page_k(otr_cpu_host(page), s, layer, h),
             *v_page = otr_page_v(otr_cpu_host(page), s, layer, h);
    for (int32_t i = 0; i < n; i++) {
      size_t at = ((size_t)i * (size_t)s->n_kv_heads + (size_t)h) * (size_t)d;
      for (int32_t j = 0; j < d; j++) {
        k_page[(size_t)j * OTR_CHUNK + (size_t)(first + i)] = (uint16_t)otr_f16_clean(k[at + (size_t)j]);
        v_page[(size_t)(first + i) * (size_t)d + (size_t)j] = (uint16_t)otr_f16_clean(v[at + (size_t)j]);
      }
    }
  }
  return OTR_STATUS_OK;
}

static otr_status kv_copy(otr_device *device, const otr_kv_shape *s, otr_page to, otr_page from) {
  (void)device;
  memcpy(otr_cpu_host(to), otr_cpu_host(from), kv_page_bytes(s));
  return OTR_STATUS_OK;
}

/* ---- prepare ----------------------------------------------------------------------------------------------------- */

static otr_host_weight host_weight(const otr_weight *w) {
  return (otr_host_weight){.type = w->type,
                           .n = w->n,
                           .k = w->k,
                           .row_stride = w->row_stride,
                           .n_static = w->n_static,
                           .data = otr_cpu_host(w->data),
                           .scale = otr_cpu_host(w->scale),
                           .bias = otr_cpu_host(w->bias),
                           .static_slot = otr_cpu_host(w->static_slot),
                           .static_cols = otr_cpu_host(w->static_cols)};
}

static void resolve_linear(otr_host_op *h, const otr_op_linear *o) {
  for (int32_t i = 0; i < o->n_parts; i++) {
    h->part_out[i] = otr_cpu_host(o->part[i].out);
    h->weight[i] = host_weight(&o->part[i].w);
  }
}

static void resolve(otr_host_op *h, const otr_op *op, const otr_program *program) {
  int32_t rows = otr_rows_of(op->rows, program->max_rows, program->max_logits);
  h->op = op;
  switch (op->code) {
    case OTR_OP_EMBED:
      h->out = otr_cpu_host(op->u.embed.out);
      h->weight[0] = host_weight(&op->u.embed.table);
      h->y = otr_cpu_host(op->u.embed.position_table);
      break;
    case OTR_OP_POSITION:
      h->out = otr_cpu_host(op->u.position.x);
      h->y = otr_cpu_host(op->u.position.table);
      break;
    case OTR_OP_NORM:
      h->out = otr_cpu_host(op->u.norm.out);
      h->x = otr_cpu_host(op->u.norm.x);
      h->gain = otr_cpu_host(op->u.norm.gain);
      h->bias = otr_cpu_host(op->u.norm.bias);
      break;
    case OTR_OP_QUANTIZE:
      h->quantized = otr_quantized_view(otr_cpu_host(op->u.quantize.out), rows, op->u.quantize.k);
      h->x = otr_cpu_host(op->u.quantize.x);
      break;
    case OTR_OP_ROUND16:
      h->rounded = otr_rounded_view(otr_cpu_host(op->u.round16.out), rows, op->u.round16.k);
      h->x = otr_cpu_host(op->u.round16.x);
      break;
    case OTR_OP_LINEAR:
      h->quantized = otr_quantized_view(otr_cpu_host(op->u.linear.in), rows, op->u.linear.k);
      resolve_linear(h, &op->u.linear);
      break;
    case OTR_OP_LINEAR16:
      h->rounded = otr_rounded_view(otr_cpu_host(op->u.linear16.in), rows, op->u.linear16.k);
      resolve_linear(h, &op->u.linear16);
      break;
    case OTR_OP_ROPE_KV:
      h->q16 = otr_cpu_host(op->u.rope_kv.q16);
      h->x = otr_cpu_host(op->u.rope_kv.q);
      h->y = otr_cpu_host(op->u.rope_kv.k);
      h->gain = otr_cpu_host(op->u.rope_kv.v);
      break;
    case OTR_OP_ATTENTION:
      h->out = otr_cpu_host(op->u.attention.out);
      h->q16 = otr_cpu_host(op->u.attention.q16);
      h->bias = otr_cpu_host(op->u.attention.slopes);
      break;
    case OTR_OP_GLU:
      h->out = otr_cpu_host(op->u.glu.out);
      h->x = otr_cpu_host(op->u.glu.gate);
      h->y = otr_cpu_host(op->u.glu.up);
      break;
    case OTR_OP_ACT:
      h->out = otr_cpu_host(op->u.act.out);
      h->x = otr_cpu_host(op->u.act.x);
      break;
    case OTR_OP_ADD:
      h->out = otr_cpu_host(op->u.add.x);
      h->y = otr_cpu_host(op->u.add.y);
      break;
    case OTR_OP_SELECT:
      h->out = otr_cpu_host(op->u.select.out);
      h->x = otr_cpu_host(op->u.select.x);
      break;
    case OTR_OP_COPY:
      h->out = otr_cpu_host(op->u.copy.out);
      h->x = otr_cpu_host(op->u.copy.x);
      break;
    case OTR_OP_COUNT:
      break;
  }
}

/** Scratch of one worker: the most that any operation asks for. */
static size_t scratch_bytes(const otr_cpu_device *device, const otr_program *program) {
  const otr_cpu_kernels *k = device->kernels;
  size_t most = 0;
  for (int32_t i = 0; i < program->n_ops; i++) {
    const otr_op *op = &program->ops[i];
    size_t bytes = 0;
    if (op->code == OTR_OP_LINEAR) bytes = k->linear_scratch(op->u.linear.k);
    if (op->code == OTR_OP_LINEAR16) bytes = k->linear_scratch(op->u.linear16.k);
    if (op->code == OTR_OP_ATTENTION) {
      const otr_op_attention *a = &op->u.attention;
      bytes = k->attention_scratch(k->attention_rows, a->n_heads / a->n_kv_heads, a->head_dim, program->max_pages);
    }
    if (op->code == OTR_OP_ROPE_KV)
      bytes =
          (OTR_ROW_BLOCK + 1) * (size_t)op->u.rope_kv.n_kv_heads * (size_t)op->u.rope_kv.head_dim * sizeof(uint16_t);
    if (bytes > most) most = bytes;
  }
  return (most + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE + CACHE_LINE;
}

/** Bytes for the outlier features of any linear's input; 0: nobody wants them. */
static size_t columns_bytes(const otr_cpu_device *device, const otr_program *program) {
  int32_t k = 0;
  for (int32_t i = 0; i < program->n_ops; i++) {
    const otr_op *op = &program->ops[i];
    if (op->code == OTR_OP_LINEAR && op->u.linear.k > k) k = op->u.linear.k;
  }
  return device->kernels->wants_columns && k > 0 ? sizeof(otr_columns) + (size_t)k : 0;
}

static bool attends(const otr_program *program) {
  for (int32_t i = 0; i < program->n_ops; i++)
    if (program->ops[i].code == OTR_OP_ROPE_KV || program->ops[i].code == OTR_OP_ATTENTION) return true;
  return false;
}

/** Entries of all page tables. */
static size_t table_entries(const otr_program *program) {
  if (!attends(program)) return 1;
  return (size_t)program->max_sequences * (size_t)(program->max_table > 0 ? program->max_table : 1);
}

static void prepared_destroy(otr_device *device, otr_prepared *p) {
  if (!p) return;
  size_t threads = (size_t)otr_parallel_threads(device->parallel);
  otr_memory *m = device->memory;
  if (p->columns) otr_memory_give_array(m, p->columns, columns_bytes(p->device, &p->program), 1);
  otr_memory_give_array(m, p->block_first, (size_t)p->program.max_rows + 1, sizeof *p->block_first);
  otr_memory_give_array(m, p->page_base, table_entries(&p->program), sizeof *p->page_base);
  if (p->scratch) otr_memory_give_array(m, p->scratch, threads, p->scratch_stride);
  if (p->workers) otr_memory_give_array(m, p->workers, threads, sizeof *p->workers);
  otr_memory_give_array(m, p->ops, (size_t)p->program.n_ops, sizeof *p->ops);
  otr_memory_give_array(m, p, 1, sizeof *p);
}

static otr_status prepare(otr_device *base, const otr_program *given, otr_prepared **out) {
  otr_cpu_device *device = (otr_cpu_device *)base;
  size_t threads = (size_t)otr_parallel_threads(base->parallel);
  const otr_program filled = otr_program_filled(given), *program = &filled;
  *out = NULL;
  otr_prepared *p = otr_memory_take_array(base->memory, 1, sizeof *p);
  if (!p) return OTR_STATUS_NO_MEMORY;
  p->device = device;
  p->program = *program;
  p->attends = attends(program);
  p->scratch_stride = scratch_bytes(device, program);
  p->ops = otr_memory_take_array(base->memory, (size_t)program->n_ops, sizeof *p->ops);
  p->workers = otr_memory_take_array(base->memory, threads, sizeof *p->workers);
  p->scratch = otr_memory_take_array(base->memory, threads, p->scratch_stride);
  /* Not cleared: each pass writes what it reads, and a page table's far end may never be touched. */
  p->page_base = otr_memory_take(base->memory, table_entries(program) * sizeof *p->page_base, 64);
  p->block_first = otr_memory_take_array(base->memory, (size_t)program->max_rows + 1, sizeof *p->block_first);
  size_t columns = columns_bytes(device, program);
  if (columns > 0) p->columns = otr_memory_take_array(base->memory, columns, 1);
  if (!p->ops || !p->workers || !p->scratch || !p->page_base || !p->block_first || (columns > 0 && !p->columns)) {
    prepared_destroy(base, p);
    return OTR_STATUS_NO_MEMORY;
  }
  for (int32_t i = 0; i < program->n_ops; i++) {
    resolve(&p->ops[i], &program->ops[i], program);
    if (program->ops[i].code == OTR_OP_QUANTIZE && program->ops[i].u.quantize.batch &&
        device->kernels->quantize != otr_reference_kernels.quantize) {
      prepared_destroy(base, p);
      return otr_fail(OTR_STATUS_UNSUPPORTED, "batch scope is on the reference device \"cpu\" only");
    }
  }
  for (size_t t = 0; t < threads; t++) p->workers[t].scratch = p->scratch + t * p->scratch_stride;
  *out = p;
  return OTR_STATUS_OK;
}

static void prepared_bytes(const otr_device *base, const otr_program *given, uint64_t *host, uint64_t *device_bytes) {
  size_t threads = (size_t)otr_parallel_threads(base->parallel);
  const otr_program filled = otr_program_filled(given), *program = &filled;
  *host = sizeof(otr_prepared) + (uint64_t)program->n_ops * sizeof(otr_host_op) +
          threads * (scratch_bytes((const otr_cpu_device *)base, program) + sizeof(otr_worker)) +
          table_entries(program) * sizeof(void *) + ((uint64_t)program->max_rows + 1) * sizeof(int32_t) +
          columns_bytes((const otr_cpu_device *)base, program);
  *device_bytes = 0;
}

static void close_device(otr_device *device) {
  if (device) otr_memory_give_array(device->memory, device, 1, sizeof(otr_cpu_device));
}

static const otr_device_ops cpu_device_ops = {
    .close = close_device,
    .buffer_create = buffer_create,
    .buffer_import = buffer_import,
    .buffer_destroy = buffer_destroy,
    .buffer_write = buffer_write,
    .buffer_read = buffer_read,
    .buffer_host = buffer_host,
    .quantized_bytes = otr_quantized_bytes,
    .rounded_bytes = otr_rounded_bytes,
    .q16_bytes = q16_bytes,
    .kv_page_bytes = kv_page_bytes,
    .quantized_read = quantized_read,
    .rounded_read = rounded_read,
    .q16_read = q16_read,
    .kv_read = kv_read,
    .kv_write = kv_write,
    .kv_copy = kv_copy,
    .prepare = prepare,
    .prepared_destroy = prepared_destroy,
    .prepared_bytes = prepared_bytes,
    .submit = otr_cpu_submit,
};

otr_status otr_cpu_device_open(const otr_cpu_kernels *kernels, const otr_device_params *params, otr_device **out) {
  *out = NULL;
  otr_cpu_device *device = otr_memory_take_array(params->memory, 1, sizeof *device);
  if (!device) return OTR_STATUS_NO_MEMORY;
  device->base = (otr_device){.ops = &cpu_device_ops, .memory = params->memory, .parallel = params->parallel};
  device->kernels = kernels;
  *out = &device->base;
  return OTR_STATUS_OK;
}
