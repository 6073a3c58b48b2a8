// SPDX-License-Identifier: Apache-2.0
#include "shim.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#define VK_NO_PROTOTYPES
#include <vulkan/vulkan_core.h>

#include "shim_spirv.h"

#define SHIM_EXPORT __attribute__((visibility("default")))

SHIM_EXPORT vulkan_shim_state vulkan_shim;

/* What is wrapped: name, where its own address comes from. */
#define WRAPPED(X)                     \
  X(CreateInstance)                    \
  X(GetDeviceProcAddr)                 \
  X(GetPhysicalDeviceProperties)       \
  X(GetPhysicalDeviceProperties2)      \
  X(GetPhysicalDeviceMemoryProperties) \
  X(AllocateMemory)                    \
  X(FreeMemory)                        \
  X(CreateBuffer)                      \
  X(DestroyBuffer)                     \
  X(GetBufferMemoryRequirements)       \
  X(CreateShaderModule)                \
  X(CreateComputePipelines)            \
  X(DestroyPipeline)                   \
  X(CreateDescriptorPool)              \
  X(DestroyDescriptorPool)             \
  X(UpdateDescriptorSets)              \
  X(BeginCommandBuffer)                \
  X(CreateFence)                       \
  X(DestroyFence)                      \
  X(QueueSubmit)                       \
  X(WaitForFences)

static PFN_vkGetInstanceProcAddr real_get;
static VkInstance instance;

/* The driver's own functions. One driver at a time, so one address each. */
static struct {
#define X(name) PFN_vk##name name;
  WRAPPED(X)
#undef X
} real;

/* ---- devices ----------------------------------------------------------------------------------------------------- */

static void alter_properties(VkPhysicalDeviceProperties *p) {
  if (vulkan_shim.range > 0) p->limits.maxStorageBufferRange = (uint32_t)vulkan_shim.range;
  if (vulkan_shim.discrete) p->deviceType = VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU;
}

static void VKAPI_CALL shim_GetPhysicalDeviceProperties(VkPhysicalDevice device, VkPhysicalDeviceProperties *p) {
  real.GetPhysicalDeviceProperties(device, p);
  alter_properties(p);
}

static void VKAPI_CALL shim_GetPhysicalDeviceProperties2(VkPhysicalDevice device, VkPhysicalDeviceProperties2 *p) {
  real.GetPhysicalDeviceProperties2(device, p);
  alter_properties(&p->properties);
}

/* The driver's one type twice: as the device's own, and as the host's. */
static void VKAPI_CALL shim_GetPhysicalDeviceMemoryProperties(VkPhysicalDevice device,
                                                              VkPhysicalDeviceMemoryProperties *p) {
  real.GetPhysicalDeviceMemoryProperties(device, p);
  if (!vulkan_shim.discrete) return;
  p->memoryTypeCount = 2;
  p->memoryTypes[1] = p->memoryTypes[0];
  p->memoryTypes[0].propertyFlags = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT;
  p->memoryTypes[1].propertyFlags &= ~(VkMemoryPropertyFlags)VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT;
}

/* ---- memory ------------------------------------------------------------------------------------------------------ */

static VkResult VKAPI_CALL shim_AllocateMemory(VkDevice device, const VkMemoryAllocateInfo *info,
                                               const VkAllocationCallbacks *callbacks, VkDeviceMemory *out) {
  VkMemoryAllocateInfo own = *info;
  if (atomic_fetch_add(&vulkan_shim.allocations, 1) + 1 == vulkan_shim.fail_allocation)
    return VK_ERROR_OUT_OF_DEVICE_MEMORY;
  if (vulkan_shim.discrete) own.memoryTypeIndex = 0;
  VkResult result = real.AllocateMemory(device, &own, callbacks, out);
  if (result == VK_SUCCESS) vulkan_shim.memories++;
  return result;
}

static void VKAPI_CALL shim_FreeMemory(VkDevice device, VkDeviceMemory memory, const VkAllocationCallbacks *callbacks) {
  vulkan_shim.memories--;
  real.FreeMemory(device, memory, callbacks);
}

static VkResult VKAPI_CALL shim_CreateBuffer(VkDevice device, const VkBufferCreateInfo *info,
                                             const VkAllocationCallbacks *callbacks, VkBuffer *out) {
  VkResult result = real.CreateBuffer(device, info, callbacks, out);
  if (result == VK_SUCCESS) vulkan_shim.buffers++;
  return result;
}

static void VKAPI_CALL shim_DestroyBuffer(VkDevice device, VkBuffer buffer, const VkAllocationCallbacks *callbacks) {
  vulkan_shim.buffers--;
  real.DestroyBuffer(device, buffer, callbacks);
}

static void VKAPI_CALL shim_GetBufferMemoryRequirements(VkDevice device, VkBuffer buffer, VkMemoryRequirements *out) {
  real.GetBufferMemoryRequirements(device, buffer, out);
  if (vulkan_shim.discrete) out->memoryTypeBits = 3;
}

/* ---- shaders and pipelines --------------------------------------------------------------------------------------- */

static VkResult VKAPI_CALL shim_CreateShaderModule(VkDevice device, const VkShaderModuleCreateInfo *info,
                                                   const VkAllocationCallbacks *callbacks, VkShaderModule *out) {
  VkShaderModuleCreateInfo own = *info;
  uint32_t *code = NULL;
  if (vulkan_shim.wrong_dot || vulkan_shim.wrong_add) {
    code = shim_spirv(info->pCode, &own.codeSize, vulkan_shim.wrong_dot, vulkan_shim.wrong_add);
    if (!code) return VK_ERROR_OUT_OF_HOST_MEMORY;
    own.pCode = code;
  }
  VkResult result = real.CreateShaderModule(device, &own, callbacks, out);
  free(code);
  return result;
}

/* Constants of shaders/row.comp: its kind of activation, what comes before the quantizer, whether that comes. */
enum { ROW_ACT_KIND = 1, ROW_BEFORE = 2, ROW_QUANTIZES = 3, ROW_CONSTANTS = 8, ROW_BEFORE_GLU = 4, ROW_ACT_RELU = 3 };

/** The pipeline's constants, changed where it is a GLU with its quantizer. */
static const VkSpecializationInfo *alter_constants(const VkSpecializationInfo *given, VkSpecializationInfo *own,
                                                   uint32_t data[ROW_CONSTANTS]) {
  if (!vulkan_shim.wrong_glu || !given || given->dataSize != ROW_CONSTANTS * sizeof *data) return given;
  memcpy(data, given->pData, given->dataSize);
  if (data[ROW_BEFORE] != ROW_BEFORE_GLU || data[ROW_QUANTIZES] != 1) return given;
  data[ROW_ACT_KIND] = ROW_ACT_RELU;
  *own = *given;
  own->pData = data;
  return own;
}

static VkResult VKAPI_CALL shim_CreateComputePipelines(VkDevice device, VkPipelineCache cache, uint32_t n,
                                                       const VkComputePipelineCreateInfo *infos,
                                                       const VkAllocationCallbacks *callbacks, VkPipeline *out) {
  VkComputePipelineCreateInfo own = infos[0]; /* n is always 1 */
  VkSpecializationInfo constants;
  uint32_t data[ROW_CONSTANTS];
  own.stage.pSpecializationInfo = alter_constants(own.stage.pSpecializationInfo, &constants, data);
  VkResult result = real.CreateComputePipelines(device, cache, n, &own, callbacks, out);
  if (result == VK_SUCCESS) vulkan_shim.pipelines += n;
  vulkan_shim.pipelines_made += n;
  return result;
}

static void VKAPI_CALL shim_DestroyPipeline(VkDevice device, VkPipeline p, const VkAllocationCallbacks *callbacks) {
  vulkan_shim.pipelines--;
  real.DestroyPipeline(device, p, callbacks);
}

static VkResult VKAPI_CALL shim_CreateDescriptorPool(VkDevice device, const VkDescriptorPoolCreateInfo *info,
                                                     const VkAllocationCallbacks *callbacks, VkDescriptorPool *out) {
  VkResult result = real.CreateDescriptorPool(device, info, callbacks, out);
  if (result == VK_SUCCESS) vulkan_shim.pools++;
  return result;
}

static void VKAPI_CALL shim_DestroyDescriptorPool(VkDevice device, VkDescriptorPool pool,
                                                  const VkAllocationCallbacks *callbacks) {
  vulkan_shim.pools--;
  real.DestroyDescriptorPool(device, pool, callbacks);
}

static void VKAPI_CALL shim_UpdateDescriptorSets(VkDevice device, uint32_t n, const VkWriteDescriptorSet *writes,
                                                 uint32_t n_copies, const VkCopyDescriptorSet *copies) {
  vulkan_shim.sets_written += n;
  real.UpdateDescriptorSets(device, n, writes, n_copies, copies);
}

static VkResult VKAPI_CALL shim_BeginCommandBuffer(VkCommandBuffer commands, const VkCommandBufferBeginInfo *info) {
  vulkan_shim.buffers_recorded++;
  return real.BeginCommandBuffer(commands, info);
}

/* ---- the queue --------------------------------------------------------------------------------------------------- */

static VkResult VKAPI_CALL shim_CreateFence(VkDevice device, const VkFenceCreateInfo *info,
                                            const VkAllocationCallbacks *callbacks, VkFence *out) {
  VkResult result = real.CreateFence(device, info, callbacks, out);
  if (result == VK_SUCCESS) vulkan_shim.fences++;
  return result;
}

static void VKAPI_CALL shim_DestroyFence(VkDevice device, VkFence fence, const VkAllocationCallbacks *callbacks) {
  vulkan_shim.fences--;
  real.DestroyFence(device, fence, callbacks);
}

static VkResult VKAPI_CALL shim_QueueSubmit(VkQueue queue, uint32_t n, const VkSubmitInfo *infos, VkFence fence) {
  if (atomic_fetch_add(&vulkan_shim.submits, 1) + 1 == vulkan_shim.fail_submit && !vulkan_shim.fail_fence)
    return VK_ERROR_DEVICE_LOST;
  if (vulkan_shim.on_submit) vulkan_shim.on_submit();
  return real.QueueSubmit(queue, n, infos, fence);
}

static VkResult VKAPI_CALL shim_WaitForFences(VkDevice device, uint32_t n, const VkFence *fences, VkBool32 all,
                                              uint64_t timeout) {
  VkResult result = real.WaitForFences(device, n, fences, all, timeout);
  return vulkan_shim.fail_fence && vulkan_shim.submits == vulkan_shim.fail_submit ? VK_ERROR_DEVICE_LOST : result;
}

/* ---- entry points ------------------------------------------------------------------------------------------------ */

static PFN_vkVoidFunction wrapped(const char *name);

static PFN_vkVoidFunction VKAPI_CALL shim_GetDeviceProcAddr(VkDevice device, const char *name) {
  PFN_vkVoidFunction own = wrapped(name);
  /* Without the host's memory there is nothing to import. */
  if (vulkan_shim.discrete && strcmp(name, "vkGetMemoryHostPointerPropertiesEXT") == 0) return NULL;
  return own ? own : real.GetDeviceProcAddr(device, name);
}

static VkResult VKAPI_CALL shim_CreateInstance(const VkInstanceCreateInfo *info, const VkAllocationCallbacks *callbacks,
                                               VkInstance *out) {
  PFN_vkCreateInstance create = (PFN_vkCreateInstance)real_get(NULL, "vkCreateInstance");
  VkResult result = create(info, callbacks, out);
  if (result != VK_SUCCESS) return result;
  instance = *out;
#define X(name) real.name = (PFN_vk##name)real_get(instance, "vk" #name);
  WRAPPED(X)
#undef X
  return result;
}

static PFN_vkVoidFunction wrapped(const char *name) {
#define X(function) \
  if (strcmp(name, "vk" #function) == 0) return (PFN_vkVoidFunction)shim_##function;
  WRAPPED(X)
#undef X
  return NULL;
}

static bool load(void) {
  static void *library;
  if (library) return true;
  const char *range = getenv("OUTRIDER_SHIM_RANGE"), *discrete = getenv("OUTRIDER_SHIM_DISCRETE");
  if (range) vulkan_shim.range = atol(range);
  if (discrete) vulkan_shim.discrete = discrete[0] == '1';
  library = dlopen("libvulkan.so.1", RTLD_NOW | RTLD_LOCAL);
  void *symbol = library ? dlsym(library, "vkGetInstanceProcAddr") : NULL;
  memcpy(&real_get, &symbol, sizeof symbol);
  return real_get != NULL;
}

SHIM_EXPORT PFN_vkVoidFunction VKAPI_CALL vkGetInstanceProcAddr(VkInstance given, const char *name) {
  if (!load()) return NULL;
  PFN_vkVoidFunction own = wrapped(name);
  return own ? own : real_get(given, name);
}
