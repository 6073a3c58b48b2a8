// SPDX-License-Identifier: Apache-2.0
#include "device.cuh"

/* Grid: rows, pieces of the width. */
CUDA_KERNEL(otr_position, cuda_position_args, 256, 1) {
  int row = (int)blockIdx.x;
  if (row >= cuda_rows(args.head)) return;
  int at = min(cuda_position(args.head, row) + args.position_offset, args.n_positions - 1);
  const float *position = args.table + (size_t)at * args.width;
  float *x = args.x + (size_t)row * args.width;
  unsigned worst = 0;
  for (int i = (int)(blockIdx.y * blockDim.x + threadIdx.x); i < args.width; i += (int)(gridDim.y * blockDim.x))
    x[i] = cuda_tidy(x[i] + position[i], worst);
  cuda_note(args.head, worst);
}
