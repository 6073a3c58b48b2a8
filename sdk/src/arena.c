// SPDX-License-Identifier: Apache-2.0
#include "arena.h"

#include "memory.h"
#include "status.h"

otr_arena otr_arena_in(otr_buffer *buffer) {
  return (otr_arena){.buffer = buffer};
}

otr_ref otr_arena_place(otr_arena *a, size_t rows, size_t n, size_t size) {
  size_t bytes, at = 0;
  bool fits = otr_size_mul(n, size, &bytes) && otr_size_mul(rows, bytes, &bytes) &&
              otr_size_round(a->bytes, 256, &at) && otr_size_add(at, bytes, &a->bytes);
  a->too_large = a->too_large || !fits;
  return (otr_ref){a->buffer, at};
}

otr_ref otr_arena_place_layout(otr_arena *a, size_t bytes) {
  a->too_large = a->too_large || bytes == 0;
  return otr_arena_place(a, bytes, 1, 1);
}

otr_status otr_arena_check(const otr_arena *a, const char *what) {
  if (!a->too_large) return OTR_STATUS_OK;
  return otr_fail(OTR_STATUS_NO_MEMORY, "%s is too large for this machine's addresses", what);
}
