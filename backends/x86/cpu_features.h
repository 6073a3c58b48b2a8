// SPDX-License-Identifier: Apache-2.0
/* What the CPU can do and the operating system lets it do. */
#ifndef OTR_CPU_FEATURES_H
#define OTR_CPU_FEATURES_H

#include <stddef.h>
#include <stdint.h>

enum {
  OTR_X86_OS_AVX = 1 << 0, /* the operating system saves ymm, zmm */
  OTR_X86_OS_AVX512 = 1 << 1,
  OTR_X86_AVX2 = 1 << 2,
  OTR_X86_FMA = 1 << 3,
  OTR_X86_F16C = 1 << 4,
  OTR_X86_AVX512 = 1 << 5, /* F, BW, DQ and VL */
  OTR_X86_AVX512_VNNI = 1 << 6,
  OTR_X86_AVX_VNNI = 1 << 7
};

uint32_t otr_x86_features(void);
/** Writes why not all of `needed` are in `present`, for the first that is missing; "" when they are. */
void otr_x86_missing(uint32_t needed, uint32_t present, char *reason, size_t reason_bytes);
/** The CPU's own name, without spaces at its ends; "x86-64 CPU" when it tells none. */
void otr_x86_brand(char *out, size_t out_bytes);

#endif
