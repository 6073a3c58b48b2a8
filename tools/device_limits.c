// SPDX-License-Identifier: Apache-2.0
#include "device_limits.h"

#include "clock.h"

enum { MOST_LAYERS = 512, FEWEST_LAYERS = 32, COPIES = 8 };

/* A copy of a KV page is what every backend has; of pages as large as these the launch does not count. */
static otr_kv_shape shape_of(int32_t layers) {
  return (otr_kv_shape){.n_layers = layers, .n_kv_heads = 8, .head_dim = 64};
}

static otr_status copy_some(otr_device *device, const otr_kv_shape *shape, otr_page to, otr_page from, double *gbs) {
  double bytes = 2.0 * (double)device->ops->kv_page_bytes(shape);
  for (int32_t i = 0; i < COPIES; i++) {
    double begin = otr_clock_seconds();
    otr_status status = device->ops->kv_copy(device, shape, to, from);
    double seconds = otr_clock_seconds() - begin;
    if (status != OTR_STATUS_OK) return status;
    if (seconds > 0.0 && 1e-9 * bytes / seconds > *gbs) *gbs = 1e-9 * bytes / seconds;
  }
  return OTR_STATUS_OK;
}

static otr_status copy_pages(otr_device *device, int32_t layers, double *gbs) {
  const otr_kv_shape shape = shape_of(layers);
  size_t bytes = device->ops->kv_page_bytes(&shape);
  otr_buffer *from = NULL, *to = NULL;
  otr_status status = device->ops->buffer_create(device, bytes, &from);
  if (status == OTR_STATUS_OK) status = device->ops->buffer_create(device, bytes, &to);
  if (status == OTR_STATUS_OK) status = copy_some(device, &shape, (otr_page){to, 0}, (otr_page){from, 0}, gbs);
  if (to) device->ops->buffer_destroy(device, to);
  if (from) device->ops->buffer_destroy(device, from);
  return status;
}

otr_status tool_device_copy_measure(otr_device *device, double *copy_gbs) {
  for (int32_t layers = MOST_LAYERS;; layers /= 2) {
    otr_status status = copy_pages(device, layers, copy_gbs);
    if (status != OTR_STATUS_NO_MEMORY || layers == FEWEST_LAYERS) return status;
  }
}
