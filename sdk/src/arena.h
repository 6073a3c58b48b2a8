// SPDX-License-Identifier: Apache-2.0
/* Places in one buffer of a device, laid out twice by the same function: with no buffer to measure, then to use. What
 * does not fit a size_t is remembered, so that only the end of the measuring asks. */
#ifndef OTR_ARENA_H
#define OTR_ARENA_H

#include <stdbool.h>
#include <stddef.h>

#include "ops.h"
#include "outrider/outrider.h"

typedef struct otr_arena {
  otr_buffer *buffer; /* NULL: measuring */
  size_t bytes;       /* placed so far */
  bool too_large;
} otr_arena;

/** An empty arena in `buffer`. */
otr_arena otr_arena_in(otr_buffer *buffer);
/** Room for [rows, n] elements of `size` bytes, 256-byte aligned. */
otr_ref otr_arena_place(otr_arena *arena, size_t rows, size_t n, size_t size);
/** Room for what a device lays out itself; 0 bytes are its word for too large. */
otr_ref otr_arena_place_layout(otr_arena *arena, size_t bytes);
/** @return OK, or NO_MEMORY: `what` is too large for this machine's addresses */
otr_status otr_arena_check(const otr_arena *arena, const char *what);

#endif
