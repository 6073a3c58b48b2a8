// SPDX-License-Identifier: Apache-2.0
/* otr_linear: the operation itself, as a program of two operations on whatever device the runtime has. */
#include <string.h>

#include "arena.h"
#include "config.h"
#include "dequantize.h"
#include "float_mode.h"
#include "numerics.h"
#include "quantize_weights.h"
#include "runtime.h"
#include "status.h"

#define MAX_OUTPUTS (1 << 24)
#define DEFAULT_ROWS 512
#define MAX_ROWS 65536

struct otr_linear {
  otr_runtime *runtime;
  otr_weight w;
  int32_t max_rows;
  bool batch;
  otr_arena arena; /* weights and activations */
  otr_ref x, quantized, y;
  otr_op ops[2];
  otr_prepared *prepared;
  otr_row *rows; /* [max_rows] of the step: one sequence, which nothing asks for */
  int32_t last_rows;
};

/* ---- checks ------------------------------------------------------------------------------------------------------ */

static otr_status check_params(const otr_linear_params *p) {
  if (p->n < 1 || p->n > MAX_OUTPUTS || p->k < 1 || p->k > OTR_MAX_K)
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "a linear of [%d, %d]; n lies in 1 to %d, k in 1 to %d", p->n, p->k,
                    MAX_OUTPUTS, OTR_MAX_K);
  if (!p->weights || p->type < OTR_LINEAR_F32 || p->type > OTR_LINEAR_INT8)
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "weights is NULL or type %d does not exist", p->type);
  if ((p->type == OTR_LINEAR_INT8) != (p->row_absmax != NULL))
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "row_absmax goes with OTR_LINEAR_INT8, and only with it");
  if (p->type == OTR_LINEAR_INT8 && p->n_f16_columns != 0)
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "f16 columns cannot be had from int8 weights");
  if (p->max_rows < 0 || p->max_rows > MAX_ROWS)
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "max_rows is %d; it lies in 0 to %d", p->max_rows, MAX_ROWS);
  if (p->scope != OTR_SCOPE_TOKEN && p->scope != OTR_SCOPE_BATCH)
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "scope %d does not exist", p->scope);
  if (p->n_f16_columns < -1 || p->n_f16_columns > p->k || (p->n_f16_columns > 0 && !p->f16_columns))
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "%d f16 columns of %d", p->n_f16_columns, p->k);
  for (int32_t i = 0; i < p->n_f16_columns; i++)
    if (p->f16_columns[i] < 0 || p->f16_columns[i] >= p->k || (i > 0 && p->f16_columns[i] <= p->f16_columns[i - 1]))
      return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "f16_columns[%d] is %d; they ascend and lie in 0 to %d", i,
                      p->f16_columns[i], p->k - 1);
  return OTR_STATUS_OK;
}

/* ---- weights ----------------------------------------------------------------------------------------------------- */

/** Weights and activations in one buffer; with that NULL it only measures. */
static otr_status lay_out(otr_linear *l, bool has_bias, otr_buffer *buffer) {
  otr_weight *w = &l->w;
  otr_device *device = l->runtime->device;
  otr_arena *a = &l->arena;
  size_t n = (size_t)w->n, k = (size_t)w->k, rows = (size_t)l->max_rows, n_static = (size_t)w->n_static;
  *a = otr_arena_in(buffer);
  w->data = otr_arena_place(a, n, (size_t)w->row_stride, 1);
  w->scale = otr_arena_place(a, n, 1, sizeof(float));
  if (has_bias) w->bias = otr_arena_place(a, n, 1, sizeof(float));
  if (w->n_static > 0) w->static_cols = otr_arena_place(a, n_static, n, sizeof(uint16_t));
  if (w->n_static > 0 && w->n_static < w->k) {
    w->static_index = otr_arena_place(a, n_static, 1, sizeof(int32_t));
    w->static_slot = otr_arena_place(a, k, 1, sizeof(int32_t));
  }
  l->x = otr_arena_place(a, rows, k, sizeof(float));
  l->quantized = otr_arena_place_layout(a, device->ops->quantized_bytes(l->max_rows, w->k));
  l->y = otr_arena_place(a, rows, n, sizeof(float));
  return otr_arena_check(a, "the linear");
}

/** One row at a time through a host copy of what belongs to it: q, scale, f16 columns. */
typedef struct row_maker {
  const otr_linear_params *p;
  float *values;     /* [k] */
  int8_t *q;         /* [row_stride] */
  uint16_t *columns; /* [n_static, n] */
  float *scales;     /* [n] */
  float *biases;     /* [n] */
} row_maker;

static otr_status take_int8_row(const row_maker *r, int32_t row) {
  const otr_linear_params *p = r->p;
  const int8_t *from = (const int8_t *)p->weights + (size_t)row * (size_t)p->k;
  float absmax = p->row_absmax[row];
  if (!(absmax >= 0.0f) || otr_is_nonfinite(absmax))
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "row_absmax[%d] is %g", row, (double)absmax);
  bool zero = absmax < OTR_FLOAT(OTR_BITS_W_MIN);
  for (int32_t i = 0; i < p->k; i++) {
    if (from[i] == -128) return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "weight [%d, %d] is -128", row, i);
    r->q[i] = zero ? 0 : from[i];
  }
  r->scales[row] = zero ? 0.0f : otr_tidy(absmax * OTR_FLOAT(OTR_BITS_INV127));
  return OTR_STATUS_OK;
}

static otr_status quantize_row(const row_maker *r, const otr_weight *w, int32_t row) {
  static const uint32_t types[] = {0, 1, 30}; /* GGUF's F32, F16, BF16 */
  const otr_linear_params *p = r->p;
  size_t size = p->type == OTR_LINEAR_F32 ? sizeof(float) : sizeof(uint16_t), k = (size_t)p->k;
  const char *from = (const char *)p->weights + (size_t)row * k * size;
  if (!otr_dequantize_row(r->values, from, types[p->type], k))
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "row %d of the weights is not finite", row);
  float inv = otr_quantize_row(r->q, &r->scales[row], r->values, k);
  if (otr_is_nonfinite(r->scales[row]))
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "row %d of the weights is too large", row);
  r->scales[row] = otr_tidy(r->scales[row]);
  if (w->n_static > 0)
    otr_round_columns(r->columns + row, (size_t)w->n, r->values, inv, w->n_static == w->k ? NULL : p->f16_columns,
                      (size_t)w->n_static);
  return OTR_STATUS_OK;
}

static otr_status make_rows(otr_linear *l, const row_maker *r) {
  otr_device *device = l->runtime->device;
  const otr_weight *w = &l->w;
  for (int32_t i = 0; i < w->n; i++) {
    OTR_TRY(r->p->type == OTR_LINEAR_INT8 ? take_int8_row(r, i) : quantize_row(r, w, i));
    OTR_TRY(device->ops->buffer_write(device, l->arena.buffer, w->data.offset + (size_t)i * (size_t)w->row_stride, r->q,
                                      (size_t)w->row_stride));
    if (!r->p->bias) continue;
    if (otr_is_nonfinite(r->p->bias[i]))
      return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "bias[%d] is %g", i, (double)r->p->bias[i]);
    r->biases[i] = otr_tidy(r->p->bias[i]);
  }
  size_t vector = (size_t)w->n * sizeof(float);
  if (r->p->bias) OTR_TRY(device->ops->buffer_write(device, l->arena.buffer, w->bias.offset, r->biases, vector));
  if (w->n_static > 0)
    OTR_TRY(device->ops->buffer_write(device, l->arena.buffer, w->static_cols.offset, r->columns,
                                      (size_t)w->n_static * (size_t)w->n * sizeof(uint16_t)));
  return device->ops->buffer_write(device, l->arena.buffer, w->scale.offset, r->scales, vector);
}

static otr_status make_slots(otr_linear *l, const otr_linear_params *p) {
  otr_device *device = l->runtime->device;
  const otr_weight *w = &l->w;
  if (!w->static_slot.buffer) return OTR_STATUS_OK;
  int32_t slot = 0;
  for (int32_t k = 0; k < w->k; k++) {
    int32_t v = slot < w->n_static && p->f16_columns[slot] == k ? slot++ : -1;
    OTR_TRY(
        device->ops->buffer_write(device, l->arena.buffer, w->static_slot.offset + (size_t)k * sizeof v, &v, sizeof v));
  }
  return device->ops->buffer_write(device, l->arena.buffer, w->static_index.offset, p->f16_columns,
                                   (size_t)w->n_static * sizeof(int32_t));
}

static otr_status make_weights(otr_linear *l, const otr_linear_params *p) {
  otr_memory *memory = &l->runtime->memory;
  const otr_weight *w = &l->w;
  size_t n = (size_t)w->n, columns = n * (size_t)w->n_static;
  row_maker r = {.p = p,
                 .values = otr_memory_take_array(memory, (size_t)w->k, sizeof(float)),
                 .q = otr_memory_take_array(memory, (size_t)w->row_stride, 1),
                 .columns = columns ? otr_memory_take_array(memory, columns, sizeof(uint16_t)) : NULL,
                 .scales = otr_memory_take_array(memory, n, sizeof(float)),
                 .biases = otr_memory_take_array(memory, n, sizeof(float))};
  bool all = r.values && r.q && r.scales && r.biases && (r.columns || columns == 0);
  otr_float_mode mode = otr_float_mode_enter();
  otr_status status = all ? make_rows(l, &r) : OTR_STATUS_NO_MEMORY;
  otr_float_mode_leave(mode);
  if (r.values) otr_memory_give_array(memory, r.values, (size_t)w->k, sizeof(float));
  if (r.q) otr_memory_give_array(memory, r.q, (size_t)w->row_stride, 1);
  if (r.columns) otr_memory_give_array(memory, r.columns, columns, sizeof(uint16_t));
  if (r.scales) otr_memory_give_array(memory, r.scales, n, sizeof(float));
  if (r.biases) otr_memory_give_array(memory, r.biases, n, sizeof(float));
  return status == OTR_STATUS_OK ? make_slots(l, p) : status;
}

/* ---- life -------------------------------------------------------------------------------------------------------- */

static otr_status build(otr_linear *l, const otr_linear_params *p, otr_rule rule) {
  otr_device *device = l->runtime->device;
  otr_buffer *buffer;
  l->rows = otr_memory_take_array(&l->runtime->memory, (size_t)l->max_rows, sizeof *l->rows);
  if (!l->rows) return OTR_STATUS_NO_MEMORY;
  for (int32_t i = 0; i < l->max_rows; i++) l->rows[i].position = i;
  OTR_TRY(lay_out(l, p->bias != NULL, NULL));
  OTR_TRY(device->ops->buffer_create(device, l->arena.bytes, &buffer));
  OTR_TRY(lay_out(l, p->bias != NULL, buffer));
  OTR_TRY(make_weights(l, p));
  l->ops[0] = (otr_op){.code = OTR_OP_QUANTIZE};
  l->ops[0].u.quantize = (otr_op_quantize){l->quantized, l->x, p->k, rule, l->batch};
  l->ops[1] = (otr_op){.code = OTR_OP_LINEAR};
  l->ops[1].u.linear = (otr_op_linear){.in = l->quantized, .k = p->k, .n_parts = 1};
  l->ops[1].u.linear.part[0].w = l->w;
  l->ops[1].u.linear.part[0].out = l->y;
  otr_program program = {.ops = l->ops,
                         .n_ops = 2,
                         .max_rows = l->max_rows,
                         .max_logits = 1,
                         .result = l->y,
                         .result_row_bytes = (size_t)p->n * sizeof(float)};
  return device->ops->prepare(device, &program, &l->prepared);
}

otr_status otr_linear_create(otr_runtime *r, const otr_linear_params *given, otr_linear **out) {
  if (!out) return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "out is NULL");
  *out = NULL;
  otr_linear_params p;
  if (!r || !given || !otr_params_read(&p, sizeof p, given))
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "runtime or params is NULL, or struct_size is not set");
  OTR_TRY(check_params(&p));
  otr_rule rule = {OTR_RULE_RELATIVE, 4.0f};
  if (p.type == OTR_LINEAR_INT8) rule = (otr_rule){OTR_RULE_ABSOLUTE, 6.0f};
  OTR_TRY(otr_rule_override(&p.outliers, &rule));
  otr_linear *l = otr_memory_take_array(&r->memory, 1, sizeof *l);
  if (!l) return OTR_STATUS_NO_MEMORY;
  l->runtime = r;
  l->max_rows = p.max_rows ? p.max_rows : DEFAULT_ROWS;
  l->batch = p.scope == OTR_SCOPE_BATCH;
  l->w = (otr_weight){.type = OTR_WEIGHT_INT8, .n = p.n, .k = p.k, .row_stride = (p.k + 63) / 64 * 64, .group = p.k};
  l->w.n_static = p.n_f16_columns < 0 ? p.k : p.n_f16_columns;
  atomic_fetch_add(&r->users, 1);
  otr_status status = build(l, &p, rule);
  if (status != OTR_STATUS_OK) {
    otr_linear_destroy(l);
    return status;
  }
  *out = l;
  return OTR_STATUS_OK;
}

void otr_linear_destroy(otr_linear *l) {
  if (!l) return;
  otr_runtime *r = l->runtime;
  if (l->prepared) r->device->ops->prepared_destroy(r->device, l->prepared);
  if (l->arena.buffer) r->device->ops->buffer_destroy(r->device, l->arena.buffer);
  if (l->rows) otr_memory_give_array(&r->memory, l->rows, (size_t)l->max_rows, sizeof *l->rows);
  otr_memory_give_array(&r->memory, l, 1, sizeof *l);
  atomic_fetch_sub(&r->users, 1);
}

/* ---- running ----------------------------------------------------------------------------------------------------- */

/** Values that operations never see (below 2^-40, subnormals, -0) become +0 on their way to the device. */
static otr_status write_tidy(otr_linear *l, const float *x, size_t n) {
  otr_device *device = l->runtime->device;
  float piece[1024];
  for (size_t i = 0, count; i < n; i += count) {
    count = n - i < 1024 ? n - i : 1024;
    for (size_t j = 0; j < count; j++) piece[j] = otr_tidy(x[i + j]);
    OTR_TRY(device->ops->buffer_write(device, l->arena.buffer, l->x.offset + i * sizeof *x, piece, count * sizeof *x));
  }
  return OTR_STATUS_OK;
}

static otr_status run_rows(otr_linear *l, float *y, const float *x, int32_t m) {
  otr_device *device = l->runtime->device;
  size_t out = (size_t)m * (size_t)l->w.n * sizeof *y;
  otr_step step = {.n_rows = m, .row = l->rows};
  otr_step_result result;
  OTR_TRY(write_tidy(l, x, (size_t)m * (size_t)l->w.k));
  OTR_TRY(device->ops->submit(device, l->prepared, &step, &result));
  l->last_rows = m;
  if (result.nonfinite_layer != OTR_LAYER_NONE)
    return otr_fail(OTR_STATUS_NONFINITE, "a result of 2^48 or more, or not finite");
  return device->ops->buffer_read(device, l->arena.buffer, l->y.offset, y, out);
}

static otr_status check_input(const float *x, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (otr_is_nonfinite(x[i])) return otr_fail(OTR_STATUS_NONFINITE, "x[%zu] is %g", i, (double)x[i]);
  return OTR_STATUS_OK;
}

otr_status otr_linear_run(otr_linear *l, float *y, const float *x, int32_t m) {
  if (!l || !x || !y || m < 1) return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "linear, x or y is NULL, or m below 1");
  if (l->batch && m > l->max_rows)
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "batch scope takes all rows at once: %d, max_rows is %d", m,
                    l->max_rows);
  OTR_TRY(check_input(x, (size_t)m * (size_t)l->w.k));
  for (int32_t i = 0; i < m; i += l->max_rows) {
    int32_t rows = m - i < l->max_rows ? m - i : l->max_rows;
    OTR_TRY(otr_runtime_begin(l->runtime));
    otr_status status = run_rows(l, y + (size_t)i * (size_t)l->w.n, x + (size_t)i * (size_t)l->w.k, rows);
    otr_runtime_end(l->runtime);
    if (status != OTR_STATUS_OK) return status;
  }
  return OTR_STATUS_OK;
}

static otr_status check_row(const otr_linear *l, int32_t row) {
  if (!l || row < 0 || row >= l->last_rows)
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "row %d; the last run had %d", row, l ? l->last_rows : 0);
  return OTR_STATUS_OK;
}

otr_status otr_linear_outliers(const otr_linear *l, int32_t row, int32_t *columns, int32_t capacity, int32_t *n) {
  OTR_TRY(check_row(l, row));
  if (!n || (columns && capacity < 0)) return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "n is NULL or capacity negative");
  otr_device *device = l->runtime->device;
  OTR_TRY(device->ops->quantized_read(device, l->quantized, l->max_rows, l->w.k, row, NULL, NULL, NULL, n, NULL, NULL));
  if (!columns) return OTR_STATUS_OK;
  if (*n > capacity) return otr_fail(OTR_STATUS_BUFFER_TOO_SMALL, "%d outliers, room for %d", *n, capacity);
  return device->ops->quantized_read(device, l->quantized, l->max_rows, l->w.k, row, NULL, NULL, NULL, NULL, columns,
                                     NULL);
}

otr_status otr_linear_quantized(const otr_linear *l, int32_t row, int8_t *q, float *scale) {
  OTR_TRY(check_row(l, row));
  otr_device *device = l->runtime->device;
  return device->ops->quantized_read(device, l->quantized, l->max_rows, l->w.k, row, q, scale, NULL, NULL, NULL, NULL);
}
