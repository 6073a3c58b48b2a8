// SPDX-License-Identifier: Apache-2.0
/* From a file's tensors to weights on the device. Two walks over the same list of tensors: the first only adds up what
 * has to be made (copied or quantized) and checks every shape, the second fills it. What can be used in place is. */
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "dequantize.h"
#include "float_mode.h"
#include "glob.h"
#include "model.h"
#include "numerics.h"
#include "quantize_weights.h"
#include "rope.h"
#include "status.h"

#define PIECE_BYTES (4u << 20) /* source bytes read and quantized at a time */
#define TASK_ROWS_MIN 8

typedef struct loader {
  otr_model *model;
  otr_device *device;
  otr_memory *memory;
  const otr_model_params *params;
  const uint8_t *address; /* of the file, or NULL */
  bool in_place;          /* what can be used where it lies in the file is */
  bool filling;
  otr_placement placement;
  otr_arena made; /* what is copied or quantized: the buffer being filled */
  int32_t slab;   /* its number */
  size_t slab_bytes[OTR_MAX_SLABS];
  uint64_t done, total;
  uint8_t *used;  /* [n_tensors] 1: some role took it */
  float *scratch; /* [threads, max k] */
  size_t scratch_floats;
  uint8_t *piece; /* source bytes where the file has no address */
  size_t piece_bytes;
} loader;

const otr_loaded *otr_model_role(const otr_model *m, int32_t layer, otr_role role) {
  if (role < OTR_LAYER_ROLES) return &m->tensors[(size_t)layer * OTR_LAYER_ROLES + (size_t)role];
  return &m->tensors[(size_t)m->config.n_layers * OTR_LAYER_ROLES + (size_t)(role - OTR_LAYER_ROLES)];
}

/* ---- finding tensors --------------------------------------------------------------------------------------------- */

static const otr_gguf_tensor *take(loader *l, const char *name) {
  const otr_gguf_tensor *t = otr_gguf_find(l->model->gguf, name);
  if (t) l->used[t - l->model->gguf->tensors] = 1;
  return t;
}

/** A role's weight or bias in the file; view->tensor NULL: it has none. */
static otr_status find(loader *l, const otr_tensor_rule *rule, int32_t layer, bool bias, otr_tensor_view *view) {
  OTR_TRY(otr_config_view(&l->model->config, l->model->gguf, rule, layer, bias, view));
  if (view->tensor) l->used[view->tensor - l->model->gguf->tensors] = 1;
  return OTR_STATUS_OK;
}

static otr_status check_type(const otr_gguf_tensor *t) {
  if (otr_dequantize_supported(t->type)) return OTR_STATUS_OK;
  return otr_fail(OTR_STATUS_UNSUPPORTED, "tensor %s has type %s, which is not supported", t->name,
                  otr_ggml_type_name(t->type));
}

/* ---- places in the made buffer ----------------------------------------------------------------------------------- */

/** otr_arena_place in the model's own buffers; a new one is begun where the device does not take larger ones. */
static otr_ref place(loader *l, size_t rows, size_t n, size_t size) {
  size_t before = l->made.bytes;
  otr_ref ref = otr_arena_place(&l->made, rows, n, size);
  bool fits = l->placement.max_buffer == 0 || l->made.bytes <= l->placement.max_buffer;
  if (fits || before == 0 || l->slab + 1 == OTR_MAX_SLABS) return ref;
  bool too_large = l->made.too_large;
  l->slab_bytes[l->slab++] = before;
  l->made = otr_arena_in(l->model->made[l->slab]);
  l->made.too_large = too_large;
  return otr_arena_place(&l->made, rows, n, size);
}

static uint64_t made_bytes(const loader *l) {
  uint64_t sum = 0;
  for (int32_t i = 0; i <= l->slab; i++) sum += l->slab_bytes[i];
  return sum;
}

/** Host memory to fill for a place: its own where the host sees the device's memory, else a copy to be written by
 *  close_place. */
static otr_status open_place(loader *l, otr_ref ref, size_t bytes, void **out) {
  uint8_t *host = l->device->ops->buffer_host(ref.buffer);
  *out = host ? host + ref.offset : otr_memory_take(l->memory, bytes, 64);
  return *out ? OTR_STATUS_OK : OTR_STATUS_NO_MEMORY;
}

static otr_status close_place(loader *l, otr_ref ref, size_t bytes, void *host, otr_status status) {
  if (l->device->ops->buffer_host(ref.buffer)) return status;
  if (status == OTR_STATUS_OK) status = l->device->ops->buffer_write(l->device, ref.buffer, ref.offset, host, bytes);
  otr_memory_give(l->memory, host, bytes);
  return status;
}

static otr_status tell_progress(loader *l, uint64_t bytes) {
  l->done += bytes;
  if (!l->params->progress || l->params->progress(l->params->progress_user, l->done, l->total) == 0)
    return OTR_STATUS_OK;
  return otr_fail(OTR_STATUS_CANCELLED, "cancelled by the progress callback");
}

/* ---- gains, biases, scales, position tables: f32 ------------------------------------------------------------------
 */

/** Rows of a view, one after another, tidied. `raw` and `values` hold a row of the tensor. */
static otr_status fill_rows(loader *l, const otr_tensor_view *v, otr_row_order order, float *out, uint8_t *raw,
                            float *values) {
  const otr_gguf_tensor *t = v->tensor;
  bool vector = v->n == 1;
  size_t row = vector ? (size_t)t->bytes : (size_t)t->row_bytes, n = row / (size_t)t->row_bytes * (size_t)t->dims[0];
  for (int32_t i = 0; i < v->n; i++, out += v->k) {
    OTR_TRY(otr_file_read(&l->model->file, t->offset + (uint64_t)i * row, raw, row));
    if (!otr_dequantize_row(values, raw, t->type, n))
      return otr_fail(OTR_STATUS_BAD_FORMAT, "tensor %s holds a value that is not finite", t->name);
    const float *from = values + (vector ? v->first : 0);
    for (int32_t j = 0; j < v->k; j++) {
      float x = from[otr_row_source(order, j)];
      if (otr_is_nonfinite(x)) return otr_fail(OTR_STATUS_BAD_FORMAT, "tensor %s holds %g", t->name, (double)x);
      out[j] = otr_tidy(x);
    }
  }
  return OTR_STATUS_OK;
}

/** A view as f32 [n, k]. */
static otr_status load_floats(loader *l, const otr_tensor_view *v, otr_row_order order, otr_ref *ref) {
  const otr_gguf_tensor *t = v->tensor;
  size_t n = (size_t)v->n * (size_t)v->k, raw_bytes = (size_t)(v->n == 1 ? t->bytes : t->row_bytes);
  size_t floats = v->n == 1 ? (size_t)(t->bytes / t->row_bytes * t->dims[0]) : (size_t)v->k;
  OTR_TRY(check_type(t));
  *ref = place(l, (size_t)v->n, (size_t)v->k, sizeof(float));
  if (!l->filling) return OTR_STATUS_OK;
  void *host;
  OTR_TRY(open_place(l, *ref, n * sizeof(float), &host));
  uint8_t *raw = otr_memory_take(l->memory, raw_bytes, 64);
  float *values = otr_memory_take_array(l->memory, floats, sizeof *values);
  otr_status status = raw && values ? fill_rows(l, v, order, host, raw, values) : OTR_STATUS_NO_MEMORY;
  if (values) otr_memory_give_array(l->memory, values, floats, sizeof *values);
  otr_memory_give(l->memory, raw, raw_bytes);
  return close_place(l, *ref, n * sizeof(float), host, status);
}

/** What lies beside a linear of the SDK's own files: f32 [n]. */
static otr_status load_scale(loader *l, const otr_gguf_tensor *t, int32_t n, otr_ref *ref) {
  otr_tensor_view view = {.tensor = t, .n = 1, .k = n};
  if (t->dims[0] != (uint64_t)n || t->dims[1] != 1 || t->dims[2] != 1 || t->dims[3] != 1)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "tensor %s is not %d F32 values", t->name, n);
  return load_floats(l, &view, (otr_row_order){0, 0}, ref);
}

/* ---- linears of the SDK's own files ------------------------------------------------------------------------------ */

static otr_status read_rows(loader *l, uint64_t offset, size_t rows, size_t row_bytes, size_t padded_bytes,
                            uint8_t *to) {
  if (row_bytes == padded_bytes) return otr_file_read(&l->model->file, offset, to, rows * row_bytes);
  for (size_t i = 0; i < rows; i++, to += padded_bytes) {
    OTR_TRY(otr_file_read(&l->model->file, offset + i * row_bytes, to, row_bytes));
    memset(to + row_bytes, 0, padded_bytes - row_bytes);
  }
  return OTR_STATUS_OK;
}

/** Rows [n, row_bytes] copied with rows of `padded_bytes`, a piece at a time. */
static otr_status copy_rows(loader *l, const otr_gguf_tensor *t, size_t rows, size_t row_bytes, size_t padded_bytes,
                            otr_ref ref) {
  const otr_device_ops *ops = l->device->ops;
  size_t step = PIECE_BYTES / padded_bytes + 1;
  bool straight = l->address && row_bytes == padded_bytes && !ops->buffer_host(ref.buffer);
  for (size_t i = 0; i < rows; i += step) {
    size_t n = rows - i < step ? rows - i : step, bytes = n * padded_bytes;
    uint64_t from = t->offset + i * row_bytes;
    otr_ref at = {ref.buffer, ref.offset + i * padded_bytes};
    if (straight) {
      OTR_TRY(ops->buffer_write(l->device, at.buffer, at.offset, l->address + from, bytes));
    } else {
      void *host;
      OTR_TRY(open_place(l, at, bytes, &host));
      OTR_TRY(close_place(l, at, bytes, host, read_rows(l, from, n, row_bytes, padded_bytes, host)));
    }
    OTR_TRY(tell_progress(l, n * row_bytes));
  }
  return OTR_STATUS_OK;
}

/** Rows [n, row_bytes] as they are, in place where a kernel can take them (16-byte aligned base and rows), else copied
 *  with rows of `padded_bytes`. */
static otr_status load_rows(loader *l, const otr_gguf_tensor *t, size_t rows, size_t row_bytes, size_t padded_bytes,
                            size_t size, otr_ref *ref, bool *in_place) {
  *in_place = l->in_place && row_bytes % (16 * size) == 0 && ((uintptr_t)l->address + t->offset) % 16 == 0;
  if (*in_place) {
    *ref = (otr_ref){l->model->mapped, (size_t)t->offset};
    l->model->mapped_bytes += l->filling ? 0 : t->bytes;
    return OTR_STATUS_OK;
  }
  *ref = place(l, rows, padded_bytes, 1);
  if (l->filling) return copy_rows(l, t, rows, row_bytes, padded_bytes, *ref);
  l->total += t->bytes;
  return OTR_STATUS_OK;
}

static otr_status suffixed(loader *l, const otr_gguf_tensor *t, const char *suffix, const otr_gguf_tensor **out) {
  char name[OTR_NAME_BYTES + 32];
  size_t n = strlen(t->name), m = strlen(suffix);
  *out = NULL;
  if (n + m >= sizeof name) return OTR_STATUS_OK;
  memcpy(name, t->name, n);
  memcpy(name + n, suffix, m + 1);
  *out = take(l, name);
  return OTR_STATUS_OK;
}

/** The set's features: ascending, in range; and the place of each. */
static otr_status fill_slots(loader *l, const otr_gguf_tensor *t, int32_t k, int32_t *index, int32_t *slot) {
  int32_t n = (int32_t)t->dims[0], before = -1;
  OTR_TRY(otr_file_read(&l->model->file, t->offset, index, (size_t)n * sizeof *index));
  for (int32_t i = 0; i < k; i++) slot[i] = -1;
  for (int32_t i = 0; i < n; i++) {
    if (index[i] <= before || index[i] >= k)
      return otr_fail(OTR_STATUS_BAD_FORMAT, "tensor %s holds feature %d after %d, of %d", t->name, index[i], before,
                      k);
    before = index[i];
    slot[index[i]] = i;
  }
  return OTR_STATUS_OK;
}

static otr_status load_static_index(loader *l, const otr_gguf_tensor *t, otr_weight *w) {
  if (t->type != OTR_GGML_I32 || t->n_dims != 1 || t->dims[0] != (uint64_t)w->n_static)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "tensor %s is not %d I32 values", t->name, w->n_static);
  size_t index_bytes = (size_t)w->n_static * sizeof(int32_t), slot_bytes = (size_t)w->k * sizeof(int32_t);
  w->static_index = place(l, (size_t)w->n_static, 1, sizeof(int32_t));
  w->static_slot = place(l, (size_t)w->k, 1, sizeof(int32_t));
  if (!l->filling) return OTR_STATUS_OK;
  void *index, *slot;
  OTR_TRY(open_place(l, w->static_index, index_bytes, &index));
  otr_status status = open_place(l, w->static_slot, slot_bytes, &slot);
  if (status == OTR_STATUS_OK) {
    status = fill_slots(l, t, w->k, index, slot);
    status = close_place(l, w->static_slot, slot_bytes, slot, status);
  }
  return close_place(l, w->static_index, index_bytes, index, status);
}

static otr_status load_static_columns(loader *l, const otr_gguf_tensor *t, otr_weight *w) {
  const otr_gguf_tensor *columns, *index;
  OTR_TRY(suffixed(l, t, ".outlier_cols", &columns));
  OTR_TRY(suffixed(l, t, ".outlier_index", &index));
  if (!columns && !index) return OTR_STATUS_OK;
  if (!columns) return otr_fail(OTR_STATUS_BAD_FORMAT, "tensor %s has an outlier_index but no outlier_cols", t->name);
  if (columns->type != OTR_GGML_F16 || columns->dims[1] > (uint64_t)w->k)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "tensor %s is not F16 with at most %d rows", columns->name, w->k);
  if (columns->dims[0] != (uint64_t)w->n || columns->dims[2] != 1 || columns->dims[3] != 1)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "tensor %s has not rows of %d", columns->name, w->n);
  w->n_static = (int32_t)columns->dims[1];
  if (w->n_static == w->k && !index) {
    /* all of them: no index */
  } else if (index) {
    OTR_TRY(load_static_index(l, index, w));
    if (w->n_static == w->k) w->static_index = w->static_slot = (otr_ref){0};
  } else {
    return otr_fail(OTR_STATUS_BAD_FORMAT, "tensor %s has outlier_cols of %d features but no outlier_index", t->name,
                    w->n_static);
  }
  bool in_place;
  size_t row_bytes = (size_t)w->n * sizeof(uint16_t);
  if (l->in_place && ((uintptr_t)l->address + columns->offset) % sizeof(uint16_t) == 0) {
    w->static_cols = (otr_ref){l->model->mapped, (size_t)columns->offset};
    l->model->mapped_bytes += l->filling ? 0 : columns->bytes;
    return OTR_STATUS_OK;
  }
  return load_rows(l, columns, (size_t)w->n_static, row_bytes, row_bytes, sizeof(uint16_t), &w->static_cols, &in_place);
}

static otr_status load_converted(loader *l, const otr_gguf_tensor *t, otr_weight *w) {
  bool in_place;
  size_t k = (size_t)w->k, size = 1;
  if (t->type == OTR_GGML_I8) {
    w->type = OTR_WEIGHT_INT8;
  } else if (t->type == OTR_GGML_F16) {
    w->type = OTR_WEIGHT_F16;
    size = sizeof(uint16_t);
  } else {
    return otr_fail(OTR_STATUS_BAD_FORMAT, "tensor %s has type %s; a converted model has I8 and F16", t->name,
                    otr_ggml_type_name(t->type));
  }
  size_t padded = (k * size + 63) / 64 * 64;
  OTR_TRY(load_rows(l, t, (size_t)w->n, k * size, padded, size, &w->data, &in_place));
  w->row_stride = (int64_t)((in_place ? k * size : padded) / size);
  const otr_gguf_tensor *scale;
  OTR_TRY(suffixed(l, t, ".scale", &scale));
  if (!scale || scale->type != OTR_GGML_F32)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "tensor %s has no F32 .scale beside it", t->name);
  OTR_TRY(load_scale(l, scale, w->n, &w->scale));
  return w->type == OTR_WEIGHT_INT8 ? load_static_columns(l, t, w) : OTR_STATUS_OK;
}

/* ---- linears that are quantized while opening -------------------------------------------------------------------- */

/** One piece of a tensor's rows, shared out over the workers. */
typedef struct quantize_run {
  loader *l;
  const otr_weight_job *job;
  const uint8_t *source;
  int32_t first, end, task_rows;
  pthread_mutex_t lock;
  otr_status status;
  char detail[OTR_DETAIL_BYTES];
} quantize_run;

static void quantize_task(void *context, int32_t index, int32_t worker) {
  quantize_run *run = context;
  int32_t begin = run->first + index * run->task_rows;
  int32_t end = begin + run->task_rows < run->end ? begin + run->task_rows : run->end;
  float *scratch = run->l->scratch + (size_t)worker * run->l->scratch_floats;
  otr_float_mode mode = otr_float_mode_enter();
  otr_status status = otr_weight_make(run->job, run->source, run->first, begin, end, scratch);
  otr_float_mode_leave(mode);
  if (status == OTR_STATUS_OK) return;
  pthread_mutex_lock(&run->lock);
  if (run->status == OTR_STATUS_OK) {
    run->status = status;
    otr_detail_get(run->detail);
  }
  pthread_mutex_unlock(&run->lock);
}

static otr_status quantize_piece(loader *l, const otr_weight_job *job, const uint8_t *source, int32_t first,
                                 int32_t end) {
  otr_parallel *parallel = l->model->runtime->parallel;
  int32_t threads = otr_parallel_threads(parallel), rows = end - first;
  int32_t task_rows = (rows + 4 * threads - 1) / (4 * threads);
  if (task_rows < TASK_ROWS_MIN) task_rows = TASK_ROWS_MIN;
  quantize_run run = {.l = l, .job = job, .source = source, .first = first, .end = end, .task_rows = task_rows};
  OTR_TRY(otr_parallel_begin(parallel));
  pthread_mutex_init(&run.lock, NULL);
  otr_parallel_run(parallel, (rows + task_rows - 1) / task_rows, quantize_task, &run);
  otr_parallel_end(parallel);
  pthread_mutex_destroy(&run.lock);
  if (run.status != OTR_STATUS_OK) otr_detail_set(run.detail);
  return run.status;
}

/** Rows of a piece: about PIECE_BYTES, whole heads where rows change places. */
static int32_t piece_rows(const otr_weight_job *job) {
  size_t rows = PIECE_BYTES / job->source_row_bytes + 1;
  size_t whole = job->order.head_dim > 0 ? (size_t)job->order.head_dim : 1;
  rows = (rows + whole - 1) / whole * whole;
  return rows < (size_t)job->n ? (int32_t)rows : job->n;
}

/** Rows [first, end) of a weight: read, quantized, and on the device. */
static otr_status make_rows(loader *l, const otr_tensor_view *v, const otr_weight *w, const otr_weight_job *whole,
                            int32_t first, int32_t end) {
  const otr_gguf_tensor *t = v->tensor;
  size_t row_bytes = (size_t)w->row_stride * (w->type == OTR_WEIGHT_INT8 ? 1 : sizeof(uint16_t));
  size_t rows = (size_t)(end - first), source_bytes = rows * (size_t)t->row_bytes;
  uint64_t from = t->offset + ((uint64_t)v->first + (uint64_t)first) * t->row_bytes;
  const uint8_t *source = l->address ? l->address + from : l->piece;
  otr_ref at = {w->data.buffer, w->data.offset + (size_t)first * row_bytes};
  otr_weight_job job = *whole;
  job.first = first;
  job.scale += first;
  if (job.static_cols) job.static_cols += first;
  if (!l->address) OTR_TRY(otr_file_read(&l->model->file, from, l->piece, source_bytes));
  OTR_TRY(open_place(l, at, rows * row_bytes, &job.data));
  OTR_TRY(close_place(l, at, rows * row_bytes, job.data, quantize_piece(l, &job, source, first, end)));
  return tell_progress(l, source_bytes);
}

/** Host memory of the job's scales and columns, then the job piece by piece, then these written to the device. */
static otr_status make_weight(loader *l, const otr_tensor_view *v, const otr_weight *w, otr_weight_job *job) {
  size_t scale_bytes = (size_t)w->n * sizeof(float), columns = (size_t)w->n_static * (size_t)w->n * sizeof(uint16_t);
  int32_t step = piece_rows(job);
  void *scale, *cols = NULL;
  OTR_TRY(open_place(l, w->scale, scale_bytes, &scale));
  otr_status status = columns > 0 ? open_place(l, w->static_cols, columns, &cols) : OTR_STATUS_OK;
  job->scale = scale;
  job->static_cols = cols;
  for (int32_t first = 0; first < job->n && status == OTR_STATUS_OK; first += step)
    status = make_rows(l, v, w, job, first, job->n - first < step ? job->n : first + step);
  if (cols) status = close_place(l, w->static_cols, columns, cols, status);
  return close_place(l, w->scale, scale_bytes, scale, status);
}

static otr_status load_quantized(loader *l, const otr_tensor_view *v, const char *name, otr_row_order order,
                                 bool columns_all, otr_weight *w) {
  const otr_gguf_tensor *t = v->tensor;
  OTR_TRY(check_type(t));
  bool keep_f16 = otr_glob_any(l->params->keep_f16, l->params->n_keep_f16, name);
  w->type = keep_f16 ? OTR_WEIGHT_F16 : OTR_WEIGHT_INT8;
  size_t size = w->type == OTR_WEIGHT_INT8 ? 1 : sizeof(uint16_t);
  w->row_stride = (int64_t)(((size_t)w->k * size + 63) / 64 * 64 / size);
  w->n_static = w->type == OTR_WEIGHT_INT8 && columns_all ? w->k : 0;
  w->data = place(l, (size_t)w->n, (size_t)w->row_stride, size);
  w->scale = place(l, (size_t)w->n, 1, sizeof(float));
  if (w->n_static > 0) w->static_cols = place(l, (size_t)w->n_static, (size_t)w->n, sizeof(uint16_t));
  otr_weight_job job = {.name = t->name,
                        .ggml_type = t->type,
                        .source_row_bytes = (size_t)t->row_bytes,
                        .n = w->n,
                        .k = w->k,
                        .order = order,
                        .type = w->type,
                        .row_stride = w->row_stride,
                        .n_static = w->n_static,
                        .static_stride = w->n};
  if (!l->filling) {
    l->total += (uint64_t)w->n * t->row_bytes;
    size_t piece = 0;
    if (!otr_size_mul((size_t)piece_rows(&job), (size_t)t->row_bytes, &piece)) l->made.too_large = true;
    if (piece > l->piece_bytes) l->piece_bytes = piece;
    if ((size_t)w->k > l->scratch_floats) l->scratch_floats = (size_t)w->k;
    return OTR_STATUS_OK;
  }
  return make_weight(l, v, w, &job);
}

/* ---- all tensors ------------------------------------------------------------------------------------------------- */

static otr_status load_linear(loader *l, const otr_tensor_rule *rule, int32_t layer, const otr_tensor_view *v,
                              otr_loaded *out) {
  const otr_config *c = &l->model->config;
  otr_row_order order = otr_config_order(c, rule);
  otr_weight w = {.n = v->n, .k = v->k, .group = v->k};
  char name[OTR_NAME_BYTES];
  otr_tensor_name(name, rule, layer, ".weight");
  /* An embedding that is no output layer is only looked up: f16 columns of it would never be read. */
  bool columns_all = l->params->f16_columns_all && otr_config_multiplies(c, (otr_role)rule->role);
  OTR_TRY(c->converted ? load_converted(l, v->tensor, &w) : load_quantized(l, v, name, order, columns_all, &w));
  out->w = w;
  out->rule = c->rule;
  return OTR_STATUS_OK;
}

static otr_status load_tensor(loader *l, const otr_tensor_rule *rule, int32_t layer) {
  otr_loaded *out = (otr_loaded *)otr_model_role(l->model, layer, (otr_role)rule->role);
  otr_row_order order = otr_config_order(&l->model->config, rule);
  otr_tensor_view v, bias;
  OTR_TRY(find(l, rule, layer, false, &v));
  if (!v.tensor) return OTR_STATUS_OK;
  if (rule->flags & (OTR_TENSOR_VECTOR | OTR_TENSOR_TABLE)) {
    OTR_TRY(load_floats(l, &v, order, &out->values));
    out->n_values = v.k;
  } else {
    OTR_TRY(load_linear(l, rule, layer, &v, out));
  }
  OTR_TRY(find(l, rule, layer, true, &bias));
  if (!bias.tensor) return OTR_STATUS_OK;
  return load_floats(l, &bias, order, rule->flags & OTR_TENSOR_VECTOR ? &out->bias : &out->w.bias);
}

/** RoPE's divisors that are tensors: rope_freqs, or phi3's two sets. */
static otr_status load_rope_factors(loader *l) {
  static const char names[][26] = {"rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight"};
  otr_config *c = &l->model->config;
  for (int32_t i = 0; i < 3; i++) {
    const otr_gguf_tensor *t = take(l, names[i]);
    if (!t || c->n_rot == 0) continue;
    float *factors = c->rope_factors[i == 2];
    if (t->type != OTR_GGML_F32 || t->n_dims != 1 || t->dims[0] != (uint64_t)(c->n_rot / 2))
      return otr_fail(OTR_STATUS_BAD_FORMAT, "tensor %s is not %d F32 values", names[i], c->n_rot / 2);
    c->has_rope_factors = 1;
    OTR_TRY(otr_file_read(&l->model->file, t->offset, factors, (size_t)t->bytes));
    for (int32_t j = 0; j < c->n_rot / 2; j++)
      if (!(factors[j] >= 0x1p-20f && factors[j] <= 0x1p20f))
        return otr_fail(OTR_STATUS_BAD_FORMAT, "tensor %s holds %g", names[i], (double)factors[j]);
  }
  return OTR_STATUS_OK;
}

static otr_status set_rule(void *user, const otr_tensor_rule *rule, int32_t layer, otr_rule outliers) {
  ((otr_loaded *)otr_model_role(user, layer, (otr_role)rule->role))->rule = outliers;
  return OTR_STATUS_OK;
}

static otr_status walk(loader *l) {
  otr_model *m = l->model;
  l->slab = 0;
  l->made = otr_arena_in(m->made[0]);
  if (!l->filling) l->total = 0;
  for (int32_t role = 0; role < OTR_ROLES; role++) {
    const otr_tensor_rule *rule = otr_config_role(&m->config, (otr_role)role);
    int32_t n = role < OTR_LAYER_ROLES ? m->config.n_layers : 1;
    for (int32_t layer = 0; rule && layer < n; layer++) OTR_TRY(load_tensor(l, rule, layer));
  }
  OTR_TRY(load_rope_factors(l));
  for (int32_t i = 0; i < m->gguf->n_tensors; i++)
    if (!l->used[i])
      return otr_fail(OTR_STATUS_UNSUPPORTED, "tensor %s belongs to no part of a %s model that is known",
                      m->gguf->tensors[i].name, m->config.arch->name);
  l->slab_bytes[l->slab] = l->made.bytes;
  OTR_TRY(otr_arena_check(&l->made, "the model"));
  return m->config.rule_given ? OTR_STATUS_OK : otr_config_rules(&m->config, m->gguf, set_rule, m);
}

static otr_status measure(loader *l, otr_model *model, const otr_model_params *params) {
  *l = (loader){.model = model,
                .device = model->runtime->device,
                .memory = &model->runtime->memory,
                .params = params,
                .placement = otr_device_placement(model->runtime->device, params->weights),
                .address = otr_file_address(&model->file)};
  l->in_place = l->address && l->placement.in_place && params->weights != OTR_WEIGHTS_COPIED;
  if (params->weights == OTR_WEIGHTS_MAPPED && !l->in_place && model->config.converted)
    return otr_fail(OTR_STATUS_UNSUPPORTED, "%s cannot use these weights in place", model->runtime->info.name);
  /* Every layer has tensors: more layers than tensors is a lie, found before anything of that size is taken. */
  if (model->config.n_layers > model->gguf->n_tensors)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "%d layers, but %d tensors", model->config.n_layers, model->gguf->n_tensors);
  size_t tensors = (size_t)model->config.n_layers * OTR_LAYER_ROLES + OTR_ROLES - OTR_LAYER_ROLES;
  model->tensors = otr_memory_take_array(l->memory, tensors, sizeof *model->tensors);
  l->used = otr_memory_take_array(l->memory, (size_t)model->gguf->n_tensors, 1);
  return model->tensors && l->used ? walk(l) : OTR_STATUS_NO_MEMORY;
}

static void finish(loader *l) {
  size_t threads = (size_t)otr_parallel_threads(l->model->runtime->parallel);
  if (l->used) otr_memory_give_array(l->memory, l->used, (size_t)l->model->gguf->n_tensors, 1);
  otr_memory_give(l->memory, l->piece, l->piece_bytes);
  if (l->scratch) otr_memory_give_array(l->memory, l->scratch, threads, l->scratch_floats * sizeof(float));
}

/** The file's bytes for the device; where it cannot take them, all is measured again to be copied. */
static otr_status import_file(loader *l) {
  otr_model *m = l->model;
  if (m->mapped_bytes == 0) return OTR_STATUS_OK;
  otr_status status =
      l->device->ops->buffer_import(l->device, l->address, (size_t)m->file.bytes, l->params->weights, &m->mapped);
  if (status != OTR_STATUS_UNSUPPORTED || l->params->weights == OTR_WEIGHTS_MAPPED) return status;
  l->in_place = false;
  m->mapped_bytes = 0;
  return walk(l);
}

static otr_status fill(loader *l) {
  otr_model *m = l->model;
  size_t threads = (size_t)otr_parallel_threads(m->runtime->parallel);
  OTR_TRY(import_file(l));
  if (l->scratch_floats > 0) {
    l->scratch = otr_memory_take_array(l->memory, threads, l->scratch_floats * sizeof(float));
    if (!l->scratch) return OTR_STATUS_NO_MEMORY;
  }
  if (!l->address && l->piece_bytes > 0) {
    l->piece = otr_memory_take(l->memory, l->piece_bytes, 64);
    if (!l->piece) return OTR_STATUS_NO_MEMORY;
  }
  m->made_bytes = made_bytes(l);
  for (int32_t i = 0; i <= l->slab; i++)
    OTR_TRY(l->device->ops->buffer_create(l->device, l->slab_bytes[i], &m->made[i]));
  l->filling = true;
  return walk(l);
}

otr_status otr_load_weights(otr_model *model, const otr_model_params *params) {
  loader l;
  otr_float_mode mode = otr_float_mode_enter();
  otr_status status = measure(&l, model, params);
  if (status == OTR_STATUS_OK) status = fill(&l);
  finish(&l);
  otr_float_mode_leave(mode);
  return status;
}

otr_status otr_plan_weights(otr_model *model, const otr_model_params *params, otr_plan_info *plan) {
  loader l;
  otr_status status = measure(&l, model, params);
  plan->file_bytes = model->file.bytes;
  plan->weights_mapped_bytes = model->mapped_bytes;
  if (l.placement.separate)
    plan->weights_device_bytes = made_bytes(&l) + (l.placement.doubled ? model->mapped_bytes : 0);
  else
    plan->weights_host_bytes = made_bytes(&l);
  plan->quantizes = !model->config.converted;
  finish(&l);
  return status;
}
