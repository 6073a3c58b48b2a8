// SPDX-License-Identifier: Apache-2.0
/* Device memory as the CUDA backend holds it. */
#ifndef OTR_CUDA_BUFFER_H
#define OTR_CUDA_BUFFER_H

#include "ops.h"

struct otr_buffer {
  uint64_t device; /* address of memory that the GPU caches; 0: there is only `mapped` */
  uint64_t mapped; /* address of registered host memory, which the GPU of a Jetson reads uncached; 0: none */
  void *host;      /* the registered memory itself, or NULL */
  size_t bytes;
};

/** Device address of a reference for kernels that read it more than once, or write it; 0: absent. */
static inline uint64_t cuda_address(otr_ref ref) {
  if (!ref.buffer) return 0;
  return (ref.buffer->device ? ref.buffer->device : ref.buffer->mapped) + ref.offset;
}

/** The same for a kernel that streams through it once: a decode's weights. */
static inline uint64_t cuda_address_streamed(otr_ref ref) {
  if (!ref.buffer) return 0;
  return (ref.buffer->mapped ? ref.buffer->mapped : ref.buffer->device) + ref.offset;
}

#endif
