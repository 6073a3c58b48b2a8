// SPDX-License-Identifier: Apache-2.0
/* What all of the text library needs: failing with a reason, memory by the caller's allocator, parameter structs. */
#ifndef OTR_TEXT_SUPPORT_H
#define OTR_TEXT_SUPPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "outrider/text.h"

/** Sets the thread's detail (printf form, cut to one line) and returns `status`. */
otr_status otr_text_fail(otr_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));
/** Takes the runtime's detail over after one of its functions failed with `status`, and returns `status`. */
otr_status otr_text_fail_runtime(otr_status status);

/** Returns from the calling function when `expression` is not OK. */
#define OTR_TEXT_TRY(expression)                            \
  do {                                                      \
    otr_status otr_text_try = (expression);                 \
    if (otr_text_try != OTR_STATUS_OK) return otr_text_try; \
  } while (0)

/** n * size zeroed bytes (at least one), NULL with the detail set when there is no memory or the product overflows.
 *  An allocator without functions is malloc and free. */
void *otr_text_take(const otr_allocator *allocator, size_t n, size_t size);
/** Gives back what otr_text_take(n, size) gave; NULL is allowed. */
void otr_text_give(const otr_allocator *allocator, void *memory, size_t n, size_t size);
/** Makes room for `needed` elements in *array of *capacity: doubles it, keeping the contents.
 *  @return false, with the detail set and everything as before, when there is no memory. */
bool otr_text_grow(const otr_allocator *allocator, void **array, size_t *capacity, size_t needed, size_t size);

/** Copies a caller's params struct of any known size into the library's `out` (zero where the caller's is shorter).
 *  params NULL: all zero. @return OK or INVALID_ARGUMENT (struct_size not set). */
otr_status otr_text_params(void *out, size_t out_bytes, const void *params);
/** Copies the library's filled struct into the caller's `out`, as much as the caller's struct_size says. */
otr_status otr_text_result(void *out, const void *filled, size_t filled_bytes);
/** Both functions of an allocator are there, or none. */
otr_status otr_text_check_allocator(const otr_allocator *allocator);

/** A number that is the lower the higher x is, and equal for equal ones (both zeros). x is no NaN. */
static inline uint32_t otr_descending_key(float x) {
  uint32_t bits;
  if (x == 0.0f) x = 0.0f;
  memcpy(&bits, &x, sizeof bits);
  return (bits & 0x80000000u) != 0 ? bits : ~(bits | 0x80000000u);
}

#endif
