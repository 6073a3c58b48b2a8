// SPDX-License-Identifier: Apache-2.0
/* For tests: just enough of a reader for the golden files, which are well-formed. */
#ifndef SAFETENSORS_H
#define SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct safetensors {
  uint8_t *bytes;
  size_t n;
} safetensors;

typedef struct safetensor {
  const void *data; /* unaligned */
  size_t bytes;
  char dtype[8];
  int n_dims;
  int64_t dims[4];
} safetensor;

/** @return false when the file cannot be read. */
bool safetensors_open(safetensors *file, const char *path);
void safetensors_close(safetensors *file);
/** @return false when there is no such tensor. */
bool safetensors_find(const safetensors *file, const char *name, safetensor *out);

#endif
