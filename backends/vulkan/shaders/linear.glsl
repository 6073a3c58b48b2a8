// SPDX-License-Identifier: Apache-2.0
/* LINEAR for few rows: the weights stream once. LANES threads of a workgroup of 64 share the k of OUTPUTS outputs, so
   that neighbours read neighbouring sixteens; up to ROWS rows of x are done at a time (axis y). */
/* Integers are summed in any order; the outliers of an output by four threads, one a lane. */
#include "linear_parts.glsl"

#define THREADS 64u
#define OUTPUTS 4u
#define ROWS 4u

layout(local_size_x = 64) in;
layout(constant_id = 3) const uint LANES = 32; /* a power of two, 4 to 64 */

shared int part[OUTPUTS * ROWS * THREADS];
shared float outlier_lane[THREADS];
shared int sum_lane[THREADS];

/** The integer sums of this thread's share of k, for its outputs and `count` rows from `row` on, into `part`. */
void sum_share(uint n_first, uint row, uint count) {
  uint t = gl_LocalInvocationIndex;
  uint at[OUTPUTS];
  int acc[OUTPUTS * ROWS];
  [[unroll]] for (uint r = 0u; r < OUTPUTS; r++) at[r] = FIRST4(3) + min(n_first + r, N_HERE - 1u) * STRIDE16;
  [[unroll]] for (uint a = 0u; a < OUTPUTS * ROWS; a++) acc[a] = 0;
  for (uint i = t & (LANES - 1u); i < K16; i += LANES) {
    uvec4 weights[OUTPUTS];
    [[unroll]] for (uint r = 0u; r < OUTPUTS; r++) weights[r] = w4[at[r] + i];
    [[unroll]] for (uint m = 0u; m < ROWS; m++) {
      if (m < count) {
        uvec4 q = x4[q_of(row + m) + i];
        [[unroll]] for (uint r = 0u; r < OUTPUTS; r++) acc[m * OUTPUTS + r] += dot16(weights[r], q);
      }
    }
  }
  [[unroll]] for (uint a = 0u; a < OUTPUTS * ROWS; a++) part[a * THREADS + t] = acc[a];
}

/** Output `o` of the workgroup's (row by row): a quarter of the integer sum, and the outliers of one lane. */
void sum_quarter(uint o, uint per_row, uint first, uint row) {
  uint t = gl_LocalInvocationIndex, lane = t & 3u, m = o / per_row, of_row = o % per_row;
  uint base = (m * OUTPUTS + of_row % OUTPUTS) * THREADS + of_row / OUTPUTS * LANES, n = first + of_row;
  int sum = 0;
  precise float partial = 0.0;
  for (uint i = lane; i < LANES; i += 4u) sum += part[base + i];
  if (n < N_HERE) {
    uint n_list = x[head_of(row + m) + QUANTIZED_LANES + lane], at = list_of(row + m, lane);
    for (uint i = 0u; i < n_list; i++) partial = outlier_step(partial, list[at + i], lane, N_FIRST + n);
  }
  sum_lane[t] = sum;
  outlier_lane[t] = partial;
}

void main() {
  uint t = gl_LocalInvocationIndex, per_row = THREADS / LANES * OUTPUTS;
  uint row = group_y() * ROWS, first = gl_WorkGroupID.x * per_row;
  if (row >= rows_of_pass()) return;
  uint count = min(ROWS, rows_of_pass() - row), total = count * per_row;
  sum_share(first + t / LANES * OUTPUTS, row, count);
  for (uint o = 0u; o < total; o += THREADS / 4u) {
    uint own = o + (t >> 2), n = first + own % per_row;
    barrier();
    if (own < total) sum_quarter(own, per_row, first, row);
    barrier();
    if ((t & 3u) == 0u && own < total && n < N_HERE)
      put_result(row + own / per_row, N_FIRST + n,
                 sum_lane[t] + sum_lane[t + 1u] + sum_lane[t + 2u] + sum_lane[t + 3u], outlier_lane[t],
                 outlier_lane[t + 1u], outlier_lane[t + 2u], outlier_lane[t + 3u]);
  }
}
