// SPDX-License-Identifier: Apache-2.0
/* What a physical device is and offers, asked once. */
#ifndef OTR_VULKAN_TRAITS_H
#define OTR_VULKAN_TRAITS_H

#include "backend.h"
#include "vulkan_api.h"
#include "vulkan_lower.h"

typedef struct vulkan_traits {
  VkPhysicalDeviceType type;
  uint32_t order; /* in the instance's enumeration */
  uint8_t uuid[VK_UUID_SIZE], cache_uuid[VK_UUID_SIZE];
  uint32_t driver_version, vendor, device;
  uint32_t queue_family;
  uint64_t max_allocation;
  uint64_t import_alignment; /* 0: host memory cannot be imported */
  vulkan_caps caps;
  bool int_dot_by_extension; /* else by the version */
  bool priority_khr, priority_ext;
  bool rte, signed_zero; /* float controls for f32 that shaders may ask for */
  bool controls_by_extension;
  otr_device_info info; /* name not filled; reason: why the device cannot be used */
} vulkan_traits;

/** Asks a physical device for all of it. @return OK, also for one that cannot be used (info.reason); NO_MEMORY. */
otr_status vulkan_traits_read(const vulkan_instance *instance, VkPhysicalDevice physical, vulkan_traits *out);

#endif
