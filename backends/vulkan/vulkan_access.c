// SPDX-License-Identifier: Apache-2.0
/* Layouts that are the backend's own, for the host: where memory is not mapped, through a copy of what is needed. */
#include <string.h>

#include "status.h"
#include "vulkan_device.h"
#include "vulkan_layout.h"

/** Bytes of a buffer where the host can see them: in place, or a copy. */
typedef struct view {
  vulkan_device *device;
  otr_ref ref;
  size_t bytes;
  void *bytes_at;
  bool copied;
} view;

static otr_status open_view(otr_device *device, otr_ref ref, size_t bytes, view *v) {
  *v = (view){.device = (vulkan_device *)device, .ref = ref, .bytes = bytes};
  if (ref.offset > ref.buffer->bytes || bytes > ref.buffer->bytes - ref.offset)
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "a layout reaches beyond its buffer");
  uint8_t *host = vulkan_buffer_host(ref.buffer);
  if (host) {
    v->bytes_at = host + ref.offset;
    return OTR_STATUS_OK;
  }
  v->bytes_at = otr_memory_take(device->memory, bytes, 64);
  if (!v->bytes_at) return OTR_STATUS_NO_MEMORY;
  v->copied = true;
  otr_status status = vulkan_buffer_copy_out(v->device, ref.buffer, ref.offset, v->bytes_at, bytes);
  if (status != OTR_STATUS_OK) otr_memory_give(device->memory, v->bytes_at, bytes);
  return status;
}

static otr_status close_view(view *v, bool changed) {
  otr_status status = OTR_STATUS_OK;
  if (!v->copied) return status;
  if (changed) status = vulkan_buffer_copy_in(v->device, v->ref.buffer, v->ref.offset, v->bytes_at, v->bytes);
  otr_memory_give(v->device->base.memory, v->bytes_at, v->bytes);
  return status;
}

otr_status vulkan_quantized_read(otr_device *device, otr_ref ref, int32_t max_rows, int32_t k, int32_t row, int8_t *q,
                                 float *scale, float *pow2e, int32_t *n_outliers, int32_t *outliers, uint16_t *x16) {
  view v;
  OTR_TRY(open_view(device, ref, vulkan_quantized_bytes(max_rows, k), &v));
  vulkan_quantized_row(v.bytes_at, max_rows, k, row, q, scale, pow2e, n_outliers, outliers, x16);
  return close_view(&v, false);
}

otr_status vulkan_rounded_read(otr_device *device, otr_ref ref, int32_t max_rows, int32_t k, int32_t row, uint16_t *x16,
                               float *pow2e) {
  view v;
  OTR_TRY(open_view(device, ref, vulkan_rounded_bytes(max_rows, k), &v));
  vulkan_rounded_row(v.bytes_at, max_rows, k, row, x16, pow2e);
  return close_view(&v, false);
}

otr_status vulkan_q16_read(otr_device *device, otr_ref ref, int32_t width, int32_t row, uint16_t *f16) {
  view v;
  OTR_TRY(open_view(device, ref, vulkan_q16_bytes(row + 1, width), &v));
  vulkan_q16_row(v.bytes_at, width, row, f16);
  return close_view(&v, false);
}

/* ---- KV pages ---------------------------------------------------------------------------------------------------- */

size_t vulkan_kv_page_bytes(const otr_kv_shape *shape) {
  size_t bytes;
  if (!otr_size_mul(vulkan_kv_layer_bytes(shape), (size_t)shape->n_layers, &bytes)) return 0;
  return bytes;
}

static otr_ref layer_of(const otr_kv_shape *shape, otr_page page, int32_t layer) {
  return (otr_ref){page.buffer, page.offset + (size_t)layer * vulkan_kv_layer_bytes(shape)};
}

otr_status vulkan_kv_read(otr_device *device, const otr_kv_shape *shape, otr_page page, int32_t layer, int32_t first,
                          int32_t n, uint16_t *k, uint16_t *v) {
  view at;
  OTR_TRY(open_view(device, layer_of(shape, page, layer), vulkan_kv_layer_bytes(shape), &at));
  vulkan_kv_get(shape, at.bytes_at, first, n, k, v);
  return close_view(&at, false);
}

otr_status vulkan_kv_write(otr_device *device, const otr_kv_shape *shape, otr_page page, int32_t layer, int32_t first,
                           int32_t n, const uint16_t *k, const uint16_t *v) {
  view at;
  OTR_TRY(open_view(device, layer_of(shape, page, layer), vulkan_kv_layer_bytes(shape), &at));
  vulkan_kv_put(shape, at.bytes_at, first, n, k, v);
  return close_view(&at, true);
}

otr_status vulkan_kv_copy(otr_device *device, const otr_kv_shape *shape, otr_page to, otr_page from) {
  return vulkan_buffer_copy((vulkan_device *)device, to, from, vulkan_kv_page_bytes(shape));
}
