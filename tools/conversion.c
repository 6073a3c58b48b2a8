// SPDX-License-Identifier: Apache-2.0
#include "conversion.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "config.h"
#include "dequantize.h"
#include "gguf.h"
#include "gguf_write.h"
#include "glob.h"
#include "model.h"
#include "numerics.h"
#include "quantize_weights.h"
#include "status.h"

#define PIECE_VALUES (1u << 20) /* values quantized at a time */
#define TASK_ROWS_MIN 8
#define NO_HASH "0000000000000000000000000000000000000000000000000000000000000000"

typedef enum part_kind { PART_WEIGHT, PART_VECTOR } part_kind;

/* A tensor of the source and what becomes of it. */
typedef struct part {
  part_kind kind;
  const otr_gguf_tensor *source;
  otr_row_order order;
  otr_weight_type type;
  int32_t n_static;             /* 0 or k */
  int32_t data, scale, columns; /* numbers in the writer */
} part;

typedef struct conversion {
  const conversion_params *params;
  conversion_result *result;
  otr_memory *memory;
  otr_parallel *parallel;
  otr_file file;
  otr_gguf *gguf;
  otr_config config;
  otr_gguf_writer *writer;
  part *parts; /* [n_parts] in the order of the file */
  int32_t n_parts, room;
  uint64_t done, total; /* source bytes */
  /* one piece */
  uint8_t *data;
  float *scale;
  uint16_t *columns;
  float *scratch; /* [threads, scratch_floats] */
  size_t data_bytes, n_scales, n_columns, scratch_floats, n_scratch;
} conversion;

/* ---- which tensors there are ------------------------------------------------------------------------------------- */

static bool has_columns(const conversion *c, const otr_tensor_rule *rule) {
  /* An embedding that is not the output layer, too, is only read by rows of Eq. */
  return c->params->f16_columns_all != 0 && otr_config_multiplies(&c->config, (otr_role)rule->role);
}

/* Adds the tensor of `name`, where there is one. */
static void add_part(conversion *c, const char *name, part_kind kind, const otr_tensor_rule *rule) {
  const otr_gguf_tensor *source = otr_gguf_find(c->gguf, name);
  if (source == NULL || c->n_parts == c->room) return;
  part *p = &c->parts[c->n_parts++];
  p->kind = kind;
  p->source = source;
  c->total += source->bytes;
  if (rule == NULL) return;
  p->order = otr_config_order(&c->config, rule);
  if (kind == PART_VECTOR) return;
  p->type = otr_glob_any(c->params->keep_f16, c->params->n_keep_f16, name) ? OTR_WEIGHT_F16 : OTR_WEIGHT_INT8;
  p->n_static = p->type == OTR_WEIGHT_INT8 && has_columns(c, rule) ? (int32_t)source->dims[0] : 0;
}

static void add_role(conversion *c, int32_t role, int32_t layer) {
  char name[OTR_NAME_BYTES];
  const otr_tensor_rule *rule = otr_config_role(&c->config, (otr_role)role);
  if (rule == NULL) return;
  otr_tensor_name(name, rule, layer, ".weight");
  add_part(c, name, (rule->flags & OTR_TENSOR_VECTOR) != 0 ? PART_VECTOR : PART_WEIGHT, rule);
  if ((rule->flags & OTR_TENSOR_BIAS) == 0) return;
  otr_tensor_name(name, rule, layer, ".bias");
  add_part(c, name, PART_VECTOR, rule);
}

/* All tensors in the order in which a token meets them. */
static otr_status list_parts(conversion *c) {
  c->room = c->gguf->n_tensors;
  c->parts = otr_memory_take_array(c->memory, (size_t)c->room, sizeof *c->parts);
  if (c->parts == NULL) return OTR_STATUS_NO_MEMORY;
  add_part(c, "rope_freqs.weight", PART_VECTOR, NULL);
  for (int32_t role = OTR_ROLE_TOKEN_EMBD; role < OTR_ROLE_OUTPUT_NORM; ++role) add_role(c, role, 0);
  for (int32_t layer = 0; layer < c->config.n_layers; ++layer)
    for (int32_t role = 0; role < OTR_LAYER_ROLES; ++role) add_role(c, role, layer);
  for (int32_t role = OTR_ROLE_OUTPUT_NORM; role < OTR_ROLES; ++role) add_role(c, role, 0);
  return OTR_STATUS_OK;
}

/* A glob that keeps nothing is a mistake in it. */
static otr_status check_globs(const conversion *c) {
  for (int32_t g = 0; g < c->params->n_keep_f16; ++g) {
    bool found = false;
    for (int32_t i = 0; i < c->n_parts && !found; ++i)
      found = c->parts[i].kind == PART_WEIGHT && otr_glob_matches(c->params->keep_f16[g], c->parts[i].source->name);
    if (!found)
      return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "\"%s\" is the name of no weight to keep in f16",
                      c->params->keep_f16[g]);
  }
  return OTR_STATUS_OK;
}

/* ---- the new file's header --------------------------------------------------------------------------------------- */

static bool is_rewritten(const otr_metadata_value *value) {
  static const char *const keys[] = {"general.alignment", "general.file_type", "general.quantization_version"};
  for (size_t i = 0; i < sizeof keys / sizeof keys[0]; ++i)
    if (otr_metadata_compare(value, keys[i], strlen(keys[i])) == 0) return true;
  return value->key_bytes >= 9 && memcmp(value->key, "outrider.", 9) == 0;
}

static const char *rule_name(otr_rule_kind kind) {
  return kind == OTR_RULE_RELATIVE ? "relative" : kind == OTR_RULE_ABSOLUTE ? "absolute" : "off";
}

static void put_keys(conversion *c, const otr_rule *rule) {
  otr_metadata_value value;
  for (int32_t i = 0; otr_metadata_at(&c->gguf->metadata, i, &value); ++i)
    if (!is_rewritten(&value)) otr_gguf_put_value(c->writer, &value);
  otr_gguf_put_u32(c->writer, "general.file_type", 7);
  otr_gguf_put_u32(c->writer, "general.quantization_version", 2);
  otr_gguf_put_u32(c->writer, "outrider.format.version", 1);
  otr_gguf_put_u32(c->writer, "outrider.contract_revision", OTR_CONTRACT_REVISION);
  otr_gguf_put_string(c->writer, "outrider.outliers.rule", rule_name(rule->kind));
  otr_gguf_put_f32(c->writer, "outrider.outliers.value", rule->value);
  otr_gguf_put_string(c->writer, "outrider.rope.order", "half");
  otr_gguf_put_u32(c->writer, "outrider.verify.tokens", OTR_VERIFY_TOKENS);
  otr_gguf_put_string(c->writer, "outrider.verify.sha256", NO_HASH);
}

static int32_t put_suffixed(conversion *c, const part *p, const char *suffix, uint32_t type, int32_t n_dims,
                            uint64_t first, uint64_t second) {
  char name[OTR_NAME_BYTES + 32];
  const uint64_t dims[2] = {first, second};
  size_t n = strlen(p->source->name); /* at most OTR_NAME_BYTES - 1: it was made by otr_tensor_name */
  memcpy(name, p->source->name, n);
  strcpy(name + n, suffix);
  return otr_gguf_put_tensor(c->writer, name, type, n_dims, dims);
}

static void put_part(conversion *c, part *p) {
  uint64_t k = p->source->dims[0], n = p->source->dims[1];
  if (p->kind == PART_VECTOR) {
    p->data = put_suffixed(c, p, "", OTR_GGML_F32, 1, k, 1);
    return;
  }
  bool is_int8 = p->type == OTR_WEIGHT_INT8;
  p->data = put_suffixed(c, p, "", is_int8 ? OTR_GGML_I8 : OTR_GGML_F16, 2, k, n);
  p->scale = put_suffixed(c, p, ".scale", OTR_GGML_F32, 1, n, 1);
  if (p->n_static > 0) p->columns = put_suffixed(c, p, ".outlier_cols", OTR_GGML_F16, 2, n, k);
  ++*(is_int8 ? &c->result->n_int8 : &c->result->n_f16);
}

static otr_status begin_file(conversion *c) {
  otr_rule rule = c->config.rule;
  OTR_TRY(otr_rule_override(&c->params->outliers, &rule));
  c->result->outliers.value = rule.value;
  c->result->outliers.rule = rule.kind == OTR_RULE_RELATIVE   ? OTR_OUTLIERS_RELATIVE
                             : rule.kind == OTR_RULE_ABSOLUTE ? OTR_OUTLIERS_ABSOLUTE
                                                              : OTR_OUTLIERS_OFF;
  OTR_TRY(otr_gguf_writer_create(c->params->out, 256, &c->writer));
  put_keys(c, &rule);
  for (int32_t i = 0; i < c->n_parts; ++i) put_part(c, &c->parts[i]);
  return otr_gguf_writer_begin(c->writer);
}

/* ---- weights ----------------------------------------------------------------------------------------------------- */

static size_t value_bytes(const part *p) {
  return p->type == OTR_WEIGHT_INT8 ? 1 : sizeof(uint16_t);
}

/* Rows of a piece: about PIECE_VALUES, whole heads where rows change places. */
static int32_t piece_rows(const part *p) {
  uint64_t rows = PIECE_VALUES / p->source->dims[0] + 1, n = p->source->dims[1];
  uint64_t whole = p->order.head_dim > 0 ? (uint64_t)p->order.head_dim : 1;
  rows = (rows + whole - 1) / whole * whole;
  return (int32_t)(rows < n ? rows : n);
}

static size_t larger(size_t a, size_t b) {
  return a > b ? a : b;
}

/* Room for the largest piece of any part. */
static otr_status take_buffers(conversion *c) {
  for (int32_t i = 0; i < c->n_parts; ++i) {
    const part *p = &c->parts[i];
    size_t k = (size_t)p->source->dims[0], rows = p->kind == PART_WEIGHT ? (size_t)piece_rows(p) : 1;
    c->scratch_floats = larger(c->scratch_floats, k);
    c->n_scales = larger(c->n_scales, rows);
    c->data_bytes = larger(c->data_bytes, p->kind == PART_WEIGHT ? rows * k * value_bytes(p) : k * sizeof(float));
    c->n_columns = larger(c->n_columns, rows * (size_t)p->n_static);
  }
  c->n_scratch = (size_t)otr_parallel_threads(c->parallel);
  c->data = otr_memory_take(c->memory, c->data_bytes, 64);
  c->scale = otr_memory_take_array(c->memory, c->n_scales, sizeof *c->scale);
  c->columns = otr_memory_take_array(c->memory, c->n_columns, sizeof *c->columns);
  c->scratch = otr_memory_take_array(c->memory, c->n_scratch, c->scratch_floats * sizeof *c->scratch);
  bool good = c->data != NULL && c->scale != NULL && c->columns != NULL && c->scratch != NULL;
  return good ? OTR_STATUS_OK : OTR_STATUS_NO_MEMORY;
}

static void give_buffers(conversion *c) {
  otr_memory_give(c->memory, c->data, c->data_bytes);
  otr_memory_give_array(c->memory, c->scale, c->n_scales, sizeof *c->scale);
  otr_memory_give_array(c->memory, c->columns, c->n_columns, sizeof *c->columns);
  otr_memory_give_array(c->memory, c->scratch, c->n_scratch, c->scratch_floats * sizeof *c->scratch);
}

/* A piece's rows, shared out over the threads; the first failure is kept. */
typedef struct piece {
  conversion *c;
  const otr_weight_job *job;
  const uint8_t *source;
  int32_t end, task_rows;
  pthread_mutex_t lock;
  otr_status status;
  char detail[OTR_DETAIL_BYTES];
} piece;

static void make_rows(void *context, int32_t index, int32_t worker) {
  piece *run = context;
  int32_t begin = run->job->first + index * run->task_rows;
  int32_t end = begin + run->task_rows < run->end ? begin + run->task_rows : run->end;
  float *scratch = run->c->scratch + (size_t)worker * run->c->scratch_floats;
  otr_status status = otr_weight_make(run->job, run->source, run->job->first, begin, end, scratch);
  if (status == OTR_STATUS_OK) return;
  pthread_mutex_lock(&run->lock);
  if (run->status == OTR_STATUS_OK) {
    run->status = status;
    otr_detail_get(run->detail);
  }
  pthread_mutex_unlock(&run->lock);
}

static otr_status make_piece(conversion *c, const otr_weight_job *job, const uint8_t *source, int32_t end) {
  int32_t rows = end - job->first, tasks = 4 * otr_parallel_threads(c->parallel);
  piece run = {.c = c, .job = job, .source = source, .end = end, .task_rows = (rows + tasks - 1) / tasks};
  if (run.task_rows < TASK_ROWS_MIN) run.task_rows = TASK_ROWS_MIN;
  if (pthread_mutex_init(&run.lock, NULL) != 0) return otr_fail(OTR_STATUS_INTERNAL, "a lock cannot be made");
  otr_parallel_begin(c->parallel);
  otr_parallel_run(c->parallel, (rows + run.task_rows - 1) / run.task_rows, make_rows, &run);
  otr_parallel_end(c->parallel);
  pthread_mutex_destroy(&run.lock);
  if (run.status != OTR_STATUS_OK) otr_detail_set(run.detail);
  return run.status;
}

/* A piece's f16 columns [n_static, rows] to their places in [n_static, n]. */
static otr_status write_columns(const conversion *c, const part *p, size_t first, size_t rows) {
  size_t n = (size_t)p->source->dims[1];
  if (rows == n) return otr_gguf_writer_data(c->writer, p->columns, 0, c->columns, rows * (size_t)p->n_static * 2);
  for (size_t i = 0; i < (size_t)p->n_static; ++i)
    OTR_TRY(otr_gguf_writer_data(c->writer, p->columns, 2 * (i * n + first), c->columns + i * rows, 2 * rows));
  return OTR_STATUS_OK;
}

static otr_status write_piece(const conversion *c, const part *p, size_t first, size_t rows) {
  size_t row_bytes = (size_t)p->source->dims[0] * value_bytes(p);
  OTR_TRY(otr_gguf_writer_data(c->writer, p->data, first * row_bytes, c->data, rows * row_bytes));
  OTR_TRY(otr_gguf_writer_data(c->writer, p->scale, first * sizeof(float), c->scale, rows * sizeof(float)));
  return p->n_static > 0 ? write_columns(c, p, first, rows) : OTR_STATUS_OK;
}

static otr_status tell_progress(conversion *c, uint64_t bytes) {
  c->done += bytes;
  if (c->params->progress == NULL || c->params->progress(c->params->progress_user, c->done, c->total) == 0)
    return OTR_STATUS_OK;
  return otr_fail(OTR_STATUS_CANCELLED, "cancelled");
}

static otr_status convert_weight(conversion *c, const part *p) {
  const otr_gguf_tensor *t = p->source;
  int32_t n = (int32_t)t->dims[1], step = piece_rows(p);
  for (int32_t first = 0; first < n; first += step) {
    int32_t end = n - first < step ? n : first + step;
    const otr_weight_job job = {.name = t->name,
                                .ggml_type = t->type,
                                .source_row_bytes = (size_t)t->row_bytes,
                                .n = n,
                                .k = (int32_t)t->dims[0],
                                .order = p->order,
                                .type = p->type,
                                .data = c->data,
                                .row_stride = (int64_t)t->dims[0],
                                .scale = c->scale,
                                .n_static = p->n_static,
                                .static_cols = p->n_static > 0 ? c->columns : NULL,
                                .static_stride = end - first,
                                .first = first};
    const uint8_t *source = otr_file_address(&c->file) + t->offset + (uint64_t)first * t->row_bytes;
    OTR_TRY(make_piece(c, &job, source, end));
    OTR_TRY(write_piece(c, p, (size_t)first, (size_t)(end - first)));
    OTR_TRY(tell_progress(c, (uint64_t)(end - first) * t->row_bytes));
  }
  return OTR_STATUS_OK;
}

/* Gains, biases, RoPE divisors: f32 as they are, in order. */
static otr_status convert_vector(conversion *c, const part *p) {
  const otr_gguf_tensor *t = p->source;
  float *values = (float *)(void *)c->data;
  if (!otr_dequantize_row(c->scratch, otr_file_address(&c->file) + t->offset, t->type, (size_t)t->dims[0]))
    return otr_fail(OTR_STATUS_BAD_FORMAT, "tensor %s holds a value that is not finite", t->name);
  for (int32_t i = 0; i < (int32_t)t->dims[0]; ++i) values[i] = c->scratch[otr_row_source(p->order, i)];
  OTR_TRY(otr_gguf_writer_data(c->writer, p->data, 0, values, (size_t)t->dims[0] * sizeof *values));
  return tell_progress(c, t->bytes);
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

/* Opens the finished file for its logits hash and writes that into it. */
static otr_status fill_in_hash(conversion *c) {
  const char *path = otr_gguf_writer_part(c->writer);
  otr_model *model;
  char expected[65];
  OTR_TRY(otr_model_open_file(c->params->runtime, path, NULL, &model));
  otr_status status = otr_model_verify(model, expected, c->result->sha256);
  otr_model_close(model);
  if (status == OTR_STATUS_UNSUPPORTED && c->result->sha256[0] != '\0')
    status = OTR_STATUS_OK; /* it carries none yet */
  if (status != OTR_STATUS_OK) return otr_fail_in(status, "the converted model does not run");
  return otr_gguf_writer_set_string(c->writer, "outrider.verify.sha256", c->result->sha256);
}

static otr_status read_source(conversion *c) {
  const otr_source source = {.kind = OTR_SOURCE_PATH, .path = c->params->in};
  otr_model_params params = OTR_MODEL_PARAMS_INIT;
  otr_plan_info plan = {.struct_size = sizeof plan};
  OTR_TRY(otr_file_open(&source, false, &c->file));
  OTR_TRY(otr_gguf_read(&c->file, c->memory, &c->gguf));
  otr_status status = otr_config_read(c->gguf, &c->config);
  if (status != OTR_STATUS_OK) return otr_fail_in(status, "%s", c->file.name);
  if (c->config.converted)
    return otr_fail(OTR_STATUS_UNSUPPORTED, "%s is converted already: convert the file that it was made from",
                    c->file.name);
  /* The loader's own checks of names, shapes and types, before anything is written. */
  OTR_TRY(otr_model_plan(c->params->runtime, &source, &params, NULL, &plan));
  c->result->source_bytes = plan.file_bytes;
  OTR_TRY(list_parts(c));
  return check_globs(c);
}

static otr_status refuse_same_file(const conversion_params *params) {
  struct stat in, out;
  if (stat(params->in, &in) != 0 || stat(params->out, &out) != 0) return OTR_STATUS_OK;
  if (in.st_dev != out.st_dev || in.st_ino != out.st_ino) return OTR_STATUS_OK;
  return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "%s: source and result are the same file", params->out);
}

static otr_status convert(conversion *c) {
  OTR_TRY(refuse_same_file(c->params));
  OTR_TRY(read_source(c));
  OTR_TRY(take_buffers(c));
  OTR_TRY(begin_file(c));
  for (int32_t i = 0; i < c->n_parts; ++i) {
    const part *p = &c->parts[i];
    OTR_TRY(p->kind == PART_WEIGHT ? convert_weight(c, p) : convert_vector(c, p));
  }
  OTR_TRY(fill_in_hash(c));
  c->result->bytes = otr_gguf_writer_bytes(c->writer);
  return otr_gguf_writer_finish(c->writer);
}

otr_status conversion_run(const conversion_params *params, conversion_result *result) {
  memset(result, 0, sizeof *result);
  otr_memory memory; /* not the runtime's: its peak is the model's affair */
  otr_memory_init(&memory, NULL);
  conversion c = {.params = params, .result = result, .memory = &memory, .parallel = params->runtime->parallel};
  otr_status status = convert(&c);
  otr_gguf_writer_destroy(c.writer);
  give_buffers(&c);
  otr_memory_give_array(&memory, c.parts, (size_t)c.room, sizeof *c.parts);
  otr_gguf_destroy(c.gguf);
  if (c.file.name[0] != '\0') otr_file_close(&c.file);
  return status;
}
