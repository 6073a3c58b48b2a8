// SPDX-License-Identifier: Apache-2.0
/* The reciprocal and the square root as the device computes them, for the proof over all mantissas (the tests). */
#include "device.cuh"

CUDA_KERNEL(otr_numerics, cuda_numerics_args, 256, 1) {
  for (uint32_t i = blockIdx.x * blockDim.x + threadIdx.x; i < args.n; i += gridDim.x * blockDim.x) {
    float x = OTR_FLOAT(args.first + i);
    args.out[i] = OTR_BITS(args.is_sqrt ? otr_sqrt(x) : otr_recip(x));
  }
}
