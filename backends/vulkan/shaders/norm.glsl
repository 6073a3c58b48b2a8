// SPDX-License-Identifier: Apache-2.0
/* RMSNorm and LayerNorm of a row or a group of it, for row.comp. out may be x. */
uint norm_first; /* of x */

float norm_in(uint i) {
  if (BEFORE == ROW_ADD_NORM) return sum[norm_first + i];
  return x[norm_first + i];
}

float mean_of_row() {
  precise float all = 0.0;
  if (gl_LocalInvocationIndex < OTR_LANES_ROW)
    for (uint i = gl_LocalInvocationIndex; i < WIDTH; i += OTR_LANES_ROW) all = all + norm_in(i);
  precise float mean = join_row_lanes(all) * INV_WIDTH;
  return mean;
}

/** x, or with LayerNorm tidy(x - mean). */
float centered(uint i, float mean) {
  if (IS_LAYER == 0u) return norm_in(i);
  precise float c = norm_in(i) - mean;
  return tidy_of(c, NORM_LAYER);
}

/** Group `group` of all rows'. */
void norm_row(uint group) {
  norm_first = FIRST(1) + group * WIDTH;
  float mean = IS_LAYER != 0u ? mean_of_row() : 0.0;
  precise float squares = 0.0;
  if (gl_LocalInvocationIndex < OTR_LANES_ROW)
    for (uint i = gl_LocalInvocationIndex; i < WIDTH; i += OTR_LANES_ROW) {
      float c = centered(i, mean);
      precise float square = c * c;
      squares = squares + square;
    }
  precise float s = join_row_lanes(squares) * INV_WIDTH;
  s = s + EPS;
  float r = otr_rsqrt(s);
  uint first = FIRST(0) + group * WIDTH;
  uint gains = FIRST(2) + (GROUP_GAINS != 0u ? gl_WorkGroupID.x * WIDTH : 0u);
  for (uint i = gl_LocalInvocationIndex; i < WIDTH; i += gl_WorkGroupSize.x) {
    precise float v = centered(i, mean) * r;
    v = v * gain[gains + i];
    if (HAS_BIAS != 0u) v = v + bias[FIRST(3) + i];
    to[first + i] = tidy_of(v, NORM_LAYER);
  }
}
