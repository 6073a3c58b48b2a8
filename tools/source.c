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
  const otr_gguf_tensor *from;
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

static otr_status add(source *s, const otr_tensor_rule *rule, int32_t layer, const char *suffix) {
  char name[OTR_NAME_BYTES];
  if (rule)
    otr_tensor_name(name, rule, layer, suffix);
  else
    snprintf(name, sizeof name, "rope_freqs%s", suffix);
  const otr_gguf_tensor *from = otr_gguf_find(s->gguf, name);
  if (!from || s->n == s->room) return OTR_STATUS_OK;
  entry *e = &s->entries[s->n++];
  e->from = from;
  source_tensor *t = &e->tensor;
  memcpy(t->name, name, sizeof name);
  t->rule = rule;
  t->layer = layer;
  t->is_bias = strcmp(suffix, ".bias") == 0;
  t->is_vector = !rule || t->is_bias || (rule->flags & OTR_TENSOR_VECTOR) != 0;
  int32_t rows = rule ? otr_config_extent(&s->config, rule->n) : s->config.n_rot / 2;
  t->n = t->is_vector ? 1 : rows;
  t->k = t->is_vector ? rows : otr_config_extent(&s->config, rule->k);
  t->bytes = from->bytes;
  if (from->dims[0] != (uint64_t)t->k || from->dims[1] != (uint64_t)t->n || from->dims[2] != 1 || from->dims[3] != 1)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "%s: tensor %s is not [%d, %d]", s->path, name, (int)t->n, (int)t->k);
  if (!otr_dequantize_supported(from->type))
    return otr_fail(OTR_STATUS_UNSUPPORTED,
                    "%s: tensor %s is of type %s: this needs the source model, not a converted one", s->path, name,
                    otr_ggml_type_name(from->type));
  if (rule && (rule->flags & OTR_TENSOR_ROTATED) != 0 && !s->config.rotated_order)
    e->order = (otr_row_order){s->config.head_dim, s->config.n_rot};
  return OTR_STATUS_OK;
}

static otr_status add_rule(source *s, const otr_tensor_rule *rule, int32_t layer) {
  OTR_TRY(add(s, rule, layer, ".weight"));
  return rule->flags & OTR_TENSOR_BIAS ? add(s, rule, layer, ".bias") : OTR_STATUS_OK;
}

static otr_status list(source *s) {
  const otr_arch *arch = s->config.arch;
  s->room = s->gguf->n_tensors;
  s->entries = otr_memory_take_array(s->memory, (size_t)s->room, sizeof *s->entries);
  if (!s->entries) return OTR_STATUS_NO_MEMORY;
  OTR_TRY(add(s, NULL, 0, ".weight"));
  for (int32_t i = 0; i < arch->n_tensors; i++)
    if (arch->tensors[i].role == OTR_ROLE_TOKEN_EMBD) OTR_TRY(add_rule(s, &arch->tensors[i], 0));
  for (int32_t layer = 0; layer < s->config.n_layers; layer++)
    for (int32_t i = 0; i < arch->n_tensors; i++)
      if (arch->tensors[i].role < OTR_LAYER_ROLES) OTR_TRY(add_rule(s, &arch->tensors[i], layer));
  for (int32_t i = 0; i < arch->n_tensors; i++)
    if (arch->tensors[i].role > OTR_ROLE_TOKEN_EMBD) OTR_TRY(add_rule(s, &arch->tensors[i], 0));
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
  const uint8_t *data = otr_file_address(&s->file) + e->from->offset + (uint64_t)row * e->from->row_bytes;
  if (!otr_dequantize_row(out, data, e->from->type, (size_t)e->tensor.k))
    return otr_fail(OTR_STATUS_BAD_FORMAT, "%s: tensor %s holds a value that is not finite", s->path, e->tensor.name);
  return OTR_STATUS_OK;
}

/* A bias of a rotated linear: its elements are in the order of the rows. */
static otr_status read_vector(const source *s, const entry *e, float *out) {
  OTR_TRY(read_row(s, e, 0, out));
  if (e->order.head_dim == 0) return OTR_STATUS_OK;
  float *copy;
  OTR_TRY(tool_allocate((size_t)e->tensor.k, sizeof *copy, (void **)&copy));
  memcpy(copy, out, (size_t)e->tensor.k * sizeof *copy);
  for (int32_t i = 0; i < e->tensor.k; i++) out[i] = copy[otr_row_source(e->order, i)];
  free(copy);
  return OTR_STATUS_OK;
}

otr_status source_rows(const source *s, const source_tensor *tensor, int32_t first, int32_t count, float *out) {
  const entry *e = (const entry *)(const void *)tensor; /* its first member */
  if (tensor->is_vector) return read_vector(s, e, out);
  for (int32_t i = 0; i < count; i++)
    OTR_TRY(read_row(s, e, otr_row_source(e->order, first + i), out + (size_t)i * (size_t)tensor->k));
  return OTR_STATUS_OK;
}
