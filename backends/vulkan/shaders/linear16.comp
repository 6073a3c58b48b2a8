#version 450
// SPDX-License-Identifier: Apache-2.0
/* LINEAR16: eight threads of a workgroup of 64 share an output, two lanes each; up to ROWS rows (axis y) at a time. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

#include "linear16_parts.glsl"

#define THREADS 64u
#define ROWS 4u

layout(local_size_x = 64) in;

shared vec2 part[ROWS * THREADS];

void main() {
  uint t = gl_LocalInvocationIndex, n = gl_WorkGroupID.x * (THREADS / 8u) + t / 8u, row = group_y() * ROWS;
  if (row >= rows_of_pass()) return;
  uint count = min(ROWS, rows_of_pass() - row);
  uint at = FIRST(2) + min(n, N_HERE - 1u) * STRIDE_WORDS + t % 8u, x_at = FIRST(1) + FIRST_X16 + t % 8u;
  vec2 lanes[ROWS];
  for (uint m = 0u; m < ROWS; m++) lanes[m] = vec2(0.0);
  for (uint i = 0u; i < K16; i++) {
    uint weights = w[at + 8u * i];
    for (uint m = 0u; m < ROWS; m++)
      if (m < count) lanes[m] = pair_step(lanes[m], x[x_at + ((row + m) * K16 + i) * 8u], weights);
  }
  for (uint m = 0u; m < ROWS; m++) part[m * THREADS + t] = lanes[m];
  barrier();
  uint m = t % 8u;
  if (m >= count || n >= N_HERE) return;
  vec2 lane[8];
  for (uint i = 0u; i < 8u; i++) lane[i] = part[m * THREADS + t - m + i];
  put_result(row + m, N_FIRST + n, lane);
}
