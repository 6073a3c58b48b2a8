// SPDX-License-Identifier: Apache-2.0
/* What the shaders of LINEAR16 share. Products of two f16 are exact in f32: an fma gives the same bits. */
#ifndef OTR_VULKAN_LINEAR16_PARTS
#define OTR_VULKAN_LINEAR16_PARTS

layout(constant_id = 1) const uint HAS_BIAS = 0;

OPERAND(0, writeonly, float, y)
OPERAND(1, readonly, uint, x) /* 2^e of each row, and x16 */
OPERAND(2, readonly, uint, w) /* rows [n0, n1) of the weight */
OPERAND(3, readonly, float, scale)
OPERAND(4, readonly, float, bias)

#define N push.own[2]
#define N_FIRST push.own[3]
#define N_HERE push.own[4]
#define K16 push.own[5]         /* inputs, in sixteens */
#define STRIDE_WORDS push.own[6] /* of the weight's rows */
#define FIRST_X16 push.own[7]   /* words from the layout's begin to x16, whose rows are K16 sixteens */

/** lane + x16 * W16 of two neighbouring inputs and their lanes. */
vec2 pair_step(vec2 lanes, uint x16, uint w16) {
  precise vec2 sum = fma(pair_value(x16), vec2(otr_f16_value(w16 & 0xffffu), otr_f16_value(w16 >> 16)), lanes);
  return sum;
}

/** y[row, n] of the sixteen lanes, as pairs. */
void put_result(uint row, uint n, vec2 lane[8]) {
  for (uint h = 4u; h > 0u; h /= 2u)
    for (uint i = 0u; i < h; i++) {
      precise vec2 sum = lane[i] + lane[i + h];
      lane[i] = sum;
    }
  precise float v = lane[0].x + lane[0].y;
  v = v * OTR_FLOAT(x[FIRST(1) + row]);
  v = v * scale[FIRST(3) + n];
  if (HAS_BIAS != 0u) v = v + bias[FIRST(4) + n];
  y[FIRST(0) + row * N + n] = tidy_found(v);
}

#endif
