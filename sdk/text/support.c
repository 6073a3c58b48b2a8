// SPDX-License-Identifier: Apache-2.0
#include "support.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DETAIL_BYTES 480
#define ALIGNMENT 16

static _Thread_local char detail[DETAIL_BYTES];

const char *otr_text_error_detail(void) {
  return detail;
}

otr_status otr_text_fail(otr_status status, const char *format, ...) {
  char line[DETAIL_BYTES]; /* the arguments may point into the detail itself */
  va_list arguments;
  va_start(arguments, format);
  int n = vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  if (n < 0) line[0] = '\0';
  for (char *c = line; *c != '\0'; ++c)
    if (*c == '\n' || *c == '\r') *c = ' ';
  memcpy(detail, line, sizeof line);
  return status;
}

otr_status otr_text_fail_runtime(otr_status status) {
  return otr_text_fail(status, "%s", otr_error_detail());
}

void *otr_text_take(const otr_allocator *allocator, size_t n, size_t size) {
  void *memory = NULL;
  size_t bytes = n * size;
  bool fits = size == 0 || n <= SIZE_MAX / size;
  if (bytes == 0) bytes = 1;
  if (fits && allocator->allocate == NULL) {
    memory = calloc(1, bytes);
  } else if (fits) {
    memory = allocator->allocate(allocator->user, bytes, ALIGNMENT);
    if (memory != NULL) memset(memory, 0, bytes);
  }
  if (memory == NULL) otr_text_fail(OTR_STATUS_NO_MEMORY, "no memory for %zu x %zu bytes", n, size);
  return memory;
}

void otr_text_give(const otr_allocator *allocator, void *memory, size_t n, size_t size) {
  if (memory == NULL) return;
  size_t bytes = n * size;
  if (allocator->allocate == NULL) {
    free(memory);
  } else {
    allocator->release(allocator->user, memory, bytes == 0 ? 1 : bytes);
  }
}

bool otr_text_grow(const otr_allocator *allocator, void **array, size_t *capacity, size_t needed, size_t size) {
  if (needed <= *capacity) return true;
  size_t larger = *capacity < SIZE_MAX / 2 && *capacity * 2 > needed ? *capacity * 2 : needed;
  void *grown = otr_text_take(allocator, larger, size);
  if (grown == NULL) return false;
  if (*array != NULL) memcpy(grown, *array, *capacity * size);
  otr_text_give(allocator, *array, *capacity, size);
  *array = grown;
  *capacity = larger;
  return true;
}

otr_status otr_text_params(void *out, size_t out_bytes, const void *params) {
  memset(out, 0, out_bytes);
  if (params == NULL) return OTR_STATUS_OK;
  uint32_t struct_size;
  memcpy(&struct_size, params, sizeof struct_size);
  if (struct_size < sizeof struct_size) return otr_text_fail(OTR_STATUS_INVALID_ARGUMENT, "struct_size is not set");
  memcpy(out, params, struct_size < out_bytes ? struct_size : out_bytes);
  return OTR_STATUS_OK;
}

otr_status otr_text_result(void *out, const void *filled, size_t filled_bytes) {
  uint32_t struct_size;
  memcpy(&struct_size, out, sizeof struct_size);
  if (struct_size < sizeof struct_size) return otr_text_fail(OTR_STATUS_INVALID_ARGUMENT, "struct_size is not set");
  size_t n = struct_size < filled_bytes ? struct_size : filled_bytes;
  memcpy((char *)out + sizeof struct_size, (const char *)filled + sizeof struct_size, n - sizeof struct_size);
  return OTR_STATUS_OK;
}

otr_status otr_text_check_allocator(const otr_allocator *allocator) {
  if ((allocator->allocate == NULL) == (allocator->release == NULL)) return OTR_STATUS_OK;
  return otr_text_fail(OTR_STATUS_INVALID_ARGUMENT, "an allocator needs both allocate and release");
}
