// SPDX-License-Identifier: Apache-2.0
#include "row_maker.h"

#include <pthread.h>
#include <string.h>

#include "numerics.h"
#include "quantize_weights.h"
#include "status.h"

#define ALL_VALUES (1u << 24) /* of all workers' blocks together: 64 MB as f32 */
#define MOST_VALUES (1u << 20)
#define LEAST_VALUES (1u << 16)
#define BATCH 4 /* blocks for each worker between two calls of `done` */

typedef struct worker {
  float *values;     /* [rows, k], and a row behind them for otr_weight_make */
  void *data;        /* int8 or f16 [rows, k] */
  float *scale;      /* [rows] */
  uint16_t *columns; /* [n_static, rows] */
} worker;

struct row_maker {
  const source *source;
  otr_parallel *parallel;
  otr_memory *memory;
  worker *workers; /* [n_workers] */
  size_t n_workers, n_values, n_data, n_rows, n_columns;
};

/* Rows of a block. Vectors are one row; their length is bounded by what a model can have. */
static int32_t block_rows(const row_maker *m, const source_tensor *t) {
  size_t values = ALL_VALUES / m->n_workers;
  values = values < LEAST_VALUES ? LEAST_VALUES : values > MOST_VALUES ? MOST_VALUES : values;
  size_t rows = values / (size_t)t->k + (values < (size_t)t->k);
  return rows < (size_t)t->n ? (int32_t)rows : t->n;
}

static size_t larger(size_t a, size_t b) {
  return a > b ? a : b;
}

static void measure(row_maker *m, const row_job *job) {
  const source_tensor *t = job->tensor;
  size_t rows = (size_t)block_rows(m, t), k = (size_t)t->k;
  m->n_values = larger(m->n_values, (rows + 1) * k);
  m->n_rows = larger(m->n_rows, rows);
  if (job->kind != ROW_F32) m->n_data = larger(m->n_data, rows * k * (job->kind == ROW_F16 ? 2 : 1));
  m->n_columns = larger(m->n_columns, rows * (size_t)job->n_static);
}

otr_status row_maker_create(const source *from, const row_job *jobs, int32_t n_jobs, otr_parallel *parallel,
                            otr_memory *memory, row_maker **out) {
  row_maker *m = *out = otr_memory_take_array(memory, 1, sizeof *m);
  if (m == NULL) return OTR_STATUS_NO_MEMORY;
  *m = (row_maker){from, parallel, memory, .n_workers = (size_t)otr_parallel_threads(parallel)};
  for (int32_t i = 0; i < n_jobs; ++i) measure(m, &jobs[i]);
  m->workers = otr_memory_take_array(memory, m->n_workers, sizeof *m->workers);
  bool good = m->workers != NULL;
  for (size_t i = 0; i < m->n_workers && good; ++i) {
    worker *w = &m->workers[i];
    w->values = otr_memory_take(memory, m->n_values * sizeof *w->values, 64);
    w->data = otr_memory_take(memory, m->n_data, 64);
    w->scale = otr_memory_take(memory, m->n_rows * sizeof *w->scale, 64);
    w->columns = otr_memory_take(memory, m->n_columns * sizeof *w->columns, 64);
    good = w->values != NULL && w->data != NULL && w->scale != NULL && w->columns != NULL;
  }
  if (good) return OTR_STATUS_OK;
  row_maker_destroy(m);
  *out = NULL;
  return OTR_STATUS_NO_MEMORY;
}

void row_maker_destroy(row_maker *m) {
  if (m == NULL) return;
  for (size_t i = 0; m->workers != NULL && i < m->n_workers; ++i) {
    worker *w = &m->workers[i];
    otr_memory_give(m->memory, w->values, m->n_values * sizeof *w->values);
    otr_memory_give(m->memory, w->data, m->n_data);
    otr_memory_give(m->memory, w->scale, m->n_rows * sizeof *w->scale);
    otr_memory_give(m->memory, w->columns, m->n_columns * sizeof *w->columns);
  }
  otr_memory_give_array(m->memory, m->workers, m->n_workers, sizeof *m->workers);
  otr_memory_give_array(m->memory, m, 1, sizeof *m);
}

/* ---- a block of rows --------------------------------------------------------------------------------------------- */

/* A tensor under way; the first failure of any worker is kept. */
typedef struct run {
  row_maker *maker;
  const row_job *job;
  otr_gguf_writer *writer;
  int32_t first_block, rows; /* of a block */
  pthread_mutex_t lock;
  otr_status status;
  char detail[OTR_DETAIL_BYTES];
} run;

static otr_status make_f32(const run *r, const worker *w, int32_t begin, int32_t end) {
  const source_tensor *t = r->job->tensor;
  OTR_TRY(source_rows(r->maker->source, t, begin, end - begin, w->values));
  size_t row_bytes = (size_t)t->k * sizeof(float);
  return otr_gguf_writer_data(r->writer, r->job->data, (size_t)begin * row_bytes, w->values,
                              (size_t)(end - begin) * row_bytes);
}

static otr_status quantize(const run *r, const worker *w, int32_t begin, int32_t end) {
  const source_tensor *t = r->job->tensor;
  const otr_weight_job job = {.name = t->name,
                              .ggml_type = OTR_GGML_F32,
                              .source_row_bytes = (size_t)t->k * sizeof(float),
                              .n = t->n,
                              .k = t->k,
                              .type = r->job->kind == ROW_F16 ? OTR_WEIGHT_F16 : OTR_WEIGHT_INT8,
                              .data = w->data,
                              .row_stride = t->k,
                              .scale = w->scale,
                              .static_index = r->job->static_index,
                              .n_static = r->job->n_static,
                              .static_cols = r->job->n_static > 0 ? w->columns : NULL,
                              .static_stride = end - begin,
                              .first = begin};
  OTR_TRY(source_rows(r->maker->source, t, begin, end - begin, w->values));
  return otr_weight_make(&job, (const uint8_t *)w->values, begin, begin, end,
                         w->values + (size_t)(end - begin) * (size_t)t->k);
}

/* bitsandbytes' rows as they are; below 2^-33 a row counts as zero, as one made here does. */
static otr_status take_int8(const run *r, const worker *w, int32_t begin, int32_t end) {
  const source_tensor *t = r->job->tensor;
  int8_t *q = w->data;
  OTR_TRY(source_int8(r->maker->source, t, begin, end - begin, q, w->scale));
  for (int32_t i = 0; i < end - begin; ++i) {
    if (w->scale[i] < OTR_FLOAT(OTR_BITS_W_MIN)) {
      w->scale[i] = 0.0f;
      memset(q + (size_t)i * (size_t)t->k, 0, (size_t)t->k);
    }
    w->scale[i] = otr_tidy(w->scale[i] * OTR_FLOAT(OTR_BITS_INV127));
  }
  return OTR_STATUS_OK;
}

static otr_status write_weight(const run *r, const worker *w, size_t first, size_t rows) {
  const row_job *job = r->job;
  size_t n = (size_t)job->tensor->n, row_bytes = (size_t)job->tensor->k * (job->kind == ROW_F16 ? 2 : 1);
  OTR_TRY(otr_gguf_writer_data(r->writer, job->data, first * row_bytes, w->data, rows * row_bytes));
  OTR_TRY(otr_gguf_writer_data(r->writer, job->scale, first * sizeof(float), w->scale, rows * sizeof(float)));
  /* [n_static, rows] to their places in [n_static, n] */
  for (size_t i = 0; i < (size_t)job->n_static; ++i)
    OTR_TRY(otr_gguf_writer_data(r->writer, job->columns, 2 * (i * n + first), w->columns + i * rows, 2 * rows));
  return OTR_STATUS_OK;
}

static otr_status make_block(const run *r, const worker *w, int32_t begin, int32_t end) {
  if (r->job->kind == ROW_F32) return make_f32(r, w, begin, end);
  OTR_TRY(r->job->tensor->is_int8 ? take_int8(r, w, begin, end) : quantize(r, w, begin, end));
  return write_weight(r, w, (size_t)begin, (size_t)(end - begin));
}

static void make_task(void *context, int32_t index, int32_t worker_index) {
  run *r = context;
  int32_t begin = (r->first_block + index) * r->rows, n = r->job->tensor->n;
  int32_t end = n - begin < r->rows ? n : begin + r->rows;
  otr_status status = make_block(r, &r->maker->workers[worker_index], begin, end);
  if (status == OTR_STATUS_OK) return;
  pthread_mutex_lock(&r->lock);
  if (r->status == OTR_STATUS_OK) {
    r->status = status;
    otr_detail_get(r->detail);
  }
  pthread_mutex_unlock(&r->lock);
}

static otr_status run_batches(run *r, row_done_fn done, void *user) {
  row_maker *m = r->maker;
  int32_t blocks = (r->job->tensor->n + r->rows - 1) / r->rows, batch = BATCH * (int32_t)m->n_workers;
  uint64_t told = 0, bytes = r->job->tensor->bytes;
  for (; r->first_block < blocks; r->first_block += batch) {
    int32_t n = blocks - r->first_block < batch ? blocks - r->first_block : batch;
    otr_parallel_begin(m->parallel);
    otr_parallel_run(m->parallel, n, make_task, r);
    otr_parallel_end(m->parallel);
    if (r->status != OTR_STATUS_OK) {
      otr_detail_set(r->detail);
      return r->status;
    }
    uint64_t now = (uint64_t)((double)bytes * (double)(r->first_block + n) / (double)blocks);
    OTR_TRY(done(user, now - told));
    told = now;
  }
  return OTR_STATUS_OK;
}

otr_status row_maker_run(row_maker *m, const row_job *job, otr_gguf_writer *writer, row_done_fn done, void *user) {
  run r = {.maker = m, .job = job, .writer = writer, .rows = block_rows(m, job->tensor)};
  if (pthread_mutex_init(&r.lock, NULL) != 0) return otr_fail(OTR_STATUS_INTERNAL, "a lock cannot be made");
  otr_status status = run_batches(&r, done, user);
  pthread_mutex_destroy(&r.lock);
  return status;
}
