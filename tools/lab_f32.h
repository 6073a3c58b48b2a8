// SPDX-License-Identifier: Apache-2.0
/* The lab's f32 scheme: a llama GGUF's values exactly, everything computed in f32, nothing rounded to f16 or int8. It
 * is what perplexity and KL are compared with, and lies outside the numerical contract. */
#ifndef TOOL_LAB_F32_H
#define TOOL_LAB_F32_H

#include "outrider/outrider.h"

typedef struct lab_f32 lab_f32;

/** @param n_threads 0: one for each core. @param[out] out lab_f32_close on OK; NULL otherwise. */
otr_status lab_f32_open(const char *path, int32_t n_threads, lab_f32 **out);
/** NULL is allowed. */
void lab_f32_close(lab_f32 *lab);
int32_t lab_f32_vocab(const lab_f32 *lab);
/** Runs the layers over ids [n] from position 0. */
otr_status lab_f32_eval(lab_f32 *lab, const int32_t *ids, int32_t n);
/** Logits [count, vocab] of positions first … first + count − 1 of the last eval. */
void lab_f32_logits(lab_f32 *lab, int32_t first, int32_t count, float *logits);

#endif
