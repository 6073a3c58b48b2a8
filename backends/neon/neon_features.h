// SPDX-License-Identifier: Apache-2.0
/* What the CPU can do, as the operating system tells it. */
#ifndef OTR_NEON_FEATURES_H
#define OTR_NEON_FEATURES_H

#include <stddef.h>
#include <stdint.h>

enum { OTR_NEON_ASIMD = 1 << 0, OTR_NEON_DOTPROD = 1 << 1, OTR_NEON_I8MM = 1 << 2 };

uint32_t otr_neon_features(void);
/** Writes why not all of `needed` are in `present`, for the first that is missing; "" when they are. */
void otr_neon_missing(uint32_t needed, uint32_t present, char *reason, size_t reason_bytes);
/** Names the CPU's maker and part as far as they are known here; "64-bit Arm CPU" otherwise. */
void otr_neon_brand(char *out, size_t out_bytes);

#endif
