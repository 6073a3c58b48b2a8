#version 450
// SPDX-License-Identifier: Apache-2.0
/* out[i] = x[logits_row[i]]: thread per value, axis y over the selected rows. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(local_size_x_id = 0) in;
OPERAND(0, writeonly, uint, to)
OPERAND(1, readonly, uint, x)
#define WIDTH push.own[2]

void main() {
  uint row = group_y(), i = gl_GlobalInvocationID.x;
  if (row >= step_word[STEP_N_LOGITS] || i >= WIDTH) return;
  uint from = step_word[step_word[STEP_LOGITS_ROW] + row];
  to[FIRST(0) + row * WIDTH + i] = x[FIRST(1) + from * WIDTH + i];
}
