// SPDX-License-Identifier: Apache-2.0
/* A residual sum, the norm after it and its quantizer, in one launch: a row stays with its block. */
#include "norm.cuh"
#include "quantize.cuh"

/* Grid: rows. */
CUDA_KERNEL(otr_norm_quantize, cuda_norm_quantize_args, CUDA_ROW_THREADS, 1) {
  CUDA_SHARED(cuda_quantize_shared, shared, 1);
  int row = (int)blockIdx.x, width = args.norm.width;
  if (row >= cuda_rows(args.norm.head)) return;
  if (args.has_add) {
    float *x = args.add.x + (size_t)row * width;
    const float *y = args.add.y + (size_t)row * width;
    unsigned worst = 0;
    for (int i = (int)threadIdx.x; i < width; i += (int)blockDim.x) x[i] = cuda_tidy(x[i] + y[i], worst);
    cuda_note(args.add.head, worst);
    __syncthreads();
  }
  cuda_norm_row(args.norm, &shared->row, row, 0);
  __syncthreads();
  cuda_quantize_row(args.quantize, shared, args.quantize.x + (size_t)row * width, row);
}
