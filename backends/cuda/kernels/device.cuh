// SPDX-License-Identifier: Apache-2.0
/* What the kernels share: the contract's scalar functions, the rows of a pass, what is found, sums and maxima of a
 * block. */
#ifndef OTR_CUDA_DEVICE_CUH
#define OTR_CUDA_DEVICE_CUH

#include "cuda_wrap.cuh"

#include "numerics_gpu.h" /* before numerics.h, which it includes */

#include "args.h"

#define CUDA_FN static __device__ __forceinline__
#define CUDA_FULL_WARP 0xffffffffu

/* ---- the pass ---------------------------------------------------------------------------------------------------- */

CUDA_FN int cuda_rows(const cuda_head &head) {
  return head.logits ? head.step->n_logits : head.step->n_rows;
}

CUDA_FN int cuda_sequence(const cuda_head &head, int row) {
  return ((const int32_t *)head.step->row)[2 * row];
}

CUDA_FN int cuda_position(const cuda_head &head, int row) {
  return ((const int32_t *)head.step->row)[2 * row + 1];
}

/** K (f16 [head_dim][256]) of a layer and KV head in a page; V follows it. */
CUDA_FN uint16_t *cuda_keys(uint64_t page, int n_kv_heads, int head_dim, int layer, int kv_head) {
  return (uint16_t *)page + ((size_t)layer * n_kv_heads + kv_head) * 2 * OTR_CHUNK * head_dim;
}

/* ---- what is found ----------------------------------------------------------------------------------------------- */

/** tidy(x); `worst` keeps the largest bits of |x| that a thread has seen. */
CUDA_FN float cuda_tidy(float x, unsigned &worst) {
  worst = max(worst, OTR_BITS(x) & OTR_BITS_ABS);
  return otr_tidy(x);
}

CUDA_FN void cuda_note(const cuda_head &head, unsigned worst) {
  if (worst >= OTR_BITS_2P48) atomicMin(&head.found->nonfinite_layer, head.layer);
}

/* ---- arithmetic -------------------------------------------------------------------------------------------------- */

CUDA_FN float cuda_magnitude(float x) {
  return OTR_FLOAT(OTR_BITS(x) & OTR_BITS_ABS);
}

CUDA_FN float cuda_activate(float x, int act) {
  if (act == 0) return otr_silu(x);
  if (act == 1) return otr_gelu_tanh(x);
  if (act == 2) return otr_gelu_erf(x);
  return x > 0.0f ? x : 0.0f;
}

/** e_i of rows whose largest magnitude is given, kept where 2^e and 2^-e are both normal. */
CUDA_FN int cuda_exponent(float largest) {
  int e = otr_exponent(largest) - 14;
  return min(max(e, -112), 112);
}

/* ---- a block's sums and maxima ----------------------------------------------------------------------------------- */

/* Row kernels: a block a row, any multiple of 64 threads up to this. */
enum { CUDA_ROW_THREADS = 1024, CUDA_STAGE = 4096 };
struct cuda_row_shared {
  float stage[CUDA_STAGE];
  float total;
  unsigned most[2][CUDA_ROW_THREADS / 32];
};

/** lanesum<64> of term(i), i < k, for every thread of the block. The terms come from all threads; the 64 sums, whose
 *  order is the contract's, are made by 64. */
template <class Term>
CUDA_FN float cuda_lanesum64(cuda_row_shared *s, int k, Term term) {
  float partial = 0.0f;
  for (int base = 0; base < k; base += CUDA_STAGE) {
    int n = min((int)CUDA_STAGE, k - base);
    __syncthreads();
    for (int i = (int)threadIdx.x; i < n; i += (int)blockDim.x) s->stage[i] = term(base + i);
    __syncthreads();
    if (threadIdx.x < OTR_LANES_ROW)
#pragma unroll 8
      for (int i = (int)threadIdx.x; i < n; i += OTR_LANES_ROW) partial += s->stage[i];
  }
  __syncthreads();
  if (threadIdx.x < OTR_LANES_ROW) s->stage[threadIdx.x] = partial;
  __syncthreads();
  if (threadIdx.x < 32) {
    partial = s->stage[threadIdx.x] + s->stage[threadIdx.x + 32];
    for (int h = 16; h >= 1; h /= 2) partial += __shfl_down_sync(CUDA_FULL_WARP, partial, (unsigned)h);
    if (threadIdx.x == 0) s->total = partial;
  }
  __syncthreads();
  return s->total;
}

/** The largest a and b of the block's threads, for every thread. */
CUDA_FN void cuda_block_max(cuda_row_shared *s, unsigned &a, unsigned &b) {
  for (int h = 16; h >= 1; h /= 2) {
    a = max(a, __shfl_xor_sync(CUDA_FULL_WARP, a, h));
    b = max(b, __shfl_xor_sync(CUDA_FULL_WARP, b, h));
  }
  if (threadIdx.x % 32 == 0) {
    s->most[0][threadIdx.x / 32] = a;
    s->most[1][threadIdx.x / 32] = b;
  }
  __syncthreads();
#pragma unroll 4
  for (unsigned w = 0; w < blockDim.x / 32; w++) {
    a = max(a, s->most[0][w]);
    b = max(b, s->most[1][w]);
  }
  __syncthreads();
}

#endif
