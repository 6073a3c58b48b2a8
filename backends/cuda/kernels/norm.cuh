// SPDX-License-Identifier: Apache-2.0
/* A block normalizes one group of a row. */
#ifndef OTR_CUDA_NORM_CUH
#define OTR_CUDA_NORM_CUH

#include "device.cuh"

/** out = x - mean, of which the rest of a LayerNorm is what an RMSNorm does to x. */
CUDA_FN void cuda_center(const cuda_norm_args &a, cuda_row_shared *s, float *out, const float *x) {
  float mean = cuda_lanesum64(s, a.width, [x](int i) { return x[i]; }) * a.inv_width;
  unsigned worst = 0;
  for (int i = (int)threadIdx.x; i < a.width; i += (int)blockDim.x) out[i] = cuda_tidy(x[i] - mean, worst);
  cuda_note(a.head, worst);
  __syncthreads();
}

CUDA_FN void cuda_norm_row(const cuda_norm_args &a, cuda_row_shared *s, int row, int group) {
  size_t at = ((size_t)row * a.groups + group) * a.width;
  const float *gain = a.gain + (a.group_gains ? (size_t)group * a.width : 0);
  const float *x = a.x + at;
  float *out = a.out + at;
  if (a.is_layer) {
    cuda_center(a, s, out, x);
    x = out;
  }
  float r = otr_rsqrt(cuda_lanesum64(s, a.width, [x](int i) { return x[i] * x[i]; }) * a.inv_width + a.eps);
  unsigned worst = 0;
  for (int i = (int)threadIdx.x; i < a.width; i += (int)blockDim.x) {
    float y = x[i] * r;
    y = y * gain[i];
    if (a.is_layer && a.bias) y = y + a.bias[i];
    out[i] = cuda_tidy(y, worst);
  }
  cuda_note(a.head, worst);
}

#endif
