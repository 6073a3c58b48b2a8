// SPDX-License-Identifier: Apache-2.0
/* Sessions: their life, positions and pages. Evaluating: eval.c; saving: state.c. */
#include "session.h"

#include <string.h>

#include "status.h"

#define DEFAULT_CONTEXT 4096
#define DEFAULT_BATCH 512
#define MAX_BATCH 65536

/* ---- sizes ------------------------------------------------------------------------------------------------------- */

static otr_status read_params(const otr_model *m, const otr_session_params *given, otr_session_params *p) {
  if (!otr_params_read(p, sizeof *p, given))
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "struct_size of otr_session_params is not set");
  if (p->n_ctx < 0 || p->n_ctx > OTR_MAX_POSITION)
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "n_ctx is %d; it must lie in 0 to %d", p->n_ctx, OTR_MAX_POSITION);
  if (p->n_batch < 0 || p->n_batch > MAX_BATCH)
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "n_batch is %d; it must lie in 0 to %d", p->n_batch, MAX_BATCH);
  if (p->n_ctx == 0) {
    p->n_ctx = m->config.n_ctx_train;
    if (p->n_ctx == 0 || p->n_ctx > DEFAULT_CONTEXT) p->n_ctx = DEFAULT_CONTEXT;
  }
  p->n_ctx = (p->n_ctx + OTR_CHUNK - 1) / OTR_CHUNK * OTR_CHUNK;
  if (p->n_batch == 0) p->n_batch = DEFAULT_BATCH;
  if (p->n_batch > p->n_ctx) p->n_batch = p->n_ctx;
  return OTR_STATUS_OK;
}

static otr_forward_params forward_params(const otr_session_params *p) {
  return (otr_forward_params){.max_rows = p->n_batch,
                              .max_logits = p->n_batch < OTR_MAX_LOGITS ? p->n_batch : OTR_MAX_LOGITS,
                              .max_pages = p->n_ctx / OTR_CHUNK,
                              .max_table = OTR_MAX_PAGES,
                              .max_sequences = p->n_batch < OTR_MAX_SEQUENCES ? p->n_batch : OTR_MAX_SEQUENCES,
                              .keep_hidden = p->keep_hidden};
}

static size_t hidden_floats(const otr_model *m, int32_t n_batch) {
  return ((size_t)m->config.n_layers + 1) * (size_t)n_batch * (size_t)m->config.dim;
}

otr_status otr_plan_session(otr_model *m, const otr_session_params *given, otr_plan_info *plan) {
  otr_session_params p;
  otr_device *device = m->runtime->device;
  otr_kv_shape shape = otr_kv_shape_of(&m->config);
  OTR_TRY(read_params(m, given, &p));
  otr_forward_params fp = forward_params(&p);
  OTR_TRY(otr_forward_bytes(m, &fp, &plan->scratch_host_bytes, &plan->scratch_device_bytes));
  uint64_t kv = (uint64_t)device->ops->kv_page_bytes(&shape) * (uint64_t)(p.n_ctx / OTR_CHUNK);
  *(otr_device_placement(device, OTR_WEIGHTS_AUTO).separate ? &plan->kv_device_bytes : &plan->kv_host_bytes) = kv;
  uint64_t row = sizeof(int32_t) + sizeof(otr_row) + (uint64_t)m->config.n_rot * sizeof(float);
  plan->scratch_host_bytes += sizeof(otr_session) + (uint64_t)p.n_batch * row + (uint64_t)p.n_ctx * sizeof(int32_t) +
                              (uint64_t)m->config.vocab * sizeof(float);
  if (p.keep_hidden) plan->scratch_host_bytes += hidden_floats(m, p.n_batch) * sizeof(float);
  plan->n_ctx = p.n_ctx;
  plan->n_batch = p.n_batch;
  return OTR_STATUS_OK;
}

/* ---- life -------------------------------------------------------------------------------------------------------- */

static otr_status take_arrays(otr_session *s, const otr_session_params *p) {
  const otr_config *c = &s->model->config;
  otr_memory *memory = &s->model->runtime->memory;
  size_t rows = (size_t)p->n_batch, half = (size_t)(c->n_rot / 2);
  s->tokens_capacity = p->n_ctx;
  s->tokens = otr_memory_take_array(memory, (size_t)p->n_ctx, sizeof *s->tokens);
  s->step_token = otr_memory_take_array(memory, rows, sizeof *s->step_token);
  s->step_row = otr_memory_take_array(memory, rows, sizeof *s->step_row);
  s->rope_cos = otr_memory_take_array(memory, rows * half, sizeof *s->rope_cos);
  s->rope_sin = otr_memory_take_array(memory, rows * half, sizeof *s->rope_sin);
  s->logits = otr_memory_take_array(memory, (size_t)c->vocab, sizeof *s->logits);
  if (p->keep_hidden) s->hidden = otr_memory_take_array(memory, hidden_floats(s->model, p->n_batch), sizeof *s->hidden);
  bool all = s->tokens && s->step_token && s->step_row && s->rope_cos && s->rope_sin && s->logits;
  return all && (s->hidden || !p->keep_hidden) ? OTR_STATUS_OK : OTR_STATUS_NO_MEMORY;
}

static void give_arrays(otr_session *s) {
  const otr_config *c = &s->model->config;
  otr_memory *memory = &s->model->runtime->memory;
  size_t rows = (size_t)s->n_batch, half = (size_t)(c->n_rot / 2);
  if (s->tokens) otr_memory_give_array(memory, s->tokens, (size_t)s->tokens_capacity, sizeof *s->tokens);
  if (s->step_token) otr_memory_give_array(memory, s->step_token, rows, sizeof *s->step_token);
  if (s->step_row) otr_memory_give_array(memory, s->step_row, rows, sizeof *s->step_row);
  if (s->rope_cos) otr_memory_give_array(memory, s->rope_cos, rows * half, sizeof *s->rope_cos);
  if (s->rope_sin) otr_memory_give_array(memory, s->rope_sin, rows * half, sizeof *s->rope_sin);
  if (s->logits) otr_memory_give_array(memory, s->logits, (size_t)c->vocab, sizeof *s->logits);
  if (s->hidden) otr_memory_give_array(memory, s->hidden, hidden_floats(s->model, s->n_batch), sizeof *s->hidden);
}

static void drop_page(otr_session *s, int32_t index) {
  if (s->page[index] == OTR_PAGE_NONE) return;
  otr_pages_give(s->model->pool, s->page[index]);
  s->page[index] = OTR_PAGE_NONE;
  s->table[index] = (otr_page){0};
  s->n_used--;
}

/** Pages that positions below `position` lie in. */
static int32_t pages_below(int32_t position) {
  return (position + OTR_CHUNK - 1) / OTR_CHUNK;
}

void otr_session_cut(otr_session *s, int32_t position) {
  int32_t end = pages_below(position);
  for (int32_t i = end; i < s->table_end; i++) drop_page(s, i);
  if (s->table_end > end) s->table_end = end;
  if (s->tokens_known > position) s->tokens_known = position;
  s->position = position;
}

otr_status otr_session_create(otr_model *m, const otr_session_params *given, otr_session **out) {
  if (!out) return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "out is NULL");
  *out = NULL;
  if (!m) return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "model is NULL");
  otr_session_params p;
  OTR_TRY(read_params(m, given, &p));
  otr_session *s = otr_memory_take_array(&m->runtime->memory, 1, sizeof *s);
  if (!s) return OTR_STATUS_NO_MEMORY;
  s->model = m;
  s->n_batch = p.n_batch;
  s->long_rope = m->config.rope_original > 0 && p.n_ctx > m->config.rope_original;
  atomic_init(&s->cancel, 0);
  memset(s->page, 0xff, sizeof s->page); /* OTR_PAGE_NONE */
  atomic_fetch_add(&m->sessions, 1);
  otr_forward_params fp = forward_params(&p);
  otr_status status = otr_forward_create(m, &fp, &s->forward); /* refuses sizes that the arrays would wrap at */
  if (status == OTR_STATUS_OK) status = take_arrays(s, &p);
  if (status == OTR_STATUS_OK) status = otr_pages_reserve(m, p.n_ctx / OTR_CHUNK);
  if (status != OTR_STATUS_OK) {
    otr_session_destroy(s);
    return status;
  }
  s->n_pages = p.n_ctx / OTR_CHUNK;
  *out = s;
  return OTR_STATUS_OK;
}

void otr_session_destroy(otr_session *s) {
  if (!s) return;
  otr_model *m = s->model;
  otr_session_cut(s, 0);
  if (s->n_pages > 0) otr_pages_unreserve(m, s->n_pages);
  otr_forward_destroy(m, &s->forward);
  give_arrays(s);
  otr_memory_give_array(&m->runtime->memory, s, 1, sizeof *s);
  atomic_fetch_sub(&m->sessions, 1);
}

/* ---- positions --------------------------------------------------------------------------------------------------- */

int32_t otr_session_position(const otr_session *s) {
  return s ? s->position : 0;
}

/** Where positions end: with the model's table, where it has one. */
static int32_t last_position(const otr_session *s) {
  return s->model->config.n_positions > 0 ? s->model->config.n_positions : OTR_MAX_POSITION;
}

int32_t otr_session_room(const otr_session *s) {
  if (!s) return 0;
  int64_t in_page = (int64_t)pages_below(s->position) * OTR_CHUNK - s->position;
  int64_t room = (int64_t)(s->n_pages - s->n_used) * OTR_CHUNK + in_page, last = last_position(s) - s->position;
  return (int32_t)(room < last ? room : last);
}

otr_status otr_session_truncate(otr_session *s, int32_t position) {
  if (!s) return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "session is NULL");
  if (position < 0 || position > s->position)
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "position %d; the session is at %d", position, s->position);
  if (s->dropped_end > s->dropped_begin && position > s->dropped_begin * OTR_CHUNK &&
      position < s->dropped_end * OTR_CHUNK)
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "position %d lies among dropped pages (%d to %d)", position,
                    s->dropped_begin * OTR_CHUNK, s->dropped_end * OTR_CHUNK);
  otr_session_cut(s, position);
  if (position <= s->dropped_begin * OTR_CHUNK) s->dropped_begin = s->dropped_end = 0;
  s->has_logits = false;
  s->hidden_rows = 0;
  return OTR_STATUS_OK;
}

void otr_session_reset(otr_session *s) {
  if (!s) return;
  otr_session_cut(s, 0);
  s->dropped_begin = s->dropped_end = 0;
  s->has_logits = false;
  s->hidden_rows = 0;
  s->stats = (otr_stats){0};
  atomic_store(&s->cancel, 0);
}

otr_status otr_session_copy(otr_session *to, const otr_session *from) {
  if (!to || !from || to == from || to->model != from->model)
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "two different sessions of one model are needed");
  if (to->long_rope != from->long_rope)
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "this model's RoPE differs in sessions longer than %d positions",
                    from->model->config.rope_original);
  if (from->n_used > to->n_pages)
    return otr_fail(OTR_STATUS_CONTEXT_FULL, "the source uses %d pages, the destination has %d", from->n_used,
                    to->n_pages);
  otr_session_cut(to, 0);
  for (int32_t i = 0; i < pages_below(from->position); i++) {
    if (from->page[i] == OTR_PAGE_NONE) continue;
    otr_pages_share(from->model->pool, from->page[i]);
    to->page[i] = from->page[i];
    to->table[i] = from->table[i];
  }
  to->n_used = from->n_used;
  to->table_end = from->table_end;
  to->position = from->position;
  to->dropped_begin = from->dropped_begin;
  to->dropped_end = from->dropped_end;
  to->tokens_known = from->tokens_known < to->tokens_capacity ? from->tokens_known : to->tokens_capacity;
  memcpy(to->tokens, from->tokens, (size_t)to->tokens_known * sizeof *to->tokens);
  to->has_logits = from->has_logits;
  if (from->has_logits) memcpy(to->logits, from->logits, (size_t)from->model->config.vocab * sizeof *to->logits);
  to->hidden_rows = 0;
  return OTR_STATUS_OK;
}

otr_status otr_session_slide(otr_session *s, int32_t keep, int32_t room) {
  if (!s || keep < 0 || room < 0)
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "session is NULL, keep or room negative");
  if (room > last_position(s) - s->position)
    return otr_fail(OTR_STATUS_CONTEXT_FULL, "positions end at %d", last_position(s));
  int32_t first = keep > s->position ? pages_below(s->position) : pages_below(keep);
  int32_t end = s->position / OTR_CHUNK; /* the page being written stays */
  int32_t can_drop = 0;
  for (int32_t i = first; i < end; i++) can_drop += s->page[i] != OTR_PAGE_NONE;
  int64_t could = (int64_t)otr_session_room(s) + (int64_t)can_drop * OTR_CHUNK;
  if (could < room)
    return otr_fail(OTR_STATUS_CONTEXT_FULL, "room for %d asked; %lld at most after %d kept", room, (long long)could,
                    keep);
  for (int32_t i = first; i < end && otr_session_room(s) < room; i++) {
    drop_page(s, i);
    if (s->dropped_end <= s->dropped_begin) s->dropped_begin = s->dropped_end = i;
    if (s->dropped_begin > i) s->dropped_begin = i;
    if (s->dropped_end <= i) s->dropped_end = i + 1;
    if (s->tokens_known > s->dropped_begin * OTR_CHUNK) s->tokens_known = s->dropped_begin * OTR_CHUNK;
  }
  return OTR_STATUS_OK;
}

void otr_session_cancel(otr_session *s) {
  if (s) atomic_store(&s->cancel, 1);
}

otr_status otr_session_prepare_rows(otr_session *s, int32_t n) {
  otr_model *m = s->model;
  otr_kv_shape shape = otr_kv_shape_of(&m->config);
  for (int32_t i = s->position / OTR_CHUNK; i < pages_below(s->position + n); i++) {
    int32_t old = s->page[i];
    if (old != OTR_PAGE_NONE && !otr_pages_is_shared(m->pool, old)) continue;
    int32_t page = otr_pages_take(m->pool);
    /* The other holder may have let go of it just now, and its slab with it: then it is this session's own. */
    if (page == OTR_PAGE_NONE && old != OTR_PAGE_NONE && !otr_pages_is_shared(m->pool, old)) continue;
    if (page == OTR_PAGE_NONE) return otr_fail(OTR_STATUS_INTERNAL, "no KV page is left");
    otr_page ref = otr_pages_ref(m->pool, page);
    if (old != OTR_PAGE_NONE) {
      otr_status status = m->runtime->device->ops->kv_copy(m->runtime->device, &shape, ref, s->table[i]);
      if (status != OTR_STATUS_OK) {
        otr_pages_give(m->pool, page);
        return status;
      }
      drop_page(s, i);
    }
    s->page[i] = page;
    s->table[i] = ref;
    s->n_used++;
    if (s->table_end <= i) s->table_end = i + 1;
  }
  return OTR_STATUS_OK;
}

/* ---- results ----------------------------------------------------------------------------------------------------- */

const float *otr_session_logits(const otr_session *s) {
  return s && s->has_logits ? s->logits : NULL;
}

int32_t otr_session_vocab(const otr_session *s) {
  return s ? s->model->config.vocab : 0;
}

const float *otr_session_hidden(const otr_session *s, int32_t *n_rows) {
  int32_t rows = s && s->hidden ? s->hidden_rows : 0;
  if (n_rows) *n_rows = rows;
  return rows > 0 ? s->hidden : NULL;
}

otr_status otr_session_stats(const otr_session *s, otr_stats *stats) {
  if (!s || !stats) return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "session or stats is NULL");
  otr_stats v = s->stats;
  otr_device *device = s->model->runtime->device;
  otr_kv_shape shape = otr_kv_shape_of(&s->model->config);
  v.rows_per_second = v.eval_seconds > 0 ? (double)v.n_rows / v.eval_seconds : 0;
  v.outlier_share = v.activations > 0 ? (double)v.outliers / (double)v.activations : 0;
  v.kv_bytes = (uint64_t)device->ops->kv_page_bytes(&shape) * (uint64_t)s->n_pages;
  v.scratch_bytes = s->forward.activations.bytes + sizeof *s;
  otr_runtime_memory(s->model->runtime, NULL, &v.peak_host_bytes);
  if (!otr_info_write(stats, &v, sizeof v))
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "struct_size of otr_stats is not set");
  return OTR_STATUS_OK;
}
