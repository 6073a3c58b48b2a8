// SPDX-License-Identifier: Apache-2.0
#include "device.cuh"

/* Grid: rows. */
CUDA_KERNEL(otr_round16, cuda_round16_args, CUDA_ROW_THREADS, 1) {
  CUDA_SHARED(cuda_row_shared, shared, 1);
  int row = (int)blockIdx.x, k = args.out.k;
  if (row >= cuda_rows(args.head)) return;
  const float *x = args.x + (size_t)row * k;
  uint16_t *x16 = args.out.x16 + (size_t)row * args.out.stride;
  unsigned largest = 0, unused = 0;
  for (int i = (int)threadIdx.x; i < k; i += (int)blockDim.x) {
    unsigned bits = OTR_BITS(x[i]) & OTR_BITS_ABS;
    if (bits <= 0x7f800000u) largest = max(largest, bits); /* a NaN is never the larger one */
  }
  cuda_block_max(shared, largest, unused);
  int e = cuda_exponent(OTR_FLOAT(largest));
  float pow2_minus_e = otr_pow2(-e);
  for (int i = (int)threadIdx.x; i < args.out.stride; i += (int)blockDim.x)
    x16[i] = i < k ? (uint16_t)otr_f16_bits(x[i] * pow2_minus_e) : (uint16_t)0;
  if (threadIdx.x == 0) args.out.pow2e[row] = otr_pow2(e);
}
