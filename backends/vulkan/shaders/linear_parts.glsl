// SPDX-License-Identifier: Apache-2.0
/* What the shaders of LINEAR share: operands, the outliers' weights and the result. */
#ifndef OTR_VULKAN_LINEAR_PARTS
#define OTR_VULKAN_LINEAR_PARTS

#include "dot.glsl"
#include "quantized.glsl"

layout(constant_id = 1) const uint HAS_BIAS = 0;
layout(constant_id = 2) const uint STATIC = 0; /* 0: no static columns, 1: by their slots, 2: all features */

OPERAND(0, writeonly, float, y)
OPERAND(1, readonly, uint, x)    /* heads and q */
OPERAND(1, readonly, uvec4, x4)
OPERAND(2, readonly, uint, list) /* outliers */
OPERAND(3, readonly, uint, w)    /* rows [n0, n1) of the weight */
OPERAND(3, readonly, uvec4, w4)
OPERAND(4, readonly, float, scale)
OPERAND(5, readonly, float, bias)
OPERAND(6, readonly, int, slot)
OPERAND(7, readonly, uint, column)

#define N push.own[2]      /* outputs of the weight */
#define N_FIRST push.own[3] /* the first output here, and how many */
#define N_HERE push.own[4]
#define K16 push.own[5]     /* inputs, in sixteens */
#define STRIDE16 push.own[6] /* of the weight's rows */
#define FIRST_Q push.own[7]  /* words from the layout's begin to q, whose rows are K16 sixteens */
#define LANE_WORDS push.own[8]

uint head_of(uint row) { return FIRST(1) + row * QUANTIZED_HEAD; }
uint list_of(uint row, uint lane) { return FIRST(2) + (row * 4u + lane) * LANE_WORDS; }
uint q_of(uint row) { return FIRST4(1) + (FIRST_Q >> 2) + row * K16; }

/** Wo[n, feature] where the feature is in the static set, else `own`, which is Wq. */
float outlier_weight(uint feature, uint n, int own) {
  if (STATIC == 0u) return float(own);
  int at = STATIC == 2u ? int(feature) : slot[FIRST(6) + feature];
  if (at < 0) return float(own);
  uint half_index = (push.rest[7] >> 1) + uint(at) * N + n; /* the operand may begin between two words */
  return half_value(column[half_index >> 1], half_index);
}

/** One step of a lane of the outliers of x's row: partial + x16 * Wo. Exact products, so only the sum rounds. */
float outlier_step(float partial, uint entry, uint lane, uint n) {
  uint feature = outlier_feature(entry, lane);
  uint word = w[FIRST(3) + (n - N_FIRST) * (STRIDE16 << 2) + (feature >> 2)];
  precise float product = pair_value(entry).x * outlier_weight(feature, n, byte_value(word, feature));
  precise float sum = partial + product;
  return sum;
}

/** y[row, n] of the integer sum and the four lanes of the outliers. */
void put_result(uint row, uint n, int acc, float lane0, float lane1, float lane2, float lane3) {
  float scale_w = scale[FIRST(4) + n], scale_i = OTR_FLOAT(x[head_of(row) + QUANTIZED_SCALE]);
  precise float both = scale_i * scale_w;
  precise float v = exact_float(acc) * both;
  precise float a = lane0 + lane2, b = lane1 + lane3;
  precise float o = a + b;
  o = o * OTR_FLOAT(x[head_of(row) + QUANTIZED_POW2E]);
  o = o * scale_w;
  v = v + o;
  if (HAS_BIAS != 0u) v = v + bias[FIRST(5) + n];
  y[FIRST(0) + row * N + n] = tidy_found(v);
}

#endif
