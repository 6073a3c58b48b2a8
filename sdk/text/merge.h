// SPDX-License-Identifier: Apache-2.0
/* Byte-pair merging of one piece: the best pair of neighbours is joined until none can be, in n log n. */
#ifndef OTR_TEXT_MERGE_H
#define OTR_TEXT_MERGE_H

#include "support.h"

/** A symbol of the piece: text[start … start + bytes). */
typedef struct otr_symbol {
  int32_t previous, next; /**< neighbours, −1 at the ends */
  uint32_t start, bytes;  /**< bytes 0: joined to the symbol before it */
  int32_t id;             /**< −1: no token */
} otr_symbol;

/** A pair that can be joined: the symbol `left` and its neighbour. Stale when their bytes are no more `bytes`. */
typedef struct otr_candidate {
  uint32_t key; /**< the lowest first; on a tie the leftmost */
  int32_t left;
  int32_t id; /**< of the joined symbol */
  uint32_t bytes;
} otr_candidate;

/** Working memory of one encode, grown as pieces need it. */
typedef struct otr_merge {
  const otr_allocator *allocator;
  otr_symbol *symbols;
  size_t n_symbols, symbols_capacity;
  otr_candidate *heap;
  size_t n_heap, heap_capacity;
} otr_merge;

/** Whether two neighbours can be joined: *key and *id of the result. */
typedef bool (*otr_merge_pair_fn)(const void *model, const char *text, const otr_symbol *left, const otr_symbol *right,
                                  uint32_t *key, int32_t *id);

void otr_merge_begin(otr_merge *merge, const otr_allocator *allocator);
void otr_merge_end(otr_merge *merge);
/** Empties it and makes room for a piece of at most n symbols, n <= INT32_MAX. */
otr_status otr_merge_reserve(otr_merge *merge, size_t n);
/** Appends a symbol within what was reserved. */
void otr_merge_append(otr_merge *merge, uint32_t start, uint32_t bytes, int32_t id);
/** Joins. The result: symbols[0] and on along `next`. */
void otr_merge_run(otr_merge *merge, otr_merge_pair_fn pair, const void *model, const char *text);

#endif
