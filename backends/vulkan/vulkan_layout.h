// SPDX-License-Identifier: Apache-2.0
/* The layouts that are the Vulkan backend's own, and how they become the canonical forms of backend.h. All over host
 * copies of a layout's bytes. */
#ifndef OTR_VULKAN_LAYOUT_H
#define OTR_VULKAN_LAYOUT_H

#include "ops.h"

/** A quantized layout, places in bytes: heads of all rows (shaders/quantized.glsl), then q of all rows, zero beyond k, then
 *  the outliers of each row, by lane (feature mod 4) and ascending in it. */
typedef struct vulkan_quantized_places {
  uint64_t q, list, end;
  uint32_t row_words;  /* of q: k in whole sixteens */
  uint32_t lane_words; /* entries that there is room for in each of the four lanes */
} vulkan_quantized_places;
vulkan_quantized_places vulkan_quantized_layout(int32_t max_rows, int32_t k);

/** A rounded layout: 2^e of all rows, then f16 bits of all rows, zero beyond k. */
typedef struct vulkan_rounded_places {
  uint64_t x16, end;
  uint32_t row_words; /* k in whole sixteens, two to a word */
} vulkan_rounded_places;
vulkan_rounded_places vulkan_rounded_layout(int32_t max_rows, int32_t k);

/* q16 is f32 [max_rows, width] of the values rounded to f16. A layer of a KV page: shaders/kv.glsl. */

/** Bytes of whole layouts; 0: too large for an address. */
size_t vulkan_quantized_bytes(int32_t max_rows, int32_t k);
size_t vulkan_rounded_bytes(int32_t max_rows, int32_t k);
size_t vulkan_q16_bytes(int32_t max_rows, int32_t width);
/** A page is n_layers such pieces after each other, each a multiple of 256 bytes. */
size_t vulkan_kv_layer_bytes(const otr_kv_shape *shape);

/** otr_device_ops.quantized_read, rounded_read and q16_read of a whole layout's bytes. Any result may be NULL. */
void vulkan_quantized_row(const void *layout, int32_t max_rows, int32_t k, int32_t row, int8_t *q, float *scale,
                          float *pow2e, int32_t *n_outliers, int32_t *outliers, uint16_t *x16);
void vulkan_rounded_row(const void *layout, int32_t max_rows, int32_t k, int32_t row, uint16_t *x16, float *pow2e);
void vulkan_q16_row(const void *layout, int32_t width, int32_t row, uint16_t *f16);

/** Positions [first, first + n) of a layer's bytes, canonical: f16 bits [n, n_kv_heads, head_dim]. What vulkan_kv_put
 *  stores is read as the contract reads f16 bits: it stays finite whatever a saved state holds. */
void vulkan_kv_get(const otr_kv_shape *shape, const void *layer_bytes, int32_t first, int32_t n, uint16_t *k,
                   uint16_t *v);
void vulkan_kv_put(const otr_kv_shape *shape, void *layer_bytes, int32_t first, int32_t n, const uint16_t *k,
                   const uint16_t *v);

#endif
