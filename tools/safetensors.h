// SPDX-License-Identifier: Apache-2.0
/* The header of a safetensors file: a parser that is a pure function over bytes. Nothing here reads tensor data. After
 * OK every tensor lies inside the file, as large as its shape says, and the tensors cover the data without holes or
 * overlaps. Format: https://github.com/huggingface/safetensors */
#ifndef TOOL_SAFETENSORS_H
#define TOOL_SAFETENSORS_H

#include "memory.h"
#include "outrider/outrider.h"

#define SAFETENSORS_MAX_DIMS 8
#define SAFETENSORS_MAX_HEADER 100000000 /* the format's own limit */
#define SAFETENSORS_MAX_TENSORS 262144

typedef enum safetensors_dtype {
  SAFETENSORS_F32,
  SAFETENSORS_F16,
  SAFETENSORS_BF16,
  SAFETENSORS_F8_E4M3,
  SAFETENSORS_F8_E5M2,
  SAFETENSORS_I8,
  SAFETENSORS_U8,
  SAFETENSORS_BOOL,
  SAFETENSORS_I16,
  SAFETENSORS_U16,
  SAFETENSORS_I32,
  SAFETENSORS_U32,
  SAFETENSORS_F64,
  SAFETENSORS_I64,
  SAFETENSORS_U64,
  SAFETENSORS_DTYPES
} safetensors_dtype;

typedef struct safetensor {
  const char *name; /* 0-terminated, not empty, owned by the safetensors */
  safetensors_dtype dtype;
  int32_t n_dims; /* 0: one value */
  uint64_t dims[SAFETENSORS_MAX_DIMS];
  uint64_t offset, bytes; /* of the data in the file */
} safetensor;

typedef struct safetensors {
  safetensor *tensors; /* [n] by name */
  int32_t n;
  size_t room;
  void *names; /* the JSON that holds them */
  otr_memory *memory;
} safetensors;

/** @return "F32", "BF16" ... */
const char *safetensors_dtype_name(safetensors_dtype dtype);

/** Parses the header of a file of `file_bytes`, whose first `n_bytes` are at `bytes` (the header must be among them).
 *  @param[out] out safetensors_destroy on OK; empty otherwise
 *  @return OK, BAD_FORMAT (the detail names the tensor, where it is one's fault), UNSUPPORTED (a type not known, more
 *          dimensions or tensors than any model has), NO_MEMORY. */
otr_status safetensors_parse(const uint8_t *bytes, size_t n_bytes, uint64_t file_bytes, otr_memory *memory,
                             safetensors *out);
/** An empty one is allowed. */
void safetensors_destroy(safetensors *file);
/** @return NULL when there is none of this name. */
const safetensor *safetensors_find(const safetensors *file, const char *name);

#endif
