// SPDX-License-Identifier: Apache-2.0
/* A Vulkan loader between the runtime and libvulkan.so.1 that fails and lies on demand. OUTRIDER_VULKAN_DRIVER names
 * it; its counters and switches are the exported `vulkan_shim`. */
#ifndef TESTS_VULKAN_SHIM_H
#define TESTS_VULKAN_SHIM_H

#include <stdatomic.h>

typedef struct vulkan_shim_state {
  /* Switches; the environment sets the first two when the library is loaded: OUTRIDER_SHIM_RANGE=bytes,
   * OUTRIDER_SHIM_DISCRETE=1. */
  atomic_long range;    /* maxStorageBufferRange; 0: the driver's own */
  atomic_int discrete;  /* a discrete GPU: its own memory is not mapped, and it has no memory of the host */
  atomic_int wrong_dot; /* integer dot products are something else */
  atomic_int wrong_add; /* f32 sums are off by a rounding */
  atomic_int wrong_glu; /* a GLU that is quantized in one dispatch has another activation */
  atomic_long fail_allocation, fail_submit; /* the call (from 1) that finds no memory, or the device lost; 0: none */
  atomic_int fail_fence;                    /* 1: waiting finds the device lost */
  void (*on_submit)(void);                  /* called at every submission; NULL: nothing */
  /* Counters. */
  atomic_long allocations, submits;                           /* calls */
  atomic_long memories, buffers, pipelines, pools, fences;    /* objects that there are */
  atomic_long pipelines_made, sets_written, buffers_recorded; /* calls */
} vulkan_shim_state;

#endif
