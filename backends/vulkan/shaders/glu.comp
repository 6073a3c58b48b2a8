#version 450
// SPDX-License-Identifier: Apache-2.0
/* out = tidy(act(gate) * up), of an ACT without up: thread per value, axis y over rows. out may be gate or up. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

#include "activation.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 2) const uint HAS_UP = 1;
OPERAND(0, , float, to)
OPERAND(1, readonly, float, gate)
OPERAND(2, readonly, float, up)
#define WIDTH push.own[2]

void main() {
  uint row = group_y(), i = gl_GlobalInvocationID.x;
  if (row >= rows_of_pass() || i >= WIDTH) return;
  uint at = row * WIDTH + i;
  precise float product = activate(gate[FIRST(1) + at]);
  if (HAS_UP != 0u) product = product * up[FIRST(2) + at];
  to[FIRST(0) + at] = tidy_found(product);
}
