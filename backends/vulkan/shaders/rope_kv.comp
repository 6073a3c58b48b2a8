#version 450
// SPDX-License-Identifier: Apache-2.0
/* Rotates q, k and v of a row (axis y), tidies and rounds them: a thread per value of q, which keeps f32 of its f16, and per
   two values of k and v, which go to the pages. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

#define KV_ACCESS writeonly
#include "kv.glsl"

layout(local_size_x = 64) in;
OPERAND(0, writeonly, float, q16)
OPERAND(1, readonly, float, q)
OPERAND(2, readonly, float, k)
OPERAND(3, readonly, float, v)
#define HEADS push.own[2]
#define KV_HEADS push.own[3]
#define HEAD_DIM push.own[4]
#define HALF_ROT push.own[5]
#define LAYER_WORDS push.own[6] /* words from a page's begin to the layer */

float cosine(uint row, uint j) { return uintBitsToFloat(step_word[step_word[STEP_ROPE_COS] + row * HALF_ROT + j]); }
float sine(uint row, uint j) { return uintBitsToFloat(step_word[step_word[STEP_ROPE_SIN] + row * HALF_ROT + j]); }

/** x0 cos - x1 sin, and x0 sin + x1 cos. */
float rotated(float x0, float x1, float c, float s, bool second) {
  precise float a = second ? x0 * s : x0 * c;
  precise float b = second ? x1 * c : x1 * s;
  precise float sum = second ? a + b : a - b;
  return sum;
}

/* Operands cannot be passed on: the same for q and k. */
#define ROTATED_HEAD(name, x)                                                            \
  float name(uint at, uint row, uint j) {                                                \
    if (j >= 2u * HALF_ROT) return x[at + j];                                            \
    uint i = j < HALF_ROT ? j : j - HALF_ROT;                                            \
    return rotated(x[at + i], x[at + i + HALF_ROT], cosine(row, i), sine(row, i), j >= HALF_ROT); \
  }
ROTATED_HEAD(q_value, q)
ROTATED_HEAD(k_value, k)

uint k_pair(uint at, uint row, uint j) {
  uint low = to_f16(k_value(at, row, j));
  return j + 1u < HEAD_DIM ? low | to_f16(k_value(at, row, j + 1u)) << 16 : low;
}

uint v_pair(uint at, uint j) {
  uint low = to_f16(v[at + j]);
  return j + 1u < HEAD_DIM ? low | to_f16(v[at + j + 1u]) << 16 : low;
}

/** Pair `i` of all KV heads' keys, then of all their values, to the row's page. */
void put_pair(uint row, uint i) {
  uint pairs = (HEAD_DIM + 1u) / 2u, all = KV_HEADS * pairs;
  uint c = step_word[step_word[STEP_ROW] + 2u * row + 1u] % OTR_CHUNK, page = step_word[STEP_ROW_PAGE] + 2u * row;
  uint of = i % all, head = of / pairs, j = of % pairs, at = (row * KV_HEADS + head) * HEAD_DIM;
  uint window = step_word[page];
  uint first = step_word[page + 1u] + LAYER_WORDS + head * (key_words(HEAD_DIM) + value_words(HEAD_DIM));
  if (i < all)
    kv[window].word[first + 4u * (j / 4u * OTR_CHUNK + c) + j % 4u] = k_pair(FIRST(2) + at, row, 2u * j);
  else
    kv[window].word[first + key_words(HEAD_DIM) + c * pairs + j] = v_pair(FIRST(3) + at, 2u * j);
}

void main() {
  uint row = group_y(), i = gl_GlobalInvocationID.x, width = HEADS * HEAD_DIM;
  if (row >= rows_of_pass()) return;
  if (i < width)
    q16[FIRST(0) + row * width + i] = otr_f16_value(
        to_f16(q_value(FIRST(1) + row * width + i / HEAD_DIM * HEAD_DIM, row, i % HEAD_DIM)));
  else if (i - width < 2u * KV_HEADS * ((HEAD_DIM + 1u) / 2u))
    put_pair(row, i - width);
}
