// SPDX-License-Identifier: Apache-2.0
/* LINEAR for few rows: the weights stream through once. A warp makes four outputs of up to M rows. */
#include "linear.cuh"

enum { STREAM_THREADS = 128, STREAM_WARPS = STREAM_THREADS / 32, STREAM_OUTPUTS = 4, STREAM_STEP = 32 * 16 };

template <int M>
struct stream_shared {
  float product[STREAM_WARPS][STREAM_OUTPUTS][32];
  float outliers[STREAM_WARPS][M * STREAM_OUTPUTS];
};

/** What a warp works on: rows first ... first + M - 1 (those from n_rows on repeat the last), outputs n ... n + 3
 * (those from part.n on likewise). */
struct stream_task {
  int first, n_rows, n;
};

CUDA_FN int dot16(uint4 w, uint4 x, int acc) {
  acc = __dp4a((int)w.x, (int)x.x, acc);
  acc = __dp4a((int)w.y, (int)x.y, acc);
  acc = __dp4a((int)w.z, (int)x.z, acc);
  return __dp4a((int)w.w, (int)x.w, acc);
}

/** Each lane's share of the M * 4 integer sums. */
template <int M>
CUDA_FN void stream_dots(const cuda_linear_args &a, const cuda_part &p, const stream_task &t,
                         int acc[M * STREAM_OUTPUTS]) {
  const int8_t *w[STREAM_OUTPUTS], *x[M];
  int begin = (int)(threadIdx.x % 32) * 16, end = (a.in.k + 15) / 16 * 16;
#pragma unroll
  for (int o = 0; o < STREAM_OUTPUTS; o++) w[o] = (const int8_t *)p.data + (size_t)min(t.n + o, p.n - 1) * p.row_stride;
#pragma unroll
  for (int m = 0; m < M; m++) x[m] = a.in.q + (size_t)min(t.first + m, t.n_rows - 1) * a.in.stride;
#pragma unroll
  for (int i = 0; i < M * STREAM_OUTPUTS; i++) acc[i] = 0;
#pragma unroll 2
  for (int i = begin; i < end; i += STREAM_STEP) {
    uint4 weights[STREAM_OUTPUTS];
#pragma unroll
    for (int o = 0; o < STREAM_OUTPUTS; o++) weights[o] = __ldcs((const uint4 *)(w[o] + i));
#pragma unroll
    for (int m = 0; m < M; m++) {
      uint4 values = __ldg((const uint4 *)(x[m] + i));
#pragma unroll
      for (int o = 0; o < STREAM_OUTPUTS; o++)
        acc[m * STREAM_OUTPUTS + o] = dot16(weights[o], values, acc[m * STREAM_OUTPUTS + o]);
    }
  }
}

/** Sums V values over the warp. Halving: at each step a lane gives away half of what it has left, then at one value the
 *  rest of the lanes add up. Lane l ends with value l / (32 / V), like all lanes of its group. */
template <int V, int BIT = 16>
CUDA_FN int warp_sums(const int *v) {
  if constexpr (BIT == 0) {
    return v[0];
  } else if constexpr (V == 1) {
    int sum = v[0] + __shfl_xor_sync(CUDA_FULL_WARP, v[0], BIT);
    return warp_sums<1, BIT / 2>(&sum);
  } else {
    bool upper = ((int)threadIdx.x & BIT) != 0;
    int kept[V / 2];
#pragma unroll
    for (int i = 0; i < V / 2; i++) {
      int give = upper ? v[i] : v[i + V / 2], keep = upper ? v[i + V / 2] : v[i];
      kept[i] = keep + __shfl_xor_sync(CUDA_FULL_WARP, give, BIT);
    }
    return warp_sums<V / 2, BIT / 2>(kept);
  }
}

/** lanesum<4> of a row's outliers for the warp's outputs. 32 of them at a time: every lane fetches one and multiplies,
 *  then 16 lanes, one for each output and k mod 4, add what is theirs in ascending order. */
template <int M>
CUDA_FN void stream_outliers(const cuda_linear_args &a, const cuda_part &p, const stream_task &t, stream_shared<M> *s,
                             int m) {
  int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32, row = min(t.first + m, t.n_rows - 1);
  const cuda_outlier *list = a.in.outlier + (size_t)row * a.in.k;
  int count = __ldg(a.in.first + (size_t)row * (a.in.n_tiles + 1) + a.in.n_tiles);
  float sum = 0.0f;
  for (int base = 0; base < count; base += 32) {
    int mine = base + lane, feature = 0;
    unsigned kind = 4;
    float x16 = 0.0f;
    if (mine < count) {
      feature = __ldg(&list[mine].feature);
      x16 = __ldg(&list[mine].x16);
      kind = (unsigned)feature & 3u;
    }
    unsigned members = 0;
    for (unsigned l = 0; l < 4; l++) {
      unsigned some = __ballot_sync(CUDA_FULL_WARP, kind == l);
      if (((unsigned)lane & 3u) == l) members = some;
    }
#pragma unroll
    for (int o = 0; o < STREAM_OUTPUTS; o++) {
      int n = min(t.n + o, p.n - 1);
      int q = ((const int8_t *)p.data)[(size_t)n * p.row_stride + feature];
      s->product[warp][o][lane] = x16 * cuda_outlier_weight(p, n, feature, q);
    }
    __syncwarp();
    if (lane < 16)
      for (; members; members &= members - 1) sum += s->product[warp][lane / 4][__ffs((int)members) - 1];
    __syncwarp();
  }
  sum += __shfl_down_sync(CUDA_FULL_WARP, sum, 2, 4);
  sum += __shfl_down_sync(CUDA_FULL_WARP, sum, 1, 4);
  if (lane < 16 && lane % 4 == 0) s->outliers[warp][m * STREAM_OUTPUTS + lane / 4] = sum;
}

/** Grid: 16 outputs of a part, tiles of M rows. */
template <int M>
CUDA_FN void stream(const cuda_linear_args &a, stream_shared<M> *s) {
  const cuda_part &p = cuda_part_of(a, (int)blockIdx.x);
  int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
  stream_task t = {(int)blockIdx.y * M, cuda_rows(a.head),
                   ((int)blockIdx.x - p.first_block) * STREAM_WARPS * STREAM_OUTPUTS + warp * STREAM_OUTPUTS};
  if (t.first >= t.n_rows || t.n >= p.n) return;
  int acc[M * STREAM_OUTPUTS];
  stream_dots<M>(a, p, t, acc);
  int dot = warp_sums<M * STREAM_OUTPUTS>(acc);
#pragma unroll 1
  for (int m = 0; m < M; m++) stream_outliers<M>(a, p, t, s, m);
  __syncwarp();
  int value = lane / (32 / (M * STREAM_OUTPUTS)), row = t.first + value / STREAM_OUTPUTS,
      n = t.n + value % STREAM_OUTPUTS;
  if (lane % (32 / (M * STREAM_OUTPUTS)) != 0 || row >= t.n_rows || n >= p.n) return;
  unsigned worst = 0;
  float y = cuda_linear_value(p, n, dot, s->outliers[warp][value], __ldg(a.in.scale + row), __ldg(a.in.pow2e + row));
  p.out[(size_t)row * p.n + n] = cuda_tidy(y, worst);
  cuda_note(a.head, worst);
}

#define STREAM_KERNEL(M, blocks)                                                \
  CUDA_KERNEL(otr_linear_stream##M, cuda_linear_args, STREAM_THREADS, blocks) { \
    CUDA_SHARED(stream_shared<M>, shared, 1);                                   \
    stream<M>(args, shared);                                                    \
  }
STREAM_KERNEL(1, 4)
STREAM_KERNEL(2, 4)
STREAM_KERNEL(4, 4)
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ == 1100 /* its compiler spills at the 168 registers that 3 blocks leave */
STREAM_KERNEL(8, 2)
#else
STREAM_KERNEL(8, 3)
#endif
