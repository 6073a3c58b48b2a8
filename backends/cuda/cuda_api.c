// SPDX-License-Identifier: Apache-2.0
#include "cuda_api.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver_library.h"

enum { OLDEST = 11040 }; /* the first driver that has all of CUDA_API_LIST */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static cuda_api found;
static bool is_found;

/* ISO C has no cast from an object's address to a function's. */
static bool find(void *library, const char *symbol, void *entry, size_t bytes) {
  void *address = dlsym(library, symbol);
  if (address) memcpy(entry, &address, bytes);
  return address != NULL;
}

/** The first entry point that the library lacks, or NULL. */
static const char *find_all(void *library, cuda_api *api) {
#define X(member, symbol, parameters) \
  if (!find(library, #symbol, &api->member, sizeof api->member)) return #symbol;
  CUDA_API_LIST(X)
#undef X
  return NULL;
}

/** Asks the driver for its version and devices. */
static bool start(const char *path, cuda_api *api, char *reason, size_t reason_bytes) {
  const char *call = "cuInit";
  CUresult result = api->cuInit(0);
  if (result == CUDA_SUCCESS) call = "cuDriverGetVersion", result = api->cuDriverGetVersion(&api->version);
  if (result == CUDA_SUCCESS && api->version < OLDEST) {
    snprintf(reason, reason_bytes, "the CUDA driver is too old: CUDA %d.%d, 11.4 is needed", api->version / 1000,
             api->version % 1000 / 10);
    return false;
  }
  if (result == CUDA_SUCCESS) call = "cuDeviceGetCount", result = api->cuDeviceGetCount(&api->n_devices);
  if (result == CUDA_ERROR_STUB_LIBRARY)
    snprintf(reason, reason_bytes, "no CUDA driver: %s is the toolkit's stub", path);
  else if (result == CUDA_ERROR_NO_DEVICE || (result == CUDA_SUCCESS && api->n_devices < 1))
    snprintf(reason, reason_bytes, "the CUDA driver sees no device");
  else if (result != CUDA_SUCCESS)
    snprintf(reason, reason_bytes, "no CUDA driver: %s answers %s", call, cuda_error_name(api, result));
  return result == CUDA_SUCCESS && api->n_devices > 0;
}

static bool load(cuda_api *api, char *reason, size_t reason_bytes) {
  const char *path = getenv("OUTRIDER_CUDA_DRIVER");
  if (!path || !path[0]) path = "libcuda.so.1";
  if (!otr_can_load_libraries()) {
    snprintf(reason, reason_bytes, "no CUDA driver: " OTR_CANNOT_LOAD);
    return false;
  }
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char *why = dlerror();
    snprintf(reason, reason_bytes, "no CUDA driver: %s", why ? why : path);
    return false;
  }
  memset(api, 0, sizeof *api);
  const char *missing = find_all(library, api);
  if (missing)
    snprintf(reason, reason_bytes, "the CUDA driver is too old: it has no %s, CUDA 11.4 is needed", missing);
  else if (start(path, api, reason, reason_bytes))
    return true;
  dlclose(library);
  return false;
}

const cuda_api *cuda_api_get(char *reason, size_t reason_bytes) {
  reason[0] = 0;
  pthread_mutex_lock(&lock);
  if (!is_found) is_found = load(&found, reason, reason_bytes);
  const cuda_api *api = is_found ? &found : NULL;
  pthread_mutex_unlock(&lock);
  return api;
}

const char *cuda_error_name(const cuda_api *api, CUresult result) {
  const char *name = NULL;
  if (api->cuGetErrorName(result, &name) == CUDA_SUCCESS && name) return name;
  return "an unknown error";
}
