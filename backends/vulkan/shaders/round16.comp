#version 450
// SPDX-License-Identifier: Apache-2.0
/* x16 = f16(x * 2^-e): a workgroup per row (axis y). Layout: ../vulkan_layout.c. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(local_size_x_id = 0) in;
OPERAND(0, writeonly, uint, to)
OPERAND(1, readonly, float, x)
#define WIDTH push.own[2]
#define ROW_WORDS push.own[3]
#define FIRST_VALUE push.own[4] /* words from the layout's begin to x16; before it 2^e of each row */

shared uint largest;

float scaled(uint at, uint i, float pow2) {
  if (i >= WIDTH) return 0.0;
  precise float v = x[at + i] * pow2;
  return v;
}

void main() {
  uint row = group_y();
  if (row >= rows_of_pass()) return;
  uint at = FIRST(1) + row * WIDTH, most = 0u;
  if (gl_LocalInvocationIndex == 0u) largest = 0u;
  barrier();
  for (uint i = gl_LocalInvocationIndex; i < WIDTH; i += gl_WorkGroupSize.x)
    most = max(most, OTR_BITS(x[at + i]) & OTR_BITS_ABS);
  atomicMax(largest, most);
  barrier();
  int e = outlier_exponent(OTR_FLOAT(largest));
  float pow2 = otr_pow2(-e);
  uint row_words = FIRST(0) + FIRST_VALUE + row * ROW_WORDS;
  for (uint w = gl_LocalInvocationIndex; w < ROW_WORDS; w += gl_WorkGroupSize.x)
    to[row_words + w] = otr_f16_bits(scaled(at, 2u * w, pow2)) | otr_f16_bits(scaled(at, 2u * w + 1u, pow2)) << 16;
  if (gl_LocalInvocationIndex == 0u) to[FIRST(0) + row] = OTR_BITS(otr_pow2(e));
}
