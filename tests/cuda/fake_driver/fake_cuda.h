// SPDX-License-Identifier: Apache-2.0
/* What tests say to and ask of the fake libcuda.so.1, beyond the driver's own functions. C and C++; a test finds these
 * in the library that it loaded.
 *
 * The fake has one or two devices like a Jetson's (sm_87), and runs kernels by the emulation. Work in a stream is done
 * when someone waits for it, never before, with the memory's contents of then; device memory starts as poison. The
 * environment variable OUTRIDER_FAKE_CUDA describes it, words apart by blanks or commas, read when cuInit is called:
 *   sm=87 driver=12060 devices=1 integrated=1 memory=8000000000 (bytes) register=1 register_readonly=1 uuid=1
 *   slow=0 (microseconds that a call waits before it begins)
 *   init=0 (what cuInit returns) fail=ENTRY:N:ERROR (the N-th call of an entry point, 1 the first, returns ERROR; ENTRY
 * "any": of all; "run": the N-th kernel; ERROR >= 700 sticks to the context) quiet=1 (a fault of a kernel is not
 * printed) */
#ifndef FAKE_CUDA_H
#define FAKE_CUDA_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fake_cuda_counts {
  uint64_t calls, allocations;       /* of every entry point; cuMemAlloc and cuMemAllocHost that were tried */
  uint64_t launches, graph_launches; /* kernels that ran; cuGraphLaunch */
  uint64_t device_bytes, device_peak, pinned_bytes, registered_bytes; /* held now; at most */
  uint64_t contexts, modules, streams, events, graphs;                /* held now: retained, loaded, created */
} fake_cuda_counts;

/** Counts since the last fake_cuda_begin. */
void fake_cuda_count(fake_cuda_counts *counts);
/** Things that the caller has not given back: all of "held now" added, 0 when nothing is held. */
uint64_t fake_cuda_held(void);
/** Sets calls, allocations and launches to 0 and forgets fail_at. */
void fake_cuda_begin(void);
/** As `fail=` of the environment variable; entry NULL: any. */
void fake_cuda_fail_at(const char *entry, uint64_t nth, int error);
/** Name of the entry point that the n-th call since fake_cuda_begin used, 1 the first; NULL: there was none. */
const char *fake_cuda_call(uint64_t nth);
/** What was wrong with the kernel that failed last; "" where none did. */
const char *fake_cuda_fault(void);
/** Names of the emulated kernels, one after the other; NULL after the last. */
const char *fake_cuda_kernel(int index);

#ifdef __cplusplus
}
#endif

#endif
