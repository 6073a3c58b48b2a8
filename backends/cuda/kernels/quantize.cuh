// SPDX-License-Identifier: Apache-2.0
/* A block quantizes one row: outlier rule, absmax, q, and the outliers as an ascending list (contract, section 2). */
#ifndef OTR_CUDA_QUANTIZE_CUH
#define OTR_CUDA_QUANTIZE_CUH

#include "device.cuh"

enum { CUDA_MAX_TILES = OTR_MAX_K / CUDA_K_TILE };
struct cuda_quantize_shared {
  cuda_row_shared row;
  int first[CUDA_MAX_TILES + 1];
};

struct cuda_threshold {
  int rule;
  float bound; /* absolute: t; relative: the square that x * x must reach */
};

CUDA_FN bool cuda_is_outlier(float x, cuda_threshold t) {
  if (t.rule == 1) return cuda_magnitude(x) >= t.bound;
  if (t.rule == 2) {
    float square = x * x;
    return square > 0.0f && square >= t.bound;
  }
  return false;
}

/** rint(x * inv) for |x * inv| <= 127 and a little; anything else (only after a NONFINITE value) is 0. */
CUDA_FN int cuda_quantize_value(float x, float inv) {
  float v = x * inv;
  if (!(v >= -127.5f && v <= 127.5f)) return 0;
  float shifted = v + 12582912.0f;
  return (int)(shifted - 12582912.0f);
}

/** Two neighbours of a row; what lies beyond it is 0. */
CUDA_FN float2 cuda_pair(const float *x, int i, int k) {
  return make_float2(i < k ? x[i] : 0.0f, i + 1 < k ? x[i + 1] : 0.0f);
}

/** q of the tiles, a warp a tile; counts their outliers. */
CUDA_FN void cuda_quantize_tiles(const cuda_quantize_args &a, cuda_quantize_shared *s, const float *x, int8_t *q,
                                 cuda_threshold t, float inv) {
  int lane = (int)threadIdx.x % 32, n_warps = (int)blockDim.x / 32;
  for (int tile = (int)threadIdx.x / 32; tile < a.out.n_tiles; tile += n_warps) {
    int i = tile * CUDA_K_TILE + 2 * lane;
    float2 v = cuda_pair(x, i, a.out.k);
    bool out0 = cuda_is_outlier(v.x, t) && i < a.out.k, out1 = cuda_is_outlier(v.y, t) && i + 1 < a.out.k;
    int q0 = out0 ? 0 : cuda_quantize_value(v.x, inv), q1 = out1 ? 0 : cuda_quantize_value(v.y, inv);
    *(char2 *)(q + i) = make_char2((signed char)q0, (signed char)q1);
    unsigned some0 = __ballot_sync(CUDA_FULL_WARP, out0), some1 = __ballot_sync(CUDA_FULL_WARP, out1);
    if (lane == 0) s->first[tile] = __popc(some0) + __popc(some1);
  }
  __syncthreads();
}

/** From counts to places: first[tile] becomes the sum of the counts before it; first[n_tiles] is all. */
CUDA_FN void cuda_sum_tiles(cuda_quantize_shared *s, int n_tiles) {
  if (threadIdx.x < 32) {
    int lane = (int)threadIdx.x, before = 0;
#pragma unroll 1
    for (int base = 0; base < n_tiles; base += 32) {
      int count = base + lane < n_tiles ? s->first[base + lane] : 0, sum = count;
      for (int h = 1; h < 32; h *= 2) {
        int other = __shfl_up_sync(CUDA_FULL_WARP, sum, (unsigned)h);
        if (lane >= h) sum += other;
      }
      if (base + lane < n_tiles) s->first[base + lane] = before + sum - count;
      before += __shfl_sync(CUDA_FULL_WARP, sum, 31);
    }
    if (lane == 0) s->first[n_tiles] = before;
  }
  __syncthreads();
}

/** The list: a warp a tile, each outlier at its rank. */
CUDA_FN void cuda_list_outliers(const cuda_quantize_args &a, cuda_quantize_shared *s, const float *x,
                                cuda_outlier *list, cuda_threshold t, float pow2_minus_e) {
  int lane = (int)threadIdx.x % 32, n_warps = (int)blockDim.x / 32;
  unsigned below = (1u << lane) - 1u;
  for (int tile = (int)threadIdx.x / 32; tile < a.out.n_tiles; tile += n_warps) {
    if (s->first[tile] == s->first[tile + 1]) continue;
    int i = tile * CUDA_K_TILE + 2 * lane;
    float2 v = cuda_pair(x, i, a.out.k);
    bool out0 = cuda_is_outlier(v.x, t) && i < a.out.k, out1 = cuda_is_outlier(v.y, t) && i + 1 < a.out.k;
    unsigned some0 = __ballot_sync(CUDA_FULL_WARP, out0), some1 = __ballot_sync(CUDA_FULL_WARP, out1);
    int at = s->first[tile] + __popc(some0 & below) + __popc(some1 & below);
    if (out0) {
      list[at].feature = i;
      list[at].x16 = otr_f16_round(v.x * pow2_minus_e);
      at++;
    }
    if (out1) {
      list[at].feature = i + 1;
      list[at].x16 = otr_f16_round(v.y * pow2_minus_e);
    }
  }
}

CUDA_FN void cuda_quantize_row(const cuda_quantize_args &a, cuda_quantize_shared *s, const float *x, int row) {
  int k = a.out.k;
  cuda_threshold t = {a.rule, a.value};
  if (a.rule == 2) {
    float mean = cuda_lanesum64(&s->row, k, [x](int i) { return x[i] * x[i]; }) * a.inv_k;
    float square = a.value * a.value;
    t.bound = square * mean;
  }
  unsigned absmax_bits = 0, largest_bits = 0;
  for (int i = (int)threadIdx.x; i < k; i += (int)blockDim.x) {
    unsigned bits = OTR_BITS(x[i]) & OTR_BITS_ABS;
    /* As the reference compares floats, a NaN is never the larger one. */
    if (bits > 0x7f800000u) bits = 0;
    if (cuda_is_outlier(x[i], t))
      largest_bits = max(largest_bits, bits);
    else
      absmax_bits = max(absmax_bits, bits);
  }
  cuda_block_max(&s->row, absmax_bits, largest_bits);
  float absmax = OTR_FLOAT(absmax_bits);
  float inv = absmax > 0.0f ? 127.0f * otr_recip(absmax) : 0.0f;
  int e = cuda_exponent(OTR_FLOAT(largest_bits));
  cuda_quantize_tiles(a, s, x, a.out.q + (size_t)row * a.out.stride, t, inv);
  cuda_sum_tiles(s, a.out.n_tiles);
  cuda_list_outliers(a, s, x, a.out.outlier + (size_t)row * k, t, otr_pow2(-e));
  int32_t *first = a.out.first + (size_t)row * (a.out.n_tiles + 1);
  for (int i = (int)threadIdx.x; i <= a.out.n_tiles; i += (int)blockDim.x) first[i] = s->first[i];
  if (threadIdx.x != 0) return;
  a.out.scale[row] = absmax * OTR_FLOAT(OTR_BITS_INV127);
  a.out.pow2e[row] = otr_pow2(e);
  if (s->first[a.out.n_tiles]) atomicAdd(&a.head.found->outliers, (unsigned long long)s->first[a.out.n_tiles]);
}

#endif
