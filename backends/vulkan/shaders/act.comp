#version 450
// SPDX-License-Identifier: Apache-2.0
/* out = tidy(act(x)): thread per value, axis y over rows. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

#include "activation.glsl"

layout(local_size_x_id = 0) in;
OPERAND(0, , float, to)
OPERAND(1, readonly, float, x)
#define WIDTH push.own[2]

void main() {
  uint row = group_y(), i = gl_GlobalInvocationID.x;
  if (row >= rows_of_pass() || i >= WIDTH) return;
  uint at = row * WIDTH + i;
  to[FIRST(0) + at] = tidy_found(activate(x[FIRST(1) + at]));
}
