// SPDX-License-Identifier: Apache-2.0
/* The chunks' results of a row and head become its output, added in the chunks' order. */
#include "attention.cuh"

enum { MERGE_THREADS = 128, MERGE_PAGES = 1024 };

/* Weights of the chunks; -1: not seen, and what lies there was never written. */
struct merge_shared {
  float weight[MERGE_PAGES];
  float most[MERGE_THREADS / 32];
};

/** The largest m_c of the chunks that the row sees. */
CUDA_FN float merge_max(const cuda_attention_args &a, merge_shared *s, int row, int head, int sequence, int position,
                        int n_pages) {
  float m = OTR_FLOAT(0xff800000u);
#pragma unroll 1
  for (int page = (int)threadIdx.x; page < n_pages; page += MERGE_THREADS)
    if (cuda_sees_chunk(a, position, cuda_chunk_start(a, sequence, page)))
      m = fmaxf(m, cuda_chunk_part(a, row, head, page)[0]);
  for (int h = 16; h >= 1; h /= 2) m = fmaxf(m, __shfl_xor_sync(CUDA_FULL_WARP, m, h));
  if (threadIdx.x % 32 == 0) s->most[threadIdx.x / 32] = m;
  __syncthreads();
  for (int w = 0; w < MERGE_THREADS / 32; w++) m = fmaxf(m, s->most[w]);
  return m;
}

/* Grid: rows of the group, heads. Each thread takes some features, MERGE_PAGES chunks' weights at a time; the sums go
 * on from one piece to the next in `above` and `below`. */
CUDA_KERNEL(otr_attention_merge, cuda_attention_args, MERGE_THREADS, 8) {
  CUDA_SHARED(merge_shared, s, 1);
  int row = (int)blockIdx.x, head = (int)blockIdx.y, pass_row = args.first_row + row, d = args.head_dim;
  if (pass_row >= cuda_rows(args.head)) return;
  int sequence = cuda_sequence(args.head, pass_row), position = cuda_position(args.head, pass_row);
  int n_pages = ((const int32_t *)args.head.step->n_pages)[sequence];
  float most = merge_max(args, s, row, head, sequence, position, n_pages);
  unsigned worst = 0;
  for (int base = 0; base < d; base += MERGE_THREADS) {
    int j = base + (int)threadIdx.x;
    float above = 0.0f, below = 0.0f;
    for (int first = 0; first < n_pages; first += MERGE_PAGES) {
      int n = min((int)MERGE_PAGES, n_pages - first);
      __syncthreads();
#pragma unroll 1
      for (int c = (int)threadIdx.x; c < n; c += MERGE_THREADS) {
        bool seen = cuda_sees_chunk(args, position, cuda_chunk_start(args, sequence, first + c));
        s->weight[c] = seen ? otr_exp(cuda_chunk_part(args, row, head, first + c)[0] - most) : -1.0f;
      }
      __syncthreads();
      for (int c = 0; c < n; c++) {
        float w = s->weight[c];
        if (w < 0.0f) continue;
        const float *part = cuda_chunk_part(args, row, head, first + c);
        float l = part[1] * w, v = part[2 + min(j, d - 1)] * w;
        below = below + l;
        above = above + v;
      }
    }
    if (j < d) args.out[((size_t)pass_row * args.n_heads + head) * d + j] = cuda_tidy(above * otr_recip(below), worst);
  }
  cuda_note(args.head, worst);
}
