// SPDX-License-Identifier: Apache-2.0
/* A published model, GGUF file or Hugging Face directory, seen in one way: a GGUF's metadata, and tensors by their
 * role, fused ones split, with the values that were published. */
#ifndef TOOL_SOURCE_H
#define TOOL_SOURCE_H

#include "config.h"

typedef struct source source;

typedef struct source_tensor {
  char name[OTR_NAME_BYTES];   /* the SDK's: "blk.0.attn_q.weight", "blk.0.attn_q.bias" */
  const otr_tensor_rule *rule; /* its architecture's; NULL: RoPE divisors */
  int32_t layer;               /* 0 for the model's own */
  int32_t is_bias, is_vector;  /* a vector (gain, bias, divisors) is [k] values: n is 1 */
  int32_t is_table;            /* positions: f32 [n, k], never quantized */
  int32_t n, k;                /* [n, k] */
  int32_t is_int8;             /* a bitsandbytes weight: source_int8 gives it bit for bit */
  float threshold;             /* where is_int8: its own outlier threshold; 0: no outliers */
  uint64_t bytes;              /* of the source */
} source_tensor;

/** Opens a GGUF file or a Hugging Face directory and checks names, shapes and types of everything.
 *  @param[out] out source_close; NULL on failure
 *  @return OK, IO, BAD_FORMAT, UNSUPPORTED (also a file that is converted already), NO_MEMORY; the detail names the
 * file and the tensor or entry. */
otr_status source_open(const char *path, otr_memory *memory, source **out);
/** NULL is allowed. */
void source_close(source *s);

const char *source_path(const source *s);
/** 1: a Hugging Face directory. */
int32_t source_is_directory(const source *s);
/** Bytes of the file, or of all weight files. */
uint64_t source_bytes(const source *s);
/** The metadata as a GGUF has it. */
const otr_gguf *source_gguf(const source *s);
const otr_config *source_config(const source *s);
/** How many tensors there are, in the order of the SDK's files. */
int32_t source_count(const source *s);
const source_tensor *source_at(const source *s, int32_t index);
/** @return NULL when there is none of this name. */
const source_tensor *source_find(const source *s, const char *name);

/** Rows [first, first + count) as f32 [count, k], in the contract's row order: the stored values exactly (int8 weights:
 *  q * (absmax * (1/127))). Nothing is allocated.
 *  @return OK, or BAD_FORMAT: a value is not finite; the detail names file, tensor and row.
 *  @threads Any, at once. */
otr_status source_rows(const source *s, const source_tensor *tensor, int32_t first, int32_t count, float *out);
/** is_int8: rows q [count, k] and their absmax [count].
 *  @return OK, or BAD_FORMAT: -128, an absmax that is negative or not finite, or 0 beside values.
 *  @threads Any, at once. */
otr_status source_int8(const source *s, const source_tensor *tensor, int32_t first, int32_t count, int8_t *q,
                       float *absmax);

#endif
