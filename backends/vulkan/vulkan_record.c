// SPDX-License-Identifier: Apache-2.0
/* Command buffers: recorded once, replayed for every pass. A barrier stands only where a dispatch uses what one since
 * the barrier before has written, or writes what one has used. */
#include "status.h"
#include "vulkan_prepare.h"

static bool overlap(const vulkan_range *a, const vulkan_range *b) {
  return a->serial == b->serial && (a->writes || b->writes) && a->begin < b->end && b->begin < a->end;
}

/** Whether b must wait for a. The found block needs no order: it is only written by atomics. */
static bool depends(const vulkan_entry *a, const vulkan_entry *b) {
  if (a->kv && b->kv && ((a->kv | b->kv) & VULKAN_KV_WRITES)) return true;
  for (uint32_t i = 0; i < a->n_ranges; i++)
    for (uint32_t j = 0; j < b->n_ranges; j++)
      if (overlap(&a->range[i], &b->range[j])) return true;
  return false;
}

static void barrier(const vulkan_device *d, VkCommandBuffer commands, VkPipelineStageFlags to, VkAccessFlags access) {
  VkMemoryBarrier b = {
      .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER, .srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT, .dstAccessMask = access};
  d->vk.CmdPipelineBarrier(commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, to, 0, 1, &b, 0, NULL, 0, NULL);
}

static void barrier_between(const vulkan_device *d, VkCommandBuffer commands) {
  barrier(d, commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT);
}

/** What the host reads in mapped memory after the fence. */
static void barrier_to_host(const vulkan_device *d, VkCommandBuffer commands) {
  barrier(d, commands, VK_PIPELINE_STAGE_HOST_BIT, VK_ACCESS_HOST_READ_BIT);
}

static void record_entry(const otr_prepared *p, VkCommandBuffer commands, int32_t index) {
  const vulkan_device *d = p->device;
  const vulkan_entry *e = &p->entries[index];
  VkDescriptorSet sets[] = {e->set, p->kv_set};
  VkDeviceSize arguments =
      p->control->offset + p->at.arguments + (VkDeviceSize)index * sizeof(VkDispatchIndirectCommand);
  d->vk.CmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_COMPUTE, e->pipeline);
  d->vk.CmdBindDescriptorSets(commands, VK_PIPELINE_BIND_POINT_COMPUTE, d->layout, 0, e->kv ? 2 : 1, sets, 0, NULL);
  d->vk.CmdPushConstants(commands, d->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, sizeof e->push, e->push);
  d->vk.CmdDispatchIndirect(commands, p->control->block->buffer, arguments);
}

static otr_status begin(const vulkan_device *d, VkCommandBuffer commands) {
  VkCommandBufferBeginInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
  VULKAN_TRY(d->vk.BeginCommandBuffer(commands, &info), "vkBeginCommandBuffer");
  return OTR_STATUS_OK;
}

static otr_status end(const vulkan_device *d, VkCommandBuffer commands) {
  VULKAN_TRY(d->vk.EndCommandBuffer(commands), "vkEndCommandBuffer");
  return OTR_STATUS_OK;
}

/** Whether entry `index` needs a barrier before it, when the one before stands at `since`. */
static bool needs_barrier(const otr_prepared *p, bool (*is_in)(const vulkan_entry *), int32_t since, int32_t index) {
  for (int32_t i = since; i < index; i++)
    if (is_in(&p->entries[i]) && depends(&p->entries[i], &p->entries[index])) return true;
  return false;
}

static otr_status record_few(const otr_prepared *p) {
  const vulkan_device *d = p->device;
  VkCommandBuffer commands = vulkan_few(p);
  OTR_TRY(begin(d, commands));
  barrier_between(d, commands); /* after the pass before */
  for (int32_t i = 0, since = 0; i < p->n_entries; i++) {
    if (!vulkan_in_few(&p->entries[i])) continue;
    if (needs_barrier(p, vulkan_in_few, since, i)) {
      barrier_between(d, commands);
      since = i;
    }
    record_entry(p, commands, i);
  }
  barrier_to_host(d, commands);
  return end(d, commands);
}

/** A command buffer for each dispatch: the pass is cut between any two. */
static otr_status record_many(const otr_prepared *p) {
  const vulkan_device *d = p->device;
  for (int32_t i = 0, since = 0; i < p->n_entries; i++) {
    if (!vulkan_in_many(&p->entries[i])) continue;
    VkCommandBuffer commands = vulkan_many(p, i);
    OTR_TRY(begin(d, commands));
    if (i == 0 || needs_barrier(p, vulkan_in_many, since, i)) {
      barrier_between(d, commands);
      since = i;
    }
    record_entry(p, commands, i);
    OTR_TRY(end(d, commands));
  }
  OTR_TRY(begin(d, vulkan_end(p)));
  barrier_to_host(d, vulkan_end(p));
  return end(d, vulkan_end(p));
}

otr_status vulkan_record(otr_prepared *p) {
  vulkan_device *d = p->device;
  p->recorded = false;
  VULKAN_TRY(d->vk.ResetCommandPool(d->handle, p->command_pool, 0), "vkResetCommandPool");
  OTR_TRY(record_few(p));
  OTR_TRY(record_many(p));
  p->recorded = true;
  return OTR_STATUS_OK;
}

void vulkan_bind_windows(otr_prepared *p) {
  vulkan_device *d = p->device;
  VkDescriptorBufferInfo infos[VULKAN_KV_WINDOWS];
  for (int i = 0; i < VULKAN_KV_WINDOWS; i++) {
    const vulkan_window *w = &p->window[i];
    if (w->serial)
      infos[i] = (VkDescriptorBufferInfo){w->buffer, w->base, w->bytes};
    else
      infos[i] = (VkDescriptorBufferInfo){d->dummy->block->buffer, d->dummy->offset, d->dummy->bytes};
  }
  VkWriteDescriptorSet write = {.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
                                .dstSet = p->kv_set,
                                .descriptorCount = VULKAN_KV_WINDOWS,
                                .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                .pBufferInfo = infos};
  d->vk.UpdateDescriptorSets(d->handle, 1, &write, 0, NULL);
}
