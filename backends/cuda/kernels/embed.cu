// SPDX-License-Identifier: Apache-2.0
#include "device.cuh"

CUDA_FN float embedded(const cuda_embed_args &a, int token, const float *position, int i) {
  size_t at = (size_t)token * (size_t)a.row_stride + (size_t)i;
  float v = a.is_f16 ? otr_f16_value(((const uint16_t *)a.data)[at]) : OTR_I2F((int)((const int8_t *)a.data)[at]);
  v = v * a.scale[token];
  if (a.has_constant) v = v * a.constant;
  if (position) v = v + position[i];
  return v;
}

/* Grid: rows, pieces of the width. */
CUDA_KERNEL(otr_embed, cuda_embed_args, 256, 1) {
  int row = (int)blockIdx.x;
  if (row >= cuda_rows(args.head)) return;
  int token = ((const int32_t *)args.head.step->token)[row];
  const float *given = (const float *)args.head.step->embedding + (size_t)row * args.width;
  const float *position = nullptr;
  if (args.positions) {
    int at = min(cuda_position(args.head, row) + args.position_offset, args.n_positions - 1);
    position = args.positions + (size_t)at * args.width;
  }
  unsigned worst = 0;
  for (int i = (int)(blockIdx.y * blockDim.x + threadIdx.x); i < args.width; i += (int)(gridDim.y * blockDim.x)) {
    float v = token < 0 ? given[i] : embedded(args, token, position, i);
    args.out[(size_t)row * args.width + i] = cuda_tidy(v, worst);
  }
  cuda_note(args.head, worst);
}
