// SPDX-License-Identifier: Apache-2.0
/* LLM.int8() and f16 linears with AVX-512 VNNI.
 *
 * vpdpbusd multiplies unsigned by signed bytes: the weights are the unsigned side, w + 128 (their bits ^ 0x80), and
 * 128 * sum(q) is taken off again; all of it modulo 2^32, where the true sum fits.
 *
 * A few rows of x: weight rows are streamed, 4 at a time, and an outlier's weights are taken from each while it is in
 * L1. More rows: `width` weight rows are packed to a panel [k/4][width][4] that stays in L2 for all rows of x.
 * Rows of one input have mostly the same few outlier features: these columns of the panel are made f32 once. Where they
 * differ, an outlier's weights are picked from the panel. */
#include <immintrin.h>

#include "linear_x86.h"

#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#define NO_UNROLL _Pragma("nounroll")
#else
#define UNROLL _Pragma("GCC unroll 4")
#define NO_UNROLL _Pragma("GCC unroll 1")
#endif

enum {
  WIDE = 64,                     /* outputs of a panel */
  NARROW = 32,                   /* the same where k is large, so that the panel stays in L2 */
  WIDE_MAX_K = 8192,             /* most inputs of a wide panel */
  TILE_ROWS = 6,                 /* rows of x that share a load of the panel */
  STREAM_ROWS = OTR_STREAM_ROWS, /* most rows of x for which weights are streamed, not packed */
  STREAMS = OTR_STREAMS_AVX512,  /* places at which a weight is streamed */
  STREAM_AHEAD = 1024            /* bytes that streamed weights are asked for ahead of their use */
};

typedef struct job {
  const otr_quantized *x;
  const otr_host_weight *w;
  float *y;
  size_t y_stride;
  int32_t m;
  uint8_t *panel;      /* [k16 / 4][width][4] of w ^ 0x80 */
  int32_t *acc;        /* [TILE_ROWS][WIDE], streaming [m][STREAMS][16] */
  float *scale, *bias; /* [WIDE] of the panel's outputs, 0 beyond the last */
  float *sum;          /* [4][WIDE] each lane's sum of a row's outliers */
  float *column;       /* [OTR_COLUMNS][WIDE] weights of the features in x->columns, if they are few */
  const uint8_t *ahead; /* weights to ask for while this panel is used */
  __m512i worst;        /* of otr_found */
} job;

/* k rounded up to what a weight row surely holds. */
static size_t row_bytes(int32_t k) {
  return ((size_t)k + 15) & ~(size_t)15;
}
static int32_t panel_width(int32_t k) {
  return k <= WIDE_MAX_K ? WIDE : NARROW;
}

/* Most outliers of a row that is streamed; a panel's memory holds STREAM_ROWS times STREAMS blocks of their weights. */
static int32_t most_picked(int32_t k) {
  return k / 8;
}

/* In the order of job's arrays. */
size_t otr_linear_scratch_avx512vnni(int32_t k) {
  return (TILE_ROWS + 2 + 4 + OTR_COLUMNS) * WIDE * sizeof(float) + row_bytes(k) * (size_t)panel_width(k);
}

static void lay_out(job *j, void *scratch) {
  j->acc = scratch;
  j->scale = (float *)(void *)(j->acc + TILE_ROWS * WIDE);
  j->bias = j->scale + WIDE;
  j->sum = j->bias + WIDE;
  j->column = j->sum + 4 * WIDE;
  j->panel = (uint8_t *)(j->column + OTR_COLUMNS * WIDE);
}

/* The first n of 16, for any n. */
INLINE __mmask16 mask16(int32_t n) {
  return (__mmask16)(n >= 16 ? 0xffffu : n <= 0 ? 0u : (1u << n) - 1u);
}

/* f16 bits of a file as the contract reads them: exponent 0 is +0, exponent 31 is +-65504. */
INLINE __m512i f16_tidy(__m512i h) {
  __m512i a = _mm512_min_epu16(_mm512_and_si512(h, _mm512_set1_epi16(0x7fff)), _mm512_set1_epi16(0x7bff));
  __mmask32 normal = _mm512_cmpgt_epi16_mask(a, _mm512_set1_epi16(0x03ff));
  __m512i sign = _mm512_and_si512(h, _mm512_set1_epi16((short)0x8000));
  return _mm512_maskz_mov_epi16(normal, _mm512_or_si512(a, sign));
}

/* y[0..15] = tidy(v + bias), where `live`. */
INLINE void finish(__m512i *worst, float *y, __m512 v, const float *bias, __mmask16 live) {
  if (bias) v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(live, bias));
  __m512i a = _mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32(OTR_BITS_ABS));
  *worst = _mm512_mask_max_epu32(*worst, live, *worst, a);
  __mmask16 large = _mm512_cmpge_epu32_mask(a, _mm512_set1_epi32(OTR_BITS_2M40));
  _mm512_mask_storeu_ps(y, live, _mm512_maskz_mov_ps(large, v));
}

/* What takes the 128 of each weight off again, modulo 2^32. */
INLINE int32_t shift_of(const job *j, int32_t i) {
  return (int32_t)(0u - (uint32_t)j->x->sum[i] * 128u);
}

/* Place of feature f in the static columns, or -1. */
INLINE int32_t static_place(const otr_host_weight *w, int32_t f) {
  if (w->n_static == 0) return -1;
  return w->static_slot ? w->static_slot[f] : f;
}

/* 16 outputs from n of a static column. */
INLINE __m512 static_weights(const otr_host_weight *w, int32_t place, int32_t n, int32_t n1) {
  __mmask16 live = n < n1 ? mask16(n1 - n) : (__mmask16)0;
  __m512i h = _mm512_maskz_loadu_epi16(live, w->static_cols + (size_t)place * (size_t)w->n + n);
  return _mm512_cvtph_ps(_mm512_castsi512_si256(f16_tidy(h)));
}

/* 4 x 4 dwords in each 128-bit lane. */
INLINE void transpose4x4(__m512i r[4]) {
  __m512i a = _mm512_unpacklo_epi32(r[0], r[1]), b = _mm512_unpackhi_epi32(r[0], r[1]);
  __m512i c = _mm512_unpacklo_epi32(r[2], r[3]), d = _mm512_unpackhi_epi32(r[2], r[3]);
  r[0] = _mm512_unpacklo_epi64(a, c);
  r[1] = _mm512_unpackhi_epi64(a, c);
  r[2] = _mm512_unpacklo_epi64(b, d);
  r[3] = _mm512_unpackhi_epi64(b, d);
}

/* 16 bytes of each of 16 rows to 4 quads of 16 outputs. Four rows' pieces share a register, so that what remains is a
 * transposition in each lane. */
INLINE void pack_piece(uint8_t *to, size_t quad_stride, const uint8_t *from, size_t row_stride) {
  const __m512i flip = _mm512_set1_epi8((char)0x80);
  const uint8_t *row4 = from + 4 * row_stride, *row8 = row4 + 4 * row_stride, *row12 = row8 + 4 * row_stride;
  __m512i r[4];
  UNROLL for (size_t a = 0; a < 4; a++) {
    __m512i v = _mm512_castsi128_si512(_mm_loadu_si128((const void *)(from + a * row_stride)));
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const void *)(row4 + a * row_stride)), 1);
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const void *)(row8 + a * row_stride)), 2);
    r[a] = _mm512_inserti32x4(v, _mm_loadu_si128((const void *)(row12 + a * row_stride)), 3);
  }
  transpose4x4(r);
  UNROLL for (size_t a = 0; a < 4; a++)
    _mm512_store_si512(to + a * quad_stride, _mm512_xor_si512(r[a], flip));
}

/* Fewer than 16 rows, the last of a weight. */
static void pack_rest(uint8_t *to, size_t quad_stride, const uint8_t *from, size_t row_stride, size_t bytes, int32_t rows) {
  for (size_t k = 0; k < bytes; k += 4, to += quad_stride) {
    for (int32_t r = 0; r < rows; r++) {
      uint32_t quad;
      memcpy(&quad, from + (size_t)r * row_stride + k, sizeof quad);
      quad ^= 0x80808080u;
      memcpy(to + 4 * r, &quad, sizeof quad);
    }
  }
}

/* The panel of rows n ... n1 - 1; what lies beyond them stays as it is: nobody sees those outputs. */
static void pack(const job *j, int32_t n, int32_t n1, int32_t width) {
  size_t bytes = row_bytes(j->w->k), quad_stride = (size_t)width * 4, row_stride = (size_t)j->w->row_stride;
  for (int32_t r = 0; r < width && n + r < n1; r += 16) {
    const uint8_t *from = (const uint8_t *)j->w->data + (size_t)(n + r) * row_stride;
    uint8_t *to = j->panel + (size_t)r * 4;
    if (n1 - n - r < 16) {
      pack_rest(to, quad_stride, from, row_stride, bytes, n1 - n - r);
      continue;
    }
    for (size_t k = 0; k < bytes; k += 16, to += 4 * quad_stride) pack_piece(to, quad_stride, from + k, row_stride);
  }
}

/* The tiles: `R` rows of x by `C` vectors of outputs, accumulators by name, so that every compiler keeps them in
 * registers. */
#define ROWS1(F, C) F(0, C)
#define ROWS2(F, C) ROWS1(F, C) F(1, C)
#define ROWS4(F, C) ROWS2(F, C) F(2, C) F(3, C)
#define ROWS6(F, C) ROWS4(F, C) F(4, C) F(5, C)
#define COLS2(F, i) F(i, 0) F(i, 1)
#define COLS4(F, i) COLS2(F, i) F(i, 2) F(i, 3)
#define START(i, c) __m512i a##i##c = _mm512_set1_epi32(start[i]);
#define ROW_START(i, C)                          \
  const int8_t *x##i = q + (size_t)(i)*q_stride; \
  COLS##C(START, i)
#define WEIGHTS(i, c) __m512i w##c = _mm512_load_si512(panel + 64 * (c));
#define DOT(i, c) a##i##c = _mm512_dpbusd_epi32(a##i##c, w##c, xv);
#define ROW_DOT(i, C)                     \
  {                                       \
    int32_t bits;                         \
    memcpy(&bits, x##i + k, sizeof bits); \
    __m512i xv = _mm512_set1_epi32(bits); \
    COLS##C(DOT, i)                       \
  }
#define STORE(i, c) _mm512_store_si512(acc + (i)*WIDE + 16 * (c), a##i##c);
#define ROW_STORE(i, C) COLS##C(STORE, i)
#define QUAD(R, C)                                             \
  {                                                            \
    COLS##C(WEIGHTS, 0) ROWS##R(ROW_DOT, C) panel += 64 * (C); \
    k += 4;                                                    \
  }
#define TILE(R, C)                                                                                              \
  static void tile##R##x##C(int32_t *acc, const int32_t *start, const uint8_t *panel, const int8_t *q,          \
                            size_t q_stride, size_t bytes, const uint8_t *ahead) {                              \
    ROWS##R(ROW_START, C);                                                                                      \
    for (size_t k = 0; k < bytes; ahead += 64) {                                                                \
      QUAD(R, C) QUAD(R, C) QUAD(R, C) QUAD(R, C) _mm_prefetch((const char *)ahead, _MM_HINT_T1);               \
    }                                                                                                           \
    ROWS##R(ROW_STORE, C)                                                                                       \
  }
/* The tile that does nearly all the work, in assembly: gcc's code for the text above runs at 0.7 of the peak, this at
 * 0.95, and clang's the same. zmm0 ... zmm23: accumulators, 4 a row; zmm24 ... zmm27: weights of a quad. */
#define ASM_DOTS(a, b, c, d, x)                          \
  "vpdpbusd %%zmm" #x ", %%zmm24, %%zmm" #a "\n\t"      \
  "vpdpbusd %%zmm" #x ", %%zmm25, %%zmm" #b "\n\t"      \
  "vpdpbusd %%zmm" #x ", %%zmm26, %%zmm" #c "\n\t"      \
  "vpdpbusd %%zmm" #x ", %%zmm27, %%zmm" #d "\n\t"
#define ASM_QUAD(at, w0, w1, w2, w3)                                                      \
  "vmovdqa64 " #w0 "(%[panel]), %%zmm24\n\t"                                             \
  "vmovdqa64 " #w1 "(%[panel]), %%zmm25\n\t"                                             \
  "vmovdqa64 " #w2 "(%[panel]), %%zmm26\n\t"                                             \
  "vmovdqa64 " #w3 "(%[panel]), %%zmm27\n\t"                                             \
  "vpbroadcastd " #at "(%[x0]), %%zmm28\n\t"                                             \
  "vpbroadcastd " #at "(%[x0],%[stride]), %%zmm29\n\t"                                   \
  ASM_DOTS(0, 1, 2, 3, 28)                                                                \
  "vpbroadcastd " #at "(%[x0],%[stride],2), %%zmm30\n\t"                                 \
  ASM_DOTS(4, 5, 6, 7, 29)                                                                \
  "vpbroadcastd " #at "(%[x3]), %%zmm31\n\t"                                             \
  ASM_DOTS(8, 9, 10, 11, 30)                                                              \
  "vpbroadcastd " #at "(%[x3],%[stride]), %%zmm28\n\t"                                   \
  ASM_DOTS(12, 13, 14, 15, 31)                                                            \
  "vpbroadcastd " #at "(%[x3],%[stride],2), %%zmm29\n\t"                                 \
  ASM_DOTS(16, 17, 18, 19, 28)                                                            \
  ASM_DOTS(20, 21, 22, 23, 29)
#define ASM_START(row, a, b, c, d)                         \
  "vpbroadcastd 4*" #row "(%[start]), %%zmm" #a "\n\t"   \
  "vmovdqa64 %%zmm" #a ", %%zmm" #b "\n\t"               \
  "vmovdqa64 %%zmm" #a ", %%zmm" #c "\n\t"               \
  "vmovdqa64 %%zmm" #a ", %%zmm" #d "\n\t"
#define ASM_STORE(a) "vmovdqa64 %%zmm" #a ", 64*" #a "(%[acc])\n\t"
#define ASM_ALL(F)                                                                                    \
  F(0) F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8) F(9) F(10) F(11) F(12) F(13) F(14) F(15) F(16) F(17)   \
  F(18) F(19) F(20) F(21) F(22) F(23)
static void tile6x4(int32_t *acc, const int32_t *start, const uint8_t *panel, const int8_t *q, size_t q_stride,
                    size_t bytes, const uint8_t *ahead) {
  const int8_t *x3 = q + 3 * q_stride, *end = q + bytes;
  __asm__ volatile(ASM_START(0, 0, 1, 2, 3)
                   ASM_START(1, 4, 5, 6, 7)
                   ASM_START(2, 8, 9, 10, 11)
                   ASM_START(3, 12, 13, 14, 15)
                   ASM_START(4, 16, 17, 18, 19)
                   ASM_START(5, 20, 21, 22, 23)
                   ".p2align 6\n"
                   "1:\n\t"
                   ASM_QUAD(0, 0, 64, 128, 192)
                   ASM_QUAD(4, 256, 320, 384, 448)
                   ASM_QUAD(8, 512, 576, 640, 704)
                   ASM_QUAD(12, 768, 832, 896, 960)
                   "prefetcht1 (%[ahead])\n\t"
                   "add $64, %[ahead]\n\t"
                   "add $1024, %[panel]\n\t"
                   "add $16, %[x3]\n\t"
                   "add $16, %[x0]\n\t"
                   "cmp %[end], %[x0]\n\t"
                   "jb 1b\n\t"
                   ASM_ALL(ASM_STORE)
                   : [panel] "+r"(panel), [x0] "+r"(q), [x3] "+r"(x3), [ahead] "+r"(ahead)
                   : [stride] "r"(q_stride), [end] "r"(end), [acc] "r"(acc), [start] "r"(start)
                   : "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
                     "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16", "xmm17", "xmm18", "xmm19", "xmm20",
                     "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31");
}
TILE(4, 4)
TILE(2, 4)
TILE(1, 4)
TILE(6, 2)
TILE(4, 2)
TILE(2, 2)
TILE(1, 2)

/* acc [R][WIDE] = start[row] + x W, start being what the shifted weights give too much. */
typedef void (*tile_fn)(int32_t *acc, const int32_t *start, const uint8_t *panel, const int8_t *q, size_t q_stride,
                        size_t bytes, const uint8_t *ahead);

/* Rows that the next tile takes of `left`, and the tile. */
static int32_t choose_tile(int32_t left, int32_t width, tile_fn *tile) {
  static const tile_fn tiles[2][4] = {{tile6x4, tile4x4, tile2x4, tile1x4}, {tile6x2, tile4x2, tile2x2, tile1x2}};
  int32_t rows = left >= 6 ? 6 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
  *tile = tiles[width == NARROW][rows == 6 ? 0 : rows == 4 ? 1 : rows == 2 ? 2 : 3];
  return rows;
}

/* 16 outputs' weights of a feature: vpdpbusd picks byte `pick` of the quad. */
INLINE __m512 panel_weights(const uint8_t *quad, __m512i pick) {
  return _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(_mm512_set1_epi32(-128), _mm512_load_si512(quad), pick));
}

/* The 16 weights of feature f at outputs n + c ..., wherever they are. */
INLINE __m512 any_weights(const job *j, int32_t f, int32_t n, int32_t n1, int32_t c, int32_t width) {
  int32_t place = static_place(j->w, f);
  if (place >= 0) return static_weights(j->w, place, n + c, n1);
  return panel_weights(j->panel + ((size_t)(f >> 2) * (size_t)width + (size_t)c) * 4, _mm512_set1_epi32(1 << 8 * (f & 3)));
}

static void make_columns(const job *j, int32_t n, int32_t n1, int32_t width) {
  float *to = j->column;
  const otr_columns *l = j->x->columns;
  for (int32_t s = 0; s < l->n; s++, to += WIDE)
    for (int32_t c = 0; c < width; c += 16) _mm512_store_ps(to + c, any_weights(j, l->feature[s], n, n1, c, width));
}

/* j->sum [4][WIDE] = the lanes' sums of row i's outliers, however many. */
static void sum_lanes(const job *j, int32_t i, int32_t n, int32_t n1, int32_t width) {
  const int32_t *index = j->x->out_index + (size_t)i * (size_t)j->x->k;
  const float *value = j->x->out_value + (size_t)i * (size_t)j->x->k;
  memset(j->sum, 0, 4 * WIDE * sizeof *j->sum);
  for (int32_t t = 0; t < j->x->n_out[i]; t++) {
    float *lane = j->sum + (index[t] & 3) * WIDE;
    __m512 x = _mm512_set1_ps(value[t] * j->x->pow2e[i]);
    for (int32_t c = 0; c < width; c += 16) {
      __m512 w = any_weights(j, index[t], n, n1, c, width);
      _mm512_store_ps(lane + c, _mm512_fmadd_ps(w, x, _mm512_load_ps(lane + c)));
    }
  }
}

/* A row's end, y = acc * (scale_i * scale_w) + outliers * scale_w + bias, for 16 C outputs at once. The outliers come by
 * lane (kernels.h, otr_outlier_lanes): partial sums stay in registers, and a round takes one of each of two lanes, so
 * that the loops' ends are known early. */
#define LANE_ZERO(l, c) __m512 p##l##c = _mm512_setzero_ps();
#define LANE_LOAD(l, c) p##l##c = _mm512_load_ps(sum + WIDE * (l) + 16 * (c));
#define LANE_COLUMN(l, c) p##l##c = _mm512_fmadd_ps(_mm512_load_ps(column + 16 * (c)), x, p##l##c);
#define LANE_PANEL(l, c) p##l##c = _mm512_fmadd_ps(panel_weights(quad + 64 * (c), pick), x, p##l##c);
#define FROM_COLUMN(l, C)                                                       \
  {                                                                             \
    const __m512 x = _mm512_set1_ps(o->at[r][l].x);                                \
    const float *column = j->column + (size_t)slot[o->at[r][l].feature] * WIDE; \
    COLS##C(LANE_COLUMN, l)                                                     \
  }
#define FROM_PANEL(l, C)                                                                      \
  {                                                                                           \
    const __m512 x = _mm512_set1_ps(o->at[r][l].x);                                              \
    const uint8_t *quad = j->panel + (size_t)((uint32_t)o->at[r][l].feature >> 2) * (64 * (C));  \
    const __m512i pick = _mm512_set1_epi32(1 << 8 * (l));                                     \
    COLS##C(LANE_PANEL, l)                                                                    \
  }
#define ROUNDS(FROM, C)                                             \
  NO_UNROLL for (int32_t r = 0; r < o->rounds[0]; r++) {            \
    FROM(0, C) FROM(2, C)                                           \
  }                                                                 \
  NO_UNROLL for (int32_t r = 0; r < o->rounds[1]; r++) {            \
    FROM(1, C) FROM(3, C)                                           \
  }
#define LIVE(_, c) const __mmask16 live##c = mask16(n1 - n - 16 * (c));
#define PRODUCT(_, c)                                                                                         \
  const __m512 scale##c = _mm512_load_ps(j->scale + 16 * (c));                                                \
  __m512 v##c = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_load_si512(acc + 16 * (c))), _mm512_mul_ps(scale_i, scale##c));
#define OUTLIERS(_, c)                                                                       \
  {                                                                                          \
    __m512 o##c = _mm512_add_ps(_mm512_add_ps(p0##c, p2##c), _mm512_add_ps(p1##c, p3##c));   \
    v##c = _mm512_add_ps(v##c, _mm512_mul_ps(o##c, scale##c));                               \
  }
#define BIAS(_, c) v##c = _mm512_add_ps(v##c, _mm512_load_ps(j->bias + 16 * (c)));
#define TIDY(_, c)                                                                                             \
  {                                                                                                            \
    __m512i a = _mm512_and_si512(_mm512_castps_si512(v##c), abs);                                              \
    worst = _mm512_max_epu32(worst, a);                                                                        \
    _mm512_mask_storeu_ps(y + 16 * (c), live##c, _mm512_maskz_mov_ps(_mm512_cmpge_epu32_mask(a, least), v##c)); \
  }
#define FINISH_ROWS(name, C)                                                                       \
  static void name(job *j, int32_t i, int32_t rows, int32_t n, int32_t n1) {                       \
    const __m512i abs = _mm512_set1_epi32(OTR_BITS_ABS), least = _mm512_set1_epi32(OTR_BITS_2M40); \
    const int32_t *acc = j->acc;                                                                   \
    const float *sum = j->sum;                                                                     \
    const uint8_t *slot = j->x->columns->slot;                                                     \
    float *y = j->y + (size_t)i * j->y_stride + n;                                                 \
    __m512i worst = j->worst;                                                                      \
    COLS##C(LIVE, 0)                                                                               \
    for (const int32_t end = i + rows; i < end; i++, acc += WIDE, y += j->y_stride) {              \
      const __m512 scale_i = _mm512_set1_ps(j->x->scale[i]);                                       \
      COLS##C(PRODUCT, 0)                                                                          \
      if (j->x->n_out[i] > 0) {                                                                    \
        const otr_outlier_lanes *o = &j->x->lanes[i];                                              \
        COLS##C(LANE_ZERO, 0) COLS##C(LANE_ZERO, 1) COLS##C(LANE_ZERO, 2) COLS##C(LANE_ZERO, 3)    \
        if (o->rounds[0] >= 0 && j->x->columns->n >= 0) {                                              \
          ROUNDS(FROM_COLUMN, C)                                                                   \
        } else if (o->rounds[0] >= 0 && j->w->n_static == 0) {                                     \
          ROUNDS(FROM_PANEL, C)                                                                    \
        } else {                                                                                   \
          sum_lanes(j, i, n, n1, 16 * (C));                                                        \
          COLS##C(LANE_LOAD, 0) COLS##C(LANE_LOAD, 1) COLS##C(LANE_LOAD, 2) COLS##C(LANE_LOAD, 3)  \
        }                                                                                          \
        COLS##C(OUTLIERS, 0)                                                                       \
      }                                                                                            \
      if (j->w->bias) { COLS##C(BIAS, 0) }                                                         \
      COLS##C(TIDY, 0)                                                                             \
    }                                                                                              \
    j->worst = worst;                                                                              \
  }
FINISH_ROWS(finish_x4, 4)
FINISH_ROWS(finish_x2, 2)

static void panel_rows(job *j, int32_t n, int32_t n1, int32_t width) {
  size_t bytes = row_bytes(j->w->k), q_stride = (size_t)j->x->q_stride;
  int32_t start[TILE_ROWS];
  tile_fn tile;
  for (int32_t i = 0, rows; i < j->m; i += rows) {
    rows = choose_tile(j->m - i, width, &tile);
    for (int32_t r = 0; r < rows; r++) start[r] = shift_of(j, i + r);
    tile(j->acc, start, j->panel, j->x->q + (size_t)i * q_stride, q_stride, bytes, j->ahead);
    j->ahead += bytes * 4; /* a line for 16 inputs */
    (width == WIDE ? finish_x4 : finish_x2)(j, i, rows, n, n1);
  }
}

/* Scales and bias of the panel's outputs. */
static void take_scales(const job *j, int32_t n, int32_t n1, int32_t width) {
  for (int32_t c = 0; c < width; c += 16) {
    __mmask16 live = n + c < n1 ? mask16(n1 - n - c) : (__mmask16)0;
    _mm512_store_ps(j->scale + c, _mm512_maskz_loadu_ps(live, j->w->scale + n + c));
    if (j->w->bias) _mm512_store_ps(j->bias + c, _mm512_maskz_loadu_ps(live, j->w->bias + n + c));
  }
}

static void linear_packed(job *j, int32_t n0, int32_t n1) {
  int32_t width = panel_width(j->w->k);
  const uint8_t *data = j->w->data;
  size_t row_stride = (size_t)j->w->row_stride;
  for (int32_t n = n0; n < n1; n += width) {
    pack(j, n, n1, width);
    take_scales(j, n, n1, width);
    make_columns(j, n, n1, width);
    j->ahead = data + (size_t)(n + width) * row_stride;
    panel_rows(j, n, n1, width);
  }
}

/* Streaming: 4 weight rows by R rows of x. */
#define S_ROWS1(F) F(0)
#define S_ROWS2(F) S_ROWS1(F) F(1)
#define S_ROWS3(F) S_ROWS2(F) F(2)
#define S_ROWS4(F) S_ROWS3(F) F(3)
#define S_START(i) __m512i a##i##0 = _mm512_setzero_si512(), a##i##1 = a##i##0, a##i##2 = a##i##0, a##i##3 = a##i##0;
#define S_DOT(i)                                                  \
  {                                                               \
    __m512i xv = _mm512_load_si512(q + (size_t)(i)*q_stride + k); \
    a##i##0 = _mm512_dpbusd_epi32(a##i##0, w0, xv);               \
    a##i##1 = _mm512_dpbusd_epi32(a##i##1, w1, xv);               \
    a##i##2 = _mm512_dpbusd_epi32(a##i##2, w2, xv);               \
    a##i##3 = _mm512_dpbusd_epi32(a##i##3, w3, xv);               \
  }
#define S_STORE(i) scatter4(acc + STREAMS * 16 * (i), sum4(a##i##0, a##i##1, a##i##2, a##i##3));
#define STREAM(R)                                                                                                    \
  static void stream##R(int32_t *acc, const uint8_t *const row[4], const int8_t *q, size_t q_stride, size_t bytes) { \
    const __m512i flip = _mm512_set1_epi8((char)0x80);                                                               \
    S_ROWS##R(S_START);                                                                                              \
    size_t k = 0;                                                                                                    \
    for (; k + 64 <= bytes; k += 64) {                                                                               \
      __m512i w0 = _mm512_xor_si512(_mm512_loadu_si512(row[0] + k), flip);                                           \
      __m512i w1 = _mm512_xor_si512(_mm512_loadu_si512(row[1] + k), flip);                                           \
      __m512i w2 = _mm512_xor_si512(_mm512_loadu_si512(row[2] + k), flip);                                           \
      __m512i w3 = _mm512_xor_si512(_mm512_loadu_si512(row[3] + k), flip);                                           \
      for (int r = 0; r < 4; r++) _mm_prefetch((const char *)(row[r] + k + STREAM_AHEAD), _MM_HINT_T0);              \
      S_ROWS##R(S_DOT)                                                                                               \
    }                                                                                                                \
    if (k < bytes) {                                                                                                 \
      __mmask64 rest = ((__mmask64)1 << (bytes - k)) - 1;                                                            \
      __m512i w0 = _mm512_xor_si512(_mm512_maskz_loadu_epi8(rest, row[0] + k), flip);                                \
      __m512i w1 = _mm512_xor_si512(_mm512_maskz_loadu_epi8(rest, row[1] + k), flip);                                \
      __m512i w2 = _mm512_xor_si512(_mm512_maskz_loadu_epi8(rest, row[2] + k), flip);                                \
      __m512i w3 = _mm512_xor_si512(_mm512_maskz_loadu_epi8(rest, row[3] + k), flip);                                \
      S_ROWS##R(S_DOT)                                                                                               \
    }                                                                                                                \
    S_ROWS##R(S_STORE)                                                                                               \
  }

/* The sums of four vectors. */
INLINE __m128i sum4(__m512i a, __m512i b, __m512i c, __m512i d) {
  __m512i r[4] = {a, b, c, d};
  transpose4x4(r);
  __m512i s = _mm512_add_epi32(_mm512_add_epi32(r[0], r[1]), _mm512_add_epi32(r[2], r[3]));
  __m256i h = _mm256_add_epi32(_mm512_castsi512_si256(s), _mm512_extracti64x4_epi64(s, 1));
  return _mm_add_epi32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
}

/* One output of each block. */
INLINE void scatter4(int32_t *acc, __m128i v) {
  acc[0] = _mm_cvtsi128_si32(v);
  acc[16] = _mm_extract_epi32(v, 1);
  acc[32] = _mm_extract_epi32(v, 2);
  acc[48] = _mm_extract_epi32(v, 3);
}

STREAM(1)
STREAM(2)
STREAM(3)
STREAM(4)

typedef void (*stream_fn)(int32_t *acc, const uint8_t *const row[4], const int8_t *q, size_t q_stride, size_t bytes);

/* Where the weights of row i's outliers are kept: [outlier][STREAMS][16]. */
INLINE int8_t *picked_of(const job *j, int32_t i) {
  return (int8_t *)j->panel + (size_t)i * (size_t)most_picked(j->x->k) * STREAMS * 16;
}

/* Takes the outliers' weights from the r-th row of each block, which is in L1. A function of its own: its addresses stay
 * in registers. */
static __attribute__((noinline)) void pick(const job *j, const uint8_t *const row[STREAMS], int32_t r) {
  const uint8_t *row0 = row[0], *row1 = row[1], *row2 = row[2], *row3 = row[3];
  for (int32_t i = 0; i < j->m; i++) {
    const int32_t *f = j->x->out_index + (size_t)i * (size_t)j->x->k, *end = f + j->x->n_out[i];
    uint8_t *to = (uint8_t *)picked_of(j, i) + r;
    for (; f < end; f++, to += STREAMS * 16) {
      to[0] = row0[*f];
      to[16] = row1[*f];
      to[32] = row2[*f];
      to[48] = row3[*f];
    }
  }
}

/* lanesum<4> of row i's outliers, outputs n ... n+15. */
static __m512 stream_outliers(const job *j, int32_t i, int32_t n, int32_t n1, const int8_t *picked) {
  const int32_t *index = j->x->out_index + (size_t)i * (size_t)j->x->k;
  const float *value = j->x->out_value + (size_t)i * (size_t)j->x->k;
  __m512 lanes[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
  for (int32_t t = 0; t < j->x->n_out[i]; t++, picked += STREAMS * 16) {
    int32_t f = index[t], place = static_place(j->w, f);
    __m512 v = place >= 0 ? static_weights(j->w, place, n, n1)
                          : _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_load_si128((const void *)picked)));
    lanes[f & 3] = _mm512_fmadd_ps(v, _mm512_set1_ps(value[t]), lanes[f & 3]);
  }
  return _mm512_add_ps(_mm512_add_ps(lanes[0], lanes[2]), _mm512_add_ps(lanes[1], lanes[3]));
}

/* Outputs n ... n+15 of row i: acc is sum (w + 128) q. */
static void finish_streamed(job *j, int32_t i, int32_t n, int32_t n1, const int32_t *acc, const int8_t *picked) {
  __mmask16 live = mask16(n1 - n);
  __m512 scale_w = _mm512_maskz_loadu_ps(live, j->w->scale + n);
  __m512i shift = _mm512_set1_epi32(shift_of(j, i));
  __m512 v = _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_load_si512(acc), shift));
  v = _mm512_mul_ps(v, _mm512_mul_ps(_mm512_set1_ps(j->x->scale[i]), scale_w));
  if (j->x->n_out[i] > 0) {
    __m512 o = _mm512_mul_ps(stream_outliers(j, i, n, n1, picked), _mm512_set1_ps(j->x->pow2e[i]));
    v = _mm512_add_ps(v, _mm512_mul_ps(o, scale_w));
  }
  const float *bias = j->w->bias ? j->w->bias + n : NULL;
  finish(&j->worst, j->y + (size_t)i * j->y_stride + n, v, bias, live);
}

/* A block of 16 outputs of each quarter at a time: a processor's own prefetching ends with a page, and of several
 * streams the others go on. */
static void linear_streamed(job *j, int32_t n0, int32_t n1) {
  static const stream_fn streams[STREAM_ROWS] = {stream1, stream2, stream3, stream4};
  size_t bytes = row_bytes(j->w->k), q_stride = (size_t)j->x->q_stride, row_stride = (size_t)j->w->row_stride;
  int32_t quarter = (n1 - n0 + 16 * STREAMS - 1) / (16 * STREAMS) * 16;
  for (int32_t n = n0; n < n0 + quarter; n += 16) {
    for (int32_t r = 0; r < 16; r++) {
      const uint8_t *row[STREAMS]; /* beyond the last: the last one again */
      for (int32_t c = 0; c < STREAMS; c++) {
        int32_t at = n + c * quarter + r;
        row[c] = (const uint8_t *)j->w->data + (size_t)(at < n1 ? at : n1 - 1) * row_stride;
      }
      streams[j->m - 1](j->acc + r, row, j->x->q, q_stride, bytes);
      pick(j, row, r);
    }
    for (int32_t c = 0, at = n; c < STREAMS && at < n1; c++, at += quarter) {
      _mm_prefetch((const char *)(j->w->scale + at + 16), _MM_HINT_T0);
      for (int32_t i = 0; i < j->m; i++)
        finish_streamed(j, i, at, n1, j->acc + (i * STREAMS + c) * 16, picked_of(j, i) + 16 * c);
    }
  }
}

/* Many outliers are cheaper from a panel. */
static int is_sparse(const otr_quantized *x, int32_t m) {
  for (int32_t i = 0; i < m; i++)
    if (x->n_out[i] > most_picked(x->k)) return 0;
  return 1;
}

static uint32_t worst_of(uint32_t worst, __m512i v) {
  uint32_t all = _mm512_reduce_max_epu32(v);
  return all > worst ? all : worst;
}

void otr_linear_avx512vnni(otr_found *found, float *y, size_t y_stride, const otr_quantized *x,
                           const otr_host_weight *w, int32_t m, int32_t n0, int32_t n1, void *scratch) {
  job j = {.x = x, .w = w, .y = y, .y_stride = y_stride, .m = m, .worst = _mm512_setzero_si512()};
  lay_out(&j, scratch);
  if (m <= STREAM_ROWS && is_sparse(x, m))
    linear_streamed(&j, n0, n1);
  else
    linear_packed(&j, n0, n1);
  found->worst = worst_of(found->worst, j.worst);
}

/* f16 linears: R rows of x by 4 outputs. */
#define H_START(i) __m512 a##i##0 = _mm512_setzero_ps(), a##i##1 = a##i##0, a##i##2 = a##i##0, a##i##3 = a##i##0;
#define H_DOT(i)                                                                                  \
  {                                                                                               \
    __m512 xv = _mm512_cvtph_ps(_mm256_load_si256((const void *)(x + (size_t)(i)*x_stride + k))); \
    a##i##0 = _mm512_fmadd_ps(xv, w0, a##i##0);                                                   \
    a##i##1 = _mm512_fmadd_ps(xv, w1, a##i##1);                                                   \
    a##i##2 = _mm512_fmadd_ps(xv, w2, a##i##2);                                                   \
    a##i##3 = _mm512_fmadd_ps(xv, w3, a##i##3);                                                   \
  }
#define H_STORE(i) _mm_store_ps(sums + 16 * (i), lanesum4(a##i##0, a##i##1, a##i##2, a##i##3));
#define HALF_WEIGHTS(r) __m512 w##r = _mm512_cvtph_ps(_mm256_load_si256((const void *)(w + (r)*halves + k)));
#define HALF_TILE(R)                                                                                            \
  static void half_tile##R(float *sums, const uint16_t *w, const uint16_t *x, size_t x_stride, size_t halves) { \
    S_ROWS##R(H_START);                                                                                         \
    for (size_t k = 0; k < halves; k += 16) {                                                                   \
      S_ROWS4(HALF_WEIGHTS)                                                                                     \
      S_ROWS##R(H_DOT)                                                                                          \
    }                                                                                                           \
    S_ROWS##R(H_STORE)                                                                                          \
  }

/* p[l] += p[l + 8], then 4. */
INLINE __m128 fold(__m512 p) {
  __m256 h = _mm256_add_ps(_mm512_castps512_ps256(p), _mm512_extractf32x8_ps(p, 1));
  return _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
}

/* The ends of four lanesum<16>. */
INLINE __m128 lanesum4(__m512 a, __m512 b, __m512 c, __m512 d) {
  __m128 p = fold(a), q = fold(b), r = fold(c), s = fold(d);
  __m128 pq = _mm_add_ps(_mm_movelh_ps(p, q), _mm_movehl_ps(q, p)); /* h = 2 */
  __m128 rs = _mm_add_ps(_mm_movelh_ps(r, s), _mm_movehl_ps(s, r));
  return _mm_add_ps(_mm_shuffle_ps(pq, rs, _MM_SHUFFLE(2, 0, 2, 0)), _mm_shuffle_ps(pq, rs, _MM_SHUFFLE(3, 1, 3, 1)));
}

#define S_ROWS6(F) S_ROWS4(F) F(4) F(5)
HALF_TILE(6)
HALF_TILE(4)
HALF_TILE(2)
HALF_TILE(1)

typedef void (*half_tile_fn)(float *sums, const uint16_t *w, const uint16_t *x, size_t x_stride, size_t halves);

static int32_t choose_half_tile(int32_t left, half_tile_fn *tile) {
  int32_t rows = left >= 6 ? 6 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
  *tile = rows == 6 ? half_tile6 : rows == 4 ? half_tile4 : rows == 2 ? half_tile2 : half_tile1;
  return rows;
}

/* Rows n ... n+3 of w (beyond n1: the last one again) to [4][halves], tidied. */
static void copy_halves(uint16_t *to, const otr_host_weight *w, int32_t n, int32_t n1, size_t halves) {
  for (int32_t r = 0; r < 4; r++, to += halves) {
    const uint16_t *row = (const uint16_t *)w->data + (size_t)(n + r < n1 ? n + r : n1 - 1) * (size_t)w->row_stride;
    for (size_t k = 0; k < halves; k += 32) {
      __mmask32 live = halves - k >= 32 ? 0xffffffffu : 0xffffu;
      _mm_prefetch((const char *)(row + k + STREAM_AHEAD / 2), _MM_HINT_T0);
      _mm512_mask_storeu_epi16(to + k, live, f16_tidy(_mm512_maskz_loadu_epi16(live, row + k)));
    }
  }
}

void otr_linear16_avx512vnni(otr_found *found, float *y, size_t y_stride, const otr_rounded *x,
                             const otr_host_weight *w, int32_t m, int32_t n0, int32_t n1, void *scratch) {
  float *sums = scratch; /* [TILE_ROWS][16] */
  uint16_t *weights = (uint16_t *)(void *)(sums + TILE_ROWS * 16);
  size_t halves = row_bytes(w->k), x_stride = (size_t)x->stride;
  __m512i worst = _mm512_setzero_si512();
  for (int32_t n = n0; n < n1; n += 16) {
    __mmask16 live = mask16(n1 - n);
    __m512 scale_w = _mm512_maskz_loadu_ps(live, w->scale + n);
    half_tile_fn tile;
    for (int32_t i = 0, rows; i < m; i += rows) {
      rows = choose_half_tile(m - i, &tile);
      for (int32_t r = 0; r < 16 && n + r < n1; r += 4) {
        uint16_t *four = weights + (size_t)r * halves;
        if (i == 0) copy_halves(four, w, n + r, n1, halves);
        tile(sums + r, four, x->x16 + (size_t)i * x_stride, x_stride, halves);
      }
      for (int32_t r = 0; r < rows; r++) {
        __m512 v = _mm512_mul_ps(_mm512_load_ps(sums + 16 * r), _mm512_set1_ps(x->pow2e[i + r]));
        finish(&worst, y + (size_t)(i + r) * y_stride + n, _mm512_mul_ps(v, scale_w), w->bias ? w->bias + n : NULL,
               live);
      }
    }
  }
  found->worst = worst_of(found->worst, worst);
}
