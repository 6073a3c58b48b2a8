// SPDX-License-Identifier: Apache-2.0
#include "quantize.cuh"

/* Grid: rows. */
CUDA_KERNEL(otr_quantize, cuda_quantize_args, CUDA_ROW_THREADS, 1) {
  CUDA_SHARED(cuda_quantize_shared, shared, 1);
  int row = (int)blockIdx.x;
  if (row >= cuda_rows(args.head)) return;
  cuda_quantize_row(args, shared, args.x + (size_t)row * args.out.k, row);
}
