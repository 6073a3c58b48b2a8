// SPDX-License-Identifier: Apache-2.0
/* Stored values to f32 (contract, section 2): f16 with its subnormals, bf16 and f32 as they are; block formats with
 * exact products and one f32 rounding of the sum. */
#ifndef OTR_DEQUANTIZE_H
#define OTR_DEQUANTIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** @return true for F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K and Q6_K. */
bool otr_dequantize_supported(uint32_t ggml_type);

/** Writes `n` values (a multiple of the type's block) of a supported type.
 *  @param in unaligned is allowed
 *  @return true; false when a value is infinite or NaN (everything is written all the same). */
bool otr_dequantize_row(float *out, const void *in, uint32_t ggml_type, size_t n);

/** The exact value of IEEE binary16 bits: subnormals, Inf and NaN, too (otr_f16_value is the contract's f16). */
float otr_f16_exact(uint16_t bits);

#endif
