#version 450
// SPDX-License-Identifier: Apache-2.0
/* x = tidy(x + table[position + offset]): thread per value, axis y over rows. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

#include "positions.glsl"

layout(local_size_x_id = 0) in;
OPERAND(0, , float, x)
OPERAND(1, readonly, float, table)
#define WIDTH push.own[2]
#define N_POSITIONS push.own[3]
#define OFFSET push.own[4]

void main() {
  uint row = group_y(), i = gl_GlobalInvocationID.x;
  if (row >= rows_of_pass() || i >= WIDTH) return;
  uint at = FIRST(0) + row * WIDTH + i;
  precise float sum = x[at] + table[FIRST(1) + position_row(row, OFFSET, N_POSITIONS) * WIDTH + i];
  x[at] = tidy_found(sum);
}
