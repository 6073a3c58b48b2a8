// SPDX-License-Identifier: Apache-2.0
/* The step block of a pass. The control buffer may be memory that the host only writes well: nothing is read there. */
#include <string.h>

#include "numerics.h"
#include "shaders/step.glsl"
#include "status.h"
#include "vulkan_step.h"

/** How far windows lie apart in a block that one binding does not cover: each page lies whole in the window of its
 *  beginning. */
static size_t stride(const vulkan_device *d, size_t page_bytes) {
  return ((size_t)d->caps.max_operand_bytes - page_bytes) / VULKAN_ALIGN * VULKAN_ALIGN;
}

/* ---- windows ----------------------------------------------------------------------------------------------------- */

static bool is_alive(const vulkan_device *d, uint64_t serial) {
  for (const vulkan_block *b = d->blocks; b; b = b->next)
    if (b->serial == serial) return true;
  return false;
}

/** Forgets windows on blocks that were destroyed since the pass before. */
static void drop_dead_windows(otr_prepared *p) {
  vulkan_device *d = p->device;
  pthread_mutex_lock(&d->memory_lock);
  uint64_t epoch = d->block_epoch;
  for (int i = 0; i < VULKAN_KV_WINDOWS && p->epoch != epoch; i++) {
    vulkan_window *w = &p->window[i];
    if (!w->serial || is_alive(d, w->serial)) continue;
    *w = (vulkan_window){0};
    p->recorded = false;
  }
  p->epoch = epoch;
  pthread_mutex_unlock(&d->memory_lock);
}

/** The window that a page lies in, made where there is none. */
static otr_status find_window(otr_prepared *p, otr_page page, size_t page_bytes, uint32_t place[2]) {
  const vulkan_block *block = page.buffer->block;
  size_t at = page.buffer->offset + page.offset, limit = (size_t)p->device->caps.max_operand_bytes, base = 0;
  if (block->bytes > limit) base = at / stride(p->device, page_bytes) * stride(p->device, page_bytes);
  vulkan_window *unused = NULL;
  for (int i = 0; i < VULKAN_KV_WINDOWS; i++) {
    vulkan_window *w = &p->window[i];
    if (!w->used && (!unused || !w->serial)) unused = w;
    if (w->serial != block->serial || w->base != base) continue;
    w->used = true;
    place[0] = (uint32_t)i;
    place[1] = (uint32_t)((at - base) / sizeof(uint32_t));
    return OTR_STATUS_OK;
  }
  if (!unused)
    return otr_fail(
        OTR_STATUS_UNSUPPORTED,
        "a pass over KV pages in more than %d pieces of memory of %zu MiB, what a shader of this device sees "
        "at once: fewer sessions together, or a shorter context",
        VULKAN_KV_WINDOWS, limit >> 20);
  size_t left = block->bytes - base;
  *unused = (vulkan_window){block->serial, block->buffer, base, left < limit ? left : limit, true};
  p->recorded = false;
  place[0] = (uint32_t)(unused - p->window);
  place[1] = (uint32_t)((at - base) / sizeof(uint32_t));
  return OTR_STATUS_OK;
}

/* ---- arrays ------------------------------------------------------------------------------------------------------ */

static uint32_t *words_at(const otr_prepared *p, uint32_t place) {
  return (uint32_t *)(void *)vulkan_buffer_host(p->control) + place;
}

static void put_words(const otr_prepared *p, uint32_t place, const void *source, size_t n) {
  if (source && n > 0) memcpy(words_at(p, place), source, n * sizeof(uint32_t));
}

/** Lists the pages of the sequence that row `last` ends. */
static otr_status list_pages(otr_prepared *p, const otr_step *s, int32_t last, size_t page_bytes, uint32_t *most) {
  const otr_program *g = &p->program;
  int32_t sequence = s->row[last].sequence, n = s->row[last].position / OTR_CHUNK + 1;
  uint32_t *to = words_at(p, p->at.page) + (size_t)sequence * (size_t)g->max_pages * 4, listed = 0;
  if (sequence >= g->max_sequences || n > g->max_table)
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "a row lies beyond what the program was prepared for");
  for (int32_t c = 0; c < n; c++) {
    otr_page page = s->page_table[sequence][c];
    uint32_t place[2];
    if (!page.buffer) continue;
    if (listed == (uint32_t)g->max_pages)
      return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "more pages than the program was prepared for");
    OTR_TRY(find_window(p, page, page_bytes, place));
    to[4 * listed] = (uint32_t)c;
    to[4 * listed + 1] = place[0];
    to[4 * listed + 2] = place[1];
    listed++;
  }
  words_at(p, p->at.n_pages)[sequence] = listed;
  if (listed > *most) *most = listed;
  return OTR_STATUS_OK;
}

static otr_status put_pages(otr_prepared *p, const otr_step *s, uint32_t *most) {
  size_t page_bytes = vulkan_kv_page_bytes(&p->program.kv);
  uint32_t *own = words_at(p, p->at.row_page);
  *most = 0;
  if (!p->attends || !s->page_table) return OTR_STATUS_OK;
  drop_dead_windows(p);
  for (int i = 0; i < VULKAN_KV_WINDOWS; i++) p->window[i].used = false;
  for (int32_t i = 0; i < s->n_rows; i++) {
    const otr_row *row = &s->row[i];
    uint32_t place[2];
    if (i + 1 == s->n_rows || s->row[i + 1].sequence != row->sequence) OTR_TRY(list_pages(p, s, i, page_bytes, most));
    otr_page page = s->page_table[row->sequence][row->position / OTR_CHUNK];
    if (!page.buffer) return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "row %d has no KV page", i);
    OTR_TRY(find_window(p, page, page_bytes, place));
    own[2 * i] = place[0];
    own[2 * i + 1] = place[1];
  }
  if (p->recorded) return OTR_STATUS_OK;
  vulkan_bind_windows(p);
  return vulkan_record(p);
}

/* ---- group counts ------------------------------------------------------------------------------------------------ */

static uint32_t groups_of(const vulkan_axis *axis, const vulkan_counts *c) {
  uint32_t n = axis->per;
  switch (axis->scale) {
    case VULKAN_FIXED:
      return n;
    case VULKAN_ROWS:
      return (c->rows + n - 1) / n;
    case VULKAN_LOGITS:
      return (c->logits + n - 1) / n;
    case VULKAN_CHUNKS:
      return (c->chunks + n - 1) / n;
  }
  return 0;
}

void vulkan_put_groups(otr_prepared *p, int32_t index, uint32_t base, uint32_t y) {
  const vulkan_entry *e = &p->entries[index];
  VkDispatchIndirectCommand command = {e->now[0], y, e->now[2]};
  memcpy(vulkan_buffer_host(p->control) + p->at.arguments + (size_t)index * sizeof command, &command, sizeof command);
  *words_at(p, STEP_GROUP_BASE) = base;
}

/** Workgroups of every dispatch. One that is for another number of rows than there are has none. */
static void count_groups(otr_prepared *p, const vulkan_counts *c) {
  for (int32_t i = 0; i < p->n_entries; i++) {
    vulkan_entry *e = &p->entries[i];
    uint32_t m = e->rows == OTR_ROWS_LOGITS ? c->logits : c->rows;
    bool active = m > 0 && (e->phases & (m <= VULKAN_FEW ? VULKAN_FEW_ROWS : VULKAN_MANY_ROWS));
    for (int axis = 0; axis < 3; axis++) e->now[axis] = active ? groups_of(&e->groups[axis], c) : 0;
    if (e->now[0] == 0 || e->now[2] == 0) e->now[1] = 0;
    vulkan_put_groups(p, i, 0, e->now[1]);
  }
}

/* ---- the step ---------------------------------------------------------------------------------------------------- */

otr_status vulkan_step_write(otr_prepared *p, const otr_step *s) {
  const otr_program *g = &p->program;
  size_t rows = (size_t)s->n_rows;
  if (s->n_rows > g->max_rows || s->n_logits > g->max_logits)
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "%d rows, %d logits: the program was prepared for %d and %d",
                    s->n_rows, s->n_logits, g->max_rows, g->max_logits);
  vulkan_counts c = {.rows = (uint32_t)s->n_rows, .logits = (uint32_t)s->n_logits};
  OTR_TRY(put_pages(p, s, &c.chunks));
  put_words(p, p->at.token, s->token, rows);
  put_words(p, p->at.row, s->row, 2 * rows);
  put_words(p, p->at.logits_row, s->logits_row, (size_t)s->n_logits);
  put_words(p, p->at.rope_cos, s->rope_cos, rows * (size_t)p->half_rot);
  put_words(p, p->at.rope_sin, s->rope_sin, rows * (size_t)p->half_rot);
  put_words(p, p->at.embedding, s->embedding, rows * (size_t)p->embed_width);
  uint32_t *head = words_at(p, 0);
  head[STEP_N_ROWS] = c.rows;
  head[STEP_N_LOGITS] = c.logits;
  head[STEP_N_CHUNKS] = c.chunks;
  count_groups(p, &c);
  const uint32_t found[FOUND_WORDS] = {[FOUND_LAYER] = FOUND_NO_LAYER};
  memcpy(vulkan_buffer_host(p->control) + p->at.found, found, sizeof found);
  return OTR_STATUS_OK;
}
