// SPDX-License-Identifier: Apache-2.0
/* Memory: device memory is heap filled with poison, so that the sanitizers see what leaves it. */
#include <stdio.h>
#include <stdlib.h>

#include "driver.h"

enum kind { DEVICE, PINNED, REGISTERED };
namespace {
struct allocation {
  size_t bytes;
  kind what;
  CUctx_st *context;
  bool mapped;
};
}  // namespace
static std::map<uintptr_t, allocation> allocations;

static const allocation *find(uintptr_t address, size_t bytes) {
  auto after = allocations.upper_bound(address);
  if (after == allocations.begin()) return nullptr;
  auto it = --after;
  bool inside = address - it->first <= it->second.bytes && bytes <= it->second.bytes - (address - it->first);
  return inside ? &it->second : nullptr;
}

bool fake_device_range(CUdeviceptr address, size_t bytes) {
  const allocation *a = find((uintptr_t)address, bytes);
  return a && (a->what != REGISTERED || a->mapped);
}

bool fake_pinned(const void *address, size_t bytes) {
  const allocation *a = find((uintptr_t)address, bytes);
  return a && a->what != DEVICE;
}

static CUresult allocate(size_t bytes, kind what, void **result) {
  CUctx_st *context = fake_current();
  counts.allocations++;
  *result = nullptr;
  if (fake_forbidden_in_capture()) return FAKE_CAPTURE_UNSUPPORTED;
  if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  bool counted = what == DEVICE || settings.integrated;
  if (counted && (bytes > settings.memory || context->bytes > settings.memory - bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
  if (posix_memalign(result, 512, bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
  memset(*result, EMULATION_POISON, bytes);
  allocations[(uintptr_t)*result] = {bytes, what, context, true};
  context->bytes += counted ? bytes : 0;
  uint64_t *held = what == DEVICE ? &counts.device_bytes : &counts.pinned_bytes;
  *held += bytes;
  if (counts.device_bytes > counts.device_peak) counts.device_peak = counts.device_bytes;
  return CUDA_SUCCESS;
}

/* A driver waits for the work that may use it. */
static CUresult release(uintptr_t address, kind what) {
  auto it = allocations.find(address);
  if (it == allocations.end() || it->second.what != what) return CUDA_ERROR_INVALID_VALUE;
  if (fake_forbidden_in_capture()) return FAKE_CAPTURE_UNSUPPORTED;
  size_t bytes = it->second.bytes;
  if (what == DEVICE || settings.integrated) it->second.context->bytes -= bytes;
  *(what == DEVICE ? &counts.device_bytes : &counts.pinned_bytes) -= bytes;
  allocations.erase(it);
  free((void *)address);
  return CUDA_SUCCESS;
}

CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t bytes) {
  FAKE_ENTER(cuMemAlloc_v2, FAKE_CONTEXT);
  void *memory;
  CUresult result = allocate(bytes, DEVICE, &memory);
  *address = (CUdeviceptr)(uintptr_t)memory;
  return result;
}

CUresult cuMemFree_v2(CUdeviceptr address) {
  FAKE_ENTER_RELEASE(cuMemFree_v2, FAKE_CONTEXT);
  if (!address) return fake_result;
  CUresult result = release((uintptr_t)address, DEVICE);
  return fake_result ? fake_result : result;
}

CUresult cuMemAllocHost_v2(void **address, size_t bytes) {
  FAKE_ENTER(cuMemAllocHost_v2, FAKE_CONTEXT);
  return allocate(bytes, PINNED, address);
}

CUresult cuMemFreeHost(void *address) {
  FAKE_ENTER_RELEASE(cuMemFreeHost, FAKE_CONTEXT);
  CUresult result = release((uintptr_t)address, PINNED);
  return fake_result ? fake_result : result;
}

/* Whether all of the range is mapped with write permission; a driver pins such pages only, unless told READ_ONLY. */
static bool writable(uintptr_t address, size_t bytes) {
  FILE *maps = fopen("/proc/self/maps", "r");
  if (!maps) return true;
  char line[512], access[8];
  uintptr_t at = address, end = address + bytes;
  unsigned long low, high;
  while (at < end && fgets(line, sizeof line, maps))
    if (sscanf(line, "%lx-%lx %7s", &low, &high, access) == 3 && at >= low && at < high && access[1] == 'w') at = high;
  fclose(maps);
  return at >= end;
}

CUresult cuMemHostRegister_v2(void *address, size_t bytes, unsigned flags) {
  FAKE_ENTER(cuMemHostRegister_v2, FAKE_CONTEXT);
  uintptr_t at = (uintptr_t)address;
  if (fake_forbidden_in_capture()) return FAKE_CAPTURE_UNSUPPORTED;
  if (!address || !bytes || at + bytes < at) return CUDA_ERROR_INVALID_VALUE;
  if (!settings.registers) return CUDA_ERROR_NOT_SUPPORTED;
  bool read_only = flags & CU_MEMHOSTREGISTER_READ_ONLY;
  if (read_only && !settings.registers_readonly) return CUDA_ERROR_NOT_SUPPORTED;
  if (!read_only && !writable(at, bytes)) return CUDA_ERROR_NOT_SUPPORTED;
  auto next = allocations.lower_bound(at);
  if (find(at, 1) || (next != allocations.end() && next->first < at + bytes)) return FAKE_ALREADY_REGISTERED;
  allocations[at] = {bytes, REGISTERED, fake_current(), (flags & CU_MEMHOSTREGISTER_DEVICEMAP) != 0};
  counts.registered_bytes += bytes;
  return CUDA_SUCCESS;
}

CUresult cuMemHostUnregister(void *address) {
  FAKE_ENTER_RELEASE(cuMemHostUnregister, FAKE_CONTEXT);
  auto it = allocations.find((uintptr_t)address);
  if (it == allocations.end() || it->second.what != REGISTERED) return fake_result ? fake_result : FAKE_NOT_REGISTERED;
  counts.registered_bytes -= it->second.bytes;
  allocations.erase(it);
  return fake_result;
}

CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *device, void *host, unsigned flags) {
  FAKE_ENTER(cuMemHostGetDevicePointer_v2, FAKE_CONTEXT);
  const allocation *a = find((uintptr_t)host, 1);
  *device = 0;
  if (flags || !a || a->what == DEVICE || !a->mapped) return CUDA_ERROR_INVALID_VALUE;
  *device = (CUdeviceptr)(uintptr_t)host;
  return CUDA_SUCCESS;
}

/* ---- copies ---- */

static char *at(CUdeviceptr address) {
  return reinterpret_cast<char *>((uintptr_t)address);
}

CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t bytes, CUstream stream) {
  FAKE_ENTER(cuMemsetD8Async, FAKE_CONTEXT);
  if (!fake_device_range(to, bytes)) return CUDA_ERROR_INVALID_VALUE;
  return fake_push(stream, [=] {
    memset(at(to), value, bytes);
    return (CUresult)CUDA_SUCCESS;
  });
}

/* Memory that is not pinned is taken at once, as drivers do; pinned memory is read when the copy runs. */
CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes, CUstream stream) {
  FAKE_ENTER(cuMemcpyHtoDAsync_v2, FAKE_CONTEXT);
  if (!fake_device_range(to, bytes)) return CUDA_ERROR_INVALID_VALUE;
  if (fake_pinned(from, bytes))
    return fake_push(stream, [=] {
      memcpy(at(to), from, bytes);
      return (CUresult)CUDA_SUCCESS;
    });
  if (fake_forbidden_in_capture()) return FAKE_CAPTURE_UNSUPPORTED;
  std::string taken(static_cast<const char *>(from), bytes);
  return fake_push(stream, [=] {
    memcpy(at(to), taken.data(), bytes);
    return (CUresult)CUDA_SUCCESS;
  });
}

CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes, CUstream stream) {
  FAKE_ENTER(cuMemcpyDtoHAsync_v2, FAKE_CONTEXT);
  if (!fake_device_range(from, bytes)) return CUDA_ERROR_INVALID_VALUE;
  if (!fake_pinned(to, bytes) && fake_forbidden_in_capture()) return FAKE_CAPTURE_UNSUPPORTED;
  return fake_push(stream, [=] {
    memcpy(to, at(from), bytes);
    return (CUresult)CUDA_SUCCESS;
  });
}

CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  FAKE_ENTER(cuMemcpyDtoDAsync_v2, FAKE_CONTEXT);
  if (!fake_device_range(from, bytes) || !fake_device_range(to, bytes)) return CUDA_ERROR_INVALID_VALUE;
  return fake_push(stream, [=] {
    memmove(at(to), at(from), bytes);
    return (CUresult)CUDA_SUCCESS;
  });
}
