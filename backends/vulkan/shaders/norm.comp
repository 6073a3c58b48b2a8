#version 450
// SPDX-License-Identifier: Apache-2.0
/* RMSNorm and LayerNorm: a workgroup per row (axis y) and group (axis x). out may be x. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

#include "lanesum.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint IS_LAYER = 0;
layout(constant_id = 2) const uint HAS_BIAS = 0;
layout(constant_id = 3) const uint GROUP_GAINS = 0;
OPERAND(0, , float, to)
OPERAND(1, readonly, float, x)
OPERAND(2, readonly, float, gain)
OPERAND(3, readonly, float, bias)
#define WIDTH push.own[2]
#define GROUPS push.own[3]
#define EPS uintBitsToFloat(push.own[4])
#define INV_WIDTH uintBitsToFloat(push.own[5])

uint row_first; /* of x */

float mean_of_row() {
  precise float sum = 0.0;
  if (gl_LocalInvocationIndex < OTR_LANES_ROW)
    for (uint i = gl_LocalInvocationIndex; i < WIDTH; i += OTR_LANES_ROW) sum = sum + x[row_first + i];
  precise float mean = join_row_lanes(sum) * INV_WIDTH;
  return mean;
}

/** x, or with LayerNorm tidy(x - mean). */
float centered(uint i, float mean) {
  if (IS_LAYER == 0u) return x[row_first + i];
  precise float c = x[row_first + i] - mean;
  return tidy_found(c);
}

void main() {
  uint row = group_y();
  if (row >= rows_of_pass()) return;
  row_first = FIRST(1) + (row * GROUPS + gl_WorkGroupID.x) * WIDTH;
  float mean = IS_LAYER != 0u ? mean_of_row() : 0.0;
  precise float sum = 0.0;
  if (gl_LocalInvocationIndex < OTR_LANES_ROW)
    for (uint i = gl_LocalInvocationIndex; i < WIDTH; i += OTR_LANES_ROW) {
      float c = centered(i, mean);
      precise float square = c * c;
      sum = sum + square;
    }
  precise float s = join_row_lanes(sum) * INV_WIDTH;
  s = s + EPS;
  float r = otr_rsqrt(s);
  uint first = FIRST(0) + (row * GROUPS + gl_WorkGroupID.x) * WIDTH;
  uint gains = FIRST(2) + (GROUP_GAINS != 0u ? gl_WorkGroupID.x * WIDTH : 0u);
  for (uint i = gl_LocalInvocationIndex; i < WIDTH; i += gl_WorkGroupSize.x) {
    precise float y = centered(i, mean) * r;
    y = y * gain[gains + i];
    if (HAS_BIAS != 0u) y = y + bias[FIRST(3) + i];
    to[first + i] = tidy_found(y);
  }
}
