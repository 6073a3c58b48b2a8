// SPDX-License-Identifier: Apache-2.0
#include "device.cuh"

CUDA_KERNEL(otr_copy, cuda_copy_args, 256, 1) {
  size_t n = (size_t)cuda_rows(args.head) * (size_t)args.width;
  for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (size_t)gridDim.x * blockDim.x)
    args.out[i] = args.x[i];
}
