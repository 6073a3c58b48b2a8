// SPDX-License-Identifier: Apache-2.0
/* LINEAR on drivers without a GPU: a thread for OUTPUTS outputs of up to ROWS rows of x (axis y), no barrier. */
#include "linear_parts.glsl"

#define OUTPUTS 4u

layout(local_size_x_id = 0) in;

/** All four lanes at a time: such drivers count how often a thread goes round its loops. */
void put_row(uint row, uint n, int acc) {
  vec4 partial = vec4(0.0);
  uint first = head_of(row) + QUANTIZED_LANES, at = list_of(row, 0u);
  uvec4 n_list = uvec4(x[first], x[first + 1u], x[first + 2u], x[first + 3u]);
  uint most = max(max(n_list.x, n_list.y), max(n_list.z, n_list.w));
  for (uint i = 0u; i < most; i++)
    [[unroll]] for (uint lane = 0u; lane < 4u; lane++)
      if (i < n_list[lane])
        partial[lane] = outlier_step(partial[lane], list[at + lane * LANE_WORDS + i], lane, N_FIRST + n);
  put_result(row, N_FIRST + n, acc, partial.x, partial.y, partial.z, partial.w);
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
