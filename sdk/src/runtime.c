// SPDX-License-Identifier: Apache-2.0
#include "runtime.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "numerics.h"
#include "self_check.h"
#include "status.h"

otr_version_info otr_version(void) {
  return (otr_version_info){OTR_VERSION_MAJOR, OTR_VERSION_MINOR, OTR_VERSION_PATCH, OTR_CONTRACT_REVISION};
}

void otr_log(const otr_runtime *runtime, otr_log_level level, const char *format, ...) {
  if (!runtime->log) return;
  char line[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  runtime->log(runtime->log_user, level, line);
}

otr_status otr_runtime_begin(otr_runtime *r) {
  OTR_TRY(otr_parallel_check(r->parallel));
  pthread_mutex_lock(&r->turn);
  return OTR_STATUS_OK;
}

void otr_runtime_end(otr_runtime *r) {
  pthread_mutex_unlock(&r->turn);
}

/* ---- params structs ---------------------------------------------------------------------------------------------- */

bool otr_params_read(void *to, size_t bytes, const void *from) {
  memset(to, 0, bytes);
  if (!from) return true;
  uint32_t given;
  memcpy(&given, from, sizeof given);
  if (given < sizeof given || given > 4096) return false;
  memcpy(to, from, given < bytes ? given : bytes);
  return true;
}

bool otr_info_write(void *to, const void *from, size_t bytes) {
  uint32_t given;
  if (!to) return false;
  memcpy(&given, to, sizeof given);
  if (given < sizeof given || given > 4096) return false;
  size_t n = given < bytes ? given : bytes;
  memcpy((char *)to + sizeof given, (const char *)from + sizeof given, n - sizeof given);
  return true;
}

/* ---- devices ----------------------------------------------------------------------------------------------------- */

/** A memory and a pool for self-checks, and the reference to check against. */
typedef struct checker {
  otr_memory *memory;
  otr_parallel *parallel;
  otr_device *reference;
} checker;

static otr_status checker_open(checker *c, otr_memory *memory, otr_parallel *parallel) {
  *c = (checker){memory, parallel, NULL};
  return otr_cpu_backend.open(0, memory, parallel, &c->reference);
}

static void checker_close(checker *c) {
  if (c->reference) c->reference->ops->close(c->reference);
}

static void describe(const otr_backend *backend, int32_t index, otr_device_info *info) {
  memset(info, 0, sizeof *info);
  info->struct_size = sizeof *info;
  backend->describe(index, info);
  info->check = info->available ? OTR_CHECK_SKIPPED : OTR_CHECK_UNAVAILABLE;
}

/** Opens a device and, unless `skip`, checks it: what it found is in `info`. */
static otr_status open_checked(const checker *c, const otr_backend *backend, int32_t index, bool skip,
                               otr_device_info *info, otr_device **out) {
  *out = NULL;
  describe(backend, index, info);
  if (!info->available) return otr_fail(OTR_STATUS_NO_DEVICE, "%s: %s", info->name, info->reason);
  otr_device *device;
  otr_status status = backend->open(index, c->memory, c->parallel, &device);
  if (status == OTR_STATUS_OK && !skip) {
    status = otr_self_check(device, c->reference, &info->check_seconds);
    if (status != OTR_STATUS_OK) device->ops->close(device);
  }
  if (status != OTR_STATUS_OK) {
    info->check = OTR_CHECK_FAILED;
    info->available = 0;
    snprintf(info->reason, sizeof info->reason, "%.*s", (int)sizeof info->reason - 1, otr_error_detail());
    return otr_fail_in(status, "%s", info->name);
  }
  info->check = skip ? OTR_CHECK_SKIPPED : OTR_CHECK_PASSED;
  *out = device;
  return OTR_STATUS_OK;
}

static void check_only(const checker *c, const otr_backend *backend, int32_t index, otr_device_info *info) {
  otr_device *device;
  if (open_checked(c, backend, index, false, info, &device) == OTR_STATUS_OK) device->ops->close(device);
}

static otr_status list_devices(const checker *c, otr_device_info *infos, uint32_t stride, int32_t capacity,
                               int32_t *n) {
  *n = 0;
  for (const otr_backend *const *b = otr_backends(); *b; b++)
    for (int32_t i = 0; i < (*b)->count(); i++, (*n)++) {
      if (!infos || *n >= capacity) continue;
      otr_device_info info;
      describe(*b, i, &info);
      if (c && info.available) check_only(c, *b, i, &info);
      char *to = (char *)infos + (size_t)*n * stride;
      memcpy(to, &stride, sizeof stride);
      if (!otr_info_write(to, &info, sizeof info))
        return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "struct_size of infos[0] is not set");
    }
  if (infos && *n > capacity) return otr_fail(OTR_STATUS_BUFFER_TOO_SMALL, "%d devices, room for %d", *n, capacity);
  return OTR_STATUS_OK;
}

otr_status otr_devices(otr_device_info *infos, int32_t capacity, int32_t *n, int32_t self_check) {
  if (!n || (infos && capacity < 1)) return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "n is NULL or capacity not positive");
  uint32_t stride = infos ? infos[0].struct_size : 0;
  if (!self_check || !infos) return list_devices(NULL, infos, stride, capacity, n);
  otr_memory memory;
  otr_memory_init(&memory, NULL);
  otr_parallel *parallel;
  *n = 0;
  OTR_TRY(otr_parallel_create(&memory, 1, NULL, NULL, &parallel));
  checker c;
  otr_status status = checker_open(&c, &memory, parallel);
  if (status == OTR_STATUS_OK) status = list_devices(&c, infos, stride, capacity, n);
  checker_close(&c);
  otr_parallel_destroy(parallel);
  return status;
}

/* ---- choosing ---------------------------------------------------------------------------------------------------- */

/** True when `wanted` is the device's name, or its backend's. */
static bool is_named(const otr_backend *backend, const otr_device_info *info, const char *wanted) {
  return strcmp(info->name, wanted) == 0 || strcmp(backend->name, wanted) == 0;
}

/** The device named, or of a backend named the first in its order that is available. */
static otr_status open_named(const checker *c, const char *wanted, bool skip, otr_device_info *info, otr_device **out) {
  otr_status status = OTR_STATUS_OK;
  *out = NULL;
  for (const otr_backend *const *b = otr_backends(); *b; b++)
    for (int32_t i = 0; i < (*b)->count(); i++) {
      describe(*b, i, info);
      if (!is_named(*b, info, wanted)) continue;
      status = open_checked(c, *b, i, skip, info, out);
      if (status == OTR_STATUS_OK || status == OTR_STATUS_NO_MEMORY) return status;
    }
  if (status != OTR_STATUS_OK) return status;
  return otr_fail(OTR_STATUS_NO_DEVICE, "there is no device \"%s\" in this build", wanted);
}

/** A device is preferred to an earlier one in the built-in order when it is faster by more than a shared machine's
 * noise. */
#define CLEARLY_FASTER 0.85

/** Every available device is checked and timed; the fastest that passes is kept. The reference, last in the order, is
 *  the last resort. Memory that runs out says nothing about a device: an error, not a slower one. */
static otr_status open_fastest(const checker *c, bool skip, otr_device_info *info, otr_device **out) {
  *out = NULL;
  for (const otr_backend *const *b = otr_backends(); *b; b++)
    for (int32_t i = 0; i < (*b)->count() - (*b)->n_by_name; i++) {
      otr_device_info candidate;
      otr_device *device;
      describe(*b, i, &candidate);
      if (!candidate.available || (*out && *b == &otr_cpu_backend)) continue;
      otr_status status = open_checked(c, *b, i, skip, &candidate, &device);
      if (status == OTR_STATUS_NO_MEMORY) {
        if (*out) (*out)->ops->close(*out);
        *out = NULL;
        return status;
      }
      if (status != OTR_STATUS_OK) continue;
      bool faster = !*out || (!skip && candidate.check_seconds < CLEARLY_FASTER * info->check_seconds);
      otr_device *loser = faster ? *out : device;
      if (loser) loser->ops->close(loser);
      if (!faster) continue;
      *out = device;
      *info = candidate;
    }
  return *out ? OTR_STATUS_OK : OTR_STATUS_NO_DEVICE;
}

static otr_status choose_device(otr_runtime *r, const char *name, bool skip) {
  checker c;
  otr_status status = checker_open(&c, &r->memory, r->parallel);
  if (status == OTR_STATUS_OK) {
    if (!name || strcmp(name, "auto") == 0)
      status = open_fastest(&c, skip, &r->info, &r->device);
    else
      status = open_named(&c, name, skip, &r->info, &r->device);
  }
  checker_close(&c);
  return status;
}

/* ---- the runtime ------------------------------------------------------------------------------------------------- */

static void release(otr_runtime *r) {
  if (r->device) r->device->ops->close(r->device);
  otr_parallel_destroy(r->parallel);
  pthread_mutex_destroy(&r->turn);
  r->memory.allocator.release(r->memory.allocator.user, r, sizeof *r);
}

otr_status otr_runtime_create(const otr_runtime_params *given, otr_runtime **out) {
  if (!out) return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "out is NULL");
  *out = NULL;
  otr_runtime_params params;
  if (!otr_params_read(&params, sizeof params, given))
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "struct_size of otr_runtime_params is not set");
  if (!params.allocator.allocate != !params.allocator.release)
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "an allocator needs both of its functions");
  otr_memory memory;
  otr_memory_init(&memory, &params.allocator);
  otr_runtime *r = otr_memory_take(&memory, sizeof *r, 64);
  if (!r) return OTR_STATUS_NO_MEMORY;
  memset(r, 0, sizeof *r);
  otr_memory_init(&r->memory, &params.allocator);
  atomic_init(&r->users, 0);
  pthread_mutex_init(&r->turn, NULL);
  r->log = params.log;
  r->log_user = params.log_user;
  otr_status status =
      otr_parallel_create(&r->memory, params.n_threads, params.parallel_for, params.parallel_for_user, &r->parallel);
  if (status == OTR_STATUS_OK) status = choose_device(r, params.device, params.skip_self_check != 0);
  if (status != OTR_STATUS_OK) {
    release(r);
    return status;
  }
  otr_log(r, OTR_LOG_INFO, "device %s (%s), %d threads", r->info.name, r->info.isa, otr_parallel_threads(r->parallel));
  *out = r;
  return OTR_STATUS_OK;
}

otr_status otr_runtime_destroy(otr_runtime *r) {
  if (!r) return OTR_STATUS_OK;
  int users = atomic_load(&r->users);
  if (users > 0) return otr_fail(OTR_STATUS_BUSY, "%d models or linears of the runtime are open", users);
  release(r);
  return OTR_STATUS_OK;
}

otr_status otr_runtime_device(const otr_runtime *r, otr_device_info *info) {
  if (!r || !info || !otr_info_write(info, &r->info, sizeof r->info))
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "runtime or info is NULL, or struct_size is not set");
  return OTR_STATUS_OK;
}

int32_t otr_runtime_threads(const otr_runtime *r) {
  return r ? otr_parallel_threads(r->parallel) : 0;
}

void otr_runtime_memory(const otr_runtime *r, uint64_t *now_bytes, uint64_t *peak_bytes) {
  if (now_bytes) *now_bytes = r ? atomic_load(&r->memory.now) : 0;
  if (peak_bytes) *peak_bytes = r ? atomic_load(&r->memory.peak) : 0;
}
