// SPDX-License-Identifier: Apache-2.0
/* Scores, softmax weights and P·V of some rows of one head over one chunk of 256 positions, two a thread. */
#include "attention.cuh"

enum { CHUNK_THREADS = OTR_CHUNK / 2, CHUNK_WARPS = CHUNK_THREADS / 32, SUM_LANES = OTR_LANES_F16 };

/* The rows of a tile that belong to one sequence, and the page they look at. */
struct chunk_view {
  int sequence, page, start;
  int begin, end;     /* rows of the tile */
  int first_position; /* of row `begin` */
};

template <int R>
struct chunk_shared {
  float p[OTR_CHUNK][R]; /* scores, then weights; 0 where a row does not look */
  float most[CHUNK_WARPS][R];
  float max[R];
};

CUDA_FN bool visible(const cuda_attention_args &a, const chunk_view &v, int r, int position) {
  int i = v.first_position + r - v.begin;
  return r >= v.begin && r < v.end && position <= i && (a.window == 0 || i - position < a.window);
}

/** lanesum<4> of q·k for the tile's rows and the thread's two positions. q: shared, [padded / 4][R] of four. What is
 *  added for the padding is 0 times a finite value. */
template <int R>
CUDA_FN void chunk_scores(const cuda_attention_args &a, const float4 *q, const uint16_t *keys, float score[2][R]) {
  float s[2][R][4];
#pragma unroll
  for (int r = 0; r < R; r++)
#pragma unroll
    for (int l = 0; l < 4; l++) s[0][r][l] = s[1][r][l] = 0.0f;
  const unsigned *pair = (const unsigned *)keys + threadIdx.x;
  int d = a.head_dim;
  for (int j = 0; j < d; j += 4) {
    float k[4][2];
#pragma unroll
    for (int l = 0; l < 4; l++) {
      unsigned bits = __ldg(pair + (size_t)min(j + l, d - 1) * (OTR_CHUNK / 2));
      k[l][0] = cvt_f16_value(bits & 0xffffu);
      k[l][1] = cvt_f16_value(bits >> 16);
    }
#pragma unroll
    for (int r = 0; r < R; r++) {
      float4 x = q[j / 4 * R + r];
      const float qs[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
      for (int l = 0; l < 4; l++) {
        s[0][r][l] += qs[l] * k[l][0];
        s[1][r][l] += qs[l] * k[l][1];
      }
    }
  }
#pragma unroll
  for (int r = 0; r < R; r++)
#pragma unroll
    for (int i = 0; i < 2; i++) score[i][r] = ((s[i][r][0] + s[i][r][2]) + (s[i][r][1] + s[i][r][3])) * a.scale;
}

/** m_c of each row, for all threads. */
template <int R>
CUDA_FN void chunk_max(chunk_shared<R> *s, const float most[R]) {
#pragma unroll
  for (int r = 0; r < R; r++) {
    float m = most[r];
    for (int h = 16; h >= 1; h /= 2) m = fmaxf(m, __shfl_xor_sync(CUDA_FULL_WARP, m, h));
    if (threadIdx.x % 32 == 0) s->most[threadIdx.x / 32][r] = m;
  }
  __syncthreads();
  if (threadIdx.x < R) {
    float m = s->most[0][threadIdx.x];
    for (int w = 1; w < CHUNK_WARPS; w++) m = fmaxf(m, s->most[w][threadIdx.x]);
    s->max[threadIdx.x] = m;
  }
  __syncthreads();
}

/** Scores to weights p, in shared memory. */
template <int R>
CUDA_FN void chunk_weights(const cuda_attention_args &a, chunk_shared<R> *s, const chunk_view &v, int head,
                           float score[2][R]) {
  float most[R];
  float slope = a.slopes ? a.slopes[head] : 0.0f;
#pragma unroll
  for (int r = 0; r < R; r++) {
    most[r] = OTR_FLOAT(0xff800000u);
#pragma unroll
    for (int i = 0; i < 2; i++) {
      int position = v.start + 2 * (int)threadIdx.x + i;
      if (!visible(a, v, r, position)) continue;
      if (a.slopes) {
        float bias = slope * OTR_I2F(position - (v.first_position + r - v.begin));
        score[i][r] = score[i][r] + bias;
      }
      most[r] = fmaxf(most[r], score[i][r]);
    }
  }
  chunk_max<R>(s, most);
#pragma unroll
  for (int r = 0; r < R; r++)
#pragma unroll
    for (int i = 0; i < 2; i++) {
      int c = 2 * (int)threadIdx.x + i;
      float p = 0.0f;
      if (visible(a, v, r, v.start + c)) p = otr_f16_round(otr_exp(score[i][r] - s->max[r]) * 32768.0f);
      s->p[c][r] = p;
    }
  __syncthreads();
}

/** m_c and l_c = lanesum<16>(p). */
template <int R>
CUDA_FN void chunk_sums(const cuda_attention_args &a, const chunk_shared<R> *s, const chunk_view &v, int tile_row,
                        int head) {
  int r = (int)threadIdx.x / SUM_LANES, lane = (int)threadIdx.x % SUM_LANES;
  float sum = 0.0f;
  if (r < R)
    for (int c = lane; c < OTR_CHUNK; c += SUM_LANES) sum += s->p[c][r];
  for (int h = SUM_LANES / 2; h >= 1; h /= 2) sum += __shfl_down_sync(CUDA_FULL_WARP, sum, (unsigned)h, SUM_LANES);
  if (r >= v.begin && r < v.end && lane == 0 && cuda_sees_chunk(a, v.first_position + r - v.begin, v.start)) {
    float *part = cuda_chunk_part(a, tile_row + r, head, v.page);
    part[0] = s->max[r];
    part[1] = sum;
  }
}

/** a_c = lanesum<4>(p·v): a thread takes two features and one lane of positions at a time. */
template <int R>
CUDA_FN void chunk_values(const cuda_attention_args &a, const chunk_shared<R> *s, const chunk_view &v, int tile_row,
                          int head, const uint16_t *values) {
  int d = a.head_dim, n_items = (d + 1) / 2 * 4;
  int end = min((int)OTR_CHUNK, v.first_position + (v.end - v.begin) - v.start); /* no row looks further */
  for (int base = 0; base < n_items; base += CHUNK_THREADS) {
    int item = base + (int)threadIdx.x, lane = item % 4, j = min(item / 4 * 2, d - 1), j1 = min(j + 1, d - 1);
    float sum[2][R];
#pragma unroll
    for (int r = 0; r < R; r++) sum[0][r] = sum[1][r] = 0.0f;
    for (int c = lane; c < end; c += 4) {
      const uint16_t *row = values + (size_t)c * d;
      float v0 = cvt_f16_value(row[j]), v1 = cvt_f16_value(row[j1]);
#pragma unroll
      for (int r = 0; r < R; r++) {
        sum[0][r] += s->p[c][r] * v0;
        sum[1][r] += s->p[c][r] * v1;
      }
    }
#pragma unroll
    for (int r = 0; r < R; r++) {
      for (int h = 2; h >= 1; h /= 2) {
        sum[0][r] += __shfl_down_sync(CUDA_FULL_WARP, sum[0][r], (unsigned)h, 4);
        sum[1][r] += __shfl_down_sync(CUDA_FULL_WARP, sum[1][r], (unsigned)h, 4);
      }
      if (lane != 0 || item >= n_items || r < v.begin || r >= v.end) continue;
      if (!cuda_sees_chunk(a, v.first_position + r - v.begin, v.start)) continue;
      float *part = cuda_chunk_part(a, tile_row + r, head, v.page) + 2;
      part[j] = sum[0][r];
      if (j1 != j) part[j1] = sum[1][r];
    }
  }
  __syncthreads();
}

/** The pages blockIdx.x, blockIdx.x + gridDim.x ... of one sequence for rows [begin, end) of the tile. */
template <int R>
CUDA_FN void attend_sequence(const cuda_attention_args &a, chunk_shared<R> *s, const float4 *q, int tile_row, int head,
                             int begin, int end) {
  int row = a.first_row + tile_row + begin;
  chunk_view v = {cuda_sequence(a.head, row), 0, 0, begin, end, cuda_position(a.head, row)};
  int n_pages = ((const int32_t *)a.head.step->n_pages)[v.sequence];
  for (v.page = (int)blockIdx.x; v.page < n_pages; v.page += (int)gridDim.x) {
    v.start = cuda_chunk_start(a, v.sequence, v.page);
    int last = v.first_position + end - begin - 1;
    if (v.start > last) break;
    if (a.window != 0 && v.first_position - (v.start + OTR_CHUNK - 1) >= a.window) continue;
    uint64_t page = ((const uint64_t *)a.head.step->page)[(size_t)v.sequence * a.head.step->max_table + v.page];
    const uint16_t *keys = cuda_keys(page, a.n_kv_heads, a.head_dim, a.kv_layer, head / (a.n_heads / a.n_kv_heads));
    float score[2][R];
    chunk_scores<R>(a, q, keys, score);
    chunk_weights<R>(a, s, v, head, score);
    chunk_sums<R>(a, s, v, tile_row, head);
    chunk_values<R>(a, s, v, tile_row, head, keys + (size_t)OTR_CHUNK * a.head_dim);
  }
}

/** Grid: pages, heads, tiles of R rows of the group. Dynamic shared memory: q of the tile, f32 [padded / 4][R] of four,
 *  padded: head_dim rounded up to 4. */
template <int R>
CUDA_FN void attend_tile(const cuda_attention_args &a, chunk_shared<R> *s, float *q) {
  int tile_row = (int)blockIdx.z * R, head = (int)blockIdx.y, d = a.head_dim, padded = (d + 3) / 4 * 4;
  int n = min(min(a.n_rows, cuda_rows(a.head) - a.first_row) - tile_row, R);
  if (n <= 0) return;
  for (int i = (int)threadIdx.x; i < R * padded; i += CHUNK_THREADS) {
    int r = i / padded, j = i % padded;
    size_t at = ((size_t)(a.first_row + tile_row + r) * a.n_heads + head) * d + j;
    q[(j / 4 * R + r) * 4 + j % 4] = r < n && j < d ? cvt_f16_value(a.q16[at]) : 0.0f;
  }
  __syncthreads();
  for (int begin = 0; begin < n;) {
    int end = begin + 1, sequence = cuda_sequence(a.head, a.first_row + tile_row + begin);
    while (end < n && cuda_sequence(a.head, a.first_row + tile_row + end) == sequence) end++;
    attend_sequence<R>(a, s, (const float4 *)q, tile_row, head, begin, end);
    begin = end;
  }
}

CUDA_KERNEL(otr_attention_chunk, cuda_attention_args, CHUNK_THREADS, 4) {
  CUDA_SHARED(chunk_shared<1>, shared, 1);
  CUDA_DYNAMIC_SHARED(q);
  attend_tile<1>(args, shared, (float *)q);
}

CUDA_KERNEL(otr_attention_chunk8, cuda_attention_args, CHUNK_THREADS, 4) {
  CUDA_SHARED(chunk_shared<8>, shared, 1);
  CUDA_DYNAMIC_SHARED(q);
  attend_tile<8>(args, shared, (float *)q);
}
