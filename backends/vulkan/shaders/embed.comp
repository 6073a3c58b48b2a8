#version 450
// SPDX-License-Identifier: Apache-2.0
/* The row of a token, or the row given with the pass: thread per value, axis y over rows. A table larger than an
   operand is cut into ranges of tokens, one dispatch each; rows that are given belong to the first. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

#include "positions.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint IS_F16 = 0;
layout(constant_id = 2) const uint HAS_SCALE = 0;
layout(constant_id = 3) const uint HAS_POSITIONS = 0;
OPERAND(0, writeonly, float, to)
OPERAND(1, readonly, uint, table)
OPERAND(2, readonly, float, scale)
OPERAND(3, readonly, float, positions)
#define WIDTH push.own[2]
#define FIRST_TOKEN push.own[3] /* tokens [first, end) are here */
#define END_TOKEN push.own[4]
#define ROW_WORDS push.own[5]
#define N_POSITIONS push.own[6]
#define OFFSET push.own[7]
#define CONSTANT uintBitsToFloat(push.own[8])

float table_value(uint token, uint i) {
  uint row = FIRST(1) + (token - FIRST_TOKEN) * ROW_WORDS;
  if (IS_F16 != 0u) return half_value(table[row + (i >> 1)], i);
  return float(byte_value(table[row + (i >> 2)], i));
}

void main() {
  uint row = group_y(), i = gl_GlobalInvocationID.x;
  if (row >= rows_of_pass() || i >= WIDTH) return;
  uint token = step_word[step_word[STEP_TOKEN] + row], at = FIRST(0) + row * WIDTH + i;
  if (int(token) < 0) {
    if (FIRST_TOKEN == 0u)
      to[at] = tidy_found(uintBitsToFloat(step_word[step_word[STEP_EMBEDDING] + row * WIDTH + i]));
    return;
  }
  if (token < FIRST_TOKEN || token >= END_TOKEN) return;
  precise float v = table_value(token, i) * scale[FIRST(2) + token];
  if (HAS_SCALE != 0u) v = v * CONSTANT;
  if (HAS_POSITIONS != 0u) v = v + positions[FIRST(3) + position_row(row, OFFSET, N_POSITIONS) * WIDTH + i];
  to[at] = tidy_found(v);
}
