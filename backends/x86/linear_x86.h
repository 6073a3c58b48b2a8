// SPDX-License-Identifier: Apache-2.0
/* The linear kernels of each x86 ISA, entries of otr_cpu_kernels (backends/cpu/kernels.h says what they compute).
 *
 *   avx512vnni   AVX-512 F, BW, DQ, VL and VNNI, F16C, FMA
 *   avxvnni      AVX2, AVX-VNNI (256 bits, VEX), F16C, FMA
 *   avxvnni_evex the same source in its EVEX form (AVX-512 VNNI + VL): lets a machine without AVX-VNNI test it
 *   avx2         AVX2, F16C, FMA */
#ifndef OTR_LINEAR_X86_H
#define OTR_LINEAR_X86_H

#include "kernels.h"

#define OTR_STREAMS_AVX512 4 /* otr_cpu_kernels.streams */

#define OTR_LINEAR_X86(isa)                                                                                            \
  void otr_linear_##isa(otr_found *found, float *y, size_t y_stride, const otr_quantized *x, const otr_host_weight *w, \
                        int32_t m, int32_t n0, int32_t n1, void *scratch);                                             \
  size_t otr_linear_scratch_##isa(int32_t k);                                                                          \
  void otr_linear16_##isa(otr_found *found, float *y, size_t y_stride, const otr_rounded *x, const otr_host_weight *w, \
                          int32_t m, int32_t n0, int32_t n1, void *scratch);
OTR_LINEAR_X86(avx512vnni)
OTR_LINEAR_X86(avxvnni)
OTR_LINEAR_X86(avxvnni_evex)
OTR_LINEAR_X86(avx2)

#endif
