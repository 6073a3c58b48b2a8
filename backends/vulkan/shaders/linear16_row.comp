#version 450
// SPDX-License-Identifier: Apache-2.0
/* LINEAR16 on drivers without a GPU: a thread per output, one row (axis y), no barrier. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

#include "linear16_parts.glsl"

layout(local_size_x_id = 0) in;

void main() {
  uint n = gl_GlobalInvocationID.x, row = group_y();
  if (n >= N_HERE || row >= rows_of_pass()) return;
  uint at = FIRST(2) + n * STRIDE_WORDS, x_at = FIRST(1) + FIRST_X16 + row * K16 * 8u;
  vec2 lane[8];
  for (uint j = 0u; j < 8u; j++) lane[j] = vec2(0.0);
  for (uint i = 0u; i < K16; i++)
    for (uint j = 0u; j < 8u; j++) lane[j] = pair_step(lane[j], x[x_at + 8u * i + j], w[at + 8u * i + j]);
  put_result(row, N_FIRST + n, lane);
}
