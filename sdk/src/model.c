// SPDX-License-Identifier: Apache-2.0
#include "model.h"

#include <stdio.h>
#include <string.h>

#include "float_mode.h"
#include "pages.h"
#include "rope.h"
#include "session.h"
#include "sha256.h"
#include "status.h"

/* ---- open and close ---------------------------------------------------------------------------------------------- */

static void release(otr_model *m) {
  otr_device *device = m->runtime->device;
  otr_memory *memory = &m->runtime->memory;
  size_t tensors = (size_t)m->config.n_layers * OTR_LAYER_ROLES + OTR_ROLES - OTR_LAYER_ROLES;
  otr_pages_destroy(m, m->pool);
  if (m->rope_inverse) otr_memory_give_array(memory, m->rope_inverse, (size_t)m->config.n_rot, sizeof(double));
  if (m->tensors) otr_memory_give_array(memory, m->tensors, tensors, sizeof *m->tensors);
  device->ops->buffer_destroy(device, m->slopes);
  for (int32_t i = 0; i < OTR_MAX_SLABS && m->made[i]; i++) device->ops->buffer_destroy(device, m->made[i]);
  device->ops->buffer_destroy(device, m->mapped);
  otr_gguf_destroy(m->gguf);
  otr_file_close(&m->file);
  atomic_fetch_sub(&m->runtime->users, 1);
  otr_memory_give_array(memory, m, 1, sizeof *m);
}

static void read_name(otr_model *m) {
  otr_metadata_value value;
  size_t cursor = 0, n;
  const char *name;
  if (otr_metadata_find(&m->gguf->metadata, "general.name", &value) && !value.is_array &&
      otr_metadata_next_string(&value, &cursor, &name, &n))
    snprintf(m->name, sizeof m->name, "%.*s", n < sizeof m->name ? (int)n : (int)sizeof m->name - 1, name);
}

/** Opens the source and reads the header: what planning and opening share. */
static otr_status begin(otr_runtime *r, const otr_source *source, const otr_model_params *given,
                        otr_model_params *params, otr_model **out) {
  *out = NULL;
  if (!r || !source) return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "runtime or source is NULL");
  if (!otr_params_read(params, sizeof *params, given))
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "struct_size of otr_model_params is not set");
  if (params->n_keep_f16 < 0 || (params->n_keep_f16 > 0 && !params->keep_f16))
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "keep_f16 and n_keep_f16 do not go together");
  if (params->weights < OTR_WEIGHTS_AUTO || params->weights > OTR_WEIGHTS_BOTH)
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "weights is %d, which does not exist", params->weights);
  otr_model *m = otr_memory_take_array(&r->memory, 1, sizeof *m);
  if (!m) return OTR_STATUS_NO_MEMORY;
  m->runtime = r;
  atomic_init(&m->sessions, 0);
  atomic_fetch_add(&r->users, 1);
  otr_status status = otr_file_open(source, params->copy_weights != 0, &m->file);
  if (status == OTR_STATUS_OK) status = otr_gguf_read(&m->file, &r->memory, &m->gguf);
  otr_float_mode mode = otr_float_mode_enter();
  if (status == OTR_STATUS_OK) status = otr_config_read(m->gguf, &m->config);
  otr_float_mode_leave(mode);
  otr_metadata_value value;
  m->config.rule_given = params->outliers.rule != OTR_OUTLIERS_DEFAULT && status == OTR_STATUS_OK &&
                         otr_metadata_find(&m->gguf->metadata, "outrider.outliers.names", &value);
  if (status == OTR_STATUS_OK) status = otr_rule_override(&params->outliers, &m->config.rule);
  if (status != OTR_STATUS_OK) {
    status = otr_fail_in(status, "%s", m->file.name[0] ? m->file.name : "model");
    release(m);
    return status;
  }
  *out = m;
  return OTR_STATUS_OK;
}

static otr_status make_slopes(otr_model *m) {
  const otr_config *c = &m->config;
  otr_device *device = m->runtime->device;
  size_t bytes = (size_t)c->n_heads * sizeof(float);
  float *slopes = otr_memory_take(&m->runtime->memory, bytes, 64);
  if (!slopes) return OTR_STATUS_NO_MEMORY;
  float scale = c->arch->flags & OTR_ARCH_SCALED_ALIBI ? otr_recip(otr_sqrt((float)c->head_dim)) : 1.0f;
  otr_alibi_slopes(slopes, c->n_heads, c->alibi, (double)scale);
  otr_status status = device->ops->buffer_create(device, bytes, &m->slopes);
  if (status == OTR_STATUS_OK) status = device->ops->buffer_write(device, m->slopes, 0, slopes, bytes);
  otr_memory_give(&m->runtime->memory, slopes, bytes);
  return status;
}

/** What positions are turned by or weighed with. */
static otr_status make_tables(otr_model *m) {
  const otr_config *c = &m->config;
  m->rope_inverse = otr_memory_take_array(&m->runtime->memory, (size_t)c->n_rot, sizeof(double));
  if (!m->rope_inverse) return OTR_STATUS_NO_MEMORY;
  for (int32_t i = 0; i < 2; i++)
    otr_rope_inverse(m->rope_inverse + i * (c->n_rot / 2), c->rope_theta, c->n_rot,
                     c->has_rope_factors ? c->rope_factors[i && c->rope_original > 0] : NULL);
  return c->alibi > 0.0 ? make_slopes(m) : OTR_STATUS_OK;
}

static otr_status finish_open(otr_model *m, const otr_model_params *params) {
  OTR_TRY(otr_load_weights(m, params));
  otr_float_mode mode = otr_float_mode_enter();
  otr_status status = make_tables(m);
  otr_float_mode_leave(mode);
  OTR_TRY(status);
  read_name(m);
  return otr_pages_create(m, &m->pool);
}

otr_status otr_model_open(otr_runtime *r, const otr_source *source, const otr_model_params *given, otr_model **out) {
  otr_model_params params;
  otr_model *m;
  if (!out) return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "out is NULL");
  *out = NULL;
  OTR_TRY(begin(r, source, given, &params, &m));
  otr_status status = finish_open(m, &params);
  if (status != OTR_STATUS_OK) {
    status = otr_fail_in(status, "%s", m->file.name);
    release(m);
    return status;
  }
  otr_log(r, OTR_LOG_INFO, "%s: %s, %d layers of %d, %.1f MB in place, %.1f MB made", m->file.name,
          m->config.arch->name, m->config.n_layers, m->config.dim, (double)m->mapped_bytes * 1e-6,
          (double)m->made_bytes * 1e-6);
  *out = m;
  return OTR_STATUS_OK;
}

otr_status otr_model_open_file(otr_runtime *r, const char *path, const otr_model_params *params, otr_model **out) {
  otr_source source = {.kind = OTR_SOURCE_PATH, .path = path};
  return otr_model_open(r, &source, params, out);
}

otr_status otr_model_close(otr_model *m) {
  if (!m) return OTR_STATUS_OK;
  int sessions = atomic_load(&m->sessions);
  if (sessions > 0) return otr_fail(OTR_STATUS_BUSY, "%d sessions of the model exist", sessions);
  release(m);
  return OTR_STATUS_OK;
}

otr_status otr_model_plan(otr_runtime *r, const otr_source *source, const otr_model_params *model_params,
                          const otr_session_params *session_params, otr_plan_info *plan) {
  otr_model_params params;
  otr_model *m;
  otr_plan_info p = {0};
  if (!plan) return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "plan is NULL");
  OTR_TRY(begin(r, source, model_params, &params, &m));
  otr_status status = otr_plan_weights(m, &params, &p);
  if (status == OTR_STATUS_OK) status = otr_plan_session(m, session_params, &p);
  if (status == OTR_STATUS_OK && !otr_info_write(plan, &p, sizeof p))
    status = otr_fail(OTR_STATUS_INVALID_ARGUMENT, "struct_size of otr_plan_info is not set");
  release(m);
  return status;
}

/* ---- what it is -------------------------------------------------------------------------------------------------- */

static otr_outliers outliers_of(otr_rule rule) {
  otr_outliers o = {.value = rule.value};
  o.rule = rule.kind == OTR_RULE_RELATIVE   ? OTR_OUTLIERS_RELATIVE
           : rule.kind == OTR_RULE_ABSOLUTE ? OTR_OUTLIERS_ABSOLUTE
                                            : OTR_OUTLIERS_OFF;
  return o;
}

static void count_weights(const otr_model *m, otr_model_info *info) {
  const otr_config *c = &m->config;
  for (int32_t role = 0; role < OTR_ROLES; role++) {
    int32_t layers = role < OTR_LAYER_ROLES ? c->n_layers : 1;
    for (int32_t layer = 0; layer < layers && otr_config_multiplies(c, (otr_role)role); layer++) {
      const otr_weight *w = &otr_model_role(m, layer, (otr_role)role)->w;
      uint64_t values = (uint64_t)w->n * (uint64_t)w->k;
      if (role < OTR_LAYER_ROLES) info->token_layer_macs += values;
      info->token_weight_bytes += w->type == OTR_WEIGHT_INT8 ? values : 2 * values;
    }
  }
}

/** Weights of the file, without what the SDK's format adds beside them. */
static uint64_t count_parameters(const otr_gguf *gguf) {
  uint64_t n = 0;
  for (int32_t i = 0; i < gguf->n_tensors; i++) {
    const otr_gguf_tensor *t = &gguf->tensors[i];
    const char *end = t->name + strlen(t->name);
    bool plain =
        (end - t->name > 7 && strcmp(end - 7, ".weight") == 0) || (end - t->name > 5 && strcmp(end - 5, ".bias") == 0);
    if (plain) n += t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3];
  }
  return n;
}

otr_status otr_model_get_info(const otr_model *m, otr_model_info *out) {
  if (!m || !out) return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "model or info is NULL");
  const otr_config *c = &m->config;
  otr_model_info info = {.architecture = c->arch->name,
                         .name = m->name,
                         .n_layers = c->n_layers,
                         .dim = c->dim,
                         .ffn_dim = c->ffn_dim,
                         .n_heads = c->n_heads,
                         .n_kv_heads = c->n_kv_heads,
                         .head_dim = c->head_dim,
                         .vocab = c->vocab,
                         .n_ctx_train = c->n_ctx_train,
                         .tied_head = c->tied_head,
                         .outliers = outliers_of(c->rule),
                         .converted = c->converted,
                         .n_parameters = count_parameters(m->gguf),
                         .window = c->window};
  count_weights(m, &info);
  if (!otr_info_write(out, &info, sizeof info))
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "struct_size of otr_model_info is not set");
  return OTR_STATUS_OK;
}

int32_t otr_model_n_tensors(const otr_model *m) {
  return m ? m->gguf->n_tensors : 0;
}

otr_status otr_model_tensor(const otr_model *m, int32_t index, otr_tensor_info *out) {
  if (!m || !out || index < 0 || index >= m->gguf->n_tensors)
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "there is no tensor %d", index);
  const otr_gguf_tensor *t = &m->gguf->tensors[index];
  otr_tensor_info info = {.name = t->name,
                          .type = otr_ggml_type_name(t->type),
                          .n_dims = t->n_dims,
                          .bytes = t->bytes,
                          .offset = t->offset};
  memcpy(info.dims, t->dims, sizeof info.dims);
  if (!otr_info_write(out, &info, sizeof info))
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "struct_size of otr_tensor_info is not set");
  return OTR_STATUS_OK;
}

const otr_metadata *otr_model_metadata(const otr_model *m) {
  return m ? &m->gguf->metadata : NULL;
}

static void add_u64(otr_sha256 *sha, uint64_t v) {
  uint8_t bytes[8];
  for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)(v >> (8 * i));
  otr_sha256_add(sha, bytes, sizeof bytes);
}

/** A linear's row scales: where two models of one shape differ, some row's largest weight nearly always does. */
static otr_status add_scales(otr_sha256 *sha, const otr_model *m, const otr_weight *w) {
  const otr_device_ops *ops = m->runtime->device->ops;
  float piece[256];
  for (int32_t i = 0, n; i < w->n; i += n) {
    n = w->n - i < 256 ? w->n - i : 256;
    size_t at = w->scale.offset + (size_t)i * sizeof *piece;
    OTR_TRY(ops->buffer_read(m->runtime->device, w->scale.buffer, at, piece, (size_t)n * sizeof *piece));
    otr_sha256_add_f32(sha, piece, (size_t)n);
  }
  return OTR_STATUS_OK;
}

/** Over the header's tensor list and metadata (the verify hash of a converted file stands in it and is made of all
 *  weights), all row scales, and the rule in force. */
otr_status otr_model_digest(const otr_model *m, uint8_t digest[32]) {
  otr_sha256 sha;
  otr_sha256_start(&sha);
  add_u64(&sha, m->file.bytes);
  add_u64(&sha, (uint64_t)m->config.rule.kind | (uint64_t)m->config.rule_given << 32);
  add_u64(&sha, OTR_BITS(m->config.rule.value));
  const otr_metadata *metadata = &m->gguf->metadata;
  for (int32_t i = 0; i < metadata->n; i++) {
    otr_sha256_add(&sha, metadata->values[i].key, metadata->values[i].key_bytes);
    add_u64(&sha, metadata->values[i].bytes);
    otr_sha256_add(&sha, metadata->values[i].data, metadata->values[i].bytes);
  }
  for (int32_t i = 0; i < m->gguf->n_tensors; i++) {
    const otr_gguf_tensor *t = &m->gguf->tensors[i];
    otr_sha256_add(&sha, t->name, strlen(t->name));
    add_u64(&sha, t->type);
    add_u64(&sha, t->offset);
    for (int32_t d = 0; d < OTR_GGUF_MAX_DIMS; d++) add_u64(&sha, t->dims[d]);
  }
  int32_t loaded = m->config.n_layers * OTR_LAYER_ROLES + OTR_ROLES - OTR_LAYER_ROLES;
  for (int32_t i = 0; i < loaded; i++) OTR_TRY(add_scales(&sha, m, &m->tensors[i].w));
  otr_sha256_end(&sha, digest);
  return OTR_STATUS_OK;
}

/* ---- verify ------------------------------------------------------------------------------------------------------ */

static otr_status hash_logits(otr_model *m, char actual[65]) {
  otr_session_params params = {.struct_size = sizeof params, .n_ctx = OTR_CHUNK, .n_batch = OTR_VERIFY_TOKENS};
  otr_session *s;
  int32_t count = otr_verify_count(&m->config);
  size_t n = (size_t)count * (size_t)m->config.vocab;
  int32_t tokens[OTR_VERIFY_TOKENS];
  for (int32_t i = 0; i < count; i++) tokens[i] = otr_verify_token(i, m->config.vocab);
  float *logits = otr_memory_take_array(&m->runtime->memory, n, sizeof *logits);
  if (!logits) return OTR_STATUS_NO_MEMORY;
  otr_status status = otr_session_create(m, &params, &s);
  if (status == OTR_STATUS_OK) status = otr_session_eval(s, tokens, count, logits);
  if (status == OTR_STATUS_OK) {
    otr_sha256 sha;
    uint8_t digest[32];
    otr_sha256_start(&sha);
    otr_sha256_add_f32(&sha, logits, n);
    otr_sha256_end(&sha, digest);
    otr_hex_digest(actual, digest);
  }
  otr_session_destroy(s);
  otr_memory_give_array(&m->runtime->memory, logits, n, sizeof *logits);
  return status;
}

/** The hash that the file carries; false: none (a file being made holds zeros). */
static bool read_expected(const otr_model *m, char expected[65]) {
  otr_metadata_value value;
  size_t cursor = 0, n = 0;
  const char *hex = NULL;
  expected[0] = 0;
  if (!otr_metadata_find(&m->gguf->metadata, "outrider.verify.sha256", &value) || value.is_array ||
      !otr_metadata_next_string(&value, &cursor, &hex, &n) || n != 64)
    return false;
  memcpy(expected, hex, 64);
  expected[64] = 0;
  if (strspn(expected, "0") == 64) expected[0] = 0;
  return expected[0] != 0;
}

otr_status otr_model_verify(otr_model *m, char expected[65], char actual[65]) {
  if (!m || !expected || !actual) return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "model, expected or actual is NULL");
  actual[0] = 0;
  bool carried = read_expected(m, expected);
  OTR_TRY(hash_logits(m, actual));
  if (!carried) return otr_fail(OTR_STATUS_UNSUPPORTED, "%s carries no verify hash", m->file.name);
  if (strcmp(expected, actual) != 0)
    return otr_fail(OTR_STATUS_MISMATCH, "%s: logits hash %.16s…, the file says %.16s…", m->file.name, actual,
                    expected);
  return OTR_STATUS_OK;
}
