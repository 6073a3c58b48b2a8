// SPDX-License-Identifier: Apache-2.0
#include "vulkan_traits.h"

#include <stdio.h>
#include <string.h>

#include "memory.h"
#include "status.h"

/* Storage buffers that a shader sees: all operands, step block, found block, KV windows. */
#define NEEDED_STORAGE_BUFFERS (VULKAN_OPERANDS + 2 + VULKAN_KV_WINDOWS)
#define NEEDED_INVOCATIONS 256
/* An operand's descriptor begins up to 255 bytes before it, and ends at a whole 16 bytes. */
#define DESCRIPTOR_SLACK 512

/* Extensions that change what is done. */
typedef enum extension {
  DRIVER_PROPERTIES,
  FLOAT_CONTROLS,
  INTEGER_DOT_PRODUCT,
  EXTERNAL_MEMORY_HOST,
  PRIORITY_KHR,
  PRIORITY_EXT,
  EXTENSIONS
} extension;

static const char extension_names[EXTENSIONS][36] = {
    VK_KHR_DRIVER_PROPERTIES_EXTENSION_NAME,
    VK_KHR_SHADER_FLOAT_CONTROLS_EXTENSION_NAME,
    VK_KHR_SHADER_INTEGER_DOT_PRODUCT_EXTENSION_NAME,
    VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME,
    VK_KHR_GLOBAL_PRIORITY_EXTENSION_NAME,
    VK_EXT_GLOBAL_PRIORITY_EXTENSION_NAME,
};

static otr_status read_extensions(const vulkan_instance *v, VkPhysicalDevice physical, bool has[EXTENSIONS]) {
  otr_memory memory;
  otr_memory_init(&memory, NULL);
  uint32_t n = 0;
  memset(has, 0, EXTENSIONS * sizeof *has);
  VULKAN_TRY(v->EnumerateDeviceExtensionProperties(physical, NULL, &n, NULL), "vkEnumerateDeviceExtensionProperties");
  uint32_t room = n;
  VkExtensionProperties *list = otr_memory_take_array(&memory, room, sizeof *list);
  if (!list) return OTR_STATUS_NO_MEMORY;
  VkResult result = v->EnumerateDeviceExtensionProperties(physical, NULL, &n, list);
  for (uint32_t i = 0; result == VK_SUCCESS && i < n; i++)
    for (int e = 0; e < EXTENSIONS; e++)
      if (strcmp(list[i].extensionName, extension_names[e]) == 0) has[e] = true;
  otr_memory_give_array(&memory, list, room, sizeof *list);
  if (result != VK_SUCCESS) return vulkan_fail(result, "vkEnumerateDeviceExtensionProperties");
  return OTR_STATUS_OK;
}

/** Every structure that properties are asked with; chained as far as the device knows them. */
typedef struct properties {
  VkPhysicalDeviceProperties2 main;
  VkPhysicalDeviceIDProperties id;
  VkPhysicalDeviceSubgroupProperties subgroup;
  VkPhysicalDeviceMaintenance3Properties limits;
  VkPhysicalDeviceDriverProperties driver;
  VkPhysicalDeviceFloatControlsProperties controls;
  VkPhysicalDeviceShaderIntegerDotProductProperties dot;
  VkPhysicalDeviceExternalMemoryHostPropertiesEXT import;
} properties;

static void chain(VkPhysicalDeviceProperties2 *main, void *link, VkStructureType type) {
  VkBaseOutStructure *s = link;
  s->sType = type;
  s->pNext = main->pNext;
  main->pNext = s;
}

static void read_properties(const vulkan_instance *v, VkPhysicalDevice physical, uint32_t api, const bool *has,
                            properties *p) {
  memset(p, 0, sizeof *p);
  VkPhysicalDeviceProperties2 *m = &p->main;
  m->sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2;
  chain(m, &p->id, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_ID_PROPERTIES);
  chain(m, &p->subgroup, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES);
  chain(m, &p->limits, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES);
  if (api >= VK_API_VERSION_1_2 || has[DRIVER_PROPERTIES])
    chain(m, &p->driver, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES);
  if (api >= VK_API_VERSION_1_2 || has[FLOAT_CONTROLS])
    chain(m, &p->controls, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FLOAT_CONTROLS_PROPERTIES);
  if (api >= VK_API_VERSION_1_3 || has[INTEGER_DOT_PRODUCT])
    chain(m, &p->dot, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_PROPERTIES);
  if (has[EXTERNAL_MEMORY_HOST])
    chain(m, &p->import, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_MEMORY_HOST_PROPERTIES_EXT);
  v->GetPhysicalDeviceProperties2(physical, m);
}

static bool read_int_dot(const vulkan_instance *v, VkPhysicalDevice physical) {
  VkPhysicalDeviceShaderIntegerDotProductFeatures dot = {
      .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES};
  VkPhysicalDeviceFeatures2 features = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, .pNext = &dot};
  v->GetPhysicalDeviceFeatures2(physical, &features);
  return dot.shaderIntegerDotProduct;
}

/** Whether KV pages can be told apart by an index (shaders/kv.glsl). */
static bool indexes_buffers(const vulkan_instance *v, VkPhysicalDevice physical) {
  VkPhysicalDeviceFeatures2 features = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2};
  v->GetPhysicalDeviceFeatures2(physical, &features);
  return features.features.shaderStorageBufferArrayDynamicIndexing;
}

/** A family for compute; on a discrete device rather one that is not for graphics. False: there is none. */
static bool choose_queue(const vulkan_instance *v, VkPhysicalDevice physical, bool apart, uint32_t *family) {
  VkQueueFamilyProperties families[16];
  uint32_t n = sizeof families / sizeof families[0];
  bool found = false;
  v->GetPhysicalDeviceQueueFamilyProperties(physical, &n, families);
  for (uint32_t i = 0; i < n; i++) {
    bool graphics = families[i].queueFlags & VK_QUEUE_GRAPHICS_BIT;
    if (!(families[i].queueFlags & VK_QUEUE_COMPUTE_BIT) || families[i].queueCount == 0) continue;
    if (found && !(apart && !graphics)) continue;
    *family = i;
    found = true;
    if (!graphics) break;
  }
  return found;
}

static uint64_t local_memory(const vulkan_instance *v, VkPhysicalDevice physical) {
  VkPhysicalDeviceMemoryProperties memory;
  uint64_t most = 0;
  v->GetPhysicalDeviceMemoryProperties(physical, &memory);
  for (uint32_t i = 0; i < memory.memoryHeapCount; i++)
    if ((memory.memoryHeaps[i].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT) && memory.memoryHeaps[i].size > most)
      most = memory.memoryHeaps[i].size;
  return most;
}

static void fill_caps(vulkan_traits *t, const properties *p) {
  const VkPhysicalDeviceLimits *limits = &p->main.properties.limits;
  vulkan_caps *c = &t->caps;
  uint64_t range = limits->maxStorageBufferRange;
  c->max_operand_bytes = range - DESCRIPTOR_SLACK;
  memcpy(c->max_groups, limits->maxComputeWorkGroupCount, sizeof c->max_groups);
  c->max_invocations = limits->maxComputeWorkGroupInvocations;
  if (limits->maxComputeWorkGroupSize[0] < c->max_invocations) c->max_invocations = limits->maxComputeWorkGroupSize[0];
  c->max_shared_bytes = limits->maxComputeSharedMemorySize;
  c->subgroup_size = p->subgroup.subgroupSize;
  c->subgroup_arithmetic = (p->subgroup.supportedStages & VK_SHADER_STAGE_COMPUTE_BIT) &&
                           (p->subgroup.supportedOperations & VK_SUBGROUP_FEATURE_ARITHMETIC_BIT);
  c->is_cpu = t->type == VK_PHYSICAL_DEVICE_TYPE_CPU;
  c->is_integrated = t->type == VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU;
  c->int_dot_accelerated = c->int_dot && p->dot.integerDotProduct4x8BitPackedSignedAccelerated;
}

static void fill_info(vulkan_traits *t, const properties *p, uint32_t api) {
  otr_device_info *info = &t->info;
  const char *name = p->main.properties.deviceName;
  snprintf(info->backend, sizeof info->backend, "vulkan");
  if (p->driver.driverInfo[0])
    snprintf(info->description, sizeof info->description, "%.60s (%.60s)", name, p->driver.driverInfo);
  else
    snprintf(info->description, sizeof info->description, "%.100s (driver %u)", name, t->driver_version);
  snprintf(info->isa, sizeof info->isa, "Vulkan %u.%u%s", VK_API_VERSION_MAJOR(api), VK_API_VERSION_MINOR(api),
           t->caps.int_dot ? ", int dot" : "");
  info->native_dot = t->caps.int_dot_accelerated;
}

/** What a device must have: what Vulkan 1.1 promises is less than what every GPU of its time has. */
static void refuse(vulkan_traits *t, const VkPhysicalDeviceLimits *limits, bool has_queue, bool indexes) {
  char *reason = t->info.reason;
  size_t room = sizeof t->info.reason;
  if (!has_queue)
    snprintf(reason, room, "has no queue for compute");
  else if (limits->maxPerStageDescriptorStorageBuffers < NEEDED_STORAGE_BUFFERS)
    snprintf(reason, room, "a shader sees %u storage buffers; %d are needed",
             limits->maxPerStageDescriptorStorageBuffers, NEEDED_STORAGE_BUFFERS);
  else if (!indexes)
    snprintf(reason, room, "has no shaderStorageBufferArrayDynamicIndexing");
  else if (t->caps.max_invocations < NEEDED_INVOCATIONS)
    snprintf(reason, room, "workgroups of %u; %d are needed", t->caps.max_invocations, NEEDED_INVOCATIONS);
  t->info.available = reason[0] == '\0';
}

otr_status vulkan_traits_read(const vulkan_instance *v, VkPhysicalDevice physical, vulkan_traits *t) {
  VkPhysicalDeviceProperties basic;
  properties p;
  bool has[EXTENSIONS];
  memset(t, 0, sizeof *t);
  t->info.struct_size = sizeof t->info;
  v->GetPhysicalDeviceProperties(physical, &basic);
  uint32_t api = basic.apiVersion < v->api ? basic.apiVersion : v->api;
  if (api < VK_API_VERSION_1_1) {
    snprintf(t->info.backend, sizeof t->info.backend, "vulkan");
    snprintf(t->info.description, sizeof t->info.description, "%.100s", basic.deviceName);
    snprintf(t->info.reason, sizeof t->info.reason, "the driver is of Vulkan 1.0; 1.1 is needed");
    return OTR_STATUS_OK;
  }
  OTR_TRY(read_extensions(v, physical, has));
  read_properties(v, physical, api, has, &p);
  t->type = basic.deviceType;
  memcpy(t->uuid, p.id.deviceUUID, sizeof t->uuid);
  memcpy(t->cache_uuid, basic.pipelineCacheUUID, sizeof t->cache_uuid);
  t->driver_version = basic.driverVersion;
  t->vendor = basic.vendorID;
  t->device = basic.deviceID;
  t->max_allocation = p.limits.maxMemoryAllocationSize;
  t->import_alignment = has[EXTERNAL_MEMORY_HOST] ? p.import.minImportedHostPointerAlignment : 0;
  t->int_dot_by_extension = api < VK_API_VERSION_1_3;
  if (api >= VK_API_VERSION_1_3 || has[INTEGER_DOT_PRODUCT]) t->caps.int_dot = read_int_dot(v, physical);
  t->priority_khr = has[PRIORITY_KHR];
  t->priority_ext = has[PRIORITY_EXT];
  t->controls_by_extension = api < VK_API_VERSION_1_2;
  t->rte = p.controls.shaderRoundingModeRTEFloat32;
  t->signed_zero = p.controls.shaderSignedZeroInfNanPreserveFloat32;
  fill_caps(t, &p);
  fill_info(t, &p, api);
  t->info.memory_bytes = local_memory(v, physical);
  bool has_queue = choose_queue(v, physical, t->type == VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU, &t->queue_family);
  refuse(t, &basic.limits, has_queue, indexes_buffers(v, physical));
  return OTR_STATUS_OK;
}
