// SPDX-License-Identifier: Apache-2.0
/* What attention and its merge share: which chunks a row looks at, and where their partial results lie. */
#ifndef OTR_VULKAN_ATTENTION_PARTS
#define OTR_VULKAN_ATTENTION_PARTS

#define HEADS push.own[2]
#define KV_HEADS push.own[3]
#define HEAD_DIM push.own[4]
#define WINDOW push.own[5] /* 0: none */
#define SCALE uintBitsToFloat(push.own[6])
#define ROW_FIRST push.own[7] /* rows [first, end) are done by this dispatch: what the scratch has room for */
#define ROW_END push.own[8]
#define MAX_PAGES push.own[9]
#define LAYER_WORDS push.own[10]

/* 1: one dispatch does all rows, and axis y follows them; 0: axis y is as long as the scratch. */
layout(constant_id = 1) const uint ALL_ROWS = 1;

uint row_of_group() { return ALL_ROWS != 0u ? group_y() : ROW_FIRST + gl_WorkGroupID.y; }

uint row_sequence(uint row) { return step_word[step_word[STEP_ROW] + 2u * row]; }
uint row_position(uint row) { return step_word[step_word[STEP_ROW] + 2u * row + 1u]; }

/* A sequence's pages that are there, by ascending chunk. */
uint n_pages_of(uint sequence) { return step_word[step_word[STEP_N_PAGES] + sequence]; }
uint page_entry(uint sequence, uint page) {
  return step_word[STEP_PAGE] + 4u * (sequence * step_word[STEP_MAX_TABLE] + page);
}

/** Whether position i sees something of a chunk. */
bool sees_chunk(uint i, uint chunk) {
  return chunk <= i / OTR_CHUNK && (WINDOW == 0u || i < WINDOW || chunk >= (i - WINDOW + 1u) / OTR_CHUNK);
}

/** Partial results of a row and head for a page: m, l, a [head_dim]. */
uint part_of(uint row, uint head, uint page) {
  return FIRST(0) + (((row - ROW_FIRST) * HEADS + head) * MAX_PAGES + page) * (HEAD_DIM + 2u);
}

#endif
