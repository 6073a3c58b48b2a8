// SPDX-License-Identifier: Apache-2.0
/* The CPU kernel table: the reference fills it (reference.c), an ISA overwrites entries (backends/x86, backends/neon),
 * the executor (executor.c) calls it. Kernels work on host memory and on a range of rows or outputs; they never
 * allocate, never start threads, and never fail: shapes are checked before they are called.
 *
 * Each computes exactly the bits of docs/contract.md for every input, also for NaN and Inf (no crash, no undefined
 * behaviour; the bits are then open). Rounding is to nearest even and subnormals are kept (the executor sees to it). */
#ifndef OTR_CPU_KERNELS_H
#define OTR_CPU_KERNELS_H

#include <stdalign.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend.h"
#include "numerics.h"
#include "ops.h"

/** What a worker's kernels noticed; the executor merges these after each pass. */
typedef struct otr_found {
  uint32_t worst;       /* max of the bits of |x| over all values that were tidied: >= OTR_BITS_2P48 is NONFINITE */
  uint64_t saturations; /* values clamped at 65504 */
  uint64_t outliers;    /* elements in O_i */
} otr_found;

/** tidy(x), noting a NONFINITE value. */
static inline float otr_tidy_found(float x, otr_found *found) {
  uint32_t a = OTR_BITS(x) & OTR_BITS_ABS;
  if (a > found->worst) found->worst = a;
  return otr_tidy(x);
}

/** otr_weight with host addresses. Readable beyond the last row: nothing; rows: row_stride elements, zero from k on,
 *  16-byte aligned. scale, bias: [n]. */
typedef struct otr_host_weight {
  otr_weight_type type;
  int32_t n, k;
  int64_t row_stride;
  int32_t n_static;
  const void *data;           /* int8 [n, row_stride] or f16 bits [n, row_stride] */
  const float *scale;         /* [n] */
  const float *bias;          /* [n] or NULL */
  const int32_t *static_slot; /* [k] place in static_cols or -1; NULL: n_static is 0, or k (feature = place) */
  const uint16_t *static_cols;/* [n_static, n] f16 bits, as a file gave them: read as the contract says */
} otr_host_weight;

/** An outlier in a lane's list; feature 0 with x = 0 adds nothing. */
typedef struct otr_outlier_place {
  int32_t feature;
  float x; /* x16 * 2^e_i: exact, and so are its products */
} otr_outlier_place;

/** A row's outliers once more, by lane (feature mod 4) and ascending in it, where each lane has at most
 *  OTR_LANE_OUTLIERS of them: kernels that go over the same row for many outputs need not sort them again. Two rounds
 *  of all lanes lie in two cache lines: most rows need no more. */
#define OTR_LANE_OUTLIERS 8
typedef struct otr_outlier_lanes {
  alignas(64) uint8_t count[4]; /* outliers of each lane */
  int8_t rounds[2]; /* most outliers of lanes 0 and 2, of lanes 1 and 3; rounds[0] = -1: too many for this form */
  otr_outlier_place at[OTR_LANE_OUTLIERS][4]; /* [round][lane]; a lane without one in its pair's round: adds nothing */
} otr_outlier_lanes;

/** Features that are outliers of some row of a linear's input: mostly the same few. */
#define OTR_COLUMNS 64
typedef struct otr_columns {
  int32_t n; /* -1: more than OTR_COLUMNS */
  int32_t feature[OTR_COLUMNS];
  uint8_t slot[]; /* [k] place in `feature` of a feature that is there, and of feature 0 some place */
} otr_columns;

/** What QUANTIZE makes of up to max_rows rows. q_stride = k rounded up to 64; q is zero from k to q_stride. */
typedef struct otr_quantized {
  int32_t k, q_stride;
  int8_t *q;         /* [max_rows, q_stride] 64-byte aligned */
  float *scale;      /* [max_rows] scale_i */
  float *pow2e;      /* [max_rows] 2^e_i */
  int32_t *sum;      /* [max_rows] sum of q over k (kernels that shift the weights to unsigned need it) */
  int32_t *n_out;    /* [max_rows] |O_i| */
  int32_t *out_index;/* [max_rows, k] O_i ascending; row i starts at i * k */
  float *out_value;  /* [max_rows, k] x16 as f32 */
  otr_outlier_lanes *lanes; /* [max_rows] made of the two by otr_quantized_group */
  const otr_columns *columns; /* of all rows, for a linear that wants_columns; else NULL */
} otr_quantized;

/** What ROUND16 makes: x16 as f16 bits, zero from k to stride (k rounded up to 32). */
typedef struct otr_rounded {
  int32_t k, stride;
  uint16_t *x16; /* [max_rows, stride] 64-byte aligned */
  float *pow2e;  /* [max_rows] */
} otr_rounded;

/** Fills lanes[row]: the last step of quantizing a row. */
void otr_quantized_group(const otr_quantized *out, int32_t row);

/** Lists the outlier features of rows [0, m). */
void otr_quantized_columns(const otr_quantized *x, int32_t m, otr_columns *out);

/** Bytes of the two layouts, and their views of a 64-byte aligned base. */
size_t otr_quantized_bytes(int32_t max_rows, int32_t k);
otr_quantized otr_quantized_view(void *base, int32_t max_rows, int32_t k);
size_t otr_rounded_bytes(int32_t max_rows, int32_t k);
otr_rounded otr_rounded_view(void *base, int32_t max_rows, int32_t k);

/* A KV page on the CPU: for each layer and KV head, K as f16 [head_dim][256] (positions contiguous), then V as f16
 * [256][head_dim]; then OTR_PAGE_SLACK bytes, so that a vector may read past the last row. All of it is always finite. */
#define OTR_PAGE_SLACK 128
static inline size_t otr_page_head_halves(const otr_kv_shape *s) { return (size_t)s->head_dim * OTR_CHUNK; }
static inline uint16_t *otr_page_k(void *page, const otr_kv_shape *s, int32_t layer, int32_t head) {
  return (uint16_t *)page + ((size_t)layer * (size_t)s->n_kv_heads + (size_t)head) * 2 * otr_page_head_halves(s);
}
static inline uint16_t *otr_page_v(void *page, const otr_kv_shape *s, int32_t layer, int32_t head) {
  return otr_page_k(page, s, layer, head) + otr_page_head_halves(s);
}

/** A block of attention: `n` rows of one sequence at ascending positions, and the query heads of one KV head. */
typedef struct otr_attend {
  float *out;          /* row i at out + i * row_stride */
  const uint16_t *q16; /* f16 bits, row i at q16 + i * row_stride */
  int32_t row_stride;  /* n_heads * head_dim */
  int32_t n;           /* rows */
  int32_t first_position;
  int32_t kv_head, group;   /* query heads kv_head * group … + group − 1 */
  int32_t head_dim, window; /* window 0: none */
  float scale;
  const float *slopes; /* [n_heads] or NULL */
  void *const *page_base; /* [position / 256] host address of each page, NULL: not visible */
  otr_kv_shape kv;
  int32_t kv_layer;
} otr_attend;

#define OTR_STREAM_ROWS 4 /* of x: for more, weights are worth laying out anew */

/* name, result, parameters */
typedef struct otr_cpu_kernels {
  const char *isa;

  /** n_rows rows of `width` (a row's groups count as rows). RMS: y = tidy((x * rsqrt(s + eps)) * g). out may be x. */
  void (*norm)(otr_found *found, float *out, const float *x, const float *gain, const float *bias, otr_norm_kind kind,
               float eps, int32_t width, int32_t n_rows);
  /** Rows [r0, r1) of x [.., k]. */
  void (*quantize)(otr_found *found, const otr_quantized *out, const float *x, otr_rule rule, int32_t r0, int32_t r1);
  void (*round16)(const otr_rounded *out, const float *x, int32_t r0, int32_t r1);
  /** Outputs [n0, n1) of all m rows: y[i * y_stride + n]. scratch: linear_scratch(k) bytes, 64-byte aligned. n0 is a
   *  multiple of 16 (m < 8) or 64, and so is n1 unless it is w->n. */
  void (*linear)(otr_found *found, float *y, size_t y_stride, const otr_quantized *x, const otr_host_weight *w, int32_t m,
                 int32_t n0, int32_t n1, void *scratch);
  size_t (*linear_scratch)(int32_t k);
  /** Places at which `linear` reads the weights for up to OTR_STREAM_ROWS rows at once: so many parts of its outputs, in
   *  blocks of 16. 0: nothing is asked for ahead of it. At most OTR_PLACES. */
  int32_t streams;
  bool wants_columns; /* `linear` reads x->columns: listed once for all of its workers and parts */
  void (*linear16)(otr_found *found, float *y, size_t y_stride, const otr_rounded *x, const otr_host_weight *w, int32_t m,
                   int32_t n0, int32_t n1, void *scratch);
  /** One row: n_heads heads of head_dim f32, rotated (n_rot > 0), tidied, to f16 bits. cos, sin: [n_rot / 2]. */
  void (*rope)(otr_found *found, uint16_t *out, const float *x, const float *cos, const float *sin, int32_t n_heads,
               int32_t head_dim, int32_t n_rot);
  /** scratch: attention_scratch(n rows, group, head_dim, number of pages) bytes, 64-byte aligned. */
  void (*attention)(otr_found *found, const otr_attend *a, void *scratch);
  size_t (*attention_scratch)(int32_t rows, int32_t group, int32_t head_dim, int32_t max_pages);
  int32_t attention_rows; /* most rows of a block, as the kernel likes it */
  /** n values each. */
  void (*glu)(otr_found *found, float *out, const float *gate, const float *up, size_t n, otr_act_kind act);
  void (*act)(otr_found *found, float *out, const float *x, size_t n, otr_act_kind act);
  void (*add)(otr_found *found, float *x, const float *y, size_t n);
} otr_cpu_kernels;

/** The reference's table. */
extern const otr_cpu_kernels otr_reference_kernels;

/** Row `t` of an embedding table into out [k], tidied after the constant and the position row (either may be absent:
 *  has_scale 0, position NULL). Shared by all CPU ISAs: one row a token. */
void otr_embed_row(otr_found *found, float *out, const otr_host_weight *table, int32_t token, int32_t has_scale,
                   float scale, const float *position);

/** QUANTIZE in batch scope, all m rows at once: the reference only, a check against bitsandbytes. */
void otr_quantize_batch(otr_found *found, const otr_quantized *out, const float *x, otr_rule rule, int32_t m);

/** A CPU device with these kernels, which must outlive it. */
otr_status otr_cpu_device_open(const otr_cpu_kernels *kernels, const otr_device_params *params, otr_device **out);

/** What CPU devices of one backend differ by: a table of these is all that x86 and NEON add to their kernels. */
typedef struct otr_cpu_isa {
  const char *name;
  uint32_t needs; /* features, as the backend counts them */
  int32_t native_dot;
  otr_cpu_kernels kernels;
} otr_cpu_isa;

/** Fills in what otr_backend.describe tells of such a device, but for its description (the CPU's own name) and reason
 *  ("" or what the CPU lacks), which are there already. */
void otr_cpu_describe(const otr_cpu_isa *isa, const char *backend, otr_device_info *info);
/** otr_backend.open of such a device: NO_DEVICE unless `reason` is "". */
otr_status otr_cpu_open(const otr_cpu_isa *isa, const char *reason, const otr_device_params *params, otr_device **out);

#endif
