// SPDX-License-Identifier: Apache-2.0
/* What both kernels of attention know: which pages a row sees, and where its partial results lie. */
#ifndef OTR_CUDA_ATTENTION_CUH
#define OTR_CUDA_ATTENTION_CUH

#include "device.cuh"

/** Whether a row at `position` sees some position of the chunk that begins at `start`. */
CUDA_FN bool cuda_sees_chunk(const cuda_attention_args &a, int position, int start) {
  return start <= position && (a.window == 0 || position - (start + OTR_CHUNK - 1) < a.window);
}

/** `row` counts from the group's first. */
CUDA_FN float *cuda_chunk_part(const cuda_attention_args &a, int row, int head, int page) {
  return a.parts + (((size_t)row * a.n_heads + head) * a.max_pages + page) * (size_t)(a.head_dim + 2);
}

CUDA_FN int cuda_chunk_start(const cuda_attention_args &a, int sequence, int page) {
  return ((const int32_t *)a.head.step->chunk)[(size_t)sequence * a.head.step->max_table + page] * OTR_CHUNK;
}

#endif
