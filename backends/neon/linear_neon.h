// SPDX-License-Identifier: Apache-2.0
/* The linear kernels of the NEON variants, entries of otr_cpu_kernels (backends/cpu/kernels.h says what they compute).
 *
 *   plain    every 64-bit Arm: SMULL, SMLAL2, SADALP
 *   dotprod  SDOT
 *   i8mm     SMMLA where there are rows enough, else SDOT */
#ifndef OTR_LINEAR_NEON_H
#define OTR_LINEAR_NEON_H

#include "kernels.h"

#define OTR_LINEAR_NEON(isa)                                                                                           \
  void otr_linear_##isa(otr_found *found, float *y, size_t y_stride, const otr_quantized *x, const otr_host_weight *w, \
                        int32_t m, int32_t n0, int32_t n1, void *scratch);                                             \
  size_t otr_linear_scratch_##isa(int32_t k);
OTR_LINEAR_NEON(plain)
OTR_LINEAR_NEON(dotprod)
OTR_LINEAR_NEON(i8mm)
#undef OTR_LINEAR_NEON

void otr_linear16_neon(otr_found *found, float *y, size_t y_stride, const otr_rounded *x, const otr_host_weight *w,
                       int32_t m, int32_t n0, int32_t n1, void *scratch);

#endif
