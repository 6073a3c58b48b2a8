// SPDX-License-Identifier: Apache-2.0
/* Opening and closing a device: queue, layouts, pools. */
#include <string.h>

#include "status.h"
#include "vulkan_device.h"
#include "vulkan_layout.h"

/* ---- entries of the table that are a line each ------------------------------------------------------------------- */

static otr_status buffer_create(otr_device *device, size_t bytes, otr_buffer **out) {
  return vulkan_buffer_take((vulkan_device *)device, VULKAN_MEMORY_DEVICE, bytes, out);
}

static otr_status buffer_import(otr_device *device, const void *host, size_t bytes, otr_weights weights,
                                otr_buffer **out) {
  vulkan_device *d = (vulkan_device *)device;
  *out = NULL;
  if (!d->unified && weights != OTR_WEIGHTS_MAPPED)
    return otr_fail(OTR_STATUS_UNSUPPORTED, "the device has memory of its own");
  return vulkan_buffer_import(d, host, bytes, out);
}

static void buffer_destroy(otr_device *device, otr_buffer *buffer) {
  vulkan_buffer_give((vulkan_device *)device, buffer);
}

static otr_status buffer_write(otr_device *device, otr_buffer *buffer, size_t offset, const void *source,
                               size_t bytes) {
  return vulkan_buffer_copy_in((vulkan_device *)device, buffer, offset, source, bytes);
}

static otr_status buffer_read(otr_device *device, const otr_buffer *buffer, size_t offset, void *destination,
                              size_t bytes) {
  return vulkan_buffer_copy_out((vulkan_device *)device, buffer, offset, destination, bytes);
}

static void *buffer_host(const otr_buffer *buffer) {
  return vulkan_buffer_host(buffer);
}

static otr_placement placement(const otr_device *device, otr_weights weights) {
  const vulkan_device *d = (const vulkan_device *)device;
  return (otr_placement){
      .separate = true,
      .in_place = d->traits.import_alignment > 0 && (d->unified || weights == OTR_WEIGHTS_MAPPED),
      .max_buffer = (size_t)d->traits.max_allocation / VULKAN_ALIGN * VULKAN_ALIGN,
  };
}

static bool demote(otr_device *device, otr_op_code code, const char *why) {
  vulkan_device *d = (vulkan_device *)device;
  (void)why; /* the runtime keeps it */
  if ((d->caps.demoted >> code & 1) || !vulkan_has_fast(&d->caps, code)) return false;
  d->caps.demoted |= 1u << code;
  return true;
}

/* ---- closing ----------------------------------------------------------------------------------------------------- */

static void close_device(otr_device *device) {
  vulkan_device *d = (vulkan_device *)device;
  if (!d) return;
  if (d->handle && d->vk.DestroyDevice) {
    vulkan_memory_close(d);
    vulkan_pipelines_close(d);
    if (d->transfer_fence) d->vk.DestroyFence(d->handle, d->transfer_fence, NULL);
    if (d->transfer_pool) d->vk.DestroyCommandPool(d->handle, d->transfer_pool, NULL);
    if (d->layout) d->vk.DestroyPipelineLayout(d->handle, d->layout, NULL);
    if (d->kv_layout) d->vk.DestroyDescriptorSetLayout(d->handle, d->kv_layout, NULL);
    if (d->set_layout) d->vk.DestroyDescriptorSetLayout(d->handle, d->set_layout, NULL);
    d->vk.DestroyDevice(d->handle, NULL);
  }
  pthread_mutex_destroy(&d->queue_lock);
  pthread_mutex_destroy(&d->transfer_lock);
  pthread_mutex_destroy(&d->memory_lock);
  bool holds = d->holds_instance;
  otr_memory_give_array(device->memory, d, 1, sizeof *d);
  if (holds) vulkan_instance_give();
}

static const otr_device_ops vulkan_device_ops = {
    .close = close_device,
    .buffer_create = buffer_create,
    .buffer_import = buffer_import,
    .buffer_destroy = buffer_destroy,
    .buffer_write = buffer_write,
    .buffer_read = buffer_read,
    .buffer_host = buffer_host,
    .quantized_bytes = vulkan_quantized_bytes,
    .rounded_bytes = vulkan_rounded_bytes,
    .q16_bytes = vulkan_q16_bytes,
    .kv_page_bytes = vulkan_kv_page_bytes,
    .quantized_read = vulkan_quantized_read,
    .rounded_read = vulkan_rounded_read,
    .q16_read = vulkan_q16_read,
    .kv_read = vulkan_kv_read,
    .kv_write = vulkan_kv_write,
    .kv_copy = vulkan_kv_copy,
    .prepare = vulkan_prepare,
    .prepared_destroy = vulkan_prepared_destroy,
    .prepared_bytes = vulkan_prepared_bytes,
    .submit = vulkan_submit,
    .placement = placement,
    .demote = demote,
    .proven = vulkan_proven,
    .set_proven = vulkan_set_proven,
    .cache_read = vulkan_cache_read,
};

/* ---- opening ----------------------------------------------------------------------------------------------------- */

/** The logical device with one queue, of low priority where wanted and allowed. */
static otr_status create_device(vulkan_device *d, bool low_priority) {
  const vulkan_traits *t = &d->traits;
  const char *extensions[4];
  uint32_t n = 0;
  bool globally = low_priority && (t->priority_khr || t->priority_ext);
  if (t->import_alignment) extensions[n++] = VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME;
  if (t->caps.int_dot && t->int_dot_by_extension) extensions[n++] = VK_KHR_SHADER_INTEGER_DOT_PRODUCT_EXTENSION_NAME;
  if ((t->rte || t->signed_zero) && t->controls_by_extension)
    extensions[n++] = VK_KHR_SHADER_FLOAT_CONTROLS_EXTENSION_NAME;
  if (globally)
    extensions[n++] = t->priority_khr ? VK_KHR_GLOBAL_PRIORITY_EXTENSION_NAME : VK_EXT_GLOBAL_PRIORITY_EXTENSION_NAME;
  float priority = low_priority ? 0.0f : 1.0f;
  VkDeviceQueueGlobalPriorityCreateInfoKHR global = {
      .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_GLOBAL_PRIORITY_CREATE_INFO_KHR,
      .globalPriority = VK_QUEUE_GLOBAL_PRIORITY_LOW_KHR};
  VkDeviceQueueCreateInfo queue = {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
                                   .pNext = globally ? &global : NULL,
                                   .queueFamilyIndex = t->queue_family,
                                   .queueCount = 1,
                                   .pQueuePriorities = &priority};
  VkPhysicalDeviceShaderIntegerDotProductFeatures dot = {
      .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES,
      .shaderIntegerDotProduct = VK_TRUE};
  VkPhysicalDeviceFeatures features = {.shaderStorageBufferArrayDynamicIndexing = VK_TRUE};
  VkDeviceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
                             .pNext = t->caps.int_dot ? &dot : NULL,
                             .pEnabledFeatures = &features,
                             .queueCreateInfoCount = 1,
                             .pQueueCreateInfos = &queue,
                             .enabledExtensionCount = n,
                             .ppEnabledExtensionNames = extensions};
  VkResult result = d->instance->CreateDevice(d->physical, &info, NULL, &d->handle);
  /* A priority is a wish: some systems keep it to privileged programs. */
  if (result == VK_ERROR_NOT_PERMITTED_KHR && globally) return create_device(d, false);
  VULKAN_TRY(result, "vkCreateDevice");
  OTR_TRY(vulkan_functions_load(d->instance, d->handle, &d->vk));
  d->vk.GetDeviceQueue(d->handle, t->queue_family, 0, &d->queue);
  return OTR_STATUS_OK;
}

/** `n` bindings of `each` storage buffers. */
static otr_status create_set_layout(vulkan_device *d, uint32_t n, uint32_t each, VkDescriptorSetLayout *out) {
  VkDescriptorSetLayoutBinding bindings[VULKAN_OPERANDS + 2];
  for (uint32_t i = 0; i < n; i++)
    bindings[i] = (VkDescriptorSetLayoutBinding){.binding = i,
                                                 .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                                 .descriptorCount = each,
                                                 .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT};
  VkDescriptorSetLayoutCreateInfo info = {
      .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO, .bindingCount = n, .pBindings = bindings};
  VULKAN_TRY(d->vk.CreateDescriptorSetLayout(d->handle, &info, NULL, out), "vkCreateDescriptorSetLayout");
  return OTR_STATUS_OK;
}

/** One layout for all pipelines, so that sets of any operation fit any of them. */
static otr_status create_layouts(vulkan_device *d) {
  OTR_TRY(create_set_layout(d, VULKAN_OPERANDS + 2, 1, &d->set_layout));
  OTR_TRY(create_set_layout(d, 1, VULKAN_KV_WINDOWS, &d->kv_layout));
  VkPushConstantRange push = {VK_SHADER_STAGE_COMPUTE_BIT, 0, VULKAN_PUSH_WORDS * sizeof(uint32_t)};
  VkDescriptorSetLayout sets[] = {d->set_layout, d->kv_layout};
  VkPipelineLayoutCreateInfo info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
                                     .setLayoutCount = 2,
                                     .pSetLayouts = sets,
                                     .pushConstantRangeCount = 1,
                                     .pPushConstantRanges = &push};
  VULKAN_TRY(d->vk.CreatePipelineLayout(d->handle, &info, NULL, &d->layout), "vkCreatePipelineLayout");
  return OTR_STATUS_OK;
}

static otr_status create_transfer(vulkan_device *d) {
  VkCommandPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                  .queueFamilyIndex = d->traits.queue_family};
  VULKAN_TRY(d->vk.CreateCommandPool(d->handle, &pool, NULL, &d->transfer_pool), "vkCreateCommandPool");
  VkCommandBufferAllocateInfo commands = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                          .commandPool = d->transfer_pool,
                                          .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                          .commandBufferCount = 1};
  VULKAN_TRY(d->vk.AllocateCommandBuffers(d->handle, &commands, &d->transfer), "vkAllocateCommandBuffers");
  VkFenceCreateInfo fence = {.sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO};
  VULKAN_TRY(d->vk.CreateFence(d->handle, &fence, NULL, &d->transfer_fence), "vkCreateFence");
  if (!d->unified) OTR_TRY(vulkan_buffer_take(d, VULKAN_MEMORY_READBACK, VULKAN_STAGING_BYTES, &d->staging));
  return vulkan_buffer_take(d, VULKAN_MEMORY_DEVICE, VULKAN_ALIGN, &d->dummy);
}

/** Memory is one where every kind that is the device's own is mapped, too: integrated GPUs and CPU drivers. */
static bool is_unified(const vulkan_device *d) {
  const VkMemoryPropertyFlags mapped =
      VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT | VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
  if (!d->caps.is_integrated && !d->caps.is_cpu) return false;
  for (uint32_t i = 0; i < d->memory.memoryTypeCount; i++)
    if ((d->memory.memoryTypes[i].propertyFlags & mapped) == mapped) return true;
  return false;
}

static otr_status set_up(vulkan_device *d, const otr_device_params *params) {
  d->instance->GetPhysicalDeviceMemoryProperties(d->physical, &d->memory);
  d->caps = d->traits.caps;
  d->unified = is_unified(d);
  d->max_submit_seconds = params->max_submit_ms > 0 ? 1e-3 * params->max_submit_ms : 0.05;
  OTR_TRY(create_device(d, params->low_priority != 0));
  OTR_TRY(create_layouts(d));
  OTR_TRY(vulkan_cache_open(d, params->cache, params->cache_bytes));
  return create_transfer(d);
}

otr_status vulkan_device_open(const vulkan_instance *instance, VkPhysicalDevice physical, const vulkan_traits *traits,
                              const otr_device_params *params, otr_device **out) {
  *out = NULL;
  vulkan_device *d = otr_memory_take_array(params->memory, 1, sizeof *d);
  if (!d) return OTR_STATUS_NO_MEMORY;
  d->base = (otr_device){.ops = &vulkan_device_ops, .memory = params->memory, .parallel = params->parallel};
  d->instance = instance;
  d->physical = physical;
  d->traits = *traits;
  pthread_mutex_init(&d->queue_lock, NULL);
  pthread_mutex_init(&d->transfer_lock, NULL);
  pthread_mutex_init(&d->memory_lock, NULL);
  atomic_init(&d->lost, 0);
  otr_status status = set_up(d, params);
  if (status != OTR_STATUS_OK) {
    close_device(&d->base);
    return status;
  }
  d->holds_instance = true;
  *out = &d->base;
  return OTR_STATUS_OK;
}
