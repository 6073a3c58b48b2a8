// SPDX-License-Identifier: Apache-2.0
/* LLM.int8() weights from a source's values, row by row (contract, section 2). The loader and the converter both use
 * these, so that opening a file directly gives the bits of converting it first. */
#ifndef OTR_QUANTIZE_WEIGHTS_H
#define OTR_QUANTIZE_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ops.h"
#include "outrider/outrider.h"

/** Wq[k] = rint(W[k] * inv), inv = 127 * recip(absmax), *scale = absmax * (1/127). Below 2^-33: all 0, scale 0.
 *  @param w [k], finite
 *  @param[out] q [k]
 *  @return inv (0 for a zero row), for otr_round_columns. */
float otr_quantize_row(int8_t *q, float *scale, const float *w, size_t k);
/** Wo of a row: columns[i * stride] = f16(W[index[i]] * inv).
 *  @param index [n_static], or NULL: 0, 1, ... n_static - 1 */
void otr_round_columns(uint16_t *columns, size_t stride, const float *w, float inv, const int32_t *index,
                       size_t n_static);
/** The f16 linear's form: W16[k] = f16(W[k] * 2^-f), *scale = 2^f, f = exponent(absmax) - 14. Below 2^-33, and where
 * 2^f is not tidy (below 2^-40): scale 0. */
void otr_round_row(uint16_t *w16, float *scale, const float *w, size_t k);

/** Order of a q or k tensor's rows: pairs (2j, 2j+1) of each head's first n_rot rows become (j, j + n_rot/2). */
typedef struct otr_row_order {
  int32_t head_dim; /* 0: rows stay as they are */
  int32_t n_rot;    /* even, <= head_dim */
} otr_row_order;
/** @return the source row (or element of a bias, or of a head's qk-norm gain) that destination `row` comes from. */
int32_t otr_row_source(otr_row_order order, int32_t row);

/** A weight to make from a tensor of a type that otr_dequantize_row takes. */
typedef struct otr_weight_job {
  /* source, [n, k] of ggml_type */
  const char *name; /* for messages */
  uint32_t ggml_type;
  size_t source_row_bytes;
  int32_t n, k;
  otr_row_order order;
  /* result */
  otr_weight_type type;
  void *data;                  /* int8 or f16 [n, row_stride]; what lies between k and row_stride is zeroed */
  int64_t row_stride;          /* elements, >= k */
  float *scale;                /* [n] */
  const int32_t *static_index; /* [n_static], or NULL: all of 0 ... n_static - 1. INT8 only */
  int32_t n_static;
  uint16_t *static_cols; /* f16 [n_static, static_stride], or NULL. INT8 only */
  int64_t static_stride; /* elements, >= the rows made: n for a whole tensor */
  int32_t first;         /* row that data, scale and static_cols begin with: 0 for a whole tensor */
} otr_weight_job;

/** Makes destination rows [begin, end) of `job`. Ranges that do not meet may run at once; nothing is allocated.
 *  @param source bytes of source rows from `source_first` on. With an order, whole heads must be there: for ranges
 *                at multiples of head_dim, source_first = begin will do
 *  @param scratch f32 [k]
 *  @return OK, or BAD_FORMAT: a value is not finite or a scale is 2^48 or more (the detail names tensor and row). */
otr_status otr_weight_make(const otr_weight_job *job, const uint8_t *source, int32_t source_first, int32_t begin,
                           int32_t end, float *scratch);

#endif
