// SPDX-License-Identifier: Apache-2.0
/* The tensors of a Hugging Face directory: model.safetensors, or the shards that model.safetensors.index.json names. */
#ifndef TOOL_HF_FILES_H
#define TOOL_HF_FILES_H

#include "io.h"
#include "safetensors.h"

typedef struct hf_shard {
  char name[256]; /* in the directory */
  otr_file file;
  safetensors header;
} hf_shard;

typedef struct hf_tensor {
  const safetensor *info; /* its name, too */
  const hf_shard *shard;
  const uint8_t *data; /* mapped */
  int32_t used;        /* some part of the model took it */
} hf_tensor;

typedef struct hf_files {
  hf_shard *shards;   /* [n_shards] */
  hf_tensor *tensors; /* [n] by name */
  int32_t n_shards, n;
  uint64_t bytes; /* of all shards */
  otr_memory *memory;
} hf_files;

/** Opens and checks all of them. @param[out] out hf_files_close, also on failure
 *  @return OK, IO, BAD_FORMAT, UNSUPPORTED (also: only a pytorch_model.bin is there), NO_MEMORY. The detail names the
 *          file. */
otr_status hf_files_open(const char *directory, otr_memory *memory, hf_files *out);
/** A zeroed one is allowed. */
void hf_files_close(hf_files *files);
/** @return NULL when there is none of this name. */
hf_tensor *hf_files_find(const hf_files *files, const char *name);

/** Reads a JSON object from a file of the directory. @param[out] out json_decref; NULL: there is no such file, and
 *  `optional`. @return OK, IO, BAD_FORMAT, NO_MEMORY; the detail names the file. */
struct json_t;
otr_status hf_read_json(const char *directory, const char *name, int optional, struct json_t **out);

#endif
