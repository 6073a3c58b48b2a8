// SPDX-License-Identifier: Apache-2.0
#include "vulkan_api.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "driver_library.h"
#include "status.h"

/* One instance a process: loaders and drivers are large, and some do not bear being opened and closed in turn. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
  void *library;
  int users;
  vulkan_instance instance;
} shared;

static const char *result_name(VkResult result) {
  static const struct {
    VkResult result;
    char name[40];
  } names[] = {
      {VK_ERROR_OUT_OF_HOST_MEMORY, "VK_ERROR_OUT_OF_HOST_MEMORY"},
      {VK_ERROR_OUT_OF_DEVICE_MEMORY, "VK_ERROR_OUT_OF_DEVICE_MEMORY"},
      {VK_ERROR_INITIALIZATION_FAILED, "VK_ERROR_INITIALIZATION_FAILED"},
      {VK_ERROR_DEVICE_LOST, "VK_ERROR_DEVICE_LOST"},
      {VK_ERROR_MEMORY_MAP_FAILED, "VK_ERROR_MEMORY_MAP_FAILED"},
      {VK_ERROR_EXTENSION_NOT_PRESENT, "VK_ERROR_EXTENSION_NOT_PRESENT"},
      {VK_ERROR_FEATURE_NOT_PRESENT, "VK_ERROR_FEATURE_NOT_PRESENT"},
      {VK_ERROR_INCOMPATIBLE_DRIVER, "VK_ERROR_INCOMPATIBLE_DRIVER"},
      {VK_ERROR_TOO_MANY_OBJECTS, "VK_ERROR_TOO_MANY_OBJECTS"},
      {VK_ERROR_FRAGMENTED_POOL, "VK_ERROR_FRAGMENTED_POOL"},
      {VK_ERROR_OUT_OF_POOL_MEMORY, "VK_ERROR_OUT_OF_POOL_MEMORY"},
      {VK_ERROR_INVALID_EXTERNAL_HANDLE, "VK_ERROR_INVALID_EXTERNAL_HANDLE"},
      {VK_ERROR_NOT_PERMITTED_KHR, "VK_ERROR_NOT_PERMITTED"},
      {VK_TIMEOUT, "VK_TIMEOUT"},
  };
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
    if (names[i].result == result) return names[i].name;
  return "an error without a name here";
}

otr_status vulkan_fail(VkResult result, const char *what) {
  otr_status status = OTR_STATUS_INTERNAL;
  switch (result) {
    case VK_ERROR_OUT_OF_HOST_MEMORY:
    case VK_ERROR_OUT_OF_DEVICE_MEMORY:
    case VK_ERROR_OUT_OF_POOL_MEMORY:
    case VK_ERROR_FRAGMENTED_POOL:
    case VK_ERROR_TOO_MANY_OBJECTS:
    case VK_ERROR_MEMORY_MAP_FAILED:
      status = OTR_STATUS_NO_MEMORY;
      break;
    case VK_ERROR_DEVICE_LOST:
    case VK_TIMEOUT:
      status = OTR_STATUS_DEVICE_LOST;
      break;
    case VK_ERROR_INITIALIZATION_FAILED:
    case VK_ERROR_INCOMPATIBLE_DRIVER:
      status = OTR_STATUS_NO_DEVICE;
      break;
    case VK_ERROR_EXTENSION_NOT_PRESENT:
    case VK_ERROR_FEATURE_NOT_PRESENT:
      status = OTR_STATUS_UNSUPPORTED;
      break;
    default:
      break;
  }
  return otr_fail(status, "%s: %s (%d)", what, result_name(result), (int)result);
}

/* ---- entry points ------------------------------------------------------------------------------------------------ */

/** A function pointer from dlsym, which C gives as an object pointer. */
static PFN_vkGetInstanceProcAddr find_first(void *library) {
  PFN_vkGetInstanceProcAddr get = NULL;
  void *symbol = dlsym(library, "vkGetInstanceProcAddr");
  if (!symbol) symbol = dlsym(library, "vk_icdGetInstanceProcAddr"); /* a driver without a loader */
  memcpy(&get, &symbol, sizeof get);
  return get;
}

static otr_status open_library(void) {
  const char *name = getenv("OUTRIDER_VULKAN_DRIVER");
  if (!name || !name[0]) name = "libvulkan.so.1";
  if (shared.library) return OTR_STATUS_OK;
  if (!otr_can_load_libraries()) return otr_fail(OTR_STATUS_NO_DEVICE, "no Vulkan loader: " OTR_CANNOT_LOAD);
  shared.library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (!shared.library) return otr_fail(OTR_STATUS_NO_DEVICE, "no Vulkan loader: %s", dlerror());
  shared.instance.get = find_first(shared.library);
  if (shared.instance.get) return OTR_STATUS_OK;
  return otr_fail(OTR_STATUS_NO_DEVICE, "%s has no vkGetInstanceProcAddr", name);
}

static otr_status missing(const char *name) {
  return otr_fail(OTR_STATUS_UNSUPPORTED, "the Vulkan driver has no vk%s", name);
}

static otr_status load_instance_functions(vulkan_instance *v) {
#define X(name)                                          \
  v->name = (PFN_vk##name)v->get(v->handle, "vk" #name); \
  if (!v->name) return missing(#name);
  VULKAN_INSTANCE_FUNCTIONS(X)
#undef X
  return OTR_STATUS_OK;
}

otr_status vulkan_functions_load(const vulkan_instance *instance, VkDevice device, vulkan_functions *out) {
#define X(name)                                                              \
  out->name = (PFN_vk##name)instance->GetDeviceProcAddr(device, "vk" #name); \
  if (!out->name) return missing(#name);
  VULKAN_DEVICE_FUNCTIONS(X)
#undef X
  out->GetMemoryHostPointerPropertiesEXT = (PFN_vkGetMemoryHostPointerPropertiesEXT)instance->GetDeviceProcAddr(
      device, "vkGetMemoryHostPointerPropertiesEXT");
  return OTR_STATUS_OK;
}

/* ---- the instance ------------------------------------------------------------------------------------------------ */

static otr_status create_instance(vulkan_instance *v) {
  v->EnumerateInstanceVersion = (PFN_vkEnumerateInstanceVersion)v->get(NULL, "vkEnumerateInstanceVersion");
  v->CreateInstance = (PFN_vkCreateInstance)v->get(NULL, "vkCreateInstance");
  uint32_t version = VK_API_VERSION_1_0;
  if (!v->CreateInstance) return missing("CreateInstance");
  if (v->EnumerateInstanceVersion) v->EnumerateInstanceVersion(&version);
  if (version < VK_API_VERSION_1_1)
    return otr_fail(OTR_STATUS_NO_DEVICE, "the Vulkan loader is of version 1.0; 1.1 is needed");
  v->api = version < VK_API_VERSION_1_3 ? version : VK_API_VERSION_1_3;
  VkApplicationInfo application = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
                                   .pApplicationName = "outrider",
                                   .pEngineName = "outrider",
                                   .apiVersion = v->api};
  VkInstanceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO, .pApplicationInfo = &application};
  VkResult result = v->CreateInstance(&info, NULL, &v->handle);
  if (result == VK_ERROR_INCOMPATIBLE_DRIVER)
    return otr_fail(OTR_STATUS_NO_DEVICE, "there is a Vulkan loader, but no driver");
  VULKAN_TRY(result, "vkCreateInstance");
  otr_status status = load_instance_functions(v);
  if (status != OTR_STATUS_OK && v->DestroyInstance) v->DestroyInstance(v->handle, NULL);
  return status;
}

otr_status vulkan_instance_take(const vulkan_instance **out) {
  otr_status status = OTR_STATUS_OK;
  *out = NULL;
  pthread_mutex_lock(&lock);
  if (shared.users == 0) {
    status = open_library();
    if (status == OTR_STATUS_OK) status = create_instance(&shared.instance);
  }
  if (status == OTR_STATUS_OK) {
    shared.users++;
    *out = &shared.instance;
  }
  pthread_mutex_unlock(&lock);
  return status;
}

void vulkan_instance_give(void) {
  pthread_mutex_lock(&lock);
  /* The loader stays: a program has it open for good. */
  if (--shared.users == 0) shared.instance.DestroyInstance(shared.instance.handle, NULL);
  pthread_mutex_unlock(&lock);
}
