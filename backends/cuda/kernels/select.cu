// SPDX-License-Identifier: Apache-2.0
#include "device.cuh"

/* Grid: rows, pieces of the width. */
CUDA_KERNEL(otr_select, cuda_select_args, 256, 1) {
  int row = (int)blockIdx.x;
  if (row >= cuda_rows(args.head)) return;
  const float *x = args.x + (size_t)((const int32_t *)args.head.step->logits_row)[row] * args.width;
  float *out = args.out + (size_t)row * args.width;
  for (int i = (int)(blockIdx.y * blockDim.x + threadIdx.x); i < args.width; i += (int)(gridDim.y * blockDim.x))
    out[i] = x[i];
}
