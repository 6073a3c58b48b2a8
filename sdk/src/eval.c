// SPDX-License-Identifier: Apache-2.0
/* Evaluating: rows of one or several sessions, cut into passes. The cut changes no bit (token scope). */
#include <string.h>

#include "clock.h"
#include "float_mode.h"
#include "rope.h"
#include "session.h"
#include "status.h"

/** How far each item has come. */
typedef struct progress {
  otr_eval_item items[OTR_MAX_SEQUENCES];
  int32_t done[OTR_MAX_SEQUENCES];  /* rows of finished passes */
  int32_t taken[OTR_MAX_SEQUENCES]; /* rows in the current pass */
  int32_t n;
  otr_session *host; /* whose scratch is used */
} progress;

/* ---- checks ------------------------------------------------------------------------------------------------------ */

static otr_status check_tokens(const otr_eval_item *item) {
  int32_t vocab = item->session->model->config.vocab;
  for (int32_t i = 0; i < item->n; i++)
    if (item->tokens[i] < 0 || item->tokens[i] >= vocab)
      return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "token %d is %d; ids lie in 0 to %d", i, item->tokens[i], vocab - 1);
  return OTR_STATUS_OK;
}

static otr_status check_item(const progress *p, int32_t i) {
  const otr_eval_item *item = &p->items[i];
  if (!item->session || item->n < 1 || !item->tokens == !item->rows)
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "a session, n >= 1 and either tokens or rows are needed");
  if (item->session->model != p->items[0].session->model)
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "the sessions are of different models");
  for (int32_t j = 0; j < i; j++)
    if (p->items[j].session == item->session)
      return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "a session stands twice in one eval");
  if (item->tokens) OTR_TRY(check_tokens(item));
  if (item->rows && otr_model_role(item->session->model, 0, OTR_ROLE_PROJECT_IN)->w.n > 0)
    return otr_fail(OTR_STATUS_UNSUPPORTED, "the model projects its embedding: it takes no rows");
  int32_t room = otr_session_room(item->session);
  if (item->n > room)
    return otr_fail(OTR_STATUS_CONTEXT_FULL, "%d rows at position %d; there is room for %d", item->n,
                    item->session->position, room);
  return OTR_STATUS_OK;
}

/* ---- the step block ---------------------------------------------------------------------------------------------- */

/** Rows for the next pass: items in order until the host's batch is full. Given rows travel alone, so that they can be
 *  read where they are. */
static int32_t take_rows(progress *p) {
  int32_t rows = 0;
  memset(p->taken, 0, sizeof p->taken);
  for (int32_t i = 0; i < p->n; i++) {
    const otr_eval_item *item = &p->items[i];
    int32_t left = item->n - p->done[i], space = p->host->n_batch - rows;
    if (left == 0 || space == 0 || (item->rows && rows > 0)) continue;
    p->taken[i] = left < space ? left : space;
    rows += p->taken[i];
    if (item->rows) break;
  }
  return rows;
}

static void fill_step(const progress *p, otr_step *step) {
  otr_session *h = p->host;
  const otr_model *m = h->model;
  int32_t half = m->config.n_rot / 2, row = 0;
  *step = (otr_step){.token = h->step_token,
                     .row = h->step_row,
                     .page_table = h->step_table,
                     .rope_cos = h->rope_cos,
                     .rope_sin = h->rope_sin,
                     .cancel = h->step_cancel,
                     .n_cancel = p->n};
  for (int32_t i = 0; i < p->n; i++) {
    const otr_eval_item *item = &p->items[i];
    h->step_table[i] = item->session->table;
    h->step_cancel[i] = &item->session->cancel;
    if (item->rows && p->taken[i] > 0) step->embedding = item->rows + (size_t)p->done[i] * (size_t)m->config.dim;
    for (int32_t j = 0; j < p->taken[i]; j++, row++) {
      int32_t position = item->session->position + j;
      h->step_token[row] = item->tokens ? item->tokens[p->done[i] + j] : -1;
      h->step_row[row] = (otr_row){i, position};
      size_t at = (size_t)row * (size_t)half;
      const double *inverse = m->rope_inverse + (item->session->long_rope ? half : 0);
      otr_rope_row(h->rope_cos + at, h->rope_sin + at, inverse, half, position, m->config.rope_attention);
    }
  }
  step->n_rows = row;
}

/* ---- logits ------------------------------------------------------------------------------------------------------ */

/** Where row `row` of the pass belongs. */
typedef struct row_owner {
  int32_t item, index; /* row `index` of the item's n */
  bool last;           /* of the item */
  bool wanted;
} row_owner;

static row_owner owner_of(const progress *p, int32_t row) {
  int32_t i = 0;
  while (row >= p->taken[i]) row -= p->taken[i++];
  row_owner o = {.item = i, .index = p->done[i] + row};
  o.last = o.index == p->items[i].n - 1;
  o.wanted = o.last || p->items[i].logits_all != NULL;
  return o;
}

/** Selects up to max_logits wanted rows from *row on. */
static void select_rows(const progress *p, otr_step *step, int32_t *row) {
  otr_session *h = p->host;
  step->n_logits = 0;
  step->logits_row = h->logits_row;
  for (; *row < step->n_rows && step->n_logits < h->forward.max_logits; ++*row)
    if (owner_of(p, *row).wanted) h->logits_row[step->n_logits++] = *row;
}

static otr_status read_logits(const progress *p, const otr_step *step) {
  otr_session *h = p->host;
  otr_device *device = h->model->runtime->device;
  size_t vocab = (size_t)h->model->config.vocab, bytes = vocab * sizeof(float);
  for (int32_t i = 0; i < step->n_logits; i++) {
    row_owner o = owner_of(p, step->logits_row[i]);
    const otr_eval_item *item = &p->items[o.item];
    otr_ref at = h->forward.logits;
    size_t offset = at.offset + (size_t)i * bytes;
    if (item->logits_all)
      OTR_TRY(device->ops->buffer_read(device, at.buffer, offset, item->logits_all + (size_t)o.index * vocab, bytes));
    if (o.last) OTR_TRY(device->ops->buffer_read(device, at.buffer, offset, item->session->logits, bytes));
  }
  return OTR_STATUS_OK;
}

static otr_status read_hidden(const progress *p, const otr_step *step) {
  otr_session *s = p->items[0].session;
  otr_forward *f = &p->host->forward;
  if (p->n > 1 || !s->hidden) return OTR_STATUS_OK;
  otr_device *device = s->model->runtime->device;
  size_t width = (size_t)s->model->config.dim * sizeof(float), rows = (size_t)step->n_rows;
  for (int32_t i = 0; i <= s->model->config.n_layers; i++)
    OTR_TRY(device->ops->buffer_read(device, f->hidden.buffer,
                                     f->hidden.offset + (size_t)i * (size_t)f->max_rows * width,
                                     (char *)s->hidden + (size_t)i * rows * width, rows * width));
  s->hidden_rows = step->n_rows;
  return OTR_STATUS_OK;
}

/* ---- passes ------------------------------------------------------------------------------------------------------ */

static otr_status check_result(const progress *p, const otr_step_result *r) {
  if (r->nonfinite_layer == OTR_LAYER_NONE) return OTR_STATUS_OK;
  if (r->nonfinite_layer < 0) return otr_fail(OTR_STATUS_NONFINITE, "a value of 2^48 or more in the embedding");
  if (r->nonfinite_layer >= p->host->model->config.n_layers)
    return otr_fail(OTR_STATUS_NONFINITE, "a value of 2^48 or more in the final norm or the output layer");
  return otr_fail(OTR_STATUS_NONFINITE, "a value of 2^48 or more in block %d", r->nonfinite_layer);
}

/** Before the first operation, where a request must not be missed. */
static otr_status check_cancel(const progress *p) {
  for (int32_t i = 0; i < p->n; i++)
    if (atomic_load(&p->items[i].session->cancel)) return otr_fail(OTR_STATUS_CANCELLED, "cancelled");
  return OTR_STATUS_OK;
}

static void add_result(otr_stats *to, const otr_step_result *r) {
  to->outliers += r->outliers;
  to->activations += r->activations;
  to->saturations += r->saturations;
  to->n_submissions += r->submissions;
  to->n_dispatches += r->dispatches;
}

static otr_status run_program(const progress *p, otr_prepared *program, const otr_step *step) {
  otr_device *device = p->host->model->runtime->device;
  otr_step_result result;
  OTR_TRY(check_cancel(p));
  OTR_TRY(device->ops->submit(device, program, step, &result));
  add_result(&p->host->stats, &result);
  return check_result(p, &result);
}

static otr_status run_pass(progress *p) {
  otr_step step;
  take_rows(p);
  for (int32_t i = 0; i < p->n; i++)
    if (p->taken[i] > 0) OTR_TRY(otr_session_prepare_rows(p->items[i].session, p->taken[i]));
  otr_float_mode mode = otr_float_mode_enter();
  fill_step(p, &step);
  otr_float_mode_leave(mode);
  int32_t row = 0;
  select_rows(p, &step, &row);
  OTR_TRY(run_program(p, p->host->forward.body, &step));
  OTR_TRY(read_hidden(p, &step));
  for (;;) {
    OTR_TRY(read_logits(p, &step));
    select_rows(p, &step, &row);
    if (step.n_logits == 0) return OTR_STATUS_OK;
    OTR_TRY(run_program(p, p->host->forward.head, &step));
  }
}

static void note_tokens(otr_session *s, const int32_t *tokens, int32_t n) {
  if (s->tokens_known < s->position) return;
  for (int32_t i = 0; i < n && s->tokens_known < s->tokens_capacity; i++)
    s->tokens[s->tokens_known++] = tokens ? tokens[i] : -1;
}

/** A whole pass is done: positions move on. */
static void finish_pass(progress *p) {
  p->host->stats.n_passes++;
  for (int32_t i = 0; i < p->n; i++) {
    const otr_eval_item *item = &p->items[i];
    otr_session *s = item->session;
    note_tokens(s, item->tokens ? item->tokens + p->done[i] : NULL, p->taken[i]);
    s->position += p->taken[i];
    s->stats.n_rows += (uint64_t)p->taken[i];
    p->done[i] += p->taken[i];
    if (p->done[i] == item->n) s->has_logits = true;
  }
}

static bool is_finished(const progress *p) {
  for (int32_t i = 0; i < p->n; i++)
    if (p->done[i] < p->items[i].n) return false;
  return true;
}

static otr_status run_all(progress *p) {
  otr_runtime *runtime = p->host->model->runtime;
  while (!is_finished(p)) {
    OTR_TRY(otr_runtime_begin(runtime));
    otr_status status = run_pass(p);
    if (status == OTR_STATUS_OK) finish_pass(p);
    for (int32_t i = 0; status != OTR_STATUS_OK && i < p->n; i++) /* what the pass took and did not fill */
      otr_session_cut(p->items[i].session, p->items[i].session->position);
    otr_runtime_end(runtime);
    if (status != OTR_STATUS_OK) return status;
  }
  return OTR_STATUS_OK;
}

static void note_time(const progress *p, double seconds) {
  for (int32_t i = 0; i < p->n; i++) {
    otr_stats *t = &p->items[i].session->stats;
    if (t->eval_seconds == 0) t->first_token_seconds = seconds;
    t->eval_seconds += seconds;
    t->last_rows_per_second = seconds > 0 ? (double)p->items[i].n / seconds : 0;
  }
}

otr_status otr_eval_together(const otr_eval_item *items, int32_t n_items) {
  if (!items || n_items < 1 || n_items > OTR_MAX_SEQUENCES)
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "%d sessions; 1 to %d can be evaluated together", n_items,
                    OTR_MAX_SEQUENCES);
  progress p = {.n = n_items};
  memcpy(p.items, items, (size_t)n_items * sizeof *items);
  for (int32_t i = 0; i < n_items; i++) OTR_TRY(check_item(&p, i));
  /* The scratch for the chunks of attention is sized for a session's own pages: the largest one's holds for all. */
  p.host = items[0].session;
  for (int32_t i = 1; i < n_items; i++)
    if (items[i].session->n_pages > p.host->n_pages) p.host = items[i].session;
  if (p.host->forward.max_rows < OTR_MAX_SEQUENCES && n_items > p.host->forward.max_rows)
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "%d sessions, but n_batch is %d", n_items, p.host->n_batch);
  for (int32_t i = 0; i < n_items; i++) {
    items[i].session->has_logits = false;
    items[i].session->hidden_rows = 0;
  }
  double start = otr_clock_seconds();
  otr_status status = run_all(&p);
  if (status == OTR_STATUS_CANCELLED)
    for (int32_t i = 0; i < n_items; i++) atomic_store(&items[i].session->cancel, 0);
  note_time(&p, otr_clock_seconds() - start);
  return status;
}

otr_status otr_session_eval(otr_session *s, const int32_t *tokens, int32_t n, float *logits_all) {
  otr_eval_item item = {s, tokens, NULL, n, logits_all};
  return otr_eval_together(&item, 1);
}

otr_status otr_session_eval_embeddings(otr_session *s, const float *rows, int32_t n, float *logits_all) {
  otr_eval_item item = {s, NULL, rows, n, logits_all};
  return otr_eval_together(&item, 1);
}
