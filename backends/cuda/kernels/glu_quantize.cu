// SPDX-License-Identifier: Apache-2.0
/* An activation and the quantizer after it, in one launch: a row stays with its block. */
#include "quantize.cuh"

/* Grid: rows. */
CUDA_KERNEL(otr_glu_quantize, cuda_glu_quantize_args, CUDA_ROW_THREADS, 1) {
  CUDA_SHARED(cuda_quantize_shared, shared, 1);
  int row = (int)blockIdx.x, width = args.glu.width;
  if (row >= cuda_rows(args.glu.head)) return;
  size_t at = (size_t)row * width;
  unsigned worst = 0;
  for (int i = (int)threadIdx.x; i < width; i += (int)blockDim.x) {
    float a = cuda_activate(args.glu.gate[at + i], args.glu.act);
    if (args.glu.up) a = a * args.glu.up[at + i];
    args.glu.out[at + i] = cuda_tidy(a, worst);
  }
  cuda_note(args.glu.head, worst);
  __syncthreads();
  cuda_quantize_row(args.quantize, shared, args.quantize.x + at, row);
}
