// SPDX-License-Identifier: Apache-2.0
/* The kernels but for the linears, one set for each ISA (rows.inc, attention.inc); entries of the table of kernels.h.
 */
#ifndef OTR_ROWS_H
#define OTR_ROWS_H

#include "kernels.h"

#define OTR_ATTENTION_ROWS 24 /* with any group whole tiles of 6 and of 3 query rows */

#define OTR_ROWS(isa)                                                                                               \
  void otr_norm_##isa(otr_found *found, float *out, const float *x, const float *gain, const float *bias,           \
                      otr_norm_kind kind, float eps, int32_t width, int32_t n_rows);                                \
  void otr_quantize_##isa(otr_found *found, const otr_quantized *out, const float *x, otr_rule rule, int32_t r0,    \
                          int32_t r1);                                                                              \
  void otr_round16_##isa(const otr_rounded *out, const float *x, int32_t r0, int32_t r1);                           \
  void otr_rope_##isa(otr_found *found, uint16_t *out, const float *x, const float *cos, const float *sin,          \
                      int32_t n_heads, int32_t head_dim, int32_t n_rot);                                            \
  void otr_attention_##isa(otr_found *found, const otr_attend *a, void *scratch);                                   \
  size_t otr_attention_scratch_##isa(int32_t rows, int32_t group, int32_t head_dim, int32_t max_pages);             \
  void otr_glu_##isa(otr_found *found, float *out, const float *gate, const float *up, size_t n, otr_act_kind act); \
  void otr_act_##isa(otr_found *found, float *out, const float *x, size_t n, otr_act_kind act);                     \
  void otr_add_##isa(otr_found *found, float *x, const float *y, size_t n);

/* x86 */
OTR_ROWS(avx2)
OTR_ROWS(avx512)
/* 64-bit Arm */
OTR_ROWS(neon)
#undef OTR_ROWS

#endif
