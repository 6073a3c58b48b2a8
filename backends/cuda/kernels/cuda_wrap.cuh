// SPDX-License-Identifier: Apache-2.0
/* All that kernels use beyond plain CUDA C: how a kernel is declared, shared memory, and every piece of inline assembly.
 * Each has a second text, of the same name, in tests/cuda/emulation/cuda_emulation.h, which a C++ compiler takes in place
 * of this one: kernels are tested without a GPU. A kernel may use, besides:
 *   threadIdx blockIdx blockDim gridDim, __syncthreads[_or|_and|_count], __syncwarp, __shfl[_up|_down|_xor]_sync,
 *   __ballot_sync __any_sync __all_sync, __ldg __ldcs __ldcg __stcs __stcg, __dp4a, integer atomics,
 *   __fmul_rn __fadd_rn __fsub_rn __float2int_rn __int2float_rn, rintf fabsf fminf fmaxf, __popc __clz __ffs
 *   __byte_perm __umulhi, the vector types. No division, sqrtf, expf or fmaf (contract), no float atomics. */
#ifndef OTR_CUDA_WRAP_CUH
#define OTR_CUDA_WRAP_CUH

#if !defined(__CUDACC__)
#include "cuda_emulation.h"
#else

#include <stdint.h>

/* CUDA_KERNEL(otr_add, struct add_args, 256, 2) { ... args.x ... }: a kernel of at most 256 threads a block, of which a
 * multiprocessor shall hold 2. It takes one struct by value, `args`. */
#define CUDA_KERNEL(name, args_type, threads, blocks) \
  extern "C" __global__ void __launch_bounds__(threads, blocks) name(const args_type args)

/* Shared memory of a block: `type name[count]`, and the piece whose size the launch gives. Undefined at first. */
#define CUDA_SHARED(type, name, count) __shared__ __align__(16) type name[count]
#define CUDA_DYNAMIC_SHARED(name) extern __shared__ __align__(128) unsigned char name[]

static __device__ __forceinline__ unsigned cuda_shared_address(const void *p) {
  return (unsigned)__cvta_generic_to_shared(p);
}

/* cp_async16: 16 bytes from global to shared memory, later; cp_async16_part: `bytes` (0 ... 16) of them, then zeros.
 * cp_commit closes a group, cp_wait<n> waits until at most the n newest groups are under way; what other threads copied
 * is there after a __syncthreads that follows. Before sm_80 they copy at once. */
static __device__ __forceinline__ void cp_async16(void *shared, const void *global) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(cuda_shared_address(shared)), "l"(global) : "memory");
#else
  *(uint4 *)shared = *(const uint4 *)global;
#endif
}
static __device__ __forceinline__ void cp_async16_part(void *shared, const void *global, int bytes) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(cuda_shared_address(shared)), "l"(global),
               "r"(bytes)
               : "memory");
#else
  uint4 value = make_uint4(0, 0, 0, 0);
  if (bytes == 16) {
    value = *(const uint4 *)global;
  } else {
    unsigned *word = (unsigned *)&value;
    for (int i = 0; i < bytes; i++) word[i / 4] |= (unsigned)((const unsigned char *)global)[i] << i % 4 * 8;
  }
  *(uint4 *)shared = value;
#endif
}
static __device__ __forceinline__ void cp_commit() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
template <int n>
static __device__ __forceinline__ void cp_wait() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory");
#endif
}

/* Four (two) 8 x 16-byte matrices from shared memory. Lane l gives the address of row l % 8 of matrix l / 8; r[i] is the
 * 32-bit word l % 4 of row l / 4 of matrix i. */
static __device__ __forceinline__ void ldmatrix_x4(unsigned r[4], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(cuda_shared_address(row))
               : "memory");
}
static __device__ __forceinline__ void ldmatrix_x2(unsigned r[2], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(cuda_shared_address(row))
               : "memory");
}

/* c[8, 8] += a[8, 16] b[16, 8], int8: with g = lane / 4, t = lane % 4, a holds row g, columns 4t ... 4t + 3, b rows
 * 4t ... 4t + 3 of column g, c row g, columns 2t and 2t + 1. */
static __device__ __forceinline__ void mma_s8_8816(int c[2], unsigned a, unsigned b) {
  asm("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0, %1}, {%2}, {%3}, {%0, %1};"
      : "+r"(c[0]), "+r"(c[1])
      : "r"(a), "r"(b));
}

/* c[16, 8] += a[16, 32] b[32, 8]: a[0] row g, columns 4t ...; a[1] row g + 8; a[2], a[3] the same 16 columns on; b[0]
 * rows 4t ..., b[1] 16 rows on; c[0], c[1] row g; c[2], c[3] row g + 8. Four of the smaller ones before sm_80. */
static __device__ __forceinline__ void mma_s8_16832(int c[4], const unsigned a[4], const unsigned b[2]) {
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  mma_s8_8816(c, a[0], b[0]);
  mma_s8_8816(c, a[2], b[1]);
  mma_s8_8816(c + 2, a[1], b[0]);
  mma_s8_8816(c + 2, a[3], b[1]);
#endif
}

/* IEEE binary16 of x, to nearest even, subnormals kept, and back: one instruction each. The contract's f16 has no
 * subnormals and no infinity: clamp and flush as numerics.h does. */
static __device__ __forceinline__ unsigned cvt_f16_bits(float x) {
  unsigned short h;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(x));
  return h;
}
static __device__ __forceinline__ float cvt_f16_value(unsigned bits) {
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"((unsigned short)bits));
  return x;
}

#endif

#endif
