// SPDX-License-Identifier: Apache-2.0
#include "counted_heap.h"

#include <errno.h>
#include <stdbool.h>

atomic_long heap_calls, heap_held, heap_taken, heap_fail_at = -1;

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t n, size_t bytes);
void *__real_realloc(void *memory, size_t bytes);
int __real_posix_memalign(void **out, size_t alignment, size_t bytes);
void *__real_aligned_alloc(size_t alignment, size_t bytes);
void __real_free(void *memory);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t n, size_t bytes);
void *__wrap_realloc(void *memory, size_t bytes);
int __wrap_posix_memalign(void **out, size_t alignment, size_t bytes);
void *__wrap_aligned_alloc(size_t alignment, size_t bytes);
void __wrap_free(void *memory);

static bool fails(void) {
  heap_calls++;
  bool failing = heap_taken++ == heap_fail_at;
  if (failing) errno = ENOMEM;
  return failing;
}

static void *counted(void *memory) {
  if (memory != NULL) heap_held++;
  return memory;
}

void *__wrap_malloc(size_t bytes) {
  return fails() ? NULL : counted(__real_malloc(bytes));
}
void *__wrap_calloc(size_t n, size_t bytes) {
  return fails() ? NULL : counted(__real_calloc(n, bytes));
}
void *__wrap_aligned_alloc(size_t alignment, size_t bytes) {
  return fails() ? NULL : counted(__real_aligned_alloc(alignment, bytes));
}
void *__wrap_realloc(void *memory, size_t bytes) {
  if (fails()) return NULL;
  return memory == NULL ? counted(__real_realloc(memory, bytes)) : __real_realloc(memory, bytes);
}
int __wrap_posix_memalign(void **out, size_t alignment, size_t bytes) {
  if (fails()) return ENOMEM;
  int error = __real_posix_memalign(out, alignment, bytes);
  if (error == 0) heap_held++;
  return error;
}
void __wrap_free(void *memory) {
  heap_calls++;
  if (memory != NULL) heap_held--;
  __real_free(memory);
}

int heap_real_memalign(void **out, size_t alignment, size_t bytes) {
  return __real_posix_memalign(out, alignment, bytes);
}

void heap_real_free(void *memory) {
  __real_free(memory);
}
