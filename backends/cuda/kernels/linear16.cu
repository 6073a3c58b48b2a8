// SPDX-License-Identifier: Apache-2.0
/* LINEAR16: f16 weights, lanesum<16> of exact products. Four threads make one output of up to M rows, four lanes each;
 * a warp reads 32 bytes of eight rows of weights at a time. */
#include "linear.cuh"

enum { F16_THREADS = 128, F16_OUTPUTS = F16_THREADS / 4 };

/** Four weights, which may be any bits; four of x, which ROUND16 made: neither subnormal nor infinite. */
CUDA_FN void four_weights(uint2 bits, float v[4]) {
  v[0] = otr_f16_value(bits.x & 0xffffu);
  v[1] = otr_f16_value(bits.x >> 16);
  v[2] = otr_f16_value(bits.y & 0xffffu);
  v[3] = otr_f16_value(bits.y >> 16);
}
CUDA_FN void four_values(uint2 bits, float v[4]) {
  v[0] = cvt_f16_value(bits.x & 0xffffu);
  v[1] = cvt_f16_value(bits.x >> 16);
  v[2] = cvt_f16_value(bits.y & 0xffffu);
  v[3] = cvt_f16_value(bits.y >> 16);
}

/** The tree over 16 lanes of which thread t of four has 4t ... 4t + 3; the result is thread 0's. */
CUDA_FN float join16(float s[4]) {
#pragma unroll
  for (int h = 2; h >= 1; h /= 2)
#pragma unroll
    for (int l = 0; l < 4; l++) s[l] += __shfl_down_sync(CUDA_FULL_WARP, s[l], (unsigned)h, 4);
  return (s[0] + s[2]) + (s[1] + s[3]);
}

/** Grid: 32 outputs of a part, tiles of M rows. */
template <int M>
CUDA_FN void linear16(const cuda_linear16_args &a) {
  const cuda_part &p = cuda_part_of(a, (int)blockIdx.x);
  int first = (int)blockIdx.y * M, n_rows = cuda_rows(a.head), quarter = (int)threadIdx.x % 4;
  int n = ((int)blockIdx.x - p.first_block) * F16_OUTPUTS + (int)threadIdx.x / 4, from = min(n, p.n - 1);
  if (first >= n_rows) return;
  const uint16_t *w = (const uint16_t *)p.data + (size_t)from * p.row_stride + quarter * 4;
  const uint16_t *x[M];
  float sum[M][4];
#pragma unroll
  for (int m = 0; m < M; m++) {
    x[m] = a.in.x16 + (size_t)min(first + m, n_rows - 1) * a.in.stride + quarter * 4;
#pragma unroll
    for (int l = 0; l < 4; l++) sum[m][l] = 0.0f;
  }
#pragma unroll(M == 1 ? 4 : 1)
  for (int i = 0; i < a.in.k; i += 16) {
    float weight[4], value[4];
    four_weights(__ldcs((const uint2 *)(w + i)), weight);
#pragma unroll
    for (int m = 0; m < M; m++) {
      four_values(__ldg((const uint2 *)(x[m] + i)), value);
#pragma unroll
      for (int l = 0; l < 4; l++) sum[m][l] += value[l] * weight[l];
    }
  }
  unsigned worst = 0;
#pragma unroll
  for (int m = 0; m < M; m++) {
    float v = join16(sum[m]);
    if (quarter != 0 || n >= p.n || first + m >= n_rows) continue;
    v = v * __ldg(a.in.pow2e + first + m);
    v = v * __ldg(p.scale + n);
    if (p.bias) v = v + __ldg(p.bias + n);
    p.out[(size_t)(first + m) * p.n + n] = cuda_tidy(v, worst);
  }
  cuda_note(a.head, worst);
}

CUDA_KERNEL(otr_linear16_1, cuda_linear16_args, F16_THREADS, 4) {
  linear16<1>(args);
}
CUDA_KERNEL(otr_linear16_8, cuda_linear16_args, F16_THREADS, 4) {
  linear16<8>(args);
}
