// SPDX-License-Identifier: Apache-2.0
/* The canonical forms of the backend's own layouts: pieces are read from the device, cuda_layout.h says what they hold.
 */
#include "cuda_device.h"
#include "cuda_layout.h"
#include "status.h"

/** Host copies of the pieces of a row. */
typedef struct row_copy {
  otr_memory *memory;
  void *piece[CUDA_ROW_PIECES];
  size_t bytes[CUDA_ROW_PIECES];
} row_copy;

static void row_free(row_copy *r) {
  for (int32_t i = 0; i < CUDA_ROW_PIECES; i++)
    if (r->piece[i]) otr_memory_give(r->memory, r->piece[i], r->bytes[i]);
}

static otr_status row_read(cuda_device *d, otr_ref ref, const cuda_piece *pieces, int32_t n, row_copy *r) {
  *r = (row_copy){.memory = d->base.memory};
  for (int32_t i = 0; i < n; i++) {
    r->piece[i] = otr_memory_take(r->memory, pieces[i].bytes, 64);
    r->bytes[i] = pieces[i].bytes;
    if (!r->piece[i]) return OTR_STATUS_NO_MEMORY;
    OTR_TRY(cuda_buffer_read(&d->base, ref.buffer, ref.offset + pieces[i].offset, r->piece[i], pieces[i].bytes));
  }
  return OTR_STATUS_OK;
}

otr_status cuda_quantized_read(otr_device *base, otr_ref quantized, int32_t max_rows, int32_t k, int32_t row, int8_t *q,
                               float *scale, float *pow2e, int32_t *n_outliers, int32_t *outliers, uint16_t *x16) {
  cuda_piece pieces[CUDA_ROW_PIECES];
  int32_t n = cuda_quantized_pieces(max_rows, k, row, pieces);
  row_copy r;
  otr_status status = row_read((cuda_device *)base, quantized, pieces, n, &r);
  if (status == OTR_STATUS_OK)
    cuda_quantized_decode(k, (const void *const *)r.piece, q, scale, pow2e, n_outliers, outliers, x16);
  row_free(&r);
  return status;
}

otr_status cuda_rounded_read(otr_device *base, otr_ref rounded, int32_t max_rows, int32_t k, int32_t row, uint16_t *x16,
                             float *pow2e) {
  cuda_piece pieces[CUDA_ROW_PIECES];
  int32_t n = cuda_rounded_pieces(max_rows, k, row, pieces);
  row_copy r;
  otr_status status = row_read((cuda_device *)base, rounded, pieces, n, &r);
  if (status == OTR_STATUS_OK) cuda_rounded_decode(k, (const void *const *)r.piece, x16, pow2e);
  row_free(&r);
  return status;
}

otr_status cuda_q16_read(otr_device *base, otr_ref q16, int32_t width, int32_t row, uint16_t *f16) {
  size_t bytes = (size_t)width * sizeof *f16;
  return cuda_buffer_read(base, q16.buffer, q16.offset + (size_t)row * bytes, f16, bytes);
}

/** One layer of a page as host memory; release with otr_memory_give. */
static otr_status layer_read(otr_device *base, otr_page page, cuda_piece layer, void **out) {
  *out = otr_memory_take(base->memory, layer.bytes, 64);
  if (!*out) return OTR_STATUS_NO_MEMORY;
  return cuda_buffer_read(base, page.buffer, page.offset + layer.offset, *out, layer.bytes);
}

otr_status cuda_kv_read(otr_device *base, const otr_kv_shape *shape, otr_page page, int32_t layer, int32_t first,
                        int32_t n, uint16_t *k, uint16_t *v) {
  cuda_piece at = cuda_kv_layer(shape, layer);
  void *bytes;
  otr_status status = layer_read(base, page, at, &bytes);
  if (status == OTR_STATUS_OK) cuda_kv_get(shape, bytes, first, n, k, v);
  otr_memory_give(base->memory, bytes, at.bytes);
  return status;
}

otr_status cuda_kv_write(otr_device *base, const otr_kv_shape *shape, otr_page page, int32_t layer, int32_t first,
                         int32_t n, const uint16_t *k, const uint16_t *v) {
  cuda_piece at = cuda_kv_layer(shape, layer);
  void *bytes;
  otr_status status = layer_read(base, page, at, &bytes);
  if (status == OTR_STATUS_OK) {
    cuda_kv_put(shape, bytes, first, n, k, v);
    status = cuda_buffer_write(base, page.buffer, page.offset + at.offset, bytes, at.bytes);
  }
  otr_memory_give(base->memory, bytes, at.bytes);
  return status;
}

otr_status cuda_kv_copy(otr_device *base, const otr_kv_shape *shape, otr_page to, otr_page from) {
  return cuda_copy((cuda_device *)base, to.buffer->device + to.offset, from.buffer->device + from.offset,
                   cuda_kv_page_bytes(shape));
}
