// SPDX-License-Identifier: Apache-2.0
/* LINEAR on drivers without a GPU: a thread for OUTPUTS outputs of up to ROWS rows of x (axis y), no barrier. */
#include "linear_parts.glsl"

#define OUTPUTS 4u

layout(local_size_x_id = 0) in;

void put_row(uint row, uint n, int acc) {
  float partial[4];
  for (uint lane = 0u; lane < 4u; lane++) {
    uint n_list = x[head_of(row) + QUANTIZED_LANES + lane], at = list_of(row, lane);
    float sum = 0.0;
    for (uint i = 0u; i < n_list; i++) sum = outlier_step(sum, list[at + i], lane, N_FIRST + n);
    partial[lane] = sum;
  }
  put_result(row, N_FIRST + n, acc, partial[0], partial[1], partial[2], partial[3]);
}

void main() {
  uint first = gl_GlobalInvocationID.x * OUTPUTS, row = group_y() * ROWS;
  if (first >= N_HERE || row >= rows_of_pass()) return;
  uint at[OUTPUTS], q_at[ROWS];
  int acc[OUTPUTS * ROWS];
  [[unroll]] for (uint r = 0u; r < OUTPUTS; r++) at[r] = FIRST4(3) + min(first + r, N_HERE - 1u) * STRIDE16;
  [[unroll]] for (uint m = 0u; m < ROWS; m++) q_at[m] = q_of(min(row + m, rows_of_pass() - 1u));
  [[unroll]] for (uint a = 0u; a < OUTPUTS * ROWS; a++) acc[a] = 0;
  for (uint i = 0u; i < K16; i++) {
    uvec4 weights[OUTPUTS];
    [[unroll]] for (uint r = 0u; r < OUTPUTS; r++) weights[r] = w4[at[r] + i];
    [[unroll]] for (uint m = 0u; m < ROWS; m++) {
      uvec4 q = x4[q_at[m] + i];
      [[unroll]] for (uint r = 0u; r < OUTPUTS; r++) acc[OUTPUTS * m + r] += dot16(weights[r], q);
    }
  }
  int sums[OUTPUTS * ROWS]; /* acc stays in registers, which a loop that is not unrolled cannot index */
  [[unroll]] for (uint a = 0u; a < OUTPUTS * ROWS; a++) sums[a] = acc[a];
  for (uint a = 0u; a < OUTPUTS * ROWS; a++) {
    uint m = a / OUTPUTS, r = a % OUTPUTS;
    if (row + m < rows_of_pass() && first + r < N_HERE) put_row(row + m, first + r, sums[a]);
  }
}
