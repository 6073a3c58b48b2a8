// SPDX-License-Identifier: Apache-2.0
#include "machine_limits.h"

#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common.h"
#include "parallel.h"
#include "status.h"

#if defined(__x86_64__) || defined(__i386__)
#define X86 1
#include <cpuid.h>
#include <immintrin.h>
#endif

enum { TRIES = 10, CHAINS = 12, MAC_ROUNDS = 1 << 20 };

/* Where measured work ends up, so that no compiler leaves it out. */
static atomic_uint sink;

/* ---- memory ----------------------------------------------------------------------------------------------------- */

typedef uint32_t words __attribute__((vector_size(64), may_alias));
enum { STEP = 8, AHEAD = 32 };

/* Two streams through `n` vectors (a multiple of 2 * STEP), fetched ahead: a little faster than one, and than without
 * prefetching, on the machines it was tried on. */
static inline __attribute__((always_inline)) uint32_t read_streams(const words *memory, size_t n) {
  words sum[STEP] = {{0}};
  const words *a = memory, *b = memory + n / 2;
  for (size_t i = 0; i < n / 2; i += STEP) {
    for (size_t j = 0; j < STEP; j++) {
      __builtin_prefetch(a + i + j + AHEAD);
      __builtin_prefetch(b + i + j + AHEAD);
    }
    for (size_t j = 0; j < STEP; j++) sum[j] ^= a[i + j];
    for (size_t j = 0; j < STEP; j++) sum[j] ^= b[i + j];
  }
  for (int j = 1; j < STEP; j++) sum[0] ^= sum[j];
  return sum[0][0] ^ sum[0][15];
}

#ifdef X86
__attribute__((target("avx512f"))) static uint32_t read_avx512(const words *memory, size_t n) {
  return read_streams(memory, n);
}
__attribute__((target("avx2"))) static uint32_t read_avx2(const words *memory, size_t n) {
  return read_streams(memory, n);
}
#endif
static uint32_t read_plain(const words *memory, size_t n) {
  return read_streams(memory, n);
}

typedef struct read_job {
  uint32_t (*read)(const words *memory, size_t n);
  const words *memory;
  size_t share;  // vectors for one thread
} read_job;

static void read_task(void *context, int32_t i, int32_t worker) {
  const read_job *job = context;
  (void)worker;
  sink = job->read(job->memory + (size_t)i * job->share, job->share);
}

/* ---- multiply-adds ---------------------------------------------------------------------------------------------- */

/* Each runs MAC_ROUNDS rounds of CHAINS independent sums and returns the multiply-adds of one round. The instructions
 * are written out: one compiler's intrinsics copy every sum to another register and back, which halves the figure. */
#ifdef X86
#define EACH_CHAIN(STEP) \
  STEP(0) STEP(1) STEP(2) STEP(3) STEP(4) STEP(5) STEP(6) STEP(7) STEP(8) STEP(9) STEP(10) STEP(11)

__attribute__((target("avx512f,avx512vnni"))) static uint32_t mac_avx512vnni(void) {
#define SUM(j) __m512i s##j = _mm512_setzero_si512();
#define STEP(j) __asm__ volatile("vpdpbusd %2, %1, %0" : "+v"(s##j) : "v"(a), "v"(b));
  const __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(5);
  EACH_CHAIN(SUM)
  for (int i = 0; i < MAC_ROUNDS; i++) {
    EACH_CHAIN(STEP)
  }
#undef SUM
#undef STEP
  return CHAINS * 64;
}

#define SUM(j) __m256i s##j = _mm256_setzero_si256();
__attribute__((target("avx2"))) static uint32_t mac_avxvnni(void) {
#define STEP(j) __asm__ volatile("%{vex%} vpdpbusd %2, %1, %0" : "+x"(s##j) : "x"(a), "x"(b));
  const __m256i a = _mm256_set1_epi8(3), b = _mm256_set1_epi8(5);
  EACH_CHAIN(SUM)
  for (int i = 0; i < MAC_ROUNDS; i++) {
    EACH_CHAIN(STEP)
  }
#undef STEP
  return CHAINS * 32;
}

__attribute__((target("avx2"))) static uint32_t mac_avx2(void) {
#define STEP(j) \
  __asm__ volatile("vpmaddwd %3, %2, %0\n\tvpaddd %0, %1, %1" : "=&x"(product), "+x"(s##j) : "x"(a), "x"(b));
  const __m256i a = _mm256_set1_epi16(3), b = _mm256_set1_epi16(5);
  __m256i product;
  EACH_CHAIN(SUM)
  for (int i = 0; i < MAC_ROUNDS; i++) {
    EACH_CHAIN(STEP)
  }
#undef STEP
  return CHAINS * 16;
}
#undef SUM

static bool has_avxvnni(void) {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __builtin_cpu_supports("avx2") && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & (1u << 4));
}
#endif

static uint32_t mac_plain(void) {
  uint32_t sum[CHAINS], b = atomic_load(&sink) | 5;
  for (uint32_t j = 0; j < CHAINS; j++) sum[j] = j;
  for (int i = 0; i < MAC_ROUNDS; i++) {
    for (int j = 0; j < CHAINS; j++) sum[j] += sum[j] * b;
  }
  for (int j = 1; j < CHAINS; j++) sum[0] ^= sum[j];
  sink = sum[0];
  return CHAINS;
}

typedef struct machine {
  uint32_t (*mac)(void);
  uint32_t (*read)(const words *memory, size_t n);
  const char *instruction;
} machine;

static machine find_machine(void) {
#ifdef X86
  bool avx512 = __builtin_cpu_supports("avx512f");
  if (avx512 && __builtin_cpu_supports("avx512vnni")) {
    return (machine){mac_avx512vnni, read_avx512, "vpdpbusd, 512 bits"};
  }
  if (has_avxvnni()) return (machine){mac_avxvnni, read_avx2, "vpdpbusd, 256 bits"};
  if (__builtin_cpu_supports("avx2")) {
    return (machine){mac_avx2, avx512 ? read_avx512 : read_avx2, "vpmaddwd, 256 bits"};
  }
#endif
  return (machine){mac_plain, read_plain, "32-bit multiply-add in C"};
}

typedef struct mac_job {
  uint32_t (*mac)(void);
  uint32_t macs[1024];  // of a round, by task
} mac_job;

static void mac_task(void *context, int32_t i, int32_t worker) {
  mac_job *job = context;
  (void)worker;
  job->macs[i] = job->mac();
}

/* ---- measuring -------------------------------------------------------------------------------------------------- */

/* Best time of several runs of n tasks. */
static double best_seconds(otr_parallel *parallel, int32_t n, otr_task_fn task, void *job) {
  double best = 1e9;
  otr_parallel_begin(parallel);
  for (int i = 0; i < TRIES; i++) {
    double start = tool_seconds();
    otr_parallel_run(parallel, n, task, job);
    double seconds = tool_seconds() - start;
    best = seconds < best ? seconds : best;
  }
  otr_parallel_end(parallel);
  return best;
}

/* More than four times the last level's cache. */
static size_t buffer_bytes(void) {
  long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
  size_t bytes = (size_t)256 << 20, wanted = cache > 0 ? (size_t)cache * 4 + (16u << 20) : 0;
  if (wanted > bytes) bytes = wanted;
  return bytes < (size_t)1 << 30 ? bytes : (size_t)1 << 30;
}

static otr_status measure_read(otr_parallel *parallel, int32_t n_threads, const machine *m, tool_limits *limits) {
  const size_t unit = sizeof(words) * 2 * STEP * (size_t)n_threads, bytes = buffer_bytes() / unit * unit;
  void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return otr_fail(OTR_STATUS_NO_MEMORY, "%zu bytes to measure memory with", bytes);
  (void)madvise(memory, bytes, MADV_HUGEPAGE);
  memset(memory, 1, bytes);
  read_job job = {m->read, memory, bytes / sizeof(words) / (size_t)n_threads};
  double gbs = 1e-9 * (double)bytes / best_seconds(parallel, n_threads, read_task, &job);
  munmap(memory, bytes);
  if (gbs > limits->read_gbs) limits->read_gbs = gbs;
  return OTR_STATUS_OK;
}

static void measure_mac(otr_parallel *parallel, int32_t n_threads, const machine *m, tool_limits *limits) {
  mac_job job = {.mac = m->mac};
  double seconds = best_seconds(parallel, n_threads, mac_task, &job);
  double gmacs = 1e-9 * (double)job.macs[0] * MAC_ROUNDS * n_threads / seconds;
  if (gmacs > limits->int8_gmacs) limits->int8_gmacs = gmacs;
}

otr_status tool_limits_measure(int32_t n_threads, tool_limits *limits) {
  const machine m = find_machine();
  otr_memory memory;
  otr_parallel *parallel;
  limits->instruction = m.instruction;
  otr_memory_init(&memory, NULL);
  OTR_TRY(otr_parallel_create(&memory, n_threads, NULL, NULL, &parallel));
  otr_status status = measure_read(parallel, n_threads, &m, limits);
  if (status == OTR_STATUS_OK) measure_mac(parallel, n_threads, &m, limits);
  otr_parallel_destroy(parallel);
  return status;
}
