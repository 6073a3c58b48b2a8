// SPDX-License-Identifier: Apache-2.0
#include "device.cuh"

CUDA_KERNEL(otr_act, cuda_act_args, 256, 1) {
  size_t n = (size_t)cuda_rows(args.head) * (size_t)args.width;
  unsigned worst = 0;
  for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (size_t)gridDim.x * blockDim.x)
    args.out[i] = cuda_tidy(cuda_activate(args.x[i], args.act), worst);
  cuda_note(args.head, worst);
}
