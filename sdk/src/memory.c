// SPDX-License-Identifier: Apache-2.0
#include "memory.h"

#include <stdlib.h>
#include <string.h>

#include "status.h"

static void *default_allocate(void *user, size_t bytes, size_t alignment) {
  (void)user;
  if (alignment <= _Alignof(max_align_t)) return malloc(bytes);
  void *pointer = NULL;
  return posix_memalign(&pointer, alignment, bytes) == 0 ? pointer : NULL;
}

static void default_release(void *user, void *memory, size_t bytes) {
  (void)user;
  (void)bytes;
  free(memory);
}

void otr_memory_init(otr_memory *memory, const otr_allocator *allocator) {
  if (allocator && allocator->allocate) {
    memory->allocator = *allocator;
  } else {
    memory->allocator = (otr_allocator){NULL, default_allocate, default_release};
  }
  atomic_init(&memory->now, 0);
  atomic_init(&memory->peak, 0);
}

void *otr_memory_take(otr_memory *memory, size_t bytes, size_t alignment) {
  if (bytes == 0) bytes = 1;
  void *pointer = memory->allocator.allocate(memory->allocator.user, bytes, alignment);
  if (!pointer) {
    otr_fail(OTR_STATUS_NO_MEMORY, "no memory for %zu bytes", bytes);
    return NULL;
  }
  uint_least64_t now = atomic_fetch_add(&memory->now, bytes) + bytes;
  uint_least64_t peak = atomic_load(&memory->peak);
  while (now > peak && !atomic_compare_exchange_weak(&memory->peak, &peak, now)) {
  }
  return pointer;
}

void *otr_memory_take_array(otr_memory *memory, size_t n, size_t size) {
  size_t bytes;
  if (!otr_size_mul(n, size, &bytes)) {
    otr_fail(OTR_STATUS_NO_MEMORY, "no memory for %zu elements of %zu bytes", n, size);
    return NULL;
  }
  void *pointer = otr_memory_take(memory, bytes, 64);
  if (pointer) memset(pointer, 0, bytes);
  return pointer;
}

void otr_memory_give(otr_memory *memory, void *pointer, size_t bytes) {
  if (!pointer) return;
  if (bytes == 0) bytes = 1;
  memory->allocator.release(memory->allocator.user, pointer, bytes);
  atomic_fetch_sub(&memory->now, bytes);
}

void otr_memory_give_array(otr_memory *memory, void *pointer, size_t n, size_t size) {
  otr_memory_give(memory, pointer, n * size);
}

bool otr_size_add(size_t a, size_t b, size_t *out) {
  if (a > SIZE_MAX - b) return false;
  *out = a + b;
  return true;
}

bool otr_size_mul(size_t a, size_t b, size_t *out) {
  if (b != 0 && a > SIZE_MAX / b) return false;
  *out = a * b;
  return true;
}

bool otr_size_round(size_t a, size_t to, size_t *out) {
  size_t rest = a % to;
  return otr_size_add(a, rest ? to - rest : 0, out);
}
