// SPDX-License-Identifier: Apache-2.0
/* For tests: malloc and its kin counted, and failing on demand. The library's link options put these in front of
 * the C library's for everything that is linked statically into a program; what shared libraries take is not seen. */
#ifndef COUNTED_HEAP_H
#define COUNTED_HEAP_H

#include <stdatomic.h>
#include <stddef.h>

extern atomic_long heap_calls, heap_held;    /* calls of any of them; pieces not given back */
extern atomic_long heap_taken, heap_fail_at; /* allocations, and which of them fails; negative: none */

/** posix_memalign as the C library has it: neither counted nor failing. */
int heap_real_memalign(void **out, size_t alignment, size_t bytes);
/** Its free. */
void heap_real_free(void *memory);

#endif
