// SPDX-License-Identifier: Apache-2.0
/* The one list of kernels: feeds the module tables, the emulation and the launch names. */
#ifndef OTR_CUDA_KERNELS_H
#define OTR_CUDA_KERNELS_H

#include "kernels/args.h"

#define CUDA_MAX_HEAD_DIM 1024

/* name (the kernel is otr_<name>), most bytes of dynamic shared memory */
#define CUDA_KERNEL_LIST(X)                      \
  X(embed, 0)                                    \
  X(position, 0)                                 \
  X(norm, 0)                                     \
  X(quantize, 0)                                 \
  X(round16, 0)                                  \
  X(linear_stream1, 0)                           \
  X(linear_stream2, 0)                           \
  X(linear_stream4, 0)                           \
  X(linear_stream8, 0)                           \
  X(linear_union, 0)                             \
  X(linear_tile64, CUDA_TILE64_SHARED)           \
  X(linear_tile128, CUDA_TILE128_SHARED)         \
  X(linear16_1, 0)                               \
  X(linear16_8, 0)                               \
  X(rope_kv, 0)                                  \
  X(attention_chunk, CUDA_MAX_HEAD_DIM * 4)      \
  X(attention_chunk8, CUDA_MAX_HEAD_DIM * 4 * 8) \
  X(attention_merge, 0)                          \
  X(numerics, 0)                                 \
  X(norm_quantize, 0)                            \
  X(glu_quantize, 0)                             \
  X(glu, 0)                                      \
  X(act, 0)                                      \
  X(add, 0)                                      \
  X(select, 0)                                   \
  X(copy, 0)

#endif
