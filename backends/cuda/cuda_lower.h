// SPDX-License-Identifier: Apache-2.0
/* From operations to kernel launches: which kernel, which grid, which arguments. Pure: no driver call, so that the host
 * side may capture the launches into a graph, launch them one by one, or only count them. */
#ifndef OTR_CUDA_LOWER_H
#define OTR_CUDA_LOWER_H

#include "cuda_buffer.h"
#include "cuda_kernels.h"
#include "outrider/outrider.h"

/** Kernels of cuda_kernels.h, CUDA_KERNEL_LIST(X): X(name, shared) is kernel `otr_<name>` of the modules; `shared`:
 *  bytes of dynamic shared memory it may be launched with, 0 for none. */
typedef enum cuda_kernel {
#define X(name, shared) CUDA_KERNEL_##name,
  CUDA_KERNEL_LIST(X)
#undef X
      CUDA_KERNEL_COUNT
} cuda_kernel;

/** What a device can do. */
typedef struct cuda_caps {
  int32_t major, minor; /* compute capability */
  int32_t n_sm;
  int32_t shared_per_block; /* bytes a block may take at most (opt-in) */
  int32_t shared_per_sm;
} cuda_caps;

/** What is the same for all launches of a prepared program. */
typedef struct cuda_lowering {
  const cuda_caps *caps;
  const otr_program *program; /* its defaults filled in: max_table, max_sequences */
  uint64_t step, found;       /* struct cuda_step, struct cuda_found */
  uint64_t scratch;           /* cuda_scratch_bytes(), 256-byte aligned, shared by all operations */
  uint32_t demoted;           /* bit of each otr_op_code whose fast variant is switched off */
} cuda_lowering;

#define CUDA_ARGS_BYTES 512
/** One launch. The kernel takes one struct by value (kernels/args.h). */
typedef struct cuda_launch {
  cuda_kernel kernel;
  uint32_t grid[3], block[3];
  uint32_t shared_bytes; /* dynamic */
  uint32_t args_bytes;
  _Alignas(8) unsigned char args[CUDA_ARGS_BYTES];
} cuda_launch;

/** Takes a launch, which is valid during the call only. What is not OK ends cuda_lower with that status. */
typedef otr_status (*cuda_emit)(void *user, const cuda_launch *launch);

/** Launches of operation `op` of l->program for `rows` >= 1 rows, in order, each after the one before it. A fused
 *  sequence of operations is lowered at its first; *n_ops receives how many operations were done. `fuse` 0: one
 *  (a trace looks at every operation's output).
 *  @return OK, UNSUPPORTED (batch scope; sizes beyond the kernels'), or what emit returned. */
otr_status cuda_lower(const cuda_lowering *l, const otr_op *op, int32_t rows, int32_t fuse, int32_t *n_ops,
                      cuda_emit emit, void *user);

/** Scratch that the operations of a program need at most; 0: none. */
size_t cuda_scratch_bytes(const cuda_caps *caps, const otr_program *program);

/** Whether `code` has a fast variant that demotion can switch off (cuda_lowering.demoted). */
int32_t cuda_has_fast(const cuda_caps *caps, otr_op_code code);

#endif
