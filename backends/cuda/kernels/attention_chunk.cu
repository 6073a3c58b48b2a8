// SPDX-License-Identifier: Apache-2.0
/* Scores, softmax weights and P·V over one chunk of 256 positions, for up to R items: an item is a row and one of the
 * query heads that share a KV head, so that K and V are read once for all of them. */
#include "attention.cuh"

enum { CHUNK_THREADS = OTR_CHUNK / 2, CHUNK_WARPS = CHUNK_THREADS / 32, SUM_LANES = OTR_LANES_F16 };

template <int R>
struct chunk_shared {
  float p[OTR_CHUNK][R]; /* scores, then weights; 0 where an item does not look */
  float most[CHUNK_WARPS];
  int position[R]; /* of an item; -1: it is not looked at now */
  float *part[R];  /* where an item's results go; NULL: it does not see the chunk */
};

/* What the block works on: items from first_item on, rows of one group of query heads. */
struct chunk_task {
  int first_item, kv_head, heads; /* heads: that share the KV head */
};

CUDA_FN int row_of(const chunk_task &t, int r) {
  return (t.first_item + r) / t.heads;
}
CUDA_FN int head_of(const chunk_task &t, int r) {
  return t.kv_head * t.heads + (t.first_item + r) % t.heads;
}

CUDA_FN bool visible(const cuda_attention_args &a, int position, int at) {
  return at <= position && (a.window == 0 || position - at < a.window);
}

/** lanesum<4> of q·k for all items and the thread's two positions, to s->p. q: shared, [padded / 4][R] of four. What is
 *  added for the padding is 0 times a finite value. */
template <int R>
CUDA_FN void chunk_scores(const cuda_attention_args &a, chunk_shared<R> *s, const float4 *q, const uint16_t *keys) {
  float sum[2][R][4];
#pragma unroll
  for (int r = 0; r < R; r++)
#pragma unroll
    for (int l = 0; l < 4; l++) sum[0][r][l] = sum[1][r][l] = 0.0f;
  const unsigned *pair = (const unsigned *)keys + threadIdx.x;
  int d = a.head_dim;
#pragma unroll 1
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
        sum[0][r][l] += qs[l] * k[l][0];
        sum[1][r][l] += qs[l] * k[l][1];
      }
    }
  }
#pragma unroll
  for (int r = 0; r < R; r++)
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const float *l = sum[i][r];
      s->p[2 * threadIdx.x + i][r] = ((l[0] + l[2]) + (l[1] + l[3])) * a.scale;
    }
}

/** Scores to weights, some threads an item. @return m_c of the thread's item */
template <int R>
CUDA_FN float chunk_weights(const cuda_attention_args &a, chunk_shared<R> *s, const chunk_task &t, int start) {
  const int threads = CHUNK_THREADS / R, r = (int)threadIdx.x / threads, first = (int)threadIdx.x % threads;
  int position = s->position[r];
  float most = OTR_FLOAT(0xff800000u), slope = a.slopes ? a.slopes[head_of(t, r)] : 0.0f;
#pragma unroll 1
  for (int c = first; c < OTR_CHUNK; c += threads) {
    if (!visible(a, position, start + c)) continue;
    float score = s->p[c][r];
    if (a.slopes) {
      float bias = slope * OTR_I2F(start + c - position);
      score = score + bias;
      s->p[c][r] = score;
    }
    most = fmaxf(most, score);
  }
#pragma unroll
  for (int h = min(threads, 32) / 2; h >= 1; h /= 2) most = fmaxf(most, __shfl_xor_sync(CUDA_FULL_WARP, most, h));
  if constexpr (threads > 32) {
    if (threadIdx.x % 32 == 0) s->most[threadIdx.x / 32] = most;
    __syncthreads();
    for (int w = 0; w < CHUNK_WARPS; w++) most = fmaxf(most, s->most[w]);
  }
#pragma unroll 2
  for (int c = first; c < OTR_CHUNK; c += threads) {
    float p = otr_f16_round(otr_exp(s->p[c][r] - most) * 32768.0f);
    s->p[c][r] = visible(a, position, start + c) ? p : 0.0f;
  }
  __syncthreads();
  return most;
}

/** m_c and l_c = lanesum<16>(p). */
template <int R>
CUDA_FN void chunk_sums(const chunk_shared<R> *s, float most) {
  int r = (int)threadIdx.x / (CHUNK_THREADS / R), lane = (int)threadIdx.x % SUM_LANES;
  float sum = 0.0f;
  for (int c = lane; c < OTR_CHUNK; c += SUM_LANES) sum += s->p[c][r];
  for (int h = SUM_LANES / 2; h >= 1; h /= 2) sum += __shfl_down_sync(CUDA_FULL_WARP, sum, (unsigned)h, SUM_LANES);
  float *part = s->part[r];
  if (!part || lane != 0 || threadIdx.x >= R * SUM_LANES) return;
  part[0] = most;
  part[1] = sum;
}

/** a_c = lanesum<4>(p·v) of the chunk's first `end` positions: a thread takes two features and one lane of positions at
 *  a time. */
template <int R>
CUDA_FN void chunk_values(const cuda_attention_args &a, const chunk_shared<R> *s, const uint16_t *values, int end) {
  int d = a.head_dim, n_pairs = (d + 1) / 2, lane = (int)threadIdx.x % 4;
#pragma unroll 1
  for (int base = 0; base < n_pairs; base += CHUNK_THREADS / 4) {
    int at = (base + (int)threadIdx.x / 4) * 2, j = min(at, d - 1), j1 = min(j + 1, d - 1);
    float sum[2][R];
#pragma unroll
    for (int r = 0; r < R; r++) sum[0][r] = sum[1][r] = 0.0f;
#pragma unroll 2
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
#pragma unroll
      for (int h = 2; h >= 1; h /= 2) {
        sum[0][r] += __shfl_down_sync(CUDA_FULL_WARP, sum[0][r], (unsigned)h, 4);
        sum[1][r] += __shfl_down_sync(CUDA_FULL_WARP, sum[1][r], (unsigned)h, 4);
      }
      float *part = s->part[r];
      if (!part || lane != 0 || at >= d) continue;
      part[2 + j] = sum[0][r];
      if (j1 != j) part[2 + j1] = sum[1][r];
    }
  }
  __syncthreads();
}

/** The pages blockIdx.x, blockIdx.x + gridDim.x ... of one sequence for items [begin, end). */
template <int R>
CUDA_FN void attend_sequence(const cuda_attention_args &a, chunk_shared<R> *s, const chunk_task &t, const float4 *q,
                             int begin, int end) {
  int first_row = a.first_row + row_of(t, begin), r = (int)threadIdx.x, row = row_of(t, r);
  int first = cuda_position(a.head, first_row), last = first + row_of(t, end - 1) - row_of(t, begin);
  int sequence = cuda_sequence(a.head, first_row), n_pages = ((const int32_t *)a.head.step->n_pages)[sequence];
  int position = r >= begin && r < end ? cuda_position(a.head, a.first_row + row) : -1;
  if (r < R) s->position[r] = position;
  for (int page = (int)blockIdx.x; page < n_pages; page += (int)gridDim.x) {
    int start = cuda_chunk_start(a, sequence, page);
    if (start > last) break;
    if (a.window != 0 && first - (start + OTR_CHUNK - 1) >= a.window) continue;
    if (r < R)
      s->part[r] =
          position >= 0 && cuda_sees_chunk(a, position, start) ? cuda_chunk_part(a, row, head_of(t, r), page) : nullptr;
    uint64_t where = ((const uint64_t *)a.head.step->page)[(size_t)sequence * a.head.step->max_table + page];
    const uint16_t *keys = cuda_keys(where, a.n_kv_heads, a.head_dim, a.kv_layer, t.kv_head);
    chunk_scores<R>(a, s, q, keys);
    __syncthreads();
    chunk_sums<R>(s, chunk_weights<R>(a, s, t, start));
    chunk_values<R>(a, s, keys + (size_t)OTR_CHUNK * a.head_dim, min((int)OTR_CHUNK, last + 1 - start));
  }
  __syncthreads(); /* the next sequence's positions */
}

/** Grid: pages, KV heads, tiles of R items of the group of rows. Dynamic shared memory: q of the tile, f32 of four at
 *  [padded / 4][R], padded: head_dim rounded up to 4. */
template <int R>
CUDA_FN void attend_tile(const cuda_attention_args &a, chunk_shared<R> *s, float *q) {
  chunk_task t = {(int)blockIdx.z * R, (int)blockIdx.y, a.n_heads / a.n_kv_heads};
  int d = a.head_dim, padded = (d + 3) / 4 * 4;
  int n = min(min(a.n_rows, cuda_rows(a.head) - a.first_row) * t.heads - t.first_item, R);
  if (n <= 0) return;
#pragma unroll 1
  for (int r = 0; r < R; r++) {
    const uint16_t *from = a.q16 + ((size_t)(a.first_row + row_of(t, min(r, n - 1))) * a.n_heads + head_of(t, r)) * d;
    for (int j = (int)threadIdx.x; j < padded; j += CHUNK_THREADS)
      q[(j / 4 * R + r) * 4 + j % 4] = r < n && j < d ? cvt_f16_value(from[j]) : 0.0f;
  }
  __syncthreads();
#pragma unroll 1
  for (int begin = 0; begin < n;) {
    int end = begin + 1, sequence = cuda_sequence(a.head, a.first_row + row_of(t, begin));
#pragma unroll 1
    while (end < n && cuda_sequence(a.head, a.first_row + row_of(t, end)) == sequence) end++;
    attend_sequence<R>(a, s, t, (const float4 *)q, begin, end);
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
