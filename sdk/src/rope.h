// SPDX-License-Identifier: Apache-2.0
/* RoPE's tables, by the one function that every backend's cos and sin come from (contract, section 1 "RoPE tables"):
 * double, add, multiply and divide only, so that no libm has a say. */
#ifndef OTR_ROPE_H
#define OTR_ROPE_H

#include <stdint.h>

/** inverse[j] = theta^(-2j / n_rot) / factors[j] for j < n_rot / 2.
 *  @param theta finite, > 0
 *  @param factors [n_rot / 2] or NULL (1 everywhere); finite, not 0 */
void otr_rope_inverse(double *inverse, double theta, int32_t n_rot, const float *factors);

/** cos and sin of position * inverse[j], times `attention_factor` (1: none) before the one rounding to f32.
 *  @param cos, sin [half] */
void otr_rope_row(float *cos, float *sin, const double *inverse, int32_t half, int32_t position,
                  double attention_factor);

/** The divisors of llama3's scaling (Llama 3.1's config: factor, low_freq_factor, high_freq_factor,
 *  original_max_position_embeddings), in double, rounded to f32. @param factors [n_rot / 2] */
void otr_rope_llama3(float *factors, double theta, int32_t n_rot, double factor, double low, double high,
                     double original_context);

/** The divisors of YaRN's scaling (Peng et al. 2023, section 3.2, as transformers and llama.cpp compute it), in double,
 *  rounded to f32. @param theta > 1 @param factors [n_rot / 2]
 *  @return its attention factor: 0.1 ln(factor) + 1. */
double otr_rope_yarn(float *factors, double theta, int32_t n_rot, double factor, double beta_fast, double beta_slow,
                     double original_context);

/** ALiBi's slopes (Press et al. 2021): 2^(-largest (i + 1) / n) where n heads are a power of two; else those of the
 *  power of two below, then every other one of the power above. Times `scale`, in double, rounded once to f32.
 *  @param slopes [n_heads] */
void otr_alibi_slopes(float *slopes, int32_t n_heads, double largest, double scale);

#endif
