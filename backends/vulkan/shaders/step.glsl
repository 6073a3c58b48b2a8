// SPDX-License-Identifier: Apache-2.0
/* What a pass tells the shaders and what they tell back, in device memory, so that a recording is replayed unchanged for
 * every token. Included by GLSL and C alike: only words. */
#ifndef OTR_VULKAN_STEP
#define OTR_VULKAN_STEP

/* The step block (set 0, binding 0): words. First a head; the places of arrays are in words from the block's start. */
#define STEP_N_ROWS 0      /* rows of the pass */
#define STEP_N_LOGITS 1    /* rows of operations on selected rows */
#define STEP_GROUP_BASE 2  /* to be added to gl_WorkGroupID.y wherever axis y follows rows or logits */
#define STEP_N_CHUNKS 3    /* most pages that a sequence of the pass has */
#define STEP_MAX_TABLE 4   /* pages of a sequence that there is room for in STEP_PAGE: the program's max_pages */
#define STEP_TOKEN 5       /* place of int [n_rows]; < 0: the row comes from STEP_EMBEDDING */
#define STEP_ROW 6         /* of [n_rows, 2]: sequence, position */
#define STEP_LOGITS_ROW 7  /* of [n_logits]: the row selected */
#define STEP_N_PAGES 8     /* of [sequences]: pages that are there (not dropped), up to the farthest row's */
#define STEP_PAGE 9        /* of [sequences, STEP_MAX_TABLE, 4]: chunk (position / 256), KV window, words, 0; ascending */
#define STEP_ROW_PAGE 10   /* of [n_rows, 2]: the page of the row's own position: KV window, words from its start */
#define STEP_ROPE_COS 11   /* of f32 [n_rows, n_rot / 2] */
#define STEP_ROPE_SIN 12
#define STEP_EMBEDDING 13  /* of f32 [n_rows, width]; only in programs with an embedding */
#define STEP_HEAD_WORDS 16

/* The found block (set 0, binding 1), set by the host before each pass, written with integer atomics. */
#define FOUND_LAYER 0       /* atomicMin of the operation's layer + 1; FOUND_NO_LAYER: none */
#define FOUND_SATURATIONS 1 /* atomicAdd */
#define FOUND_OUTLIERS 2    /* atomicAdd */
#define FOUND_WORDS 4
#define FOUND_NO_LAYER 0xffffffffu

#endif
