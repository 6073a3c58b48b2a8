// SPDX-License-Identifier: Apache-2.0
/* CUDA C for a C++ compiler: what backends/cuda/kernels use of CUDA, with the same meaning, on the CPU.
 *
 * A block's threads are fibers of one host thread. A fiber runs until it meets others (a barrier, a shuffle, an mma),
 * so that nothing is lockstep by luck; warps and lanes run in ascending or, with OUTRIDER_CUDA_EMULATION_ORDER=reverse,
 * in descending order. Shared memory is the block's own piece of heap, filled with EMULATION_POISON; cp.async copies
 * when it is waited for and not before. What the hardware would not do (a barrier that some never reach, a shuffle by
 * different lanes, a misaligned vector) ends the launch with a report. Not seen here: bank conflicts, races that both
 * orders survive, time. */
#ifndef CUDA_EMULATION_H
#define CUDA_EMULATION_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define OTR_CUDA_EMULATION 1  /* numerics.h takes the text for CUDA */
#define EMULATION_POISON 0xfb /* f32 -2.6e36, f16 NaN, int8 -5 */

#define __host__
#define __device__
#define __global__
#define __constant__ static const
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(n) alignas(n)
#ifndef __restrict__
#define __restrict__ __restrict
#endif

/* ---- vector types ---- */
#define EMULATION_VECTORS(X)                                                                                     \
  X(char, signed char, 1)                                                                                        \
  X(uchar, unsigned char, 1) X(short, short, 2) X(ushort, unsigned short, 2) X(int, int, 4) X(uint, unsigned, 4) \
      X(float, float, 4)
#define X(name, type, size)                                              \
  struct alignas(2 * size) name##2 {                                     \
    type x, y;                                                           \
  };                                                                     \
  struct alignas(4 * size) name##4 {                                     \
    type x, y, z, w;                                                     \
  };                                                                     \
  struct name##3 {                                                       \
    type x, y, z;                                                        \
  };                                                                     \
  static inline name##2 make_##name##2(type x, type y) {                 \
    return {x, y};                                                       \
  }                                                                      \
  static inline name##4 make_##name##4(type x, type y, type z, type w) { \
    return {x, y, z, w};                                                 \
  }
EMULATION_VECTORS(X)
#undef X
struct dim3 {
  unsigned x, y, z;
};

/* ---- who runs ---- */
struct emulation_place {
  uint3 thread, block;
  dim3 block_dim, grid_dim;
};
extern "C" const emulation_place *emulation_here; /* of the fiber that runs */
#define threadIdx (emulation_here->thread)
#define blockIdx (emulation_here->block)
#define blockDim (emulation_here->block_dim)
#define gridDim (emulation_here->grid_dim)
#define warpSize 32

/* ---- kernels ---- */
struct emulation_kernel {
  const char *name;
  size_t args_bytes;
  unsigned max_threads;
  void (*call)(const void *args);
  const emulation_kernel *next;
  emulation_kernel(const char *name, size_t args_bytes, unsigned max_threads, void (*call)(const void *));
};
/** The kernel of that name among those linked in, or NULL. */
const emulation_kernel *emulation_find(const char *name);
/** The first of them. */
const emulation_kernel *emulation_kernels();

struct emulation_launch {
  unsigned grid[3], block[3];
  size_t shared_bytes;
};
/** Runs all blocks, one after the other, on the calling thread. @return false, and says why, where a GPU would fail */
bool emulation_run(const emulation_kernel *kernel, const emulation_launch *launch, const void *args, char *why,
                   size_t why_bytes);
/** Ends the launch with a report: the thread's fault, as a printf format. Does not return. */
[[noreturn]] void emulation_fault(const char *format, ...) __attribute__((format(printf, 1, 2)));

#define CUDA_KERNEL(name, args_type, threads, blocks)                                                                \
  static void name(const args_type args);                                                                            \
  static const emulation_kernel name##_entry(#name, sizeof(args_type), threads,                                      \
                                             [](const void *args) { name(*static_cast<const args_type *>(args)); }); \
  static void name([[maybe_unused]] const args_type args)

/* ---- shared memory ---- */
/** The block's piece for `key`, made and poisoned by the first thread that asks. */
void *emulation_shared(const void *key, size_t bytes);
void *emulation_dynamic_shared();
#define CUDA_SHARED(type, name, count) \
  static const char name##_key = 0;    \
  type(&name)[count] = *static_cast<type(*)[count]>(emulation_shared(&name##_key, sizeof(type) * (count)))
#define CUDA_DYNAMIC_SHARED(name) unsigned char *const name = static_cast<unsigned char *>(emulation_dynamic_shared())
/** Faults unless [p, p + bytes) is the block's shared memory, p aligned to `alignment`. */
void emulation_check_shared(const void *p, size_t bytes, size_t alignment, const char *what);

/* ---- meeting others ---- */
/** All lanes of `mask` that have not exited meet; the last one calls `act` with what each brought (NULL: not there). */
typedef void (*emulation_act)(void *const brought[32]);
void emulation_meet(const char *what, emulation_act act, unsigned mask, void *bring);
/** The same for what the whole warp does, none of it exited. */
void emulation_meet_all(const char *what, emulation_act act, void *bring);
enum emulation_vote { EMULATION_PLAIN, EMULATION_OR, EMULATION_AND, EMULATION_COUNT };
int emulation_barrier(emulation_vote vote, int predicate);
unsigned emulation_lane();

static inline void __syncthreads() {
  emulation_barrier(EMULATION_PLAIN, 0);
}
static inline int __syncthreads_or(int predicate) {
  return emulation_barrier(EMULATION_OR, predicate);
}
static inline int __syncthreads_and(int predicate) {
  return emulation_barrier(EMULATION_AND, predicate);
}
static inline int __syncthreads_count(int predicate) {
  return emulation_barrier(EMULATION_COUNT, predicate);
}
static inline void emulation_nothing(void *const *) {}
static inline void __syncwarp(unsigned mask = 0xffffffffu) {
  emulation_meet("__syncwarp", emulation_nothing, mask, &mask);
}
static inline void __threadfence() {}
static inline void __threadfence_block() {}

template <class T>
struct emulation_shuffle {
  T value, result;
  int source; /* lane, or -1: its own */
};
/* A lane that is not there gives poison: the hardware's answer is undefined. */
template <class T>
static void emulation_shuffle_act(void *const brought[32]) {
  for (int lane = 0; lane < 32; lane++) {
    if (!brought[lane]) continue;
    auto *mine = static_cast<emulation_shuffle<T> *>(brought[lane]);
    int source = mine->source < 0 ? lane : mine->source;
    if (brought[source])
      mine->result = static_cast<emulation_shuffle<T> *>(brought[source])->value;
    else
      memset(&mine->result, EMULATION_POISON, sizeof mine->result);
  }
}
template <class T>
static inline T emulation_exchange(const char *what, unsigned mask, T value, int source) {
  emulation_shuffle<T> mine = {value, value, source};
  emulation_meet(what, emulation_shuffle_act<T>, mask, &mine);
  return mine.result;
}
template <class T>
static inline T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  int lane = (int)emulation_lane();
  return emulation_exchange("__shfl_sync", mask, value, (lane & ~(width - 1)) | (source & (width - 1)));
}
template <class T>
static inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
  int lane = (int)emulation_lane(), source = lane ^ bits;
  return emulation_exchange("__shfl_xor_sync", mask, value, source > (lane | (width - 1)) ? -1 : source);
}
template <class T>
static inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  int lane = (int)emulation_lane(), source = lane - (int)delta;
  return emulation_exchange("__shfl_up_sync", mask, value, source < (lane & ~(width - 1)) ? -1 : source);
}
template <class T>
static inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  int lane = (int)emulation_lane(), source = lane + (int)delta;
  return emulation_exchange("__shfl_down_sync", mask, value, source > (lane | (width - 1)) ? -1 : source);
}

/** The lanes of `mask` whose predicate is not 0. */
unsigned emulation_ballot(const char *what, unsigned mask, int predicate);
static inline unsigned __ballot_sync(unsigned mask, int predicate) {
  return emulation_ballot("__ballot_sync", mask, predicate);
}
static inline int __any_sync(unsigned mask, int predicate) {
  return emulation_ballot("__any_sync", mask, predicate) != 0;
}
static inline int __all_sync(unsigned mask, int predicate) {
  return emulation_ballot("__all_sync", mask, !predicate) == 0;
}

/* ---- the wrappers of cuda_wrap.cuh ---- */
void cp_async16_part(void *shared, const void *global, int bytes);
static inline void cp_async16(void *shared, const void *global) {
  cp_async16_part(shared, global, 16);
}
void cp_commit();
void emulation_cp_wait(int newest);
template <int n>
static inline void cp_wait() {
  emulation_cp_wait(n);
}
void ldmatrix_x4(unsigned r[4], const void *row);
void ldmatrix_x2(unsigned r[2], const void *row);
void mma_s8_8816(int c[2], unsigned a, unsigned b);
void mma_s8_16832(int c[4], const unsigned a[4], const unsigned b[2]);
unsigned cvt_f16_bits(float x);
float cvt_f16_value(unsigned bits);

/* ---- memory ---- */
template <class T>
static inline const T *emulation_aligned(const T *p) {
  if ((uintptr_t)p % sizeof(T))
    emulation_fault("a load or store of %zu bytes at %p is misaligned", sizeof(T), (const void *)p);
  return p;
}
template <class T>
static inline T __ldg(const T *p) {
  return *emulation_aligned(p);
}
template <class T>
static inline T __ldcs(const T *p) {
  return *emulation_aligned(p);
}
template <class T>
static inline T __ldcg(const T *p) {
  return *emulation_aligned(p);
}
template <class T>
static inline void __stcs(T *p, T value) {
  *const_cast<T *>(emulation_aligned(p)) = value;
}
template <class T>
static inline void __stcg(T *p, T value) {
  *const_cast<T *>(emulation_aligned(p)) = value;
}

#define EMULATION_ATOMIC(name, result)                           \
  template <class T, class U>                                    \
  static inline T name(T *p, U with) {                           \
    static_assert(T(1) / T(2) == T(0), "integers only");         \
    T old = *emulation_aligned(p), value = static_cast<T>(with); \
    *p = result;                                                 \
    return old;                                                  \
  }
EMULATION_ATOMIC(atomicAdd, static_cast<T>(old + value))
EMULATION_ATOMIC(atomicMin, value < old ? value : old)
EMULATION_ATOMIC(atomicMax, value > old ? value : old)
EMULATION_ATOMIC(atomicOr, old | value)
EMULATION_ATOMIC(atomicAnd, old &value)
EMULATION_ATOMIC(atomicExch, value)
template <class T>
static inline T atomicCAS(T *p, T compare, T value) {
  T old = *emulation_aligned(p);
  if (old == compare) *p = value;
  return old;
}

/* ---- numbers ---- */
static inline unsigned __float_as_uint(float x) {
  unsigned bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}
static inline float __uint_as_float(unsigned bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}
static inline int __float_as_int(float x) {
  return (int)__float_as_uint(x);
}
static inline float __int_as_float(int bits) {
  return __uint_as_float((unsigned)bits);
}
static inline float __fmul_rn(float a, float b) {
  return a * b;
}
static inline float __fadd_rn(float a, float b) {
  return a + b;
}
static inline float __fsub_rn(float a, float b) {
  return a - b;
}
static inline float __int2float_rn(int i) {
  return (float)i;
}
static inline float __uint2float_rn(unsigned i) {
  return (float)i;
}
static inline int __float2int_rn(float x) {
  return (int)rintf(x);
}
static inline int __popc(unsigned x) {
  return __builtin_popcount(x);
}
static inline int __clz(int x) {
  return x ? __builtin_clz((unsigned)x) : 32;
}
static inline int __ffs(int x) {
  return __builtin_ffs(x);
}
static inline unsigned __umulhi(unsigned a, unsigned b) {
  return (unsigned)(((uint64_t)a * b) >> 32);
}
unsigned __byte_perm(unsigned a, unsigned b, unsigned selector);
int __dp4a(int a, int b, int c);
static inline int min(int a, int b) {
  return a < b ? a : b;
}
static inline int max(int a, int b) {
  return a > b ? a : b;
}
static inline unsigned min(unsigned a, unsigned b) {
  return a < b ? a : b;
}
static inline unsigned max(unsigned a, unsigned b) {
  return a > b ? a : b;
}
static inline float min(float a, float b) {
  return fminf(a, b);
}
static inline float max(float a, float b) {
  return fmaxf(a, b);
}

#endif
