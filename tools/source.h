// SPDX-License-Identifier: Apache-2.0
/* The one way in which the command's parts read a published model: its tensors by role, fused ones split, rows in the
 * contract's order, whatever the file. */
#ifndef TOOL_SOURCE_H
#define TOOL_SOURCE_H

#include "config.h"
#include "gguf.h"
#include "memory.h"

typedef struct source source;

/** A tensor of the model. */
typedef struct source_tensor {
  char name[OTR_NAME_BYTES];   /* the SDK's: "blk.0.attn_q.weight", "blk.0.attn_q.bias" */
  const otr_tensor_rule *rule; /* its architecture's rule; NULL for rope_freqs */
  int32_t layer;               /* 0 for the model's own */
  int32_t is_bias, is_vector;  /* vector: [k] values, n == 1 */
  int32_t n, k;                /* [n, k] */
  int32_t is_int8;             /* a bitsandbytes weight */
  float threshold;             /* its absolute threshold where is_int8 */
  uint64_t bytes;              /* of the source */
} source_tensor;

/** Opens a GGUF file. @param[out] out source_close on OK; NULL otherwise. */
otr_status source_open(const char *path, otr_memory *memory, source **out);
/** NULL is allowed. */
void source_close(source *s);
const char *source_path(const source *s);
/** Metadata as a GGUF has it. */
const otr_gguf *source_gguf(const source *s);
const otr_config *source_config(const source *s);
/** Tensors, in the order of the SDK's files. */
int32_t source_count(const source *s);
const source_tensor *source_at(const source *s, int32_t index);
/** NULL where there is none. */
const source_tensor *source_find(const source *s, const char *name);
/** Rows [first, first + count) as f32, the stored values exactly. @param[out] out [count, k]. @threads Any. */
otr_status source_rows(const source *s, const source_tensor *tensor, int32_t first, int32_t count, float *out);

#endif
