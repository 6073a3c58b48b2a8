// SPDX-License-Identifier: Apache-2.0
#include "conversion.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "glob.h"
#include "model.h"
#include "numerics.h"
#include "row_maker.h"
#include "source.h"
#include "status.h"

#define NO_HASH "0000000000000000000000000000000000000000000000000000000000000000"

typedef struct conversion {
  const conversion_params *params;
  conversion_result *result;
  otr_memory *memory;
  const source *source;
  source *own; /* `source`, where it was opened here */
  otr_gguf_writer *writer;
  row_job *jobs;                     /* [n_jobs] in the order of the file */
  const conversion_linear **linears; /* [n_jobs] or NULL each */
  int32_t n_jobs;
  row_maker *maker;
  uint64_t done, total; /* source bytes */
} conversion;

/* ---- what becomes of each tensor --------------------------------------------------------------------------------- */

static const conversion_linear *find_linear(const conversion_params *params, const char *name) {
  for (int32_t i = 0; i < params->n_linears; ++i)
    if (strcmp(params->linears[i].name, name) == 0) return &params->linears[i];
  return NULL;
}

/* Weights beside int8 ones of bitsandbytes were left in f16 there; all others become int8. */
static bool is_kept(const conversion *c, const source_tensor *t, bool is_bnb) {
  return otr_glob_any(c->params->keep_f16, c->params->n_keep_f16, t->name) || (is_bnb && !t->is_int8);
}

static void plan_weight(const conversion *c, row_job *job, const conversion_linear *linear, bool is_bnb) {
  const source_tensor *t = job->tensor;
  job->kind = is_kept(c, t, is_bnb) ? ROW_F16 : ROW_INT8;
  /* int8 rows have no finer columns; an embedding that is no output layer is only read by rows of Eq. */
  if (job->kind == ROW_F16 || t->is_int8 || !otr_config_multiplies(source_config(c->source), (otr_role)t->rule->role))
    return;
  if (c->params->f16_columns_all != 0) {
    job->n_static = t->k;
  } else if (linear != NULL) {
    job->n_static = linear->n_columns;
    job->static_index = linear->n_columns < t->k ? linear->columns : NULL;
  }
}

static otr_status plan(conversion *c) {
  bool is_bnb = false;
  c->n_jobs = source_count(c->source);
  c->jobs = otr_memory_take_array(c->memory, (size_t)c->n_jobs, sizeof *c->jobs);
  c->linears = otr_memory_take_array(c->memory, (size_t)c->n_jobs, sizeof *c->linears);
  if (c->jobs == NULL || c->linears == NULL) return OTR_STATUS_NO_MEMORY;
  for (int32_t i = 0; i < c->n_jobs; ++i) is_bnb = is_bnb || source_at(c->source, i)->is_int8;
  for (int32_t i = 0; i < c->n_jobs; ++i) {
    const source_tensor *t = c->jobs[i].tensor = source_at(c->source, i);
    c->total += t->bytes;
    if (t->is_vector || t->is_table) continue; /* ROW_F32 */
    c->linears[i] = find_linear(c->params, t->name);
    plan_weight(c, &c->jobs[i], c->linears[i], is_bnb);
  }
  return OTR_STATUS_OK;
}

/* A glob that keeps nothing is a mistake in it. */
static otr_status check_globs(const conversion *c) {
  for (int32_t g = 0; g < c->params->n_keep_f16; ++g) {
    bool found = false;
    for (int32_t i = 0; i < c->n_jobs && !found; ++i)
      found = c->jobs[i].kind != ROW_F32 && otr_glob_matches(c->params->keep_f16[g], c->jobs[i].tensor->name);
    if (!found)
      return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "\"%s\" is the name of no weight to keep in f16",
                      c->params->keep_f16[g]);
  }
  return OTR_STATUS_OK;
}

/* ---- the new file's keys ----------------------------------------------------------------------------------------- */

/* Keys that describe how a file was quantized. */
static bool is_rewritten(const otr_metadata_value *value) {
  static const char *const keys[] = {"general.alignment", "general.file_type", "general.quantization_version",
                                     "outrider.rope.order"};
  for (size_t i = 0; i < sizeof keys / sizeof keys[0]; ++i)
    if (otr_metadata_compare(value, keys[i], strlen(keys[i])) == 0) return true;
  static const char *const groups[] = {"outrider.format.", "outrider.contract", "outrider.outliers.",
                                       "outrider.verify."};
  for (size_t i = 0; i < sizeof groups / sizeof groups[0]; ++i)
    if (value->key_bytes >= strlen(groups[i]) && memcmp(value->key, groups[i], strlen(groups[i])) == 0) return true;
  return false;
}

static const char *rule_name(int32_t rule) {
  static const char *const names[] = {"relative", "relative", "absolute", "off"};
  return names[rule];
}

static otr_outliers outliers_of(otr_rule rule) {
  otr_outliers o = {.value = rule.value};
  o.rule = rule.kind == OTR_RULE_RELATIVE   ? OTR_OUTLIERS_RELATIVE
           : rule.kind == OTR_RULE_ABSOLUTE ? OTR_OUTLIERS_ABSOLUTE
                                            : OTR_OUTLIERS_OFF;
  return o;
}

/* The rule of one job's linear, where it has one of its own: what the caller says of it, or a bitsandbytes threshold.
 */
static otr_status own_rule(const conversion *c, int32_t i, otr_outliers *out) {
  const source_tensor *t = c->jobs[i].tensor;
  *out = (otr_outliers){0};
  if (c->params->outliers.rule != OTR_OUTLIERS_DEFAULT || c->jobs[i].kind != ROW_INT8) return OTR_STATUS_OK;
  if (c->linears[i] != NULL && c->linears[i]->outliers.rule != OTR_OUTLIERS_DEFAULT) {
    otr_rule rule;
    OTR_TRY(otr_rule_override(&c->linears[i]->outliers, &rule));
    *out = outliers_of(rule);
  } else if (t->is_int8) {
    out->rule = t->threshold > 0.0f ? OTR_OUTLIERS_ABSOLUTE : OTR_OUTLIERS_OFF;
    out->value = t->threshold;
  }
  return OTR_STATUS_OK;
}

static void put_rules(conversion *c, uint64_t n, const char **strings, float *values) {
  if (n == 0) return;
  otr_gguf_put_strings(c->writer, "outrider.outliers.names", n, strings, NULL);
  otr_gguf_put_strings(c->writer, "outrider.outliers.rules", n, strings + c->n_jobs, NULL);
  otr_gguf_put_array(c->writer, "outrider.outliers.values", OTR_METADATA_F32, n, values);
}

/* The rules of linears that have one of their own, as three arrays of one length. */
static otr_status put_own_rules(conversion *c) {
  size_t room = (size_t)c->n_jobs;
  const char **strings = otr_memory_take_array(c->memory, 2 * room, sizeof *strings); /* names, then rules */
  float *values = otr_memory_take_array(c->memory, room, sizeof *values);
  otr_status status = strings != NULL && values != NULL ? OTR_STATUS_OK : OTR_STATUS_NO_MEMORY;
  uint64_t n = 0;
  for (int32_t i = 0; i < c->n_jobs && status == OTR_STATUS_OK; ++i) {
    otr_outliers o;
    status = own_rule(c, i, &o);
    if (status != OTR_STATUS_OK || o.rule == OTR_OUTLIERS_DEFAULT) continue;
    strings[n] = c->jobs[i].tensor->name;
    strings[room + n] = rule_name(o.rule);
    values[n++] = o.value;
  }
  if (status == OTR_STATUS_OK) put_rules(c, n, strings, values);
  otr_memory_give_array(c->memory, strings, 2 * room, sizeof *strings);
  otr_memory_give_array(c->memory, values, room, sizeof *values);
  return status;
}

static otr_status put_keys(conversion *c) {
  otr_metadata_value value;
  const otr_metadata *metadata = &source_gguf(c->source)->metadata;
  for (int32_t i = 0; otr_metadata_at(metadata, i, &value); ++i)
    if (!is_rewritten(&value)) otr_gguf_put_value(c->writer, &value);
  otr_gguf_put_u32(c->writer, "general.file_type", 7);
  otr_gguf_put_u32(c->writer, "general.quantization_version", 2);
  otr_gguf_put_u32(c->writer, "outrider.format.version", 1);
  otr_gguf_put_u32(c->writer, "outrider.contract_revision", OTR_CONTRACT_REVISION);
  otr_gguf_put_string(c->writer, "outrider.outliers.rule", rule_name(c->result->outliers.rule));
  otr_gguf_put_f32(c->writer, "outrider.outliers.value", c->result->outliers.value);
  OTR_TRY(put_own_rules(c));
  otr_gguf_put_string(c->writer, "outrider.rope.order", "half");
  otr_gguf_put_u32(c->writer, "outrider.verify.tokens", (uint32_t)otr_verify_count(source_config(c->source)));
  otr_gguf_put_string(c->writer, "outrider.verify.sha256", NO_HASH);
  return OTR_STATUS_OK;
}

/* ---- the new file's tensors -------------------------------------------------------------------------------------- */

static int32_t put_suffixed(conversion *c, const row_job *job, const char *suffix, uint32_t type, int32_t n_dims,
                            uint64_t first, uint64_t second) {
  char name[OTR_NAME_BYTES + 32];
  const uint64_t dims[2] = {first, second};
  size_t n = strlen(job->tensor->name); /* less than OTR_NAME_BYTES */
  memcpy(name, job->tensor->name, n);
  strcpy(name + n, suffix);
  return otr_gguf_put_tensor(c->writer, name, type, n_dims, dims);
}

static void put_job(conversion *c, row_job *job) {
  uint64_t k = (uint64_t)job->tensor->k, n = (uint64_t)job->tensor->n;
  if (job->kind == ROW_F32) {
    job->data = put_suffixed(c, job, "", OTR_GGML_F32, job->tensor->is_vector ? 1 : 2, k, n);
    return;
  }
  bool is_int8 = job->kind == ROW_INT8;
  job->data = put_suffixed(c, job, "", is_int8 ? OTR_GGML_I8 : OTR_GGML_F16, 2, k, n);
  job->scale = put_suffixed(c, job, ".scale", OTR_GGML_F32, 1, n, 1);
  if (job->n_static > 0)
    job->columns = put_suffixed(c, job, ".outlier_cols", OTR_GGML_F16, 2, n, (uint64_t)job->n_static);
  if (job->static_index != NULL)
    job->index = put_suffixed(c, job, ".outlier_index", OTR_GGML_I32, 1, (uint64_t)job->n_static, 1);
  ++*(is_int8 ? &c->result->n_int8 : &c->result->n_f16);
}

static otr_status begin_file(conversion *c) {
  otr_rule rule = source_config(c->source)->rule;
  OTR_TRY(otr_rule_override(&c->params->outliers, &rule));
  c->result->outliers = outliers_of(rule);
  OTR_TRY(otr_gguf_writer_create(c->params->out, 256, &c->writer));
  OTR_TRY(put_keys(c));
  for (int32_t i = 0; i < c->n_jobs; ++i) put_job(c, &c->jobs[i]);
  return otr_gguf_writer_begin(c->writer);
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

static otr_status tell_progress(void *user, uint64_t bytes) {
  conversion *c = user;
  c->done += bytes;
  if (c->params->progress == NULL || c->params->progress(c->params->progress_user, c->done, c->total) == 0)
    return OTR_STATUS_OK;
  return otr_fail(OTR_STATUS_CANCELLED, "cancelled");
}

static otr_status make_all(conversion *c) {
  for (int32_t i = 0; i < c->n_jobs; ++i) {
    const row_job *job = &c->jobs[i];
    if (job->static_index != NULL)
      OTR_TRY(
          otr_gguf_writer_data(c->writer, job->index, 0, job->static_index, (size_t)job->n_static * sizeof(int32_t)));
    OTR_TRY(row_maker_run(c->maker, job, c->writer, tell_progress, c));
  }
  return OTR_STATUS_OK;
}

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

static otr_status refuse_same_file(const conversion *c) {
  struct stat in, out;
  const char *path = c->params->out;
  if (stat(source_path(c->source), &in) != 0 || stat(path, &out) != 0) return OTR_STATUS_OK;
  if (in.st_dev != out.st_dev || in.st_ino != out.st_ino) return OTR_STATUS_OK;
  return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "%s: source and result are the same file", path);
}

/* All that is told to be wrong before anything is computed. */
static otr_status begin(conversion *c) {
  if (c->source == NULL) {
    OTR_TRY(source_open(c->params->in, c->memory, &c->own));
    c->source = c->own;
  }
  OTR_TRY(refuse_same_file(c));
  OTR_TRY(plan(c));
  return check_globs(c);
}

static otr_status convert(conversion *c) {
  OTR_TRY(begin(c));
  c->result->source_bytes = source_bytes(c->source);
  OTR_TRY(row_maker_create(c->source, c->jobs, c->n_jobs, c->params->runtime->parallel, c->memory, &c->maker));
  OTR_TRY(begin_file(c));
  OTR_TRY(make_all(c));
  OTR_TRY(fill_in_hash(c));
  OTR_TRY(tell_progress(c, 0)); /* the last chance to end without a file */
  c->result->bytes = otr_gguf_writer_bytes(c->writer);
  return otr_gguf_writer_finish(c->writer);
}

static otr_status with_conversion(const conversion_params *params, conversion_result *result,
                                  otr_status (*run)(conversion *c)) {
  memset(result, 0, sizeof *result);
  otr_memory memory; /* not the runtime's: its peak is the model's affair */
  otr_memory_init(&memory, NULL);
  conversion c = {.params = params, .result = result, .memory = &memory, .source = params->source};
  otr_status status = run(&c);
  otr_gguf_writer_destroy(c.writer);
  row_maker_destroy(c.maker);
  otr_memory_give_array(&memory, c.jobs, (size_t)c.n_jobs, sizeof *c.jobs);
  otr_memory_give_array(&memory, c.linears, (size_t)c.n_jobs, sizeof *c.linears);
  source_close(c.own);
  return status;
}

otr_status conversion_check(const conversion_params *params) {
  conversion_result none;
  return with_conversion(params, &none, begin);
}

otr_status conversion_run(const conversion_params *params, conversion_result *result) {
  return with_conversion(params, result, convert);
}
