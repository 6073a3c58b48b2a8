#version 450
// SPDX-License-Identifier: Apache-2.0
/* out = (sum of a w) / (sum of l w) over the chunks in order: a workgroup per row (axis y) and query head (axis x). */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

#include "attention_parts.glsl"

layout(local_size_x = 64) in;
OPERAND(0, readonly, float, part)
OPERAND(1, writeonly, float, to)

uint sequence, i, n_pages, page;

/** Goes on to the next page with partial results, `at`; false: there is none. */
bool next_part(uint row, uint head, out uint at) {
  while (page < n_pages && !sees_chunk(i, step_word[page_entry(sequence, page)])) page++;
  at = part_of(row, head, page);
  return page++ < n_pages;
}

void main() {
  uint row = row_of_group(), head = gl_WorkGroupID.x, at;
  if (row >= rows_of_pass() || row >= ROW_END) return;
  sequence = row_sequence(row);
  i = row_position(row);
  n_pages = n_pages_of(sequence);
  float most = 0.0;
  page = 0u;
  for (bool first = true; next_part(row, head, at); first = false)
    if (first || part[at] > most) most = part[at];
  for (uint d = gl_LocalInvocationIndex; d < HEAD_DIM; d += gl_WorkGroupSize.x) {
    precise float above = 0.0, below = 0.0;
    page = 0u;
    while (next_part(row, head, at)) {
      precise float less = part[at] - most;
      float w = otr_exp(less);
      precise float l = part[at + 1u] * w, a = part[at + 2u + d] * w;
      below = below + l;
      above = above + a;
    }
    precise float v = above * otr_recip(below);
    to[FIRST(1) + (row * HEADS + head) * HEAD_DIM + d] = tidy_found(v);
  }
}
