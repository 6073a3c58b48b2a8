// SPDX-License-Identifier: Apache-2.0
/* The layouts that are the CUDA backend's own, and how they become the canonical forms of backend.h. All over host
 * copies: what a row takes is read from the device in a few pieces, then decoded here. */
#ifndef OTR_CUDA_LAYOUT_H
#define OTR_CUDA_LAYOUT_H

#include "kernels/args.h"
#include "ops.h"

/** The layouts at a device address (0: their offsets). */
struct cuda_quantized cuda_quantized_at(uint64_t base, int32_t max_rows, int32_t k);
struct cuda_rounded cuda_rounded_at(uint64_t base, int32_t max_rows, int32_t k);

/** Bytes of whole layouts; 0: too large for an address. */
size_t cuda_quantized_bytes(int32_t max_rows, int32_t k);
size_t cuda_rounded_bytes(int32_t max_rows, int32_t k);
size_t cuda_q16_bytes(int32_t max_rows, int32_t width); /* f16 [max_rows, width] */
size_t cuda_kv_page_bytes(const otr_kv_shape *shape);   /* a multiple of 256; one range a layer */

#define CUDA_ROW_PIECES 8
typedef struct cuda_piece {
  size_t offset, bytes;
} cuda_piece;

/** The ranges that hold row `row`, in the order that the decoder takes them. @return their number */
int32_t cuda_quantized_pieces(int32_t max_rows, int32_t k, int32_t row, cuda_piece piece[CUDA_ROW_PIECES]);
int32_t cuda_rounded_pieces(int32_t max_rows, int32_t k, int32_t row, cuda_piece piece[CUDA_ROW_PIECES]);

/** From the pieces' contents to otr_device_ops.quantized_read's results. Any result may be NULL. */
void cuda_quantized_decode(int32_t k, const void *const piece[CUDA_ROW_PIECES], int8_t *q, float *scale, float *pow2e,
                           int32_t *n_outliers, int32_t *outliers, uint16_t *x16);
void cuda_rounded_decode(int32_t k, const void *const piece[CUDA_ROW_PIECES], uint16_t *x16, float *pow2e);

/** Where a layer lies in a page. */
cuda_piece cuda_kv_layer(const otr_kv_shape *shape, int32_t layer);
/** Positions [first, first + n) of a layer's bytes, canonical: f16 bits [n, n_kv_heads, head_dim]. What cuda_kv_put
 *  stores is read as the contract reads f16 bits: it stays finite whatever a saved state holds. */
void cuda_kv_get(const otr_kv_shape *shape, const void *layer_bytes, int32_t first, int32_t n, uint16_t *k,
                 uint16_t *v);
void cuda_kv_put(const otr_kv_shape *shape, void *layer_bytes, int32_t first, int32_t n, const uint16_t *k,
                 const uint16_t *v);

#endif
