// SPDX-License-Identifier: Apache-2.0
/* LINEAR on drivers without a GPU: a thread per output, no barrier, up to ROWS rows of x (axis y) at a time. */
#include "linear_parts.glsl"

#define MOST_ROWS 4u

layout(local_size_x_id = 0) in;
layout(constant_id = 3) const uint ROWS = 4; /* 1 where a thread would go round a loop too often */

void put_row(uint row, uint n, int acc) {
  float partial[4];
  for (uint lane = 0u; lane < 4u; lane++) {
    uint n_list = x[head_of(row) + QUANTIZED_LANES + lane], at = list_of(row, lane);
    partial[lane] = 0.0;
    for (uint i = 0u; i < n_list; i++) partial[lane] = outlier_step(partial[lane], list[at + i], lane, N_FIRST + n);
  }
  put_result(row, N_FIRST + n, acc, partial[0], partial[1], partial[2], partial[3]);
}

void main() {
  uint n = gl_GlobalInvocationID.x, row = group_y() * ROWS;
  if (n >= N_HERE || row >= rows_of_pass()) return;
  uint count = min(ROWS, rows_of_pass() - row), at = FIRST4(3) + n * STRIDE16;
  int acc[MOST_ROWS];
  for (uint m = 0u; m < MOST_ROWS; m++) acc[m] = 0;
  for (uint i = 0u; i < K16; i++) {
    uvec4 weights = w4[at + i];
    for (uint m = 0u; m < MOST_ROWS; m++)
      if (m < count) acc[m] += dot16(weights, x4[q_of(row + m) + i]);
  }
  for (uint m = 0u; m < MOST_ROWS; m++)
    if (m < count) put_row(row + m, n, acc[m]);
}
