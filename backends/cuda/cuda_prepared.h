// SPDX-License-Identifier: Apache-2.0
/* A program made ready: one piece of device memory for the step block, given rows and scratch, its pinned image on the
 * host, and the graphs captured so far. */
#ifndef OTR_CUDA_PREPARED_H
#define OTR_CUDA_PREPARED_H

#include "cuda_device.h"
#include "kernels/step.h"

enum {
  CUDA_GRAPHS = 8,     /* kept of a program, one for each number of rows and logits rows */
  CUDA_FEW_ROWS = 8,   /* passes of so many rows at most are graphs */
  CUDA_AT_FOUND = 192, /* places in the block: the step's head, the found block, the arrays */
  CUDA_AT_ARRAYS = 256
};

typedef struct cuda_graph {
  CUgraphExec exec; /* NULL: an empty entry */
  int32_t n_rows, n_logits;
  uint64_t dispatches;
  uint64_t used; /* otr_prepared.passes when it was launched last */
} cuda_graph;

struct otr_prepared {
  otr_program program; /* with its defaults filled in */
  cuda_lowering lowering;
  bool attends;          /* some operation reads or writes KV */
  int32_t width, half;   /* of given rows (0: the program embeds nothing), of the rotations */
  size_t block_bytes;    /* most that the step block takes */
  size_t pinned_bytes;   /* block and result */
  size_t memory_bytes;   /* block, given rows, scratch */
  unsigned char *block;  /* pinned [pinned_bytes]: the block at 0 */
  unsigned char *result; /* one row of program.result, as a pass that has one brings it along; NULL: it does not */
  CUdeviceptr memory;    /* [memory_bytes]: the block at 0 */
  CUdeviceptr given;     /* f32 [max_rows, width] */
  cuda_graph graph[CUDA_GRAPHS];
  int32_t last_rows, last_logits; /* of the pass before */
  uint64_t passes;
  double row_seconds; /* time of one launch by its rows, as the last submissions took; 0: not known */
};

static inline struct cuda_found *cuda_found_of(const otr_prepared *p) {
  return (struct cuda_found *)(void *)(p->block + CUDA_AT_FOUND);
}

/* cuda_step.c */
/** Most bytes of a program's step block. */
size_t cuda_block_bytes(const otr_prepared *p);
/** Writes the step block into p->block. @return OK, or INVALID_ARGUMENT for a step beyond the program's sizes.
 *  @param[out] bytes of it to be sent */
otr_status cuda_pack_step(otr_prepared *p, const otr_step *step, size_t *bytes);

/* cuda_prepare.c */
/** Appends what the host reads of a pass to the stream: the found block, and one row of results. */
otr_status cuda_fetch(cuda_device *d, otr_prepared *p, int32_t n_rows, int32_t n_logits);
/** Rows of results of such a pass. */
int32_t cuda_result_rows(const otr_prepared *p, int32_t n_rows, int32_t n_logits);
/** Captures a pass of so many rows; the context is current. */
otr_status cuda_graph_make(cuda_device *d, otr_prepared *p, int32_t n_rows, int32_t n_logits, cuda_graph *graph);

/* cuda_submit.c */
otr_status cuda_launch_kernel(cuda_device *d, const cuda_launch *launch);

#endif
