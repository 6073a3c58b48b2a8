// SPDX-License-Identifier: Apache-2.0
#include "safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "json_read.h"
#include "status.h"

#define LENGTH_BYTES 8

static const struct {
  const char *name;
  uint32_t bytes;
} dtypes[SAFETENSORS_DTYPES] = {
    [SAFETENSORS_F32] = {"F32", 4},         [SAFETENSORS_F16] = {"F16", 2},         [SAFETENSORS_BF16] = {"BF16", 2},
    [SAFETENSORS_F8_E4M3] = {"F8_E4M3", 1}, [SAFETENSORS_F8_E5M2] = {"F8_E5M2", 1}, [SAFETENSORS_I8] = {"I8", 1},
    [SAFETENSORS_U8] = {"U8", 1},           [SAFETENSORS_BOOL] = {"BOOL", 1},       [SAFETENSORS_I16] = {"I16", 2},
    [SAFETENSORS_U16] = {"U16", 2},         [SAFETENSORS_I32] = {"I32", 4},         [SAFETENSORS_U32] = {"U32", 4},
    [SAFETENSORS_F64] = {"F64", 8},         [SAFETENSORS_I64] = {"I64", 8},         [SAFETENSORS_U64] = {"U64", 8},
};

const char *safetensors_dtype_name(safetensors_dtype dtype) {
  return dtypes[dtype].name;
}

static otr_status read_dtype(const json_t *entry, safetensor *t) {
  const char *name = json_string_value(json_object_get(entry, "dtype"));
  if (name == NULL) return otr_fail(OTR_STATUS_BAD_FORMAT, "tensor %s has no dtype", t->name);
  for (int i = 0; i < SAFETENSORS_DTYPES; ++i) {
    if (strcmp(dtypes[i].name, name) != 0) continue;
    t->dtype = (safetensors_dtype)i;
    return OTR_STATUS_OK;
  }
  return otr_fail(OTR_STATUS_UNSUPPORTED, "tensor %s has dtype %.32s, which is not supported", t->name, name);
}

/* A number that counts something: jansson's integers end at 2^63 - 1, larger ones are no valid JSON for it. */
static bool read_count(const json_t *value, uint64_t *out) {
  if (!json_is_integer(value) || json_integer_value(value) < 0) return false;
  *out = (uint64_t)json_integer_value(value);
  return true;
}

/* dims, and the bytes that they ask for. */
static otr_status read_shape(const json_t *entry, safetensor *t, uint64_t *bytes) {
  const json_t *shape = json_object_get(entry, "shape");
  size_t n = json_array_size(shape);
  if (!json_is_array(shape)) return otr_fail(OTR_STATUS_BAD_FORMAT, "tensor %s has no shape", t->name);
  if (n > SAFETENSORS_MAX_DIMS)
    return otr_fail(OTR_STATUS_UNSUPPORTED, "tensor %s has %zu dimensions, at most %d are read", t->name, n,
                    SAFETENSORS_MAX_DIMS);
  t->n_dims = (int32_t)n;
  *bytes = dtypes[t->dtype].bytes;
  bool empty = false, wraps = false;
  for (size_t i = 0; i < n; ++i) {
    if (!read_count(json_array_get(shape, i), &t->dims[i]))
      return otr_fail(OTR_STATUS_BAD_FORMAT, "tensor %s has a dimension that is no count", t->name);
    empty = empty || t->dims[i] == 0;
    wraps = wraps || __builtin_mul_overflow(*bytes, t->dims[i], bytes);
  }
  if (empty) *bytes = 0;
  if (wraps && !empty) return otr_fail(OTR_STATUS_BAD_FORMAT, "the shape of tensor %s is too large", t->name);
  return OTR_STATUS_OK;
}

/* Its place in the file, whose data is [begin, end). */
static otr_status read_place(const json_t *entry, safetensor *t, uint64_t begin, uint64_t end, uint64_t bytes) {
  const json_t *offsets = json_object_get(entry, "data_offsets");
  uint64_t from, to;
  if (json_array_size(offsets) != 2 || !read_count(json_array_get(offsets, 0), &from) ||
      !read_count(json_array_get(offsets, 1), &to))
    return otr_fail(OTR_STATUS_BAD_FORMAT, "tensor %s has no data_offsets of two counts", t->name);
  if (to < from || to > end - begin)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "tensor %s lies from %llu to %llu of %llu bytes", t->name,
                    (unsigned long long)from, (unsigned long long)to, (unsigned long long)(end - begin));
  if (to - from != bytes)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "tensor %s has %llu bytes; its shape asks for %llu", t->name,
                    (unsigned long long)(to - from), (unsigned long long)bytes);
  t->offset = begin + from;
  t->bytes = bytes;
  return OTR_STATUS_OK;
}

static otr_status read_tensors(safetensors *file, const json_t *root, uint64_t begin, uint64_t end) {
  const char *name;
  json_t *entry;
  json_object_foreach((json_t *)root, name, entry) {
    if (strcmp(name, "__metadata__") == 0) continue;
    if (name[0] == '\0') return otr_fail(OTR_STATUS_BAD_FORMAT, "a tensor has no name");
    if (!json_is_object(entry)) return otr_fail(OTR_STATUS_BAD_FORMAT, "tensor %s is no object", name);
    safetensor *t = &file->tensors[file->n++];
    uint64_t bytes = 0;
    t->name = name;
    OTR_TRY(read_dtype(entry, t));
    OTR_TRY(read_shape(entry, t, &bytes));
    OTR_TRY(read_place(entry, t, begin, end, bytes));
  }
  return OTR_STATUS_OK;
}

static int by_place(const void *a, const void *b) {
  const safetensor *x = a, *y = b;
  if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
  return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

static int by_name(const void *a, const void *b) {
  return strcmp(((const safetensor *)a)->name, ((const safetensor *)b)->name);
}

/* Data that no tensor, or more than one, speaks of is how a file hides something: the format forbids both. */
static otr_status check_cover(safetensors *file, uint64_t begin, uint64_t end) {
  if (file->n > 0) qsort(file->tensors, (size_t)file->n, sizeof *file->tensors, by_place);
  uint64_t at = begin;
  for (int32_t i = 0; i < file->n; ++i) {
    const safetensor *t = &file->tensors[i];
    if (t->offset != at)
      return otr_fail(OTR_STATUS_BAD_FORMAT, "tensor %s %s", t->name,
                      t->offset < at ? "overlaps another" : "has a hole before it");
    at += t->bytes;
  }
  if (at != end)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "%llu bytes belong to no tensor", (unsigned long long)(end - at));
  if (file->n > 0) qsort(file->tensors, (size_t)file->n, sizeof *file->tensors, by_name);
  return OTR_STATUS_OK;
}

/* jansson ends a nesting deeper than 2048 itself. */
static otr_status read_json(safetensors *file, const uint8_t *header, size_t n) {
  json_error_t error;
  json_t *root;
  otr_status status = json_read_text(header, n, 0, &root, &error);
  file->names = root;
  if (status == OTR_STATUS_NO_MEMORY) return status;
  if (status != OTR_STATUS_OK)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "the header is not valid JSON: %s (at byte %d)", error.text, error.position);
  if (!json_is_object(root)) return otr_fail(OTR_STATUS_BAD_FORMAT, "the header is no JSON object");
  if (json_object_size(root) > SAFETENSORS_MAX_TENSORS)
    return otr_fail(OTR_STATUS_UNSUPPORTED, "%zu tensors, at most %d are read", json_object_size(root),
                    SAFETENSORS_MAX_TENSORS);
  file->room = json_object_size(root);
  file->tensors = otr_memory_take_array(file->memory, file->room, sizeof *file->tensors);
  return file->tensors != NULL ? OTR_STATUS_OK : OTR_STATUS_NO_MEMORY;
}

static otr_status parse(safetensors *file, const uint8_t *bytes, size_t n_bytes, uint64_t file_bytes) {
  uint64_t length;
  if (file_bytes < LENGTH_BYTES || n_bytes < LENGTH_BYTES)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "%llu bytes are no safetensors file", (unsigned long long)file_bytes);
  memcpy(&length, bytes, sizeof length);
  if (length < 2 || length > file_bytes - LENGTH_BYTES || length > n_bytes - LENGTH_BYTES ||
      length > SAFETENSORS_MAX_HEADER)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "a header of %llu bytes in a file of %llu", (unsigned long long)length,
                    (unsigned long long)file_bytes);
  OTR_TRY(read_json(file, bytes + LENGTH_BYTES, (size_t)length));
  uint64_t begin = LENGTH_BYTES + length;
  OTR_TRY(read_tensors(file, file->names, begin, file_bytes));
  return check_cover(file, begin, file_bytes);
}

otr_status safetensors_parse(const uint8_t *bytes, size_t n_bytes, uint64_t file_bytes, otr_memory *memory,
                             safetensors *out) {
  *out = (safetensors){.memory = memory};
  otr_status status = parse(out, bytes, n_bytes, file_bytes);
  if (status != OTR_STATUS_OK) safetensors_destroy(out);
  return status;
}

void safetensors_destroy(safetensors *file) {
  if (file->tensors != NULL) otr_memory_give_array(file->memory, file->tensors, file->room, sizeof *file->tensors);
  json_decref(file->names);
  *file = (safetensors){0};
}

const safetensor *safetensors_find(const safetensors *file, const char *name) {
  if (file->n == 0) return NULL;
  const safetensor key = {.name = name};
  return bsearch(&key, file->tensors, (size_t)file->n, sizeof key, by_name);
}
