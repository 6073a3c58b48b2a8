// SPDX-License-Identifier: Apache-2.0
/* Settings, failures on demand, devices and contexts. */
#include <stdio.h>
#include <stdlib.h>

#include <chrono>

#include "driver.h"

fake_settings settings;
CUctx_st contexts[FAKE_DEVICES];
fake_cuda_counts counts;
std::recursive_mutex big_lock;

namespace {
struct failure {
  std::string entry;
  uint64_t nth, seen;
  int error;
};
}  // namespace
static failure fail_at;
static bool initialized;
static std::vector<const char *> calls;
static std::string last_fault;
static thread_local std::vector<CUctx_st *> current;

/* ---- settings ---- */

static void set_failure(const char *entry, uint64_t nth, int error) {
  fail_at = {entry, nth, 0, error};
}

static void set(const std::string &key, const std::string &value) {
  const struct {
    const char *key;
    int *value;
  } numbers[] = {{"sm", &settings.sm},
                 {"driver", &settings.driver},
                 {"devices", &settings.devices},
                 {"integrated", &settings.integrated},
                 {"register", &settings.registers},
                 {"register_readonly", &settings.registers_readonly},
                 {"init", &settings.init},
                 {"quiet", &settings.quiet},
                 {"uuid", &settings.uuid},
                 {"slow", &settings.slow}};
  for (const auto &number : numbers)
    if (key == number.key) *number.value = atoi(value.c_str());
  if (key == "memory") settings.memory = strtoull(value.c_str(), nullptr, 10);
  if (key == "fail") {
    size_t colon = value.find(':');
    unsigned long long nth = 0;
    int error = 0;
    if (colon != std::string::npos && sscanf(value.c_str() + colon, ":%llu:%d", &nth, &error) == 2)
      set_failure(value.substr(0, colon).c_str(), nth, error);
  }
}

static void read_settings() {
  settings = fake_settings();
  const char *text = getenv("OUTRIDER_FAKE_CUDA");
  std::string words = text ? text : "";
  for (size_t at = 0; at < words.size();) {
    size_t end = words.find_first_of(" ,", at);
    if (end == std::string::npos) end = words.size();
    size_t equals = words.find('=', at);
    if (equals < end) set(words.substr(at, equals - at), words.substr(equals + 1, end - equals - 1));
    at = end + 1;
  }
}

void fake_wait() {
  if (settings.slow) std::this_thread::sleep_for(std::chrono::microseconds(settings.slow));
}

/* ---- what tests ask ---- */

FAKE_EXPORT void fake_cuda_count(fake_cuda_counts *result) {
  std::lock_guard<std::recursive_mutex> guard(big_lock);
  *result = counts;
}

FAKE_EXPORT uint64_t fake_cuda_held() {
  std::lock_guard<std::recursive_mutex> guard(big_lock);
  return counts.device_bytes + counts.pinned_bytes + counts.registered_bytes + counts.contexts + counts.modules +
         counts.streams + counts.events + counts.graphs;
}

FAKE_EXPORT void fake_cuda_begin() {
  std::lock_guard<std::recursive_mutex> guard(big_lock);
  counts.calls = counts.allocations = counts.launches = counts.graph_launches = 0;
  counts.device_peak = counts.device_bytes;
  calls.clear();
  fail_at = failure();
}

FAKE_EXPORT void fake_cuda_fail_at(const char *entry, uint64_t nth, int error) {
  std::lock_guard<std::recursive_mutex> guard(big_lock);
  set_failure(entry ? entry : "any", nth, error);
}

FAKE_EXPORT const char *fake_cuda_call(uint64_t nth) {
  std::lock_guard<std::recursive_mutex> guard(big_lock);
  return nth >= 1 && nth <= calls.size() ? calls[nth - 1] : nullptr;
}

FAKE_EXPORT const char *fake_cuda_fault() {
  return last_fault.c_str();
}

FAKE_EXPORT const char *fake_cuda_kernel(int index) {
  const emulation_kernel *kernel = emulation_kernels();
  for (; kernel && index > 0; index--) kernel = kernel->next;
  return kernel ? kernel->name : nullptr;
}

void fake_fault(const char *why) {
  last_fault = why;
  if (!settings.quiet) fprintf(stderr, "fake CUDA: %s\n", why);
}

/* ---- how every call begins ---- */

CUctx_st *fake_current() {
  return current.empty() ? nullptr : current.back();
}

static CUresult injected(const char *entry) {
  if (fail_at.entry != entry && (fail_at.entry != "any" || !strcmp(entry, "run"))) return CUDA_SUCCESS;
  if (++fail_at.seen != fail_at.nth) return CUDA_SUCCESS;
  CUctx_st *context = fake_current();
  if (fail_at.error >= FAKE_STICKY && fail_at.error < 800 && context) context->sticky = fail_at.error;
  return fail_at.error;
}

CUresult fake_run_failure() {
  return injected("run");
}

CUresult fake_enter(const char *entry, fake_needs needs) {
  counts.calls++;
  calls.push_back(entry);
  CUresult result = injected(entry);
  if (result) return result;
  if (needs >= FAKE_INIT && !initialized) return FAKE_NOT_INITIALIZED;
  if (needs < FAKE_CONTEXT) return CUDA_SUCCESS;
  const CUctx_st *context = fake_current();
  if (!context || context->retained == 0) return CUDA_ERROR_INVALID_CONTEXT;
  return context->sticky;
}

/* ---- entry points ---- */

CUresult cuInit(unsigned flags) {
  std::lock_guard<std::recursive_mutex> guard(big_lock);
  if (!initialized) read_settings();
  CUresult result = fake_enter("cuInit", FAKE_NOTHING);
  if (result) return result;
  if (flags) return CUDA_ERROR_INVALID_VALUE;
  if (settings.init) return settings.init;
  for (int i = 0; i < FAKE_DEVICES; i++) contexts[i].device = i;
  initialized = true;
  return settings.devices ? CUDA_SUCCESS : CUDA_ERROR_NO_DEVICE;
}

CUresult cuDriverGetVersion(int *version) {
  FAKE_ENTER(cuDriverGetVersion, FAKE_NOTHING);
  *version = settings.driver;
  return CUDA_SUCCESS;
}

CUresult cuGetErrorName(CUresult error, const char **name) {
  FAKE_ENTER(cuGetErrorName, FAKE_NOTHING);
  static const std::map<int, const char *> names = {{2, "CUDA_ERROR_OUT_OF_MEMORY"},
                                                    {100, "CUDA_ERROR_NO_DEVICE"},
                                                    {700, "CUDA_ERROR_ILLEGAL_ADDRESS"},
                                                    {719, "CUDA_ERROR_LAUNCH_FAILED"}};
  auto found = names.find(error);
  *name = found == names.end() ? nullptr : found->second;
  return *name ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuDeviceGetCount(int *count) {
  FAKE_ENTER(cuDeviceGetCount, FAKE_INIT);
  *count = settings.devices;
  return CUDA_SUCCESS;
}

static bool is_device(int index) {
  return index >= 0 && index < settings.devices;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal) {
  FAKE_ENTER(cuDeviceGet, FAKE_INIT);
  if (!is_device(ordinal)) return CUDA_ERROR_INVALID_DEVICE;
  *device = ordinal;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char *name, int bytes, CUdevice device) {
  FAKE_ENTER(cuDeviceGetName, FAKE_INIT);
  if (!is_device(device)) return CUDA_ERROR_INVALID_DEVICE;
  snprintf(name, (size_t)bytes, device ? "Emulated CUDA device %d" : "Emulated CUDA device", device);
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice device) {
  FAKE_ENTER(cuDeviceGetUuid_v2, FAKE_INIT);
  if (!is_device(device)) return CUDA_ERROR_INVALID_DEVICE;
  memset(uuid->bytes, settings.uuid + device, sizeof uuid->bytes);
  return CUDA_SUCCESS;
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) {
  FAKE_ENTER(cuDeviceTotalMem_v2, FAKE_INIT);
  if (!is_device(device)) return CUDA_ERROR_INVALID_DEVICE;
  *bytes = settings.memory;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int *value, int attribute, CUdevice device) {
  FAKE_ENTER(cuDeviceGetAttribute, FAKE_INIT);
  if (!is_device(device)) return CUDA_ERROR_INVALID_DEVICE;
  switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
      *value = 16;
      break;
    case CU_DEVICE_ATTRIBUTE_INTEGRATED:
      *value = settings.integrated;
      break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
      *value = settings.sm / 10;
      break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
      *value = settings.sm % 10;
      break;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR:
      *value = FAKE_SHARED_LIMIT + 1024;
      break;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN:
      *value = FAKE_SHARED_LIMIT;
      break;
    case CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED:
      *value = settings.registers;
      break;
    case CU_DEVICE_ATTRIBUTE_READ_ONLY_HOST_REGISTER_SUPPORTED:
      *value = settings.registers_readonly;
      break;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
  FAKE_ENTER(cuDevicePrimaryCtxRetain, FAKE_INIT);
  if (!is_device(device)) return CUDA_ERROR_INVALID_DEVICE;
  if (contexts[device].retained++ == 0) contexts[device].sticky = 0;
  counts.contexts++;
  *context = &contexts[device];
  return CUDA_SUCCESS;
}

/* What still lives in it is not dropped with the context: fake_cuda_held tells. */
CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  FAKE_ENTER_RELEASE(cuDevicePrimaryCtxRelease_v2, FAKE_INIT);
  if (!is_device(device) || !contexts[device].retained) return CUDA_ERROR_INVALID_DEVICE;
  contexts[device].retained--;
  counts.contexts--;
  return fake_result;
}

CUresult cuCtxPushCurrent_v2(CUcontext context) {
  FAKE_ENTER(cuCtxPushCurrent_v2, FAKE_INIT);
  if (!context || !context->retained) return CUDA_ERROR_INVALID_CONTEXT;
  current.push_back(context);
  return CUDA_SUCCESS;
}

CUresult cuCtxPopCurrent_v2(CUcontext *context) {
  FAKE_ENTER_RELEASE(cuCtxPopCurrent_v2, FAKE_INIT);
  if (current.empty()) return CUDA_ERROR_INVALID_CONTEXT;
  if (context) *context = current.back();
  current.pop_back();
  return fake_result;
}

CUresult cuCtxGetCurrent(CUcontext *context) {
  FAKE_ENTER(cuCtxGetCurrent, FAKE_INIT);
  *context = fake_current();
  return CUDA_SUCCESS;
}

CUresult cuCtxGetStreamPriorityRange(int *least, int *greatest) {
  FAKE_ENTER(cuCtxGetStreamPriorityRange, FAKE_CONTEXT);
  *least = 0;
  *greatest = -5;
  return CUDA_SUCCESS;
}
