// SPDX-License-Identifier: Apache-2.0
/* For tests: the tensors of a golden safetensors file. */
#ifndef GOLDEN_FILE_H
#define GOLDEN_FILE_H

#include "io.h"
#include "safetensors.h"

typedef struct golden_file {
  otr_file file;
  otr_memory memory;
  safetensors header;
} golden_file;

typedef struct golden_tensor {
  const void *data; /* unaligned */
  size_t bytes;
  const char *dtype;
  int n_dims;
  int64_t dims[4];
} golden_tensor;

/** @return false when the file cannot be read. */
bool golden_open(golden_file *file, const char *path);
void golden_close(golden_file *file);
/** @return false when there is no such tensor. */
bool golden_find(const golden_file *file, const char *name, golden_tensor *out);

#endif
