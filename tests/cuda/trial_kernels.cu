// SPDX-License-Identifier: Apache-2.0
/* Kernels that try the emulation itself, right and wrong ones; nvcc takes them as well. */
#include "trial_kernels.h"

#include "cuda_wrap.cuh"

/* Matrix product of one warp: rows of a and b come by cp.async, a's fragments by ldmatrix. */
static __device__ void trial_product(const trial_args &args) {
  CUDA_SHARED(unsigned char, a, 16 * 32);
  CUDA_SHARED(unsigned char, b, 8 * 32);
  const unsigned lane = threadIdx.x % 32;
  const unsigned char *from_a = (const unsigned char *)args.a, *from_b = (const unsigned char *)args.b;
  int c[4] = {0, 0, 0, 0};
  for (int k = 0; k < args.k; k += 32) {
    cp_async16(a + lane * 16, from_a + (lane / 2) * args.k + k + lane % 2 * 16);
    if (lane < 16) cp_async16(b + lane * 16, from_b + (lane / 2) * args.k + k + lane % 2 * 16);
    cp_commit();
    if (args.fault != TRIAL_NO_WAIT) cp_wait<0>();
    __syncwarp();
    unsigned a_part[4], b_part[2];
    /* matrices in the order of a's registers: rows 0 and 8 of the first 16 columns, then of the second */
    ldmatrix_x4(a_part, a + (lane % 16) * 32 + lane / 16 * 16);
    ldmatrix_x2(b_part, b + (lane % 8) * 32 + lane / 8 % 2 * 16);
    if (args.variant) {
      mma_s8_8816(c, a_part[0], b_part[0]);
      mma_s8_8816(c, a_part[2], b_part[1]);
      mma_s8_8816(c + 2, a_part[1], b_part[0]);
      mma_s8_8816(c + 2, a_part[3], b_part[1]);
    } else {
      mma_s8_16832(c, a_part, b_part);
    }
    __syncwarp();
  }
  int *out = (int *)args.out;
  for (int i = 0; i < 4; i++) out[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = c[i];
}

CUDA_KERNEL(trial_mma, struct trial_args, 32, 1) { trial_product(args); }

/* Every thread gives its number to the one `variant` places on, through shared memory. */
CUDA_KERNEL(trial_exchange, struct trial_args, 256, 1) {
  CUDA_DYNAMIC_SHARED(memory);
  int *shared = (int *)memory;
  const unsigned n = blockDim.x, me = threadIdx.x;
  shared[me] = (int)me;
  if (args.fault != TRIAL_NO_BARRIER) __syncthreads();
  ((int *)args.out)[me] = shared[(me + (unsigned)args.variant) % n];
}

CUDA_KERNEL(trial_warp, struct trial_args, 64, 1) {
  const int lane = (int)threadIdx.x % 32;
  int *out = (int *)args.out + threadIdx.x * TRIAL_WARP_RESULTS;
  if (args.fault == TRIAL_DIVERGED && lane == 3) {
    out[0] = __shfl_xor_sync(0xffffffffu, lane, 1);
    return;
  }
  out[0] = __shfl_sync(0xffffffffu, lane, 5);
  out[1] = __shfl_sync(0xffffffffu, lane, 5, 8);
  out[2] = __shfl_up_sync(0xffffffffu, lane, 2);
  out[3] = __shfl_down_sync(0xffffffffu, lane, 3, 16);
  out[4] = __shfl_xor_sync(0xffffffffu, lane, 16);
  out[5] = (int)__ballot_sync(0xffffffffu, lane % 3 == 0);
  out[6] = __any_sync(0xffffffffu, lane == 31) + 2 * __all_sync(0xffffffffu, lane < 31);
  out[7] = __syncthreads_count(threadIdx.x < 40);
  out[8] = __syncthreads_or(threadIdx.x == 63) + 2 * __syncthreads_and(threadIdx.x < 63);
  if (lane >= 24) return; /* those that have exited are not waited for */
  out[9] = __shfl_sync(0xffffffffu, lane, 7);
  atomicAdd((int *)args.a, 1);
}

CUDA_KERNEL(trial_fault, struct trial_args, 64, 1) {
  if (args.fault == TRIAL_DEADLOCK && threadIdx.x < 32) {
    CUDA_SHARED(int, flag, 1);
    if (threadIdx.x == 5) __syncwarp(0xffffffffu);
    flag[0] = 0;
    if (threadIdx.x != 5) __syncthreads();
  }
  if (args.fault == TRIAL_MISALIGNED) ((int *)args.out)[0] = __ldcs((const int *)(args.a + 2));
  if (args.fault == TRIAL_OVER_READ) ((volatile int *)args.out)[0] = ((const volatile int *)args.a)[args.k];
}
