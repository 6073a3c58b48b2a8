#version 450
// SPDX-License-Identifier: Apache-2.0
/* A workgroup per row (axis y): NORM (axis x: its groups), QUANTIZE, or a sequence that ends with it. What threads of
   the row read of each other goes through memory, as it does between dispatches. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

#include "activation.glsl"
#include "lanesum.glsl"
#include "quantized.glsl"
#include "row.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 2) const uint BEFORE = 0; /* row.glsl */
layout(constant_id = 3) const uint QUANTIZES = 0;
layout(constant_id = 4) const uint RULE = 0; /* otr_rule_kind */
layout(constant_id = 5) const uint IS_LAYER = 0;
layout(constant_id = 6) const uint HAS_BIAS = 0;
layout(constant_id = 7) const uint GROUP_GAINS = 0;
OPERAND(0, coherent, float, to)
OPERAND(1, readonly, float, x)   /* of a GLU: gate */
OPERAND(1, coherent, float, sum) /* x, where it is written, too */
OPERAND(2, readonly, float, gain)
OPERAND(2, readonly, float, up)
OPERAND(3, readonly, float, bias)
OPERAND(4, readonly, float, y)
OPERAND(5, writeonly, uint, quantized)
OPERAND(6, writeonly, uint, list)
#define WIDTH push.own[2]
#define ROW_WORDS push.own[3] /* of q */
#define FIRST_Q push.own[4]
#define LANE_WORDS push.own[5]
#define RULE_VALUE uintBitsToFloat(push.own[6])
#define INV_WIDTH uintBitsToFloat(push.own[7])
#define EPS uintBitsToFloat(push.own[8])
#define GROUPS push.own[9]
#define NORM_LAYER push.own[10] /* as OP_LAYER, which is the first operation's */

#include "norm.glsl"
#include "quantize.glsl"

void add_row(uint row) {
  for (uint i = gl_LocalInvocationIndex; i < WIDTH; i += gl_WorkGroupSize.x) {
    uint at = row * WIDTH + i;
    precise float s = sum[FIRST(1) + at] + y[FIRST(4) + at];
    sum[FIRST(1) + at] = tidy_found(s);
  }
}

void activate_row(uint row) {
  for (uint i = gl_LocalInvocationIndex; i < WIDTH; i += gl_WorkGroupSize.x) {
    uint at = row * WIDTH + i;
    precise float v = activate(x[FIRST(1) + at]);
    if (BEFORE == ROW_GLU) v = v * up[FIRST(2) + at];
    to[FIRST(0) + at] = tidy_found(v);
  }
}

/** All threads see what each has written. */
void share_row() {
  memoryBarrierBuffer();
  barrier();
}

void main() {
  uint row = group_y();
  if (row >= rows_of_pass()) return;
  if (BEFORE == ROW_ADD_NORM) {
    add_row(row);
    share_row();
  }
  if (BEFORE == ROW_NORM || BEFORE == ROW_ADD_NORM) norm_row(row * GROUPS + gl_WorkGroupID.x);
  if (BEFORE == ROW_ACT || BEFORE == ROW_GLU) activate_row(row);
  if (QUANTIZES == 0u) return;
  if (BEFORE != ROW_NOTHING) share_row();
  quantize_row(row);
}
