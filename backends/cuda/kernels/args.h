// SPDX-License-Identifier: Apache-2.0
/* The arguments of every kernel: one struct by value. Included by the lowering (C), where an address is a number, and
 * by the kernels, where it is a pointer. */
#ifndef OTR_CUDA_ARGS_H
#define OTR_CUDA_ARGS_H

#include <stdint.h>

#include "step.h"

#if defined(__CUDACC__) || defined(OTR_CUDA_EMULATION)
#define CUDA_PTR(type) type *
#else
#define CUDA_PTR(type) uint64_t
#endif

/* What every operation has. */
struct cuda_head {
  CUDA_PTR(const struct cuda_step) step;
  CUDA_PTR(struct cuda_found) found;
  int32_t layer;  /* whom NONFINITE names */
  int32_t logits; /* 1: the rows are step.n_logits */
};

/* One outlier of a row: feature and x16. */
struct cuda_outlier {
  int32_t feature;
  float x16;
};

#define CUDA_K_TILE 64 /* features of a tile of the outlier lists, and of the GEMM's step in k */
/* What QUANTIZE makes of up to max_rows rows (cuda_layout.c places it). The outliers of row i are ascending, those of
 * tile t at outlier[i * k + first[i * (n_tiles + 1) + t]] up to the next tile's. */
struct cuda_quantized {
  CUDA_PTR(int8_t) q;                    /* [max_rows, stride] zero from k on */
  CUDA_PTR(float) scale;                 /* [max_rows] */
  CUDA_PTR(float) pow2e;                 /* [max_rows] 2^e */
  CUDA_PTR(int32_t) first;               /* [max_rows, n_tiles + 1] */
  CUDA_PTR(struct cuda_outlier) outlier; /* [max_rows, k] */
  int32_t k, stride;                     /* stride: k rounded up to CUDA_K_TILE */
  int32_t n_tiles;                       /* stride / CUDA_K_TILE */
  int32_t reserved;
};

/* What ROUND16 makes. */
struct cuda_rounded {
  CUDA_PTR(uint16_t) x16; /* [max_rows, stride] zero from k on */
  CUDA_PTR(float) pow2e;  /* [max_rows] */
  int32_t k, stride;      /* stride: k rounded up to CUDA_K_TILE */
};

struct cuda_embed_args {
  struct cuda_head head;
  CUDA_PTR(float) out;
  CUDA_PTR(const void) data;       /* int8 or f16 [vocab, row_stride] */
  CUDA_PTR(const float) scale;     /* [vocab] */
  CUDA_PTR(const float) positions; /* [n_positions, width] or 0 */
  int64_t row_stride;
  int32_t width, is_f16, has_constant, n_positions, position_offset;
  float constant;
};

struct cuda_position_args {
  struct cuda_head head;
  CUDA_PTR(float) x;
  CUDA_PTR(const float) table;
  int32_t width, n_positions, position_offset, reserved;
};

struct cuda_norm_args {
  struct cuda_head head;
  CUDA_PTR(float) out;
  CUDA_PTR(const float) x;
  CUDA_PTR(const float) gain;
  CUDA_PTR(const float) bias; /* or 0 */
  int32_t width, groups, group_gains, is_layer;
  float eps, inv_width; /* recip(width) */
};

struct cuda_quantize_args {
  struct cuda_head head;
  struct cuda_quantized out;
  CUDA_PTR(const float) x;
  int32_t rule; /* otr_rule_kind */
  float value;  /* t, or tau */
  float inv_k;
  int32_t reserved;
};

struct cuda_round16_args {
  struct cuda_head head;
  struct cuda_rounded out;
  CUDA_PTR(const float) x;
};

#define CUDA_PARTS 3
/* One weight of a linear and where its result goes. */
struct cuda_part {
  CUDA_PTR(const void) data;            /* int8 or f16 [n, row_stride] */
  CUDA_PTR(const float) scale;          /* [n] */
  CUDA_PTR(const float) bias;           /* [n] or 0 */
  CUDA_PTR(const int32_t) static_slot;  /* [k] or 0 */
  CUDA_PTR(const uint16_t) static_cols; /* [n_static, n] or 0 */
  CUDA_PTR(float) out;                  /* [m, n] */
  int64_t row_stride;
  int32_t n;
  int32_t first_block; /* of the grid's x that works on this part */
};

struct cuda_linear_args {
  struct cuda_head head;
  struct cuda_quantized in;
  struct cuda_part part[CUDA_PARTS];
  int32_t n_parts, reserved;
};

#define CUDA_TILE_N 128           /* outputs of a tile of the GEMM */
#define CUDA_TILE_SORTED (32 + 4) /* outliers that a warp sorts at a time, each lane's an even number */
/* Bytes of dynamic shared memory of a tile of 64 rows: three steps of x and W and where the slots' features are; of 128
 * rows: all sums at the end, and the eight warps' sorted outliers. */
#define CUDA_TILE64_SHARED (3 * (64 + CUDA_TILE_N) * CUDA_K_TILE + CUDA_PANEL_SLOTS)
#define CUDA_TILE128_SHARED (128 * (CUDA_TILE_N + 4) * 4 + 8 * CUDA_TILE_SORTED * 8)
#define CUDA_PANEL_SLOTS 1024 /* columns that a block's panel holds */
/* The features that are outliers of some row of a tile of rows, in ascending order: feature f has the slot
 * base[f / 32] + (number of bits of mask[f / 32] below f % 32). */
struct cuda_union {
  CUDA_PTR(uint32_t) mask; /* [row tiles, n_slabs], a slab is 32 features */
  CUDA_PTR(int32_t) base;  /* [row tiles, n_slabs + 1] */
  CUDA_PTR(uint8_t) place; /* [row tiles, CUDA_PANEL_SLOTS] f % 32 of a slot */
  int32_t n_slabs;
  int32_t tile_rows;
};

struct cuda_tile_args {
  struct cuda_linear_args linear;
  struct cuda_union outliers;
  CUDA_PTR(uint8_t) panel; /* [blocks, CUDA_PANEL_SLOTS, CUDA_TILE_N] */
  int32_t row_tiles;
  int32_t first_tile; /* of this launch: tile = n tile * row_tiles + row tile */
};

struct cuda_linear16_args {
  struct cuda_head head;
  struct cuda_rounded in;
  struct cuda_part part[CUDA_PARTS];
  int32_t n_parts, reserved;
};

/* K of a layer and head in a page: f16 [head_dim][256], positions side by side; V behind it: f16 [256][head_dim]. */
struct cuda_rope_kv_args {
  struct cuda_head head;
  CUDA_PTR(uint16_t) q16;
  CUDA_PTR(const float) q;
  CUDA_PTR(const float) k;
  CUDA_PTR(const float) v;
  int32_t n_heads, n_kv_heads, head_dim, n_rot, kv_layer, reserved;
};

/* Both kernels of attention. The partial results of row i of the group, head h and page p of the row's sequence, where
 * the row sees some of it: (2 + head_dim) floats at parts[((i * n_heads + h) * max_pages + p) * (2 + head_dim)]: m_c,
 * l_c, a_c. */
struct cuda_attention_args {
  struct cuda_head head;
  CUDA_PTR(float) out;
  CUDA_PTR(const uint16_t) q16;
  CUDA_PTR(const float) slopes; /* [n_heads] or 0 */
  CUDA_PTR(float) parts;
  int32_t n_heads, n_kv_heads, head_dim, kv_layer, window;
  int32_t max_pages;         /* of a sequence, that are there */
  int32_t first_row, n_rows; /* the group of rows: [first_row, first_row + n_rows) of the pass */
  float scale;
  int32_t reserved;
};

struct cuda_glu_args {
  struct cuda_head head;
  CUDA_PTR(float) out;
  CUDA_PTR(const float) gate;
  CUDA_PTR(const float) up;
  int32_t width, act;
};

struct cuda_act_args {
  struct cuda_head head;
  CUDA_PTR(float) out;
  CUDA_PTR(const float) x;
  int32_t width, act;
};

struct cuda_add_args {
  struct cuda_head head;
  CUDA_PTR(float) x;
  CUDA_PTR(const float) y;
  int32_t width, reserved;
};

/* ADD where has_add, then NORM of one group, then QUANTIZE of what that gives. */
struct cuda_norm_quantize_args {
  struct cuda_add_args add;
  struct cuda_norm_args norm;
  struct cuda_quantize_args quantize;
  int32_t has_add, reserved;
};

/* GLU, or ACT where glu.up is 0, then QUANTIZE of what that gives. */
struct cuda_glu_quantize_args {
  struct cuda_glu_args glu;
  struct cuda_quantize_args quantize;
};

struct cuda_select_args {
  struct cuda_head head;
  CUDA_PTR(float) out;
  CUDA_PTR(const float) x;
  int32_t width, reserved;
};

struct cuda_copy_args {
  struct cuda_head head;
  CUDA_PTR(float) out;
  CUDA_PTR(const float) x;
  int32_t width, reserved;
};

/* For tests: recip (or sqrt) of the floats whose bits are first, first + 1 ... */
struct cuda_numerics_args {
  CUDA_PTR(uint32_t) out; /* [n] bits of the results */
  uint32_t first, n;
  int32_t is_sqrt, reserved;
};

#endif
