// SPDX-License-Identifier: Apache-2.0
/* Linears with the multiplications of every 64-bit Arm. */
#include <arm_neon.h>

#define ISA plain
#define TILE_ROWS 2 /* the products need registers, too */
/* x is never -128, so that two products fit in an int16: 2 * 127 * 128 = 32512. */
static inline int32x4_t dot(int32x4_t a, int8x16_t w, int8x16_t x) {
  int16x8_t products = vmull_s8(vget_low_s8(w), vget_low_s8(x));
  return vpadalq_s16(a, vmlal_high_s8(products, w, x));
}

#include "linear_rows.inc"
