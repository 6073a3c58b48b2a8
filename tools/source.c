// SPDX-License-Identifier: Apache-2.0
#include "source.h"

#include <string.h>
#include <sys/stat.h>

#include "hf_model.h"
#include "status.h"

static const char *const divisors[] = {"rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"};
#define N_DIVISORS ((int32_t)(sizeof divisors / sizeof divisors[0]))

struct source {
  char *path;
  size_t path_bytes;
  otr_memory *memory;
  otr_file file; /* a GGUF file ... */
  otr_gguf *file_gguf;
  hf_model model; /* ... or a directory */
  int32_t is_directory;
  const otr_gguf *gguf; /* of either */
  otr_config config;
  source_tensor *tensors; /* [n] */
  origin *origins;        /* [n] */
  uint8_t *used;          /* [gguf->n_tensors] */
  int32_t n, room;
};

/* ---- one tensor -------------------------------------------------------------------------------------------------- */

/* Where a tensor of the GGUF lies: in its file, or where the directory's model says. */
static otr_status origin_of(const source *s, const otr_gguf_tensor *t, origin *o) {
  if (s->is_directory) {
    *o = s->model.origins[t - s->gguf->tensors];
    return OTR_STATUS_OK;
  }
  bool is_vector = t->dims[1] == 1 && t->dims[2] == 1 && t->dims[3] == 1;
  *o = (origin){.file = s->path,
                .name = t->name,
                .data = otr_file_address(&s->file) + t->offset,
                .type = t->type,
                .rows = (int32_t)t->dims[is_vector ? 0 : 1],
                .k = is_vector ? 1 : (int32_t)t->dims[0]};
  if (origin_type_supported(t->type)) return OTR_STATUS_OK;
  return otr_fail(OTR_STATUS_UNSUPPORTED, "tensor %s has type %s, which is not supported", t->name,
                  otr_ggml_type_name(t->type));
}

/* Bytes that `values` values take in the source. */
static uint64_t stored_bytes(const origin *o, uint64_t values) {
  return o->type == OTR_GGML_I8 ? values : origin_row_bytes(o->type, values);
}

static otr_status append(source *s, const source_tensor *tensor, const origin *o) {
  if (s->n == s->room) return otr_fail(OTR_STATUS_INTERNAL, "tensor %s: no room", tensor->name);
  s->tensors[s->n] = *tensor;
  s->tensors[s->n].bytes = stored_bytes(o, (uint64_t)tensor->n * (uint64_t)tensor->k);
  s->tensors[s->n].is_int8 = o->absmax != NULL;
  s->tensors[s->n].threshold = o->absmax == NULL ? 0.0f : s->model.shape.is_bnb ? s->model.shape.bnb_threshold : 6.0f;
  s->origins[s->n++] = *o;
  return OTR_STATUS_OK;
}

/* ---- all tensors ------------------------------------------------------------------------------------------------- */

/* The weight of a rule, or its bias. A view into a fused tensor of a GGUF begins at row `first` of it. */
static otr_status add_view(source *s, const otr_tensor_rule *rule, int32_t layer, bool bias) {
  otr_tensor_view view;
  origin o;
  OTR_TRY(otr_config_view(&s->config, s->gguf, rule, layer, bias, &view));
  if (view.tensor == NULL) return OTR_STATUS_OK;
  s->used[view.tensor - s->gguf->tensors] = 1;
  OTR_TRY(origin_of(s, view.tensor, &o));
  source_tensor t = {.rule = rule, .layer = layer, .is_bias = bias, .n = view.n, .k = view.k};
  t.is_table = !bias && (rule->flags & OTR_TENSOR_TABLE) != 0;
  t.is_vector = bias || (rule->flags & OTR_TENSOR_VECTOR) != 0;
  if (t.is_vector && o.k > 1) { /* gains of all heads as a matrix */
    o.rows *= o.k;
    o.k = 1;
  }
  if (!s->is_directory) o.slice = (origin_slice){view.first, t.is_vector ? view.k : view.n, o.rows};
  o.order = otr_config_order(&s->config, rule);
  otr_tensor_name(t.name, rule, layer, bias ? ".bias" : ".weight");
  return append(s, &t, &o);
}

static otr_status add_role(source *s, int32_t role, int32_t layer) {
  const otr_tensor_rule *rule = otr_config_role(&s->config, (otr_role)role);
  if (rule == NULL) return OTR_STATUS_OK;
  OTR_TRY(add_view(s, rule, layer, false));
  return (rule->flags & OTR_TENSOR_BIAS) != 0 ? add_view(s, rule, layer, true) : OTR_STATUS_OK;
}

static otr_status add_divisors(source *s) {
  for (int32_t i = 0; i < N_DIVISORS; ++i) {
    const otr_gguf_tensor *t = otr_gguf_find(s->gguf, divisors[i]);
    if (t == NULL) continue;
    origin o;
    if (t->n_dims != 1 || t->dims[0] > OTR_MAX_ROT / 2)
      return otr_fail(OTR_STATUS_BAD_FORMAT, "tensor %s is no list of RoPE divisors", t->name);
    OTR_TRY(origin_of(s, t, &o));
    s->used[t - s->gguf->tensors] = 1;
    source_tensor tensor = {.is_vector = 1, .n = 1, .k = (int32_t)t->dims[0]};
    strcpy(tensor.name, divisors[i]);
    OTR_TRY(append(s, &tensor, &o));
  }
  return OTR_STATUS_OK;
}

static otr_status check_used(const source *s) {
  for (int32_t i = 0; i < s->gguf->n_tensors; ++i)
    if (!s->used[i])
      return otr_fail(OTR_STATUS_UNSUPPORTED, "tensor %s belongs to no part of a %s model that is known",
                      s->gguf->tensors[i].name, s->config.arch->name);
  return OTR_STATUS_OK;
}

/* In the order in which a token meets them. */
static otr_status list(source *s) {
  if (s->config.n_layers > s->gguf->n_tensors)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "%d layers, but %d tensors", (int)s->config.n_layers,
                    (int)s->gguf->n_tensors);
  s->room = 3 * s->gguf->n_tensors; /* a fused tensor has three parts at most */
  s->tensors = otr_memory_take_array(s->memory, (size_t)s->room, sizeof *s->tensors);
  s->origins = otr_memory_take_array(s->memory, (size_t)s->room, sizeof *s->origins);
  s->used = otr_memory_take_array(s->memory, (size_t)s->gguf->n_tensors, 1);
  if (s->tensors == NULL || s->origins == NULL || s->used == NULL) return OTR_STATUS_NO_MEMORY;
  OTR_TRY(add_divisors(s));
  for (int32_t role = OTR_LAYER_ROLES; role <= OTR_ROLE_TOKEN_EMBD_NORM; ++role) OTR_TRY(add_role(s, role, 0));
  for (int32_t layer = 0; layer < s->config.n_layers; ++layer)
    for (int32_t role = 0; role < OTR_LAYER_ROLES; ++role) OTR_TRY(add_role(s, role, layer));
  for (int32_t role = OTR_ROLE_TOKEN_EMBD_NORM + 1; role < OTR_ROLES; ++role) OTR_TRY(add_role(s, role, 0));
  return check_used(s);
}

/* ---- opening ----------------------------------------------------------------------------------------------------- */

static otr_status open_file(source *s) {
  const otr_source from = {.kind = OTR_SOURCE_PATH, .path = s->path};
  OTR_TRY(otr_file_open(&from, false, &s->file));
  OTR_TRY(otr_gguf_read(&s->file, s->memory, &s->file_gguf));
  s->gguf = s->file_gguf;
  return OTR_STATUS_OK;
}

static otr_status open_directory(source *s) {
  OTR_TRY(hf_model_open(s->path, s->memory, &s->model));
  s->gguf = s->model.gguf;
  return OTR_STATUS_OK;
}

static otr_status read_model(source *s) {
  OTR_TRY(otr_config_read(s->gguf, &s->config));
  if (s->config.converted)
    return otr_fail(OTR_STATUS_UNSUPPORTED, "it is converted already: take the source model that it was made from");
  if (s->is_directory) s->config.rotated_order = 1; /* Hugging Face's pairs are (j, j + n_rot/2) everywhere */
  return list(s);
}

static otr_status open_path(source *s, const char *path) {
  struct stat info;
  s->path_bytes = strlen(path) + 1;
  s->path = otr_memory_take(s->memory, s->path_bytes, 1);
  if (s->path == NULL) return OTR_STATUS_NO_MEMORY;
  memcpy(s->path, path, s->path_bytes);
  s->is_directory = stat(path, &info) == 0 && S_ISDIR(info.st_mode);
  OTR_TRY(s->is_directory ? open_directory(s) : open_file(s));
  otr_status status = read_model(s);
  return status == OTR_STATUS_OK ? status : otr_fail_in(status, "%s", path);
}

otr_status source_open(const char *path, otr_memory *memory, source **out) {
  *out = NULL;
  source *s = otr_memory_take_array(memory, 1, sizeof *s);
  if (s == NULL) return OTR_STATUS_NO_MEMORY;
  s->memory = memory;
  otr_status status = open_path(s, path);
  if (status == OTR_STATUS_OK) {
    *out = s;
  } else {
    source_close(s);
  }
  return status;
}

void source_close(source *s) {
  if (s == NULL) return;
  otr_memory *memory = s->memory;
  otr_memory_give_array(memory, s->tensors, (size_t)s->room, sizeof *s->tensors);
  otr_memory_give_array(memory, s->origins, (size_t)s->room, sizeof *s->origins);
  if (s->gguf != NULL) otr_memory_give_array(memory, s->used, (size_t)s->gguf->n_tensors, 1);
  otr_gguf_destroy(s->file_gguf);
  otr_file_close(&s->file);
  hf_model_close(&s->model);
  otr_memory_give(memory, s->path, s->path_bytes);
  otr_memory_give_array(memory, s, 1, sizeof *s);
}

/* ---- asking ------------------------------------------------------------------------------------------------------ */

const char *source_path(const source *s) {
  return s->path;
}

int32_t source_is_directory(const source *s) {
  return s->is_directory;
}

uint64_t source_bytes(const source *s) {
  return s->is_directory ? s->model.files.bytes : s->file.bytes;
}

const otr_gguf *source_gguf(const source *s) {
  return s->gguf;
}

const otr_config *source_config(const source *s) {
  return &s->config;
}

int32_t source_count(const source *s) {
  return s->n;
}

const source_tensor *source_at(const source *s, int32_t index) {
  return &s->tensors[index];
}

const source_tensor *source_find(const source *s, const char *name) {
  for (int32_t i = 0; i < s->n; ++i)
    if (strcmp(s->tensors[i].name, name) == 0) return &s->tensors[i];
  return NULL;
}

otr_status source_rows(const source *s, const source_tensor *tensor, int32_t first, int32_t count, float *out) {
  const origin *o = &s->origins[tensor - s->tensors];
  /* A vector's values are the rows of its origin. */
  return tensor->is_vector ? origin_rows(o, first * tensor->k, count * tensor->k, out)
                           : origin_rows(o, first, count, out);
}

otr_status source_int8(const source *s, const source_tensor *tensor, int32_t first, int32_t count, int8_t *q,
                       float *absmax) {
  return origin_int8(&s->origins[tensor - s->tensors], first, count, q, absmax);
}
