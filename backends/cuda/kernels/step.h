// SPDX-License-Identifier: Apache-2.0
/* What a pass tells the kernels, and what they tell back: in device memory, so that a captured graph is launched
 * unchanged for every token. Included by C and CUDA alike; addresses are the device's. */
#ifndef OTR_CUDA_STEP_H
#define OTR_CUDA_STEP_H

#include <stdint.h>

/* The step block's head. Its arrays lie behind it in the same piece of memory. */
struct cuda_step {
  int32_t n_rows, n_logits;
  int32_t n_sequences;
  int32_t max_table;           /* entries of a sequence in page and chunk: at most the program's max_pages */
  uint64_t token;              /* int32 [n_rows]; < 0: the row comes from `embedding` */
  uint64_t embedding;          /* f32 [n_rows, width], or 0 */
  uint64_t row;                /* int32 [n_rows, 2]: sequence, position */
  uint64_t row_page;           /* uint64 [n_rows]: address of the KV page that the row's own position lies in */
  uint64_t n_pages;            /* int32 [n_sequences]: pages of a sequence that are there (not dropped) */
  uint64_t page;               /* uint64 [n_sequences, max_table]: their addresses, by ascending position */
  uint64_t chunk;              /* int32 [n_sequences, max_table]: and their places: position / 256 */
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
