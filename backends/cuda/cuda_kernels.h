// SPDX-License-Identifier: Apache-2.0
/* The one list of kernels: feeds the module tables, the emulation and the launch names. */
#ifndef OTR_CUDA_KERNELS_H
#define OTR_CUDA_KERNELS_H

/* name (the kernel is otr_<name>), most bytes of dynamic shared memory */
#define CUDA_KERNEL_LIST(X) \
  X(embed, 0)               \
  X(position, 0)            \
  X(norm, 0)                \
  X(quantize, 0)            \
  X(round16, 0)             \
  X(linear_stream, 0)       \
  X(linear_tile, 0)         \
  X(linear16, 0)            \
  X(rope_kv, 0)             \
  X(attention_chunk, 0)     \
  X(attention_merge, 0)     \
  X(glu, 0)                 \
  X(act, 0)                 \
  X(add, 0)                 \
  X(select, 0)              \
  X(copy, 0)

#endif
