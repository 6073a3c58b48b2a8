// SPDX-License-Identifier: Apache-2.0
#include "norm.cuh"

/* Grid: rows, groups. */
CUDA_KERNEL(otr_norm, cuda_norm_args, CUDA_ROW_THREADS, 1) {
  CUDA_SHARED(cuda_row_shared, shared, 1);
  int row = (int)blockIdx.x, group = (int)blockIdx.y;
  if (row >= cuda_rows(args.head)) return;
  cuda_norm_row(args, shared, row, group);
}
