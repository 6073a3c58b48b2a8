// SPDX-License-Identifier: Apache-2.0
/* Where a published file holds the values of a tensor, and how they become the SDK's: which rows of a fused tensor, in
 * what order, from which type, transposed or not. */
#ifndef TOOL_ORIGIN_H
#define TOOL_ORIGIN_H

#include "outrider/outrider.h"
#include "quantize_weights.h"

/** Types that ggml has no number for. Others are ggml's (gguf.h). */
enum { ORIGIN_F8_E4M3 = 0x10000, ORIGIN_F8_E5M2 };

/** Row r of the tensor is row (r / take) * group + skip + r % take of what is stored. take 0: row r. */
typedef struct origin_slice {
  int32_t skip, take, group;
} origin_slice;

typedef struct origin {
  const char *file, *name; /* for messages */
  const uint8_t *data;     /* of stored row 0; unaligned */
  uint32_t type;
  int32_t rows, k;    /* what is stored, seen as [rows, k]; a vector is [rows, 1] */
  int32_t transposed; /* it lies as [k, rows]; only types without blocks */
  origin_slice slice;
  otr_row_order order;   /* applied before the slice: the tensor's row r is row otr_row_source(order, r) of the slice */
  float add;             /* to every value */
  const uint8_t *absmax; /* bitsandbytes: F32 [rows] beside int8 rows; unaligned. NULL otherwise */
  const uint8_t *const *stack; /* a vector in pieces of stack_values values (instead of data), or NULL */
  int32_t stack_values;
} origin;

/** Whether origin_rows can read a type. */
int origin_type_supported(uint32_t type);
/** Bytes of one stored row of a supported type (or I8). */
uint64_t origin_row_bytes(uint32_t type, uint64_t k);

/** Rows [first, first + count) as f32: out [count, k]. int8 rows: q * (absmax * (1/127)).
 *  @return OK, or BAD_FORMAT: a value is not finite (the detail names file, tensor and stored row). */
otr_status origin_rows(const origin *o, int32_t first, int32_t count, float *out);
/** bitsandbytes' rows: q [count, k] and absmax [count], bit for bit.
 *  @return OK, or BAD_FORMAT: -128, an absmax that is negative or not finite, one of 0 beside values. */
otr_status origin_int8(const origin *o, int32_t first, int32_t count, int8_t *q, float *absmax);

#endif
