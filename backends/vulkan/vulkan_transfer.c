// SPDX-License-Identifier: Apache-2.0
/* Between the host and buffers: in place where memory is mapped, else through a staging buffer, piece by piece. */
#include <string.h>

#include "status.h"
#include "vulkan_device.h"

otr_status vulkan_check_lost(const vulkan_device *d) {
  return atomic_load(&d->lost) ? otr_fail(OTR_STATUS_DEVICE_LOST, "the device was lost before") : OTR_STATUS_OK;
}

otr_status vulkan_submit_wait(vulkan_device *d, const VkCommandBuffer *commands, uint32_t n, VkFence fence) {
  OTR_TRY(vulkan_check_lost(d));
  VkSubmitInfo info = {.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO, .commandBufferCount = n, .pCommandBuffers = commands};
  pthread_mutex_lock(&d->queue_lock);
  VkResult result = d->vk.ResetFences(d->handle, 1, &fence);
  if (result == VK_SUCCESS) result = d->vk.QueueSubmit(d->queue, 1, &info, fence);
  pthread_mutex_unlock(&d->queue_lock);
  if (result == VK_ERROR_DEVICE_LOST) atomic_store(&d->lost, true);
  VULKAN_TRY(result, "vkQueueSubmit");
  /* Without end: objects in use must not be destroyed, and a driver whose device hangs says so itself. */
  do result = d->vk.WaitForFences(d->handle, 1, &fence, VK_TRUE, UINT64_MAX);
  while (result == VK_TIMEOUT);
  if (result != VK_SUCCESS) atomic_store(&d->lost, true); /* what was submitted may never end */
  VULKAN_TRY(result, "vkWaitForFences");
  return OTR_STATUS_OK;
}

/* ---- commands of their own --------------------------------------------------------------------------------------- */

static otr_status begin(vulkan_device *d) {
  VkCommandBufferBeginInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                   .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT};
  VULKAN_TRY(d->vk.ResetCommandPool(d->handle, d->transfer_pool, 0), "vkResetCommandPool");
  VULKAN_TRY(d->vk.BeginCommandBuffer(d->transfer, &info), "vkBeginCommandBuffer");
  /* After whatever ran before on the queue. */
  VkMemoryBarrier after = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
                           .srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT,
                           .dstAccessMask = VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT};
  d->vk.CmdPipelineBarrier(d->transfer, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT,
                           VK_PIPELINE_STAGE_TRANSFER_BIT, 0, 1, &after, 0, NULL, 0, NULL);
  return OTR_STATUS_OK;
}

static otr_status end(vulkan_device *d) {
  VkMemoryBarrier before = {
      .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
      .srcAccessMask = VK_ACCESS_TRANSFER_WRITE_BIT,
      .dstAccessMask = VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_HOST_READ_BIT};
  d->vk.CmdPipelineBarrier(d->transfer, VK_PIPELINE_STAGE_TRANSFER_BIT,
                           VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_HOST_BIT, 0, 1, &before, 0, NULL, 0,
                           NULL);
  VULKAN_TRY(d->vk.EndCommandBuffer(d->transfer), "vkEndCommandBuffer");
  return vulkan_submit_wait(d, &d->transfer, 1, d->transfer_fence);
}

static otr_status copy(vulkan_device *d, const otr_buffer *to, size_t to_offset, const otr_buffer *from,
                       size_t from_offset, size_t bytes) {
  VkBufferCopy region = {from->offset + from_offset, to->offset + to_offset, bytes};
  OTR_TRY(begin(d));
  d->vk.CmdCopyBuffer(d->transfer, from->block->buffer, to->block->buffer, 1, &region);
  return end(d);
}

/* ---- copies ------------------------------------------------------------------------------------------------------ */

static otr_status check_range(const vulkan_device *d, const otr_buffer *b, size_t offset, size_t bytes) {
  OTR_TRY(vulkan_check_lost(d));
  if (offset > b->bytes || bytes > b->bytes - offset)
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "%zu bytes at %zu of a buffer of %zu", bytes, offset, b->bytes);
  return OTR_STATUS_OK;
}

static otr_status stage_in(vulkan_device *d, const otr_buffer *b, size_t offset, const uint8_t *source, size_t bytes) {
  for (size_t n; bytes > 0; bytes -= n, offset += n, source += n) {
    n = bytes < VULKAN_STAGING_BYTES ? bytes : VULKAN_STAGING_BYTES;
    memcpy(vulkan_buffer_host(d->staging), source, n);
    OTR_TRY(copy(d, b, offset, d->staging, 0, n));
  }
  return OTR_STATUS_OK;
}

static otr_status stage_out(vulkan_device *d, const otr_buffer *b, size_t offset, uint8_t *to, size_t bytes) {
  for (size_t n; bytes > 0; bytes -= n, offset += n, to += n) {
    n = bytes < VULKAN_STAGING_BYTES ? bytes : VULKAN_STAGING_BYTES;
    OTR_TRY(copy(d, d->staging, 0, b, offset, n));
    memcpy(to, vulkan_buffer_host(d->staging), n);
  }
  return OTR_STATUS_OK;
}

otr_status vulkan_buffer_zero(vulkan_device *d, const otr_buffer *b) {
  if (b->block->host) {
    memset(vulkan_buffer_host(b), 0, b->bytes);
    return OTR_STATUS_OK;
  }
  pthread_mutex_lock(&d->transfer_lock);
  otr_status status = begin(d);
  if (status == OTR_STATUS_OK) {
    d->vk.CmdFillBuffer(d->transfer, b->block->buffer, b->offset, b->bytes, 0);
    status = end(d);
  }
  pthread_mutex_unlock(&d->transfer_lock);
  return status;
}

/** What a pass left of a range in mapped memory; NULL: nothing. */
static const uint8_t *mirrored(const vulkan_device *d, const otr_buffer *b, size_t offset, size_t bytes) {
  const vulkan_mirror *m = &d->mirror;
  bool inside = m->buffer == b && offset >= m->offset && offset - m->offset <= m->bytes &&
                bytes <= m->bytes - (offset - m->offset);
  return inside ? m->host + (offset - m->offset) : NULL;
}

otr_status vulkan_buffer_copy_in(vulkan_device *d, otr_buffer *b, size_t offset, const void *source, size_t bytes) {
  OTR_TRY(check_range(d, b, offset, bytes));
  if (b->block->imported) return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "an imported buffer cannot be written");
  if (b->block->host) {
    memcpy(vulkan_buffer_host(b) + offset, source, bytes);
    return OTR_STATUS_OK;
  }
  pthread_mutex_lock(&d->transfer_lock);
  if (d->mirror.buffer == b) d->mirror.buffer = NULL;
  otr_status status = stage_in(d, b, offset, source, bytes);
  pthread_mutex_unlock(&d->transfer_lock);
  return status;
}

otr_status vulkan_buffer_copy_out(vulkan_device *d, const otr_buffer *b, size_t offset, void *to, size_t bytes) {
  OTR_TRY(check_range(d, b, offset, bytes));
  if (b->block->host) {
    memcpy(to, vulkan_buffer_host(b) + offset, bytes);
    return OTR_STATUS_OK;
  }
  pthread_mutex_lock(&d->transfer_lock);
  const uint8_t *host = mirrored(d, b, offset, bytes);
  otr_status status = OTR_STATUS_OK;
  if (host)
    memcpy(to, host, bytes);
  else
    status = stage_out(d, b, offset, to, bytes);
  pthread_mutex_unlock(&d->transfer_lock);
  return status;
}

otr_status vulkan_buffer_copy(vulkan_device *d, otr_ref to, otr_ref from, size_t bytes) {
  OTR_TRY(check_range(d, to.buffer, to.offset, bytes));
  OTR_TRY(check_range(d, from.buffer, from.offset, bytes));
  if (to.buffer->block->host && from.buffer->block->host) {
    memcpy(vulkan_buffer_host(to.buffer) + to.offset, vulkan_buffer_host(from.buffer) + from.offset, bytes);
    return OTR_STATUS_OK;
  }
  pthread_mutex_lock(&d->transfer_lock);
  otr_status status = copy(d, to.buffer, to.offset, from.buffer, from.offset, bytes);
  pthread_mutex_unlock(&d->transfer_lock);
  return status;
}
