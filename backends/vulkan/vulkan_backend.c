// SPDX-License-Identifier: Apache-2.0
/* The list of Vulkan's devices: discrete GPUs first, CPU drivers last. Asked once a process. */
#include <stdio.h>
#include <string.h>

#include "float_mode.h"
#include "status.h"
#include "vulkan_device.h"

enum { MAX_DEVICES = 8 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
  bool asked;       /* with success: a failure is tried again */
  char reason[192]; /* of a failure */
  vulkan_traits of[MAX_DEVICES];
  int32_t n;
} devices;

static int rank(VkPhysicalDeviceType type) {
  switch (type) {
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:
      return 0;
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU:
      return 1;
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU:
      return 2;
    case VK_PHYSICAL_DEVICE_TYPE_CPU:
      return 4;
    default:
      return 3;
  }
}

static otr_status enumerate(const vulkan_instance *v, VkPhysicalDevice physical[MAX_DEVICES], uint32_t *n) {
  *n = MAX_DEVICES;
  VkResult result = v->EnumeratePhysicalDevices(v->handle, n, physical);
  if (result == VK_INCOMPLETE) result = VK_SUCCESS; /* more than this many are not listed */
  VULKAN_TRY(result, "vkEnumeratePhysicalDevices");
  if (*n > 0) return OTR_STATUS_OK;
  return otr_fail(OTR_STATUS_NO_DEVICE, "there is a Vulkan loader, but no device");
}

/** Inserts by rank, in the driver's order among equals. */
static void insert(const vulkan_traits *t) {
  int32_t at = devices.n++;
  for (; at > 0 && rank(devices.of[at - 1].type) > rank(t->type); at--) devices.of[at] = devices.of[at - 1];
  devices.of[at] = *t;
}

static otr_status ask(const vulkan_instance *v) {
  VkPhysicalDevice physical[MAX_DEVICES];
  uint32_t n;
  devices.n = 0;
  OTR_TRY(enumerate(v, physical, &n));
  for (uint32_t i = 0; i < n; i++) {
    vulkan_traits t;
    OTR_TRY(vulkan_traits_read(v, physical[i], &t));
    t.order = i;
    insert(&t);
  }
  for (int32_t i = 0; i < devices.n; i++)
    snprintf(devices.of[i].info.name, sizeof devices.of[i].info.name, "vulkan:%d", i);
  return OTR_STATUS_OK;
}

/** Fills the list when that was not done; with the lock held. */
static void ask_once(void) {
  const vulkan_instance *v;
  if (devices.asked) return;
  /* Drivers that compute on the CPU start threads, which have the rounding mode of the thread that starts them. */
  otr_float_mode mode = otr_float_mode_enter();
  otr_status status = vulkan_instance_take(&v);
  if (status == OTR_STATUS_OK) {
    status = ask(v);
    vulkan_instance_give();
  }
  otr_float_mode_leave(mode);
  devices.asked = status == OTR_STATUS_OK;
  if (!devices.asked) {
    devices.n = 0;
    snprintf(devices.reason, sizeof devices.reason, "%.*s", (int)sizeof devices.reason - 1, otr_error_detail());
  }
}

/** A copy of the traits of device `index`; false: there is none, and `reason` says why. */
static bool traits_of(int32_t index, vulkan_traits *t, char reason[192]) {
  pthread_mutex_lock(&lock);
  ask_once();
  bool there = index >= 0 && index < devices.n;
  if (there) *t = devices.of[index];
  snprintf(reason, 192, "%s", devices.asked ? "there is no such Vulkan device" : devices.reason);
  pthread_mutex_unlock(&lock);
  return there;
}

static int32_t count(void) {
  pthread_mutex_lock(&lock);
  ask_once();
  int32_t n = devices.n > 0 ? devices.n : 1; /* the one that says why there is none */
  pthread_mutex_unlock(&lock);
  return n;
}

static void describe(int32_t index, otr_device_info *info) {
  vulkan_traits t;
  char reason[192];
  uint32_t struct_size = info->struct_size;
  if (traits_of(index, &t, reason)) {
    *info = t.info;
    info->struct_size = struct_size;
    return;
  }
  snprintf(info->name, sizeof info->name, "vulkan:%d", index);
  snprintf(info->backend, sizeof info->backend, "vulkan");
  snprintf(info->reason, sizeof info->reason, "%.191s", reason);
}

static bool by_name_only(int32_t index) {
  vulkan_traits t;
  char reason[192];
  return traits_of(index, &t, reason) && t.caps.is_cpu;
}

/** The physical device that the traits were read from: an instance made anew may have another order. */
static otr_status find_again(const vulkan_instance *v, const vulkan_traits *t, VkPhysicalDevice *out) {
  VkPhysicalDevice physical[MAX_DEVICES];
  uint32_t n;
  OTR_TRY(enumerate(v, physical, &n));
  for (uint32_t i = 0; i < n; i++) {
    *out = physical[(t->order + i) % n];
    vulkan_traits now;
    OTR_TRY(vulkan_traits_read(v, *out, &now));
    if (memcmp(now.uuid, t->uuid, sizeof now.uuid) == 0 && now.device == t->device) return OTR_STATUS_OK;
  }
  return otr_fail(OTR_STATUS_NO_DEVICE, "%s is gone", t->info.description);
}

static otr_status open_traits(const vulkan_traits *t, const otr_device_params *params, otr_device **out) {
  const vulkan_instance *v;
  VkPhysicalDevice physical = VK_NULL_HANDLE;
  OTR_TRY(vulkan_instance_take(&v));
  otr_status status = find_again(v, t, &physical);
  if (status == OTR_STATUS_OK) status = vulkan_device_open(v, physical, t, params, out);
  if (status != OTR_STATUS_OK) vulkan_instance_give();
  return status;
}

static otr_status open_device(int32_t index, const otr_device_params *params, otr_device **out) {
  vulkan_traits t;
  char reason[192];
  *out = NULL;
  if (!traits_of(index, &t, reason)) return otr_fail(OTR_STATUS_NO_DEVICE, "%s", reason);
  if (!t.info.available) return otr_fail(OTR_STATUS_NO_DEVICE, "%s", t.info.reason);
  otr_float_mode mode = otr_float_mode_enter();
  otr_status status = open_traits(&t, params, out);
  otr_float_mode_leave(mode);
  return status;
}

const otr_backend otr_vulkan_backend = {"vulkan", count, describe, open_device, by_name_only};
