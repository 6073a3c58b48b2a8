// SPDX-License-Identifier: Apache-2.0
/* Linears with SMMLA, which multiplies two rows of 8 inputs by two others. `width` outputs of weights are laid out
 * for it in a panel that stays in the second cache, and 8 rows of x at a time in the first: [k/8][pair of rows][2][8].
 * A few rows of x do not pay for that: they are left to SDOT. */
#define FROM_PANEL 1
#include "linear_block.h"
#include "linear_neon.h"

enum {
  FEW = 4,              /* rows of x that are left to SDOT */
  TILE = 8,             /* rows of x and outputs of a tile */
  WIDE = 64,            /* outputs of a panel: what the executor hands out */
  WIDE_MAX_BYTES = 4096 /* most inputs of a wide panel; with more it is one block */
};

static int32_t panel_blocks(int32_t k) {
  return row_bytes(k) <= WIDE_MAX_BYTES ? WIDE / BLOCK : 1;
}

/* Inputs of a laid out row: whole steps of 32. */
static size_t laid_bytes(int32_t k) {
  return ((size_t)k + 31) & ~(size_t)31;
}

size_t otr_linear_scratch_i8mm(int32_t k) {
  return job_scratch(k) + 64 + laid_bytes(k) * (size_t)(TILE + BLOCK * panel_blocks(k));
}

/** 32 inputs of two rows to 4 steps. */
INLINE void lay_pair(int8_t *to, const int8_t **a, const int8_t **b) {
  int8x16_t a0, a1, b0, b1;
  load_pair(a, &a0, &a1);
  load_pair(b, &b0, &b1);
#define ZIP(zip, p, q) vreinterpretq_s8_s64(zip(vreinterpretq_s64_s8(p), vreinterpretq_s64_s8(q)))
  vst1q_s8(to, ZIP(vzip1q_s64, a0, b0));
  vst1q_s8(to + 8 * TILE, ZIP(vzip2q_s64, a0, b0));
  vst1q_s8(to + 16 * TILE, ZIP(vzip1q_s64, a1, b1));
  vst1q_s8(to + 24 * TILE, ZIP(vzip2q_s64, a1, b1));
}

/** The inputs of 8 rows from `done` on, fewer than 32: zeros follow them. */
static void lay_rest(int8_t *to, const int8_t *const row[TILE], size_t bytes) {
  memset(to, 0, 32 * TILE);
  for (size_t r = 0; r < TILE; r++)
    for (size_t k = 0; k < bytes; k += 8) memcpy(to + k * TILE + r * 8, row[r] + k, 8);
}

/** Lays 8 rows out; from `rows` on the last one takes their place. */
static void lay_out(int8_t *to, const int8_t *from, size_t stride, int32_t rows, size_t bytes) {
  const int8_t *row[TILE];
  for (int32_t r = 0; r < TILE; r++) row[r] = from + (size_t)(r < rows ? r : rows - 1) * stride;
  for (size_t left = bytes / 32; left > 0; left--, to += 32 * TILE) {
    lay_pair(to, &row[0], &row[1]);
    lay_pair(to + 16, &row[2], &row[3]);
    lay_pair(to + 32, &row[4], &row[5]);
    lay_pair(to + 48, &row[6], &row[7]);
  }
  if (bytes % 32) lay_rest(to, row, bytes % 32);
}

#define PAIRS1(F) F(0)
#define PAIRS2(F) PAIRS1(F) F(1)
#define PAIRS4(F) PAIRS2(F) F(2) F(3)
#define START(i) int32x4_t a##i##0 = vdupq_n_s32(0), a##i##1 = a##i##0, a##i##2 = a##i##0, a##i##3 = a##i##0;
#define DOT(i)                             \
  a##i##0 = vmmlaq_s32(a##i##0, x##i, w0); \
  a##i##1 = vmmlaq_s32(a##i##1, x##i, w1); \
  a##i##2 = vmmlaq_s32(a##i##2, x##i, w2); \
  a##i##3 = vmmlaq_s32(a##i##3, x##i, w3);
#define STORE_ROW(to, zip, i)                                                                                \
  vst1q_s32(to, vreinterpretq_s32_s64(zip(vreinterpretq_s64_s32(a##i##0), vreinterpretq_s64_s32(a##i##1)))); \
  vst1q_s32(to + 4, vreinterpretq_s32_s64(zip(vreinterpretq_s64_s32(a##i##2), vreinterpretq_s64_s32(a##i##3))));
#define STORE(i)                                  \
  STORE_ROW(acc + BLOCK * 2 * (i), vzip1q_s64, i) \
  STORE_ROW(acc + BLOCK * (2 * (i) + 1), vzip2q_s64, i)
/* 8 inputs. */
#define STEP(P)                                 \
  {                                             \
    int8x16_t x0, x1, x2, x3, w0, w1, w2, w3;   \
    load_pair(&w, &w0, &w1);                    \
    load_pair(&w, &w2, &w3);                    \
    load_pair(&x, &x0, &x1);                    \
    load_pair(&x, &x2, &x3);                    \
    PAIRS##P(DOT)(void) x1, (void)x2, (void)x3; \
  }
/* 2 P rows of x by 8 outputs, acc [2 P][16]. */
#define TILE_OF(P)                                                                                    \
  static void tile##P(int32_t *acc, const int8_t *w, const int8_t *x, size_t bytes) {                 \
    PAIRS##P(START) for (size_t left = bytes / 16; left > 0; left--){STEP(P) STEP(P)} PAIRS##P(STORE) \
  }
TILE_OF(1)
TILE_OF(2)
TILE_OF(4)

typedef struct panel {
  int8_t *weights; /* [blocks][2][laid_bytes][8] */
  int8_t *x;       /* [laid_bytes][8] */
  block of[WIDE / BLOCK];
  int32_t blocks;
} panel;

static void fill_panel(const job *j, panel *p, int32_t n, int32_t n1) {
  size_t bytes = row_bytes(j->w->k), half = laid_bytes(j->w->k) * TILE;
  int8_t *to = p->weights;
  p->blocks = 0;
  for (int32_t most = panel_blocks(j->w->k); p->blocks < most && n < n1; n += BLOCK) {
    block b = block_at(j, n, n1);
    lay_out(to, b.rows, b.stride, TILE, bytes);
    lay_out(to + half, b.rows + TILE * b.stride, b.stride, TILE, bytes);
    b.laid = to;
    b.laid_half = half;
    to += 2 * half;
    p->of[p->blocks++] = b;
  }
}

/** Rows i ... i + rows - 1 of x, 8 at most, by the panel. */
static void rows_by_panel(job *j, const panel *p, int32_t i, int32_t rows) {
  void (*tile)(int32_t *, const int8_t *, const int8_t *, size_t) = rows > 4 ? tile4 : rows > 2 ? tile2 : tile1;
  int32_t acc[TILE * BLOCK];
  size_t laid = laid_bytes(j->w->k), x_stride = (size_t)j->x->q_stride;
  const int8_t *w = p->weights;
  lay_out(p->x, j->x->q + (size_t)i * x_stride, x_stride, rows, row_bytes(j->w->k));
  for (int32_t b = 0; b < p->blocks; b++, w += 2 * laid * TILE) {
    tile(acc, w, p->x, laid);
    tile(acc + TILE, w + laid * TILE, p->x, laid);
    for (int32_t r = 0; r < rows; r++) finish_row(j, &p->of[b], i + r, acc + BLOCK * r);
  }
}

void otr_linear_i8mm(otr_found *found, float *y, size_t y_stride, const otr_quantized *x, const otr_host_weight *w,
                     int32_t m, int32_t n0, int32_t n1, void *scratch) {
  if (m <= FEW) {
    otr_linear_dotprod(found, y, y_stride, x, w, m, n0, n1, scratch);
    return;
  }
  job j = {.x = x, .w = w, .y = y, .y_stride = y_stride};
  panel p;
  p.x = job_begin(&j, scratch);
  p.weights = p.x + laid_bytes(w->k) * TILE;
  for (int32_t n = n0; n < n1; n += BLOCK * p.blocks) {
    fill_panel(&j, &p, n, n1);
    for (int32_t i = 0; i < m; i += TILE) rows_by_panel(&j, &p, i, m - i < TILE ? m - i : TILE);
  }
  job_end(&j, found);
}
