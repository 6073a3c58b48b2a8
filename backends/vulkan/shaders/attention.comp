#version 450
// SPDX-License-Identifier: Apache-2.0
/* One row (axis y) of one query head (axis x) against chunks of 256 positions (axis z): m, l and a of each chunk. A thread
   per position for the scores, then four threads, one a lane, per two features for P V. */
/* All products are exact in f32, so that an fma and a product with a sum give the same bits. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

#define KV_ACCESS readonly
#include "kv.glsl"
#include "attention_parts.glsl"

#define MAX_DIM 1024
#define LANES16 16u

layout(local_size_x_id = 0) in; /* 64 to 256 */
layout(constant_id = 2) const uint HAS_SLOPES = 0;
OPERAND(0, writeonly, float, part)
OPERAND(1, readonly, float, q16)
OPERAND(2, readonly, float, slopes)

shared float q[MAX_DIM];
shared float p[OTR_CHUNK];
shared uint most;
shared float l_lane[LANES16];
shared vec2 a_lane[256];

/* floats as unsigned integers of the same order */
uint ordered(float x) {
  uint b = OTR_BITS(x);
  return (b & 0x80000000u) != 0u ? ~b : b | 0x80000000u;
}
float from_ordered(uint b) { return OTR_FLOAT((b & 0x80000000u) != 0u ? b & 0x7fffffffu : ~b); }

float score(uvec2 keys, uint c) {
  precise vec4 lanes = vec4(0.0);
  for (uint i = 0u; i < (HEAD_DIM + 7u) / 8u; i++) {
    uvec4 k = kv4[keys.x].four[keys.y + i * OTR_CHUNK + c];
    vec4 low = vec4(pair_value(k.x), pair_value(k.y)), high = vec4(pair_value(k.z), pair_value(k.w));
    uint d = 8u * i;
    lanes = fma(vec4(q[d], q[d + 1u], q[d + 2u], q[d + 3u]), low, lanes);
    lanes = fma(vec4(q[d + 4u], q[d + 5u], q[d + 6u], q[d + 7u]), high, lanes);
  }
  precise vec2 halves = lanes.xy + lanes.zw;
  precise float s = halves.x + halves.y;
  s = s * SCALE;
  return s;
}

/** Scores of the chunk's first `n` positions, the last that row i sees, into p, and their maximum into `most`. */
void put_scores(uvec2 keys, uint i, uint start, uint n) {
  for (uint c = gl_LocalInvocationIndex; c < n; c += gl_WorkGroupSize.x) {
    uint j = start + c;
    if (WINDOW != 0u && i - j >= WINDOW) continue;
    precise float s = score(keys, c);
    if (HAS_SLOPES != 0u) {
      precise float bias = slopes[FIRST(2) + gl_WorkGroupID.x] * float(int(j - i));
      s = s + bias;
    }
    p[c] = s;
    atomicMax(most, ordered(s));
  }
}

/** From scores to weights; 0 where the row does not look. */
void put_weights(uint i, uint start, uint n) {
  float m = from_ordered(most);
  for (uint c = gl_LocalInvocationIndex; c < n; c += gl_WorkGroupSize.x) {
    bool visible = WINDOW == 0u || i - (start + c) < WINDOW;
    precise float below = visible ? p[c] - m : -100.0;
    precise float weight = otr_exp(below) * 32768.0;
    p[c] = otr_f16_round(weight);
  }
}

void sum_weights(uint n) {
  uint t = gl_LocalInvocationIndex;
  if (t >= LANES16) return;
  precise float sum = 0.0;
  for (uint c = t; c < n; c += LANES16) sum = sum + p[c];
  l_lane[t] = sum;
}

float join_weights() {
  float lane[LANES16];
  for (uint i = 0u; i < LANES16; i++) lane[i] = l_lane[i];
  for (uint h = LANES16 / 2u; h > 0u; h /= 2u)
    for (uint i = 0u; i < h; i++) {
      precise float sum = lane[i] + lane[i + h];
      lane[i] = sum;
    }
  return lane[0];
}

/** a of features 2 w and 2 w + 1: this thread's lane of the first `n` positions. */
vec2 sum_values(uvec2 values, uint w, uint n) {
  precise vec2 sum = vec2(0.0);
  uint pairs = (HEAD_DIM + 1u) / 2u;
  if (w < pairs)
    for (uint c = gl_LocalInvocationIndex & 3u; c < n; c += 4u)
      sum = fma(vec2(p[c]), pair_value(kv[values.x].word[values.y + c * pairs + w]), sum);
  return sum;
}

void put_values(uvec2 values, uint n, uint to) {
  uint t = gl_LocalInvocationIndex, per = gl_WorkGroupSize.x / 4u;
  for (uint first = 0u; first < (HEAD_DIM + 1u) / 2u; first += per) {
    uint w = first + (t >> 2);
    a_lane[t] = sum_values(values, w, n);
    barrier();
    if ((t & 3u) == 0u && 2u * w < HEAD_DIM) {
      precise vec2 even = a_lane[t] + a_lane[t + 2u], odd = a_lane[t + 1u] + a_lane[t + 3u];
      precise vec2 a = even + odd;
      part[to + 2u + 2u * w] = a.x;
      if (2u * w + 1u < HEAD_DIM) part[to + 3u + 2u * w] = a.y;
    }
    barrier();
  }
}

void attend(uvec2 page, uint i, uint chunk, uint to) {
  uint t = gl_LocalInvocationIndex, start = chunk * OTR_CHUNK, n = min(i - start + 1u, OTR_CHUNK);
  uint head = gl_WorkGroupID.x / (HEADS / KV_HEADS);
  uint first = page.y + LAYER_WORDS + head * (key_words(HEAD_DIM) + value_words(HEAD_DIM));
  if (t == 0u) most = 0u;
  barrier();
  put_scores(uvec2(page.x, first / 4u), i, start, n);
  barrier();
  put_weights(i, start, n);
  barrier();
  sum_weights(n);
  put_values(uvec2(page.x, first + key_words(HEAD_DIM)), n, to);
  if (t == 0u) {
    part[to] = from_ordered(most);
    part[to + 1u] = join_weights();
  }
}

void main() {
  uint t = gl_LocalInvocationIndex, row = row_of_group(), head = gl_WorkGroupID.x, page = gl_WorkGroupID.z;
  if (row >= rows_of_pass() || row >= ROW_END) return;
  uint sequence = row_sequence(row), i = row_position(row), n_pages = n_pages_of(sequence);
  if (page >= n_pages) return;
  for (uint d = t; d < MAX_DIM && d < HEAD_DIM + 7u; d += gl_WorkGroupSize.x)
    q[d] = d < HEAD_DIM ? q16[FIRST(1) + (row * HEADS + head) * HEAD_DIM + d] : 0.0;
  for (; page < n_pages; page += gl_NumWorkGroups.z) {
    uint entry = page_entry(sequence, page), chunk = step_word[entry];
    if (!sees_chunk(i, chunk)) continue;
    attend(uvec2(step_word[entry + 1u], step_word[entry + 2u]), i, chunk, part_of(row, head, page));
    barrier();
  }
}
