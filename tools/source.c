// SPDX-License-Identifier: Apache-2.0
#include "source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "dequantize.h"
#include "io.h"
#include "quantize_weights.h"
#include "status.h"

typedef struct entry {
  source_tensor tensor;
  otr_tensor_view view;
  otr_row_order order;
} entry;

struct source {
  otr_memory *memory;
  otr_file file;
  otr_gguf *gguf;
  otr_config config;
  entry *entries;
  int32_t n, room;
  char path[512];
};

static otr_status add(source *s, const otr_tensor_rule *rule, int32_t layer, const char *name, bool is_bias,
                      const otr_tensor_view *view) {
  if (!view->tensor || s->n == s->room) return OTR_STATUS_OK;
  entry *e = &s->entries[s->n++];
  source_tensor *t = &e->tensor;
  e->view = *view;
  if (rule) e->order = otr_config_order(&s->config, rule);
  snprintf(t->name, sizeof t->name, "%s", name);
  t->rule = rule;
  t->layer = layer;
  t->is_bias = is_bias;
  t->is_vector = !rule || is_bias || (rule->flags & OTR_TENSOR_VECTOR) != 0;
  t->n = view->n;
  t->k = view->k;
  t->bytes = t->is_vector ? view->tensor->bytes : (uint64_t)t->n * view->tensor->row_bytes;
  if (otr_dequantize_supported(view->tensor->type)) return OTR_STATUS_OK;
  return otr_fail(OTR_STATUS_UNSUPPORTED,
                  "%s: tensor %s is of type %s: this needs the source model, not a converted one", s->path,
                  view->tensor->name, otr_ggml_type_name(view->tensor->type));
}

static otr_status add_role(source *s, int32_t role, int32_t layer) {
  const otr_tensor_rule *rule = otr_config_role(&s->config, (otr_role)role);
  for (int32_t bias = 0; rule && bias < 2; bias++) {
    char name[OTR_NAME_BYTES];
    otr_tensor_view view;
    otr_tensor_name(name, rule, layer, bias ? ".bias" : ".weight");
    otr_status status = otr_config_view(&s->config, s->gguf, rule, layer, bias != 0, &view);
    if (status != OTR_STATUS_OK) return otr_fail_in(status, "%s", s->path);
    OTR_TRY(add(s, rule, layer, name, bias != 0, &view));
  }
  return OTR_STATUS_OK;
}

/* RoPE's divisors that are tensors. */
static otr_status add_factors(source *s, const char *name) {
  otr_tensor_view view = {.tensor = otr_gguf_find(s->gguf, name), .n = 1, .k = s->config.n_rot / 2};
  if (view.tensor && (view.tensor->dims[0] != (uint64_t)view.k || view.tensor->dims[1] != 1))
    return otr_fail(OTR_STATUS_BAD_FORMAT, "%s: tensor %s is not %d values", s->path, name, (int)view.k);
  return add(s, NULL, 0, name, false, &view);
}

static otr_status list(source *s) {
  s->room = 4 * s->gguf->n_tensors; /* a fused one is up to three */
  s->entries = otr_memory_take_array(s->memory, (size_t)s->room, sizeof *s->entries);
  if (!s->entries) return OTR_STATUS_NO_MEMORY;
  OTR_TRY(add_factors(s, "rope_freqs.weight"));
  OTR_TRY(add_factors(s, "rope_factors_short.weight"));
  OTR_TRY(add_factors(s, "rope_factors_long.weight"));
  for (int32_t role = OTR_ROLE_TOKEN_EMBD; role < OTR_ROLE_OUTPUT_NORM; role++) OTR_TRY(add_role(s, role, 0));
  for (int32_t layer = 0; layer < s->config.n_layers; layer++)
    for (int32_t role = 0; role < OTR_LAYER_ROLES; role++) OTR_TRY(add_role(s, role, layer));
  for (int32_t role = OTR_ROLE_OUTPUT_NORM; role < OTR_ROLES; role++) OTR_TRY(add_role(s, role, 0));
  return OTR_STATUS_OK;
}

static otr_status open(source *s) {
  otr_source where = {.kind = OTR_SOURCE_PATH, .path = s->path};
  OTR_TRY(otr_file_open(&where, false, &s->file));
  OTR_TRY(otr_gguf_read(&s->file, s->memory, &s->gguf));
  OTR_TRY(otr_config_read(s->gguf, &s->config));
  return list(s);
}

otr_status source_open(const char *path, otr_memory *memory, source **out) {
  *out = NULL;
  source *s = otr_memory_take_array(memory, 1, sizeof *s);
  if (!s) return OTR_STATUS_NO_MEMORY;
  s->memory = memory;
  snprintf(s->path, sizeof s->path, "%s", path);
  otr_status status = open(s);
  if (status != OTR_STATUS_OK) {
    source_close(s);
    return status;
  }
  *out = s;
  return OTR_STATUS_OK;
}

void source_close(source *s) {
  if (!s) return;
  if (s->entries) otr_memory_give_array(s->memory, s->entries, (size_t)s->room, sizeof *s->entries);
  otr_gguf_destroy(s->gguf);
  otr_file_close(&s->file);
  otr_memory_give_array(s->memory, s, 1, sizeof *s);
}

const char *source_path(const source *s) {
  return s->path;
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
  return index >= 0 && index < s->n ? &s->entries[index].tensor : NULL;
}

const source_tensor *source_find(const source *s, const char *name) {
  for (int32_t i = 0; i < s->n; i++)
    if (strcmp(s->entries[i].tensor.name, name) == 0) return &s->entries[i].tensor;
  return NULL;
}

static otr_status read_row(const source *s, const entry *e, int32_t row, float *out) {
  const otr_gguf_tensor *from = e->view.tensor;
  const uint8_t *data = otr_file_address(&s->file) + from->offset + (uint64_t)(e->view.first + row) * from->row_bytes;
  if (!otr_dequantize_row(out, data, from->type, (size_t)e->tensor.k))
    return otr_fail(OTR_STATUS_BAD_FORMAT, "%s: tensor %s holds a value that is not finite", s->path, e->tensor.name);
  return OTR_STATUS_OK;
}

/* Values of a whole tensor, of which these may be a part, in the order of the rows. */
static otr_status read_vector(const source *s, const entry *e, float *out) {
  const otr_gguf_tensor *from = e->view.tensor;
  size_t n = (size_t)(from->dims[0] * from->dims[1]);
  float *all;
  OTR_TRY(tool_allocate(n, sizeof *all, (void **)&all));
  bool good = otr_dequantize_row(all, otr_file_address(&s->file) + from->offset, from->type, n);
  for (int32_t i = 0; good && i < e->tensor.k; i++) out[i] = all[e->view.first + otr_row_source(e->order, i)];
  free(all);
  if (good) return OTR_STATUS_OK;
  return otr_fail(OTR_STATUS_BAD_FORMAT, "%s: tensor %s holds a value that is not finite", s->path, e->tensor.name);
}

otr_status source_rows(const source *s, const source_tensor *tensor, int32_t first, int32_t count, float *out) {
  const entry *e = (const entry *)(const void *)tensor; /* its first member */
  if (tensor->is_vector) return read_vector(s, e, out);
  for (int32_t i = 0; i < count; i++)
    OTR_TRY(read_row(s, e, otr_row_source(e->order, first + i), out + (size_t)i * (size_t)tensor->k));
  return OTR_STATUS_OK;
}
