// SPDX-License-Identifier: Apache-2.0
/* A block normalizes one group of a row. */
#ifndef OTR_CUDA_NORM_CUH
#define OTR_CUDA_NORM_CUH

#include "device.cuh"

CUDA_FN void cuda_rms_norm(const cuda_norm_args &a, cuda_row_shared *s, float *out, const float *x, const float *gain) {
  float mean = cuda_lanesum64(s, a.width, [x](int i) { return x[i] * x[i]; }) * a.inv_width;
  float r = otr_rsqrt(mean + a.eps);
  unsigned worst = 0;
  for (int i = (int)threadIdx.x; i < a.width; i += (int)blockDim.x) {
    float y = x[i] * r;
    out[i] = cuda_tidy(y * gain[i], worst);
  }
  cuda_note(a.head, worst);
}

CUDA_FN void cuda_layer_norm(const cuda_norm_args &a, cuda_row_shared *s, float *out, const float *x,
                             const float *gain) {
  float mean = cuda_lanesum64(s, a.width, [x](int i) { return x[i]; }) * a.inv_width;
  unsigned worst = 0;
  for (int i = (int)threadIdx.x; i < a.width; i += (int)blockDim.x) out[i] = cuda_tidy(x[i] - mean, worst);
  __syncthreads();
  float var = cuda_lanesum64(s, a.width, [out](int i) { return out[i] * out[i]; }) * a.inv_width;
  float r = otr_rsqrt(var + a.eps);
  for (int i = (int)threadIdx.x; i < a.width; i += (int)blockDim.x) {
    float y = out[i] * r;
    y = y * gain[i];
    if (a.bias) y = y + a.bias[i];
    out[i] = cuda_tidy(y, worst);
  }
  cuda_note(a.head, worst);
}

CUDA_FN void cuda_norm_row(const cuda_norm_args &a, cuda_row_shared *s, int row, int group) {
  size_t at = ((size_t)row * a.groups + group) * a.width;
  const float *gain = a.gain + (a.group_gains ? (size_t)group * a.width : 0);
  if (a.is_layer)
    cuda_layer_norm(a, s, a.out + at, a.x + at, gain);
  else
    cuda_rms_norm(a, s, a.out + at, a.x + at, gain);
}

#endif
