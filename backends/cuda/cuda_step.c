// SPDX-License-Identifier: Apache-2.0
/* The step block: what a pass reads, packed as tightly as its rows allow, so that a decode sends about a kilobyte. */
#include <string.h>

#include "cuda_prepared.h"
#include "numerics.h"
#include "status.h"

enum { ALIGN = 16 };

typedef struct packer {
  otr_prepared *p; /* its block NULL: only sizes */
  size_t used;
} packer;

/** Room for `bytes`, and its device address. NULL while measuring. */
static void *take(packer *k, size_t bytes, uint64_t *address) {
  size_t at = k->used;
  k->used = (at + bytes + ALIGN - 1) / ALIGN * ALIGN;
  if (address) *address = k->p->memory + at;
  return k->p->block ? k->p->block + at : NULL;
}

/* What the step lacks (a linear alone has no tokens) stays at address 0. */
static void put(packer *k, const void *from, size_t bytes, uint64_t *address) {
  if (!from) return;
  void *to = take(k, bytes, address);
  if (bytes > 0) memcpy(to, from, bytes);
}

size_t cuda_block_bytes(const otr_prepared *p) {
  const otr_program *g = &p->program;
  otr_prepared measured = {.block = NULL};
  packer k = {&measured, CUDA_AT_ARRAYS};
  size_t rows = (size_t)g->max_rows, sequences = p->attends ? (size_t)g->max_sequences : 0;
  size_t pages = sequences * (size_t)g->max_pages;
  take(&k, rows * sizeof(int32_t), NULL);                   /* token */
  take(&k, rows * sizeof(otr_row), NULL);                   /* row */
  take(&k, (size_t)g->max_logits * sizeof(int32_t), NULL);  /* logits_row */
  take(&k, rows * (size_t)p->half * sizeof(float), NULL);   /* rope_cos */
  take(&k, rows * (size_t)p->half * sizeof(float), NULL);   /* rope_sin */
  take(&k, p->attends ? rows * sizeof(uint64_t) : 0, NULL); /* row_page */
  take(&k, sequences * sizeof(int32_t), NULL);              /* n_pages */
  take(&k, pages * sizeof(uint64_t), NULL);                 /* page */
  take(&k, pages * sizeof(int32_t), NULL);                  /* chunk */
  return k.used;
}

/** Pages that are there of the sequence whose last row is `row`. */
static int32_t count_pages(const otr_step *s, otr_row row) {
  int32_t n = 0;
  for (int32_t c = 0; c <= row.position / OTR_CHUNK; c++) n += s->page_table[row.sequence][c].buffer != NULL;
  return n;
}

static bool is_last_of_sequence(const otr_step *s, int32_t i) {
  return i + 1 == s->n_rows || s->row[i + 1].sequence != s->row[i].sequence;
}

static void list_pages(const otr_step *s, otr_row row, uint64_t *page, int32_t *chunk) {
  int32_t n = 0;
  for (int32_t c = 0; c <= row.position / OTR_CHUNK; c++) {
    otr_page at = s->page_table[row.sequence][c];
    if (!at.buffer) continue;
    page[n] = cuda_address(at);
    chunk[n++] = c;
  }
}

static otr_status pack_pages(packer *k, const otr_step *s, struct cuda_step *head) {
  const otr_program *g = &k->p->program;
  for (int32_t i = 0; i < s->n_rows; i++) {
    otr_row row = s->row[i];
    if (row.sequence < 0 || row.sequence >= g->max_sequences)
      return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "row %d is of sequence %d of %d", i, row.sequence, g->max_sequences);
    if (row.sequence >= head->n_sequences) head->n_sequences = row.sequence + 1;
    int32_t n = is_last_of_sequence(s, i) ? count_pages(s, row) : 0;
    if (n > head->max_table) head->max_table = n;
  }
  if (head->max_table > g->max_pages)
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "a sequence of %d pages in a program for %d", head->max_table,
                    g->max_pages);
  size_t sequences = (size_t)head->n_sequences, entries = sequences * (size_t)head->max_table;
  uint64_t *row_page = take(k, (size_t)s->n_rows * sizeof *row_page, &head->row_page);
  int32_t *n_pages = take(k, sequences * sizeof *n_pages, &head->n_pages);
  uint64_t *page = take(k, entries * sizeof *page, &head->page);
  int32_t *chunk = take(k, entries * sizeof *chunk, &head->chunk);
  memset(n_pages, 0, sequences * sizeof *n_pages);
  for (int32_t i = 0; i < s->n_rows; i++) {
    otr_row row = s->row[i];
    row_page[i] = cuda_address(s->page_table[row.sequence][row.position / OTR_CHUNK]);
    if (!is_last_of_sequence(s, i)) continue;
    size_t first = (size_t)row.sequence * (size_t)head->max_table;
    n_pages[row.sequence] = count_pages(s, row);
    list_pages(s, row, page + first, chunk + first);
  }
  return OTR_STATUS_OK;
}

otr_status cuda_pack_step(otr_prepared *p, const otr_step *s, size_t *bytes) {
  const otr_program *g = &p->program;
  if (s->n_rows < 1 || s->n_rows > g->max_rows || s->n_logits < 0 || s->n_logits > g->max_logits)
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "%d rows, %d of logits; the program is for %d and %d", s->n_rows,
                    s->n_logits, g->max_rows, g->max_logits);
  packer k = {p, CUDA_AT_ARRAYS};
  struct cuda_step head = {.n_rows = s->n_rows, .n_logits = s->n_logits};
  size_t rows = (size_t)s->n_rows, rotations = rows * (size_t)p->half * sizeof(float);
  put(&k, s->token, rows * sizeof *s->token, &head.token);
  put(&k, s->row, rows * sizeof *s->row, &head.row);
  put(&k, s->logits_row, (size_t)s->n_logits * sizeof *s->logits_row, &head.logits_row);
  put(&k, s->rope_cos, rotations, &head.rope_cos);
  put(&k, s->rope_sin, rotations, &head.rope_sin);
  if (s->embedding && p->width > 0) head.embedding = p->given;
  if (p->attends && s->page_table) OTR_TRY(pack_pages(&k, s, &head));
  memcpy(p->block, &head, sizeof head);
  *cuda_found_of(p) = (struct cuda_found){.nonfinite_layer = OTR_LAYER_NONE};
  *bytes = k.used;
  return OTR_STATUS_OK;
}
