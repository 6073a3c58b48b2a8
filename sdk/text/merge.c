// SPDX-License-Identifier: Apache-2.0
#include "merge.h"

void otr_merge_begin(otr_merge *merge, const otr_allocator *allocator) {
  *merge = (otr_merge){.allocator = allocator};
}

void otr_merge_end(otr_merge *merge) {
  otr_text_give(merge->allocator, merge->symbols, merge->symbols_capacity, sizeof *merge->symbols);
  otr_text_give(merge->allocator, merge->heap, merge->heap_capacity, sizeof *merge->heap);
  otr_merge_begin(merge, merge->allocator);
}

otr_status otr_merge_reserve(otr_merge *merge, size_t n) {
  merge->n_symbols = 0;
  merge->n_heap = 0;
  /* n − 1 pairs to begin with; a join takes one candidate and gives two, and there are at most n − 1 of them. */
  void *symbols = merge->symbols, *heap = merge->heap;
  bool ok = otr_text_grow(merge->allocator, &symbols, &merge->symbols_capacity, n, sizeof *merge->symbols);
  merge->symbols = symbols;
  ok = ok && otr_text_grow(merge->allocator, &heap, &merge->heap_capacity, 2 * n, sizeof *merge->heap);
  merge->heap = heap;
  return ok ? OTR_STATUS_OK : OTR_STATUS_NO_MEMORY;
}

void otr_merge_append(otr_merge *merge, uint32_t start, uint32_t bytes, int32_t id) {
  int32_t i = (int32_t)merge->n_symbols++;
  merge->symbols[i] = (otr_symbol){i - 1, -1, start, bytes, id};
  if (i > 0) merge->symbols[i - 1].next = i;
}

/* By key, then by place (never negative). */
static bool before(const otr_candidate *a, const otr_candidate *b) {
  return ((uint64_t)a->key << 32 | (uint32_t)a->left) < ((uint64_t)b->key << 32 | (uint32_t)b->left);
}

/* A heap of WAYS children each: half the levels of a binary one, and so half the cache misses of a long piece. */
enum { WAYS = 4 };

static void heap_push(otr_merge *merge, otr_candidate candidate) {
  size_t i = merge->n_heap++;
  for (; i > 0 && before(&candidate, &merge->heap[(i - 1) / WAYS]); i = (i - 1) / WAYS)
    merge->heap[i] = merge->heap[(i - 1) / WAYS];
  merge->heap[i] = candidate;
}

static otr_candidate heap_pop(otr_merge *merge) {
  otr_candidate first = merge->heap[0], last = merge->heap[--merge->n_heap];
  size_t i = 0, n = merge->n_heap;
  for (size_t child = 1; child < n; child = WAYS * i + 1) {
    size_t end = child + WAYS < n ? child + WAYS : n, best = child;
    for (size_t other = child + 1; other < end; ++other)
      if (before(&merge->heap[other], &merge->heap[best])) best = other;
    if (!before(&merge->heap[best], &last)) break;
    merge->heap[i] = merge->heap[best];
    i = best;
  }
  merge->heap[i] = last;
  return first;
}

/* Puts the pair of `left` and its neighbour on the heap when it can be joined. */
static void consider(otr_merge *merge, int32_t left, otr_merge_pair_fn pair, const void *model, const char *text) {
  if (left < 0 || merge->symbols[left].next < 0) return;
  const otr_symbol *a = &merge->symbols[left], *b = &merge->symbols[a->next];
  otr_candidate candidate = {.left = left, .bytes = a->bytes + b->bytes};
  if (pair(model, text, a, b, &candidate.key, &candidate.id)) heap_push(merge, candidate);
}

void otr_merge_run(otr_merge *merge, otr_merge_pair_fn pair, const void *model, const char *text) {
  for (size_t i = 0; i + 1 < merge->n_symbols; ++i) consider(merge, (int32_t)i, pair, model, text);
  while (merge->n_heap > 0) {
    otr_candidate best = heap_pop(merge);
    otr_symbol *left = &merge->symbols[best.left];
    if (left->bytes == 0 || left->next < 0) continue;
    otr_symbol *right = &merge->symbols[left->next];
    if (left->bytes + right->bytes != best.bytes) continue;
    left->bytes = best.bytes;
    left->id = best.id;
    left->next = right->next;
    right->bytes = 0;
    if (left->next >= 0) merge->symbols[left->next].previous = best.left;
    consider(merge, left->previous, pair, model, text);
    consider(merge, best.left, pair, model, text);
  }
}
