// SPDX-License-Identifier: Apache-2.0
/* Inside of the CPU device: shared by device.c (buffers, layouts, prepare) and executor.c (submit). */
#ifndef OTR_CPU_DEVICE_H
#define OTR_CPU_DEVICE_H

#include <stdalign.h>

#include "kernels.h"

#define OTR_ROW_BLOCK 8     /* rows of a task of row-wise operations */
#define OTR_ROWS_TOGETHER 2 /* of these, so many go through all operations before the next do */
#define OTR_OUTPUT_BLOCK 64 /* outputs of a linear's smallest task: the kernels' panel */
#define OTR_STREAM_BLOCK 16 /* the same for few rows */

struct otr_buffer {
  void *host;
  size_t bytes;
  bool owned;
};

typedef struct otr_cpu_device {
  otr_device base;
  const otr_cpu_kernels *kernels;
} otr_cpu_device;

/** An operation with host addresses in place of references. */
typedef struct otr_host_op {
  const otr_op *op;
  float *out;
  const float *x, *y, *gain, *bias;
  uint16_t *q16;
  float *part_out[OTR_LINEAR_PARTS];
  otr_host_weight weight[OTR_LINEAR_PARTS];
  otr_quantized quantized;
  otr_rounded rounded;
} otr_host_op;

/** What one worker found and its scratch, on cache lines of its own. */
typedef struct otr_worker {
  alignas(64) otr_found found;
  int32_t nonfinite_layer;
  char *scratch;
} otr_worker;

/** How the outputs of a linear are shared out: `whole` blocks in `units` tasks, each for all rows, the first `n_long`
 * of them of `long_blocks`, the others of `short_blocks` (the last may have fewer); then, block by block, `pieces`
 * tasks for a part of the rows each. */
typedef struct otr_linear_share {
  int32_t block; /* outputs of a block */
  int32_t whole, units, n_long, long_blocks, short_blocks;
  int32_t pieces;
} otr_linear_share;

struct otr_prepared {
  otr_cpu_device *device;
  otr_program program;
  otr_host_op *ops;
  otr_worker *workers;
  char *scratch; /* [n_threads, scratch_stride] */
  size_t scratch_stride;
  void **page_base; /* [max_sequences, max_table] */
  otr_columns *columns; /* of the linear at hand; NULL: its kernels want none */
  bool attends;     /* some operation reads or writes KV */
  const otr_step *step;
  int32_t at, n_chain; /* operations of the run being shared out */
  otr_linear_share share;
  int32_t *block_first; /* [max_rows + 1] first row of each attention block */
  int32_t n_blocks;
};

/** Host address of a reference; NULL when it is absent. */
static inline void *otr_cpu_host(otr_ref ref) {
  return ref.buffer ? (char *)ref.buffer->host + ref.offset : NULL;
}

/** otr_device_ops.submit of the CPU device (executor.c). */
otr_status otr_cpu_submit(otr_device *base, otr_prepared *p, const otr_step *step, otr_step_result *result);

#endif
