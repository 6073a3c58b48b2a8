// SPDX-License-Identifier: Apache-2.0
/* Before the GEMM: which features are outliers of some row of each tile of rows. */
#include "device.cuh"

enum { UNION_THREADS = 256, MAX_SLABS = OTR_MAX_K / 32 };

/* Grid: tiles of rows. */
CUDA_KERNEL(otr_linear_union, cuda_tile_args, UNION_THREADS, 1) {
  CUDA_SHARED(unsigned, mask, MAX_SLABS);
  CUDA_SHARED(int, before, UNION_THREADS + 1);
  const cuda_quantized &in = args.linear.in;
  const cuda_union &u = args.outliers;
  int tile = (int)blockIdx.x, first = tile * u.tile_rows, thread = (int)threadIdx.x;
  int n_rows = min(u.tile_rows, cuda_rows(args.linear.head) - first);
  for (int s = thread; s < u.n_slabs; s += UNION_THREADS) mask[s] = 0;
  __syncthreads();
  for (int r = thread / 32; r < n_rows; r += UNION_THREADS / 32) {
    const cuda_outlier *list = in.outlier + (size_t)(first + r) * in.k;
    int n = in.first[(size_t)(first + r) * (in.n_tiles + 1) + in.n_tiles];
    for (int i = thread % 32; i < n; i += 32) atomicOr(&mask[list[i].feature / 32], 1u << (list[i].feature % 32));
  }
  __syncthreads();
  /* Each thread counts a run of slabs, the runs are added up, then each thread goes over its run again. */
  int run = (u.n_slabs + UNION_THREADS - 1) / UNION_THREADS, begin = min(thread * run, u.n_slabs);
  int end = min(begin + run, u.n_slabs), count = 0;
  for (int s = begin; s < end; s++) count += __popc(mask[s]);
  before[thread + 1] = count;
  __syncthreads();
  if (thread == 0) {
    before[0] = 0;
#pragma unroll 4
    for (int i = 1; i <= UNION_THREADS; i++) before[i] += before[i - 1];
  }
  __syncthreads();
  int slot = before[thread];
  int32_t *base = u.base + (size_t)tile * (u.n_slabs + 1);
  for (int s = begin; s < end; s++) {
    u.mask[(size_t)tile * u.n_slabs + s] = mask[s];
    base[s] = slot;
    for (unsigned left = mask[s]; left; left &= left - 1, slot++)
      if (slot < CUDA_PANEL_SLOTS) u.place[(size_t)tile * CUDA_PANEL_SLOTS + slot] = (uint8_t)(__ffs((int)left) - 1);
  }
  if (thread == 0) base[u.n_slabs] = before[UNION_THREADS];
}
