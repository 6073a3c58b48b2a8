// SPDX-License-Identifier: Apache-2.0
#include "hf_model.h"

#include <stdio.h>
#include <string.h>

#include "hf_bnb.h"
#include "import_tokenizer.h"
#include "status.h"

#define STEM_BYTES 192
#define OURS_BYTES 96
#define PARTS 3       /* of a fused tensor, at most */
#define OWN_TENSORS 2 /* longrope's factors */

/* One entry of the family's table for one layer. */
typedef struct place {
  hf_model *model;
  const hf_name *name;
  const char *prefix;
  int32_t layer;
} place;

/* ---- names ------------------------------------------------------------------------------------------------------- */

/* The whole name: prefix, stem with {N} and {H} filled in, suffix. */
static void their_name(char out[STEM_BYTES], const place *p, int32_t head, const char *suffix) {
  size_t n = 0;
  const char *prefix = p->name->flags & HF_NO_PREFIX ? "" : p->prefix;
  n += (size_t)snprintf(out, STEM_BYTES, "%s", prefix);
  for (const char *at = p->name->theirs; *at != '\0' && n + 16 < STEM_BYTES;) {
    if (at[0] == '{') {
      n += (size_t)snprintf(out + n, STEM_BYTES - n, "%d", (int)(at[1] == 'N' ? p->layer : head));
      at += 3;
    } else {
      out[n++] = *at++;
    }
  }
  snprintf(out + n, STEM_BYTES - n, "%s", suffix);
}

static void our_name(char out[OURS_BYTES], const place *p, const char *suffix) {
  if (strstr(p->name->theirs, "{N}") != NULL)
    snprintf(out, OURS_BYTES, "blk.%d.%s%s", (int)p->layer, p->name->ours, suffix);
  else
    snprintf(out, OURS_BYTES, "%s%s", p->name->ours, suffix);
}

/* The prefix under which the embedding is. */
static const char *find_prefix(const hf_model *m) {
  const hf_family *f = m->shape.family;
  char name[STEM_BYTES];
  for (size_t i = 0; i < sizeof f->prefix / sizeof f->prefix[0] && f->prefix[i] != NULL && f->prefix[i][0] != '\0';
       ++i) {
    const place p = {.name = &f->names[0], .prefix = f->prefix[i]};
    their_name(name, &p, 0, ".weight");
    if (hf_files_find(&m->files, name) != NULL) return f->prefix[i];
  }
  return "";
}

/* ---- what a tensor is -------------------------------------------------------------------------------------------- */

static otr_status dtype_origin(const hf_tensor *t, uint32_t *type, uint32_t *ggml) {
  static const struct {
    safetensors_dtype dtype;
    uint32_t type, ggml; /* the second for the GGUF's header, which has no name for some */
  } types[] = {{SAFETENSORS_F32, OTR_GGML_F32, OTR_GGML_F32},      {SAFETENSORS_F16, OTR_GGML_F16, OTR_GGML_F16},
               {SAFETENSORS_BF16, OTR_GGML_BF16, OTR_GGML_BF16},   {SAFETENSORS_I8, OTR_GGML_I8, OTR_GGML_I8},
               {SAFETENSORS_F8_E4M3, ORIGIN_F8_E4M3, OTR_GGML_I8}, {SAFETENSORS_F8_E5M2, ORIGIN_F8_E5M2, OTR_GGML_I8}};
  for (size_t i = 0; i < sizeof types / sizeof types[0]; ++i) {
    if (types[i].dtype != t->info->dtype) continue;
    *type = types[i].type;
    *ggml = types[i].ggml;
    return OTR_STATUS_OK;
  }
  return otr_fail(OTR_STATUS_UNSUPPORTED, "%s: tensor %s has dtype %s, which is not supported for weights",
                  t->shard->name, t->info->name, safetensors_dtype_name(t->info->dtype));
}

static otr_status bad_shape(const hf_tensor *t, int64_t n, int64_t k) {
  char given[96] = "";
  size_t at = 0;
  for (int32_t i = 0; i < t->info->n_dims && at < sizeof given - 24; ++i)
    at += (size_t)snprintf(given + at, sizeof given - at, "%s%llu", i > 0 ? ", " : "",
                           (unsigned long long)t->info->dims[i]);
  if (k > 0)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "%s: tensor %s is [%s]; config.json asks for [%lld, %lld]", t->shard->name,
                    t->info->name, given, (long long)n, (long long)k);
  if (n > 0)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "%s: tensor %s is [%s]; config.json asks for [%lld]", t->shard->name,
                    t->info->name, given, (long long)n);
  return otr_fail(OTR_STATUS_BAD_FORMAT, "%s: tensor %s is [%s], which no part of the model is", t->shard->name,
                  t->info->name, given);
}

/* rows and k of what is stored; a vector (a bias, a gain) is [rows, 1]. */
static otr_status stored_shape(const hf_tensor *t, bool conv1d, origin *o) {
  const safetensor *info = t->info;
  if (info->n_dims < 1 || info->n_dims > 2) return bad_shape(t, 0, 0);
  for (int32_t i = 0; i < info->n_dims; ++i)
    if (info->dims[i] == 0 || info->dims[i] > INT32_MAX) return bad_shape(t, 0, 0);
  o->transposed = conv1d && info->n_dims == 2 && info->dtype != SAFETENSORS_I8; /* int8 is always [n, k] */
  o->rows = (int32_t)info->dims[o->transposed];
  o->k = info->n_dims == 2 ? (int32_t)info->dims[!o->transposed] : 1;
  return OTR_STATUS_OK;
}

/* ---- which rows -------------------------------------------------------------------------------------------------- */

/* q, k or v of a fused tensor. */
static otr_status slice_qkv(const hf_shape *s, hf_layout layout, const hf_tensor *t, origin *o, int64_t *n) {
  int64_t d = s->head_dim, q = d * s->n_heads, kv = d * s->n_kv_heads;
  if (q > INT32_MAX || q + 2 * kv != o->rows) return bad_shape(t, q + 2 * kv, 0);
  int64_t groups = s->grouped_qkv ? s->n_kv_heads : 1;
  if (q % groups != 0) return otr_fail(OTR_STATUS_BAD_FORMAT, "%d heads and %d KV heads", (int)s->n_heads, (int)groups);
  int64_t q_rows = q / groups, kv_rows = kv / groups;
  o->slice.group = (int32_t)(q_rows + 2 * kv_rows);
  o->slice.take = (int32_t)(layout == HF_Q ? q_rows : kv_rows);
  o->slice.skip = (int32_t)(layout == HF_Q ? 0 : layout == HF_K ? q_rows : q_rows + kv_rows);
  *n = layout == HF_Q ? q : kv;
  return OTR_STATUS_OK;
}

static otr_status slice(const place *p, const hf_tensor *t, origin *o, int64_t *n) {
  const hf_shape *s = &p->model->shape;
  *n = o->rows;
  switch (p->name->layout) {
    case HF_Q:
    case HF_K:
    case HF_V:
      return slice_qkv(s, p->name->layout, t, o, n);
    case HF_GATE:
    case HF_UP:
      if (o->rows != 2 * (int64_t)s->ffn) return bad_shape(t, 2 * (int64_t)s->ffn, 0);
      *n = s->ffn;
      o->slice = (origin_slice){p->name->layout == HF_GATE ? 0 : s->ffn, s->ffn, o->rows};
      return OTR_STATUS_OK;
    default:
      if (!(p->name->flags & HF_DROP_TWO)) return OTR_STATUS_OK;
      if (o->rows <= 2) return bad_shape(t, 0, 0);
      *n = o->rows - 2;
      o->slice = (origin_slice){2, o->rows - 2, o->rows};
      return OTR_STATUS_OK;
  }
}

/* ---- adding ------------------------------------------------------------------------------------------------------ */

static otr_status add(hf_model *m, const char *name, uint32_t ggml, int64_t n, int32_t k, const origin *o) {
  if (m->n_origins == m->room) return otr_fail(OTR_STATUS_INTERNAL, "tensor %s: no room", name);
  const uint64_t dims[2] = {k > 1 ? (uint64_t)k : (uint64_t)n, (uint64_t)n};
  m->origins[m->n_origins++] = *o;
  otr_gguf_put_tensor(m->writer, name, ggml, k > 1 ? 2 : 1, dims);
  return OTR_STATUS_OK;
}

static otr_status add_tensor(const place *p, hf_tensor *t, const char *stem, const char *suffix) {
  hf_model *m = p->model;
  origin o = {.file = t->shard->name, .name = t->info->name, .data = t->data};
  uint32_t ggml = 0;
  int64_t n;
  char name[OURS_BYTES];
  t->used = 1;
  OTR_TRY(dtype_origin(t, &o.type, &ggml));
  OTR_TRY(stored_shape(t, p->name->flags & HF_CONV1D, &o));
  OTR_TRY(slice(p, t, &o, &n));
  OTR_TRY(hf_bnb_take(&m->files, stem, t, &o));
  if (p->name->flags & HF_PLUS_ONE) o.add = 1.0f;
  our_name(name, p, suffix);
  return add(m, name, ggml, n, o.k, &o);
}

/* The vectors of all heads as one. */
static otr_status add_heads(const place *p) {
  hf_model *m = p->model;
  const hf_shape *s = &m->shape;
  int32_t heads = strcmp(p->name->ours, "attn_k_norm") == 0 ? s->n_kv_heads : s->n_heads;
  char name[STEM_BYTES];
  their_name(name, p, 0, ".weight");
  if (hf_files_find(&m->files, name) == NULL) return OTR_STATUS_OK;
  origin o = {.k = 1, .stack = m->pieces + m->n_pieces, .stack_values = s->head_dim};
  uint32_t ggml = 0, type = 0;
  for (int32_t head = 0; head < heads; ++head) {
    their_name(name, p, head, ".weight");
    hf_tensor *t = hf_files_find(&m->files, name);
    if (t == NULL) return otr_fail(OTR_STATUS_BAD_FORMAT, "tensor %s is missing", name);
    if (t->info->n_dims != 1 || t->info->dims[0] != (uint64_t)s->head_dim) return bad_shape(t, s->head_dim, 0);
    if ((int64_t)heads * s->head_dim > INT32_MAX) return bad_shape(t, 0, 0);
    OTR_TRY(dtype_origin(t, &o.type, &ggml));
    if ((head > 0 && o.type != type) || o.type == OTR_GGML_I8)
      return otr_fail(OTR_STATUS_UNSUPPORTED, "%s: tensor %s has a dtype of its own", t->shard->name, name);
    type = o.type;
    t->used = 1;
    o.file = t->shard->name;
    o.name = t->info->name;
    m->pieces[m->n_pieces++] = t->data;
  }
  o.rows = heads * s->head_dim;
  our_name(name, p, ".weight");
  return add(m, name, ggml, o.rows, 1, &o);
}

static otr_status add_place(const place *p) {
  static const char *const suffixes[] = {".weight", ".bias"};
  hf_model *m = p->model;
  char name[STEM_BYTES], stem[STEM_BYTES];
  if (p->name->layout == HF_HEADS) return add_heads(p);
  their_name(stem, p, 0, "");
  for (size_t i = 0; i < 2; ++i) {
    their_name(name, p, 0, suffixes[i]);
    hf_tensor *t = hf_files_find(&m->files, name);
    if (t == NULL) continue;
    if (p->name->flags & HF_HEAD && m->shape.tied) {
      t->used = 1; /* a copy of the embedding, or what is read as one */
      continue;
    }
    OTR_TRY(add_tensor(p, t, stem, suffixes[i]));
  }
  return OTR_STATUS_OK;
}

/* ---- longrope ---------------------------------------------------------------------------------------------------- */

static otr_status add_factors(hf_model *m, const json_t *list, const char *name, float *values) {
  size_t n = json_array_size(list);
  for (size_t i = 0; i < n; ++i) values[i] = (float)json_number_value(json_array_get(list, i));
  const origin o = {.file = "config.json",
                    .name = "rope_scaling",
                    .data = (const uint8_t *)values,
                    .type = OTR_GGML_F32,
                    .rows = (int32_t)n,
                    .k = 1};
  return add(m, name, OTR_GGML_F32, (int64_t)n, 1, &o);
}

static otr_status add_longrope(hf_model *m) {
  size_t n = json_array_size(m->shape.long_factors);
  if (n == 0) return OTR_STATUS_OK;
  m->factors = otr_memory_take_array(m->memory, 2 * n, sizeof *m->factors);
  if (m->factors == NULL) return OTR_STATUS_NO_MEMORY;
  m->n_factors = 2 * n;
  OTR_TRY(add_factors(m, m->shape.long_factors, "rope_factors_long.weight", m->factors));
  return add_factors(m, m->shape.short_factors, "rope_factors_short.weight", m->factors + n);
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

/* A tensor that nobody asked for may be a part of the computation that is not known here. */
static otr_status check_used(const hf_model *m) {
  for (int32_t i = 0; i < m->files.n; ++i) {
    const hf_tensor *t = &m->files.tensors[i];
    if (t->used || hf_is_buffer(t->info->name)) continue;
    return otr_fail(OTR_STATUS_UNSUPPORTED, "%s: tensor %s belongs to no part of a %s model that is known",
                    t->shard->name, t->info->name, m->shape.family->model_type);
  }
  return OTR_STATUS_OK;
}

static otr_status add_all(hf_model *m) {
  const hf_family *f = m->shape.family;
  /* Every layer has tensors: more layers than tensors is a lie, found before anything of that size is taken. */
  if (m->shape.n_layers > m->files.n)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "%d layers, but %d tensors", (int)m->shape.n_layers, (int)m->files.n);
  m->room = PARTS * m->files.n + OWN_TENSORS;
  m->origins = otr_memory_take_array(m->memory, (size_t)m->room, sizeof *m->origins);
  m->pieces = otr_memory_take_array(m->memory, (size_t)m->files.n, sizeof *m->pieces);
  if (m->origins == NULL || m->pieces == NULL) return OTR_STATUS_NO_MEMORY;
  const char *prefix = find_prefix(m);
  for (int32_t i = 0; i < f->n_names; ++i) {
    bool in_layers = strstr(f->names[i].theirs, "{N}") != NULL;
    for (int32_t layer = 0; layer < (in_layers ? m->shape.n_layers : 1); ++layer) {
      const place p = {.model = m, .name = &f->names[i], .prefix = prefix, .layer = layer};
      OTR_TRY(add_place(&p));
    }
  }
  OTR_TRY(add_longrope(m));
  return check_used(m);
}

/* Nothing of the vocabulary's size is taken before a tensor of as many rows is there. */
static otr_status check_vocab(const hf_model *m) {
  for (int32_t i = 0; i < m->files.n; ++i) {
    const safetensor *info = m->files.tensors[i].info;
    if (info->n_dims == 2 && info->dims[0] >= (uint64_t)m->shape.vocab) return OTR_STATUS_OK;
  }
  return otr_fail(OTR_STATUS_BAD_FORMAT, "vocab_size is %d, but no tensor has as many rows", (int)m->shape.vocab);
}

otr_status hf_model_open(const char *directory, otr_memory *memory, hf_model *m) {
  int has_tokenizer; /* without one the model takes ids only; import_tokenizer says so */
  *m = (hf_model){.memory = memory};
  OTR_TRY(hf_read_json(directory, "config.json", 0, &m->config));
  OTR_TRY(otr_gguf_writer_create(directory, 256, &m->writer));
  otr_status status = hf_config_read(m->config, m->writer, &m->shape);
  if (status != OTR_STATUS_OK) return otr_fail_in(status, "%s/config.json", directory);
  OTR_TRY(hf_files_open(directory, memory, &m->files));
  status = check_vocab(m);
  if (status != OTR_STATUS_OK) return otr_fail_in(status, "%s", directory);
  OTR_TRY(import_tokenizer(directory, m->shape.vocab, m->writer, &has_tokenizer));
  status = add_all(m);
  if (status != OTR_STATUS_OK) return otr_fail_in(status, "%s", directory);
  return otr_gguf_writer_header(m->writer, &m->gguf);
}

void hf_model_close(hf_model *m) {
  if (m->memory == NULL) return;
  otr_memory_give_array(m->memory, m->origins, (size_t)m->room, sizeof *m->origins);
  otr_memory_give_array(m->memory, m->pieces, (size_t)m->files.n, sizeof *m->pieces);
  otr_memory_give_array(m->memory, m->factors, m->n_factors, sizeof *m->factors);
  otr_gguf_writer_destroy(m->writer);
  hf_files_close(&m->files);
  json_decref(m->config);
  *m = (hf_model){0};
}
