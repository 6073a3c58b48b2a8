// SPDX-License-Identifier: Apache-2.0
/* A Hugging Face directory seen as a GGUF: its metadata in GGUF's keys, its tensors under the SDK's names, fused ones
 * split, and for each where its values lie. */
#ifndef TOOL_HF_MODEL_H
#define TOOL_HF_MODEL_H

#include "hf_config.h"
#include "hf_files.h"
#include "origin.h"

typedef struct hf_model {
  json_t *config;
  hf_files files;
  hf_shape shape;
  otr_gguf_writer *writer;
  const otr_gguf *gguf; /* the writer's */
  origin *origins;      /* [gguf->n_tensors] */
  int32_t n_origins, room;
  const uint8_t **pieces; /* [n_pieces] of tensors that are stacked */
  int32_t n_pieces;
  float *factors; /* longrope's, long and short */
  size_t n_factors;
  otr_memory *memory;
} hf_model;

/** Opens a directory. @param[out] out hf_model_close, also on failure
 *  @return OK, IO, BAD_FORMAT, UNSUPPORTED, NO_MEMORY; the detail names file and entry or tensor. */
otr_status hf_model_open(const char *directory, otr_memory *memory, hf_model *out);
/** A zeroed one is allowed. */
void hf_model_close(hf_model *model);

#endif
