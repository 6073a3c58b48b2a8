// SPDX-License-Identifier: Apache-2.0
/* The activations of a linear, for row.comp: of x, or of what came before. Layout: ../vulkan_layout.c, quantized.glsl. */
#define SEGMENTS 16u /* of a lane's features, where the list is made */

shared uint absmax, largest, n_outliers;
shared uint n_segment[4u * SEGMENTS]; /* [segment][lane] outliers */

uint value_first;
float bound; /* absolute: t; relative: the square that x * x must reach */

float value(uint i) {
  if (BEFORE == ROW_NOTHING) return x[value_first + i];
  return to[value_first + i];
}

float bound_of_row() {
  if (RULE != 2u) return RULE_VALUE;
  precise float squares = 0.0;
  if (gl_LocalInvocationIndex < OTR_LANES_ROW)
    for (uint i = gl_LocalInvocationIndex; i < WIDTH; i += OTR_LANES_ROW) {
      float v = value(i);
      precise float square = v * v;
      squares = squares + square;
    }
  precise float mean = join_row_lanes(squares) * INV_WIDTH;
  precise float square = RULE_VALUE * RULE_VALUE;
  precise float b = square * mean;
  return b;
}

bool is_outlier(float v) {
  if (RULE == 0u) return false;
  if (RULE == 1u) return magnitude(v) >= bound;
  precise float square = v * v;
  return square > 0.0 && square >= bound;
}

void find_maxima() {
  uint most = 0u, most_out = 0u, n = 0u;
  for (uint i = gl_LocalInvocationIndex; i < WIDTH; i += gl_WorkGroupSize.x) {
    float v = value(i);
    uint a = OTR_BITS(v) & OTR_BITS_ABS;
    if (is_outlier(v)) {
      most_out = max(most_out, a);
      n++;
    } else if (magnitude(v) > 0.0) { /* not a NaN */
      most = max(most, a);
    }
  }
  atomicMax(absmax, most);
  if (n == 0u) return;
  atomicMax(largest, most_out);
  atomicAdd(n_outliers, n);
}

/** rint(x * inv) for |x * inv| <= 127 and a little; anything else (only after a NONFINITE value) is 0. */
uint quantized_value(uint i, float inv) {
  if (i >= WIDTH) return 0u;
  float given = value(i);
  precise float v = given * inv;
  if (is_outlier(given) || !(v >= -127.5 && v <= 127.5)) return 0u;
  precise float n = v + 12582912.0;
  n = n - 12582912.0;
  return uint(int(n)) & 0xffu;
}

/** Outliers of lane l, segment s in order: how many, or, where `first` is a place of the list, put there. */
uint walk_segment(uint l, uint s, uint first, bool puts, float pow2) {
  uint per = (LANE_WORDS + SEGMENTS - 1u) / SEGMENTS, end = min((s + 1u) * per, LANE_WORDS), n = 0u;
  for (uint j = s * per; j < end; j++) {
    uint i = 4u * j + l;
    if (i >= WIDTH) break;
    float v = value(i);
    if (!is_outlier(v)) continue;
    precise float scaled = v * pow2;
    if (puts) list[first + n] = outlier_entry(j, otr_f16_bits(scaled));
    n++;
  }
  return n;
}

/** The row's outliers by lane (feature mod 4), ascending in it. Returns the number in the lane of threads 0 to 3. */
uint make_list(uint row, float pow2) {
  uint l = gl_LocalInvocationIndex & 3u, s = gl_LocalInvocationIndex >> 2, before = 0u, all = 0u;
  if (s < SEGMENTS) n_segment[gl_LocalInvocationIndex] = walk_segment(l, s, 0u, false, pow2);
  barrier();
  for (uint i = 0u; i < SEGMENTS; i++) {
    uint n = n_segment[4u * i + l];
    if (i < s) before += n;
    all += n;
  }
  uint first = FIRST(6) + (row * 4u + l) * LANE_WORDS;
  if (s < SEGMENTS) walk_segment(l, s, first + before, true, pow2);
  return all;
}

void quantize_row(uint row) {
  uint t = gl_LocalInvocationIndex;
  value_first = (BEFORE == ROW_NOTHING ? FIRST(1) : FIRST(0)) + row * WIDTH;
  if (t == 0u) absmax = largest = n_outliers = 0u;
  bound = bound_of_row();
  barrier();
  find_maxima();
  barrier();
  float most = OTR_FLOAT(absmax);
  precise float inv = 0.0;
  if (absmax > 0u) inv = 127.0 * otr_recip(most);
  uint words = FIRST(5) + FIRST_Q + row * ROW_WORDS;
  for (uint w = t; w < ROW_WORDS; w += gl_WorkGroupSize.x)
    quantized[words + w] = quantized_value(4u * w, inv) | quantized_value(4u * w + 1u, inv) << 8 |
                           quantized_value(4u * w + 2u, inv) << 16 | quantized_value(4u * w + 3u, inv) << 24;
  int e = outlier_exponent(OTR_FLOAT(largest));
  uint in_lane = n_outliers > 0u ? make_list(row, otr_pow2(-e)) : 0u;
  uint head = FIRST(5) + row * QUANTIZED_HEAD;
  if (t < 4u) quantized[head + QUANTIZED_LANES + t] = in_lane;
  if (t != 0u) return;
  precise float scale = most * OTR_FLOAT(OTR_BITS_INV127);
  quantized[head + QUANTIZED_SCALE] = OTR_BITS(scale);
  quantized[head + QUANTIZED_POW2E] = OTR_BITS(otr_pow2(e));
  quantized[head + QUANTIZED_COUNT] = n_outliers;
  if (n_outliers > 0u) atomicAdd(found_word[FOUND_OUTLIERS], n_outliers);
}
