// SPDX-License-Identifier: Apache-2.0
/* Linears with SDOT. */
#include <arm_neon.h>

#define ISA dotprod
#define TILE_ROWS 4
static inline int32x4_t dot(int32x4_t a, int8x16_t w, int8x16_t x) {
  return vdotq_s32(a, w, x);
}

#include "linear_rows.inc"
