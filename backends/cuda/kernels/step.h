// SPDX-License-Identifier: Apache-2.0
/* What a pass tells the kernels, and what they tell back: in device memory, so that a captured graph is launched
 * unchanged for every token. Included by C and CUDA alike; addresses are the device's. */
#ifndef OTR_CUDA_STEP_H
#define OTR_CUDA_STEP_H

#include <stdint.h>

/* The step block's head. Its arrays lie behind it in the same piece of memory. */
struct cuda_step {
  int32_t n_rows, n_logits;
  int32_t max_table;   /* entries of a sequence's page table */
  int32_t reserved;
  uint64_t token;      /* int32 [n_rows]; < 0: the row comes from `embedding` */
  uint64_t embedding;  /* f32 [n_rows, width], or 0 */
  uint64_t row;        /* int32 [n_rows, 2]: sequence, position */
  uint64_t page_table; /* uint64 [n_sequences, max_table]: addresses of KV pages, 0: dropped. Entries beyond the page
                          of a sequence's last row are undefined */
  uint64_t rope_cos, rope_sin; /* f32 [n_rows, n_rot / 2], or 0 */
  uint64_t logits_row;         /* int32 [n_logits] */
};

/* The found block, reset by the host before each pass. Kernels write it with integer atomics. */
struct cuda_found {
  int32_t nonfinite_layer; /* atomicMin of the op's layer; INT32_MAX: none */
  int32_t reserved;
  unsigned long long saturations, outliers; /* atomicAdd */
};

#endif
