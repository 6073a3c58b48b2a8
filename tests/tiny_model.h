// SPDX-License-Identifier: Apache-2.0
/* For tests: a small llama model with seeded values, the same bytes on every machine. Its linears' inputs have outlier
 * features (large gains, large gate rows), its widths are no multiples of 16, it has grouped heads and a byte-level
 * vocabulary (SentencePiece, 256 byte tokens, letters, some words). */
#ifndef TINY_MODEL_H
#define TINY_MODEL_H

#include "llama_gguf.h"

/** dim 72 (6 heads of 12, 2 KV heads), ffn 100, 3 layers, 320 tokens, context 1024, tied head. Change what you like,
 * but vocab stays. */
llama_shape tiny_model_shape(void);
otr_status tiny_model_write(const char *path, const llama_shape *shape, uint64_t seed);
/** About normal with variance 1/3: the mean of four uniform values in (-1, 1), times 2; every step is exact. */
float tiny_model_value(uint64_t *state);

#endif
