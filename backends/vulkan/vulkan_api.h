// SPDX-License-Identifier: Apache-2.0
/* Vulkan's entry points, found at run time: the library links to no loader, and runs where there is none.
 *
 * OUTRIDER_VULKAN_DRIVER in the environment names another loader (or a driver itself) than libvulkan.so.1. */
#ifndef OTR_VULKAN_API_H
#define OTR_VULKAN_API_H

#define VK_NO_PROTOTYPES
#include <stdbool.h>
#include <vulkan/vulkan_core.h>

#include "outrider/outrider.h"

/* Called before there is an instance; with an instance; with a device. */
#define VULKAN_GLOBAL_FUNCTIONS(X) \
  X(EnumerateInstanceVersion)      \
  X(CreateInstance)
#define VULKAN_INSTANCE_FUNCTIONS(X)        \
  X(DestroyInstance)                        \
  X(EnumeratePhysicalDevices)               \
  X(GetPhysicalDeviceProperties2)           \
  X(GetPhysicalDeviceFeatures2)             \
  X(GetPhysicalDeviceMemoryProperties)      \
  X(GetPhysicalDeviceQueueFamilyProperties) \
  X(EnumerateDeviceExtensionProperties)     \
  X(GetPhysicalDeviceProperties)            \
  X(CreateDevice)                           \
  X(GetDeviceProcAddr)
#define VULKAN_DEVICE_FUNCTIONS(X) \
  X(DestroyDevice)                 \
  X(GetDeviceQueue)                \
  X(QueueSubmit)                   \
  X(AllocateMemory)                \
  X(FreeMemory)                    \
  X(MapMemory)                     \
  X(CreateBuffer)                  \
  X(DestroyBuffer)                 \
  X(GetBufferMemoryRequirements)   \
  X(BindBufferMemory)              \
  X(CreateFence)                   \
  X(DestroyFence)                  \
  X(ResetFences)                   \
  X(WaitForFences)                 \
  X(CreateShaderModule)            \
  X(DestroyShaderModule)           \
  X(CreatePipelineCache)           \
  X(DestroyPipelineCache)          \
  X(GetPipelineCacheData)          \
  X(CreateComputePipelines)        \
  X(DestroyPipeline)               \
  X(CreatePipelineLayout)          \
  X(DestroyPipelineLayout)         \
  X(CreateDescriptorSetLayout)     \
  X(DestroyDescriptorSetLayout)    \
  X(CreateDescriptorPool)          \
  X(DestroyDescriptorPool)         \
  X(AllocateDescriptorSets)        \
  X(UpdateDescriptorSets)          \
  X(CreateCommandPool)             \
  X(DestroyCommandPool)            \
  X(ResetCommandPool)              \
  X(AllocateCommandBuffers)        \
  X(BeginCommandBuffer)            \
  X(EndCommandBuffer)              \
  X(CmdBindPipeline)               \
  X(CmdBindDescriptorSets)         \
  X(CmdPushConstants)              \
  X(CmdDispatchIndirect)           \
  X(CmdCopyBuffer)                 \
  X(CmdFillBuffer)                 \
  X(CmdPipelineBarrier)

/** A loader, an instance, and what they offer. */
typedef struct vulkan_instance {
  VkInstance handle;
  uint32_t api; /* the version asked for: what devices may be used as */
  PFN_vkGetInstanceProcAddr get;
#define X(name) PFN_vk##name name;
  VULKAN_GLOBAL_FUNCTIONS(X)
  VULKAN_INSTANCE_FUNCTIONS(X)
#undef X
} vulkan_instance;

/** A logical device's own entry points. GetMemoryHostPointerPropertiesEXT is NULL without the extension. */
typedef struct vulkan_functions {
#define X(name) PFN_vk##name name;
  VULKAN_DEVICE_FUNCTIONS(X)
#undef X
  PFN_vkGetMemoryHostPointerPropertiesEXT GetMemoryHostPointerPropertiesEXT;
} vulkan_functions;

/** The process's one instance, made for the first that asks and destroyed with the last that gives it back.
 *  @return OK, NO_DEVICE (no loader, no driver: the detail says what), NO_MEMORY. @threads any */
otr_status vulkan_instance_take(const vulkan_instance **out);
void vulkan_instance_give(void);

/** @return OK, or UNSUPPORTED: an entry point is missing */
otr_status vulkan_functions_load(const vulkan_instance *instance, VkDevice device, vulkan_functions *out);

/** The SDK's status for a VkResult that is not VK_SUCCESS, with the detail "what: VK_ERROR_...". */
otr_status vulkan_fail(VkResult result, const char *what);

#define VULKAN_TRY(expression, what)                                                  \
  do {                                                                                \
    VkResult vulkan_try_result = (expression);                                        \
    if (vulkan_try_result != VK_SUCCESS) return vulkan_fail(vulkan_try_result, what); \
  } while (0)

#endif
