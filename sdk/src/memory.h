// SPDX-License-Identifier: Apache-2.0
/* The runtime's memory: the caller's allocator with a count of what is held. Threads: any. */
#ifndef OTR_MEMORY_H
#define OTR_MEMORY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "outrider/outrider.h"

typedef struct otr_memory {
  otr_allocator allocator;
  atomic_uint_least64_t now, peak; /* bytes */
} otr_memory;

/** allocator NULL or all zero: malloc and free. */
void otr_memory_init(otr_memory *memory, const otr_allocator *allocator);
/** `bytes` (0 counts as 1) at `alignment` (a power of two), not cleared; NULL when there is none, with the error detail
 *  set. Release with the same `bytes`. */
void *otr_memory_take(otr_memory *memory, size_t bytes, size_t alignment);
/** otr_memory_take of n * size zeroed bytes, refused when the product overflows. */
void *otr_memory_take_array(otr_memory *memory, size_t n, size_t size);
/** NULL is allowed. */
void otr_memory_give(otr_memory *memory, void *pointer, size_t bytes);
/** Gives back what otr_memory_take_array(n, size) gave. */
void otr_memory_give_array(otr_memory *memory, void *pointer, size_t n, size_t size);

/** a + b, a * b, a rounded up to a multiple of `to`; false when it does not fit. */
bool otr_size_add(size_t a, size_t b, size_t *out);
bool otr_size_mul(size_t a, size_t b, size_t *out);
bool otr_size_round(size_t a, size_t to, size_t *out);

#endif
