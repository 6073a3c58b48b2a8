// SPDX-License-Identifier: Apache-2.0
#include "runtime.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "numerics.h"
#include "self_check.h"
#include "status.h"

#define DEFAULT_SUBMIT_MS 50

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

/** How devices are opened, and the reference to check them against. */
typedef struct checker {
  otr_device_params params;
  otr_device *reference;
} checker;

static otr_status checker_open(checker *c, const otr_device_params *params) {
  *c = (checker){*params, NULL};
  return otr_cpu_backend.open(0, params, &c->reference);
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

static void set_reason(otr_device_info *info, const char *reason) {
  snprintf(info->reason, sizeof info->reason, "%.*s", (int)sizeof info->reason - 1, reason);
}

/** The self-check, again after each fast variant that had to be switched off. A device known to pass is only timed. */
static otr_status check(const checker *c, otr_device *device, otr_device_info *info) {
  const otr_device_ops *ops = device->ops;
  const char *demoted = NULL;
  char why[OTR_DETAIL_BYTES];
  otr_op_code failed;
  if (ops->proven && ops->proven(device, &demoted)) {
    info->check = demoted ? OTR_CHECK_DEMOTED : OTR_CHECK_PASSED;
    if (demoted) set_reason(info, demoted);
    return otr_self_check(device, device, &failed, &info->check_seconds);
  }
  info->check = OTR_CHECK_PASSED;
  for (;;) {
    otr_status status = otr_self_check(device, c->reference, &failed, &info->check_seconds);
    if (status == OTR_STATUS_OK) break;
    otr_detail_get(why);
    if (failed == OTR_OP_COUNT || !ops->demote || !ops->demote(device, failed, why)) {
      otr_detail_set(why);
      return status;
    }
    if (info->check == OTR_CHECK_PASSED) set_reason(info, why);
    info->check = OTR_CHECK_DEMOTED;
  }
  if (ops->set_proven) ops->set_proven(device, info->check == OTR_CHECK_DEMOTED ? info->reason : NULL);
  return OTR_STATUS_OK;
}

/** Opens a device that `info` describes and, unless `skip`, checks it: what it found is in `info`, too. */
static otr_status open_checked(const checker *c, const otr_backend *backend, int32_t index, bool skip,
                               otr_device_info *info, otr_device **out) {
  *out = NULL;
  if (!info->available) return otr_fail(OTR_STATUS_NO_DEVICE, "%s: %s", info->name, info->reason);
  otr_device *device;
  otr_status status = backend->open(index, &c->params, &device);
  if (status == OTR_STATUS_OK && !skip) {
    status = check(c, device, info);
    if (status != OTR_STATUS_OK) device->ops->close(device);
  }
  if (status != OTR_STATUS_OK) {
    info->check = OTR_CHECK_FAILED;
    info->available = 0;
    set_reason(info, otr_error_detail());
    return otr_fail_in(status, "%s", info->name);
  }
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
  otr_device_params params = {.memory = &memory, .parallel = parallel, .max_submit_ms = DEFAULT_SUBMIT_MS};
  otr_status status = checker_open(&c, &params);
  if (status == OTR_STATUS_OK) status = list_devices(&c, infos, stride, capacity, n);
  checker_close(&c);
  otr_parallel_destroy(parallel);
  return status;
}

/* ---- choosing ---------------------------------------------------------------------------------------------------- */

/** How a name may fit a device, the better fit first. */
typedef enum fit { FIT_NAME, FIT_BACKEND, FIT_BY_NAME_ONLY, FIT_PART, FIT_NONE } fit;

static char lower(char c) {
  return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/** True when `part` is in `text`, case ignored. */
static bool contains(const char *text, const char *part) {
  for (; *text; text++) {
    size_t n = 0;
    while (part[n] && lower(text[n]) == lower(part[n])) n++;
    if (!part[n]) return true;
  }
  return false;
}

static bool is_by_name_only(const otr_backend *backend, int32_t index) {
  return backend->by_name_only && backend->by_name_only(index);
}

/** What stands in a wanted name behind the backend's own and a colon; "": nothing; NULL: it is another backend's. */
static const char *part_of(const otr_backend *backend, const char *wanted) {
  size_t n = strlen(backend->name);
  if (strncmp(backend->name, wanted, n) != 0 || (wanted[n] && wanted[n] != ':')) return NULL;
  return wanted[n] ? wanted + n + 1 : "";
}

static fit fit_of(const otr_backend *backend, int32_t index, const otr_device_info *info, const char *wanted) {
  const char *part = part_of(backend, wanted);
  if (strcmp(info->name, wanted) == 0) return FIT_NAME;
  if (strcmp(backend->name, wanted) == 0) return is_by_name_only(backend, index) ? FIT_BY_NAME_ONLY : FIT_BACKEND;
  return part[0] && contains(info->description, part) ? FIT_PART : FIT_NONE;
}

/** The device named; of several that a name fits the first in their order that can be opened. */
static otr_status open_named(const checker *c, const char *wanted, bool skip, otr_device_info *info, otr_device **out) {
  otr_status first = OTR_STATUS_OK; /* failure, and why: looking at further devices has reasons of its own */
  char why[OTR_DETAIL_BYTES];
  *out = NULL;
  for (fit f = FIT_NAME; f < FIT_NONE; f++)
    for (const otr_backend *const *b = otr_backends(); *b; b++)
      /* No other backend is asked: counting a GPU's devices loads its driver. */
      for (int32_t i = 0; part_of(*b, wanted) && i < (*b)->count(); i++) {
        describe(*b, i, info);
        if (fit_of(*b, i, info, wanted) != f) continue;
        otr_status status = open_checked(c, *b, i, skip, info, out);
        if (status == OTR_STATUS_OK || status == OTR_STATUS_NO_MEMORY || f == FIT_NAME) return status;
        if (first != OTR_STATUS_OK) continue;
        first = status;
        otr_detail_get(why);
      }
  if (first != OTR_STATUS_OK) return otr_fail(first, "%s", why);
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
    for (int32_t i = 0; i < (*b)->count(); i++) {
      otr_device_info candidate;
      otr_device *device;
      if (is_by_name_only(*b, i)) continue;
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

static otr_status choose_device(otr_runtime *r, const otr_runtime_params *p) {
  checker c;
  otr_device_params params = {.memory = &r->memory,
                              .parallel = r->parallel,
                              .max_submit_ms = p->max_submit_ms < 0 ? INT32_MAX : p->max_submit_ms,
                              .low_priority = p->low_priority != 0,
                              .cache = p->pipeline_cache,
                              .cache_bytes = p->pipeline_cache ? p->pipeline_cache_bytes : 0};
  if (p->max_submit_ms == 0) params.max_submit_ms = DEFAULT_SUBMIT_MS;
  bool skip = p->skip_self_check != 0;
  otr_status status = checker_open(&c, &params);
  if (status == OTR_STATUS_OK) {
    if (!p->device || strcmp(p->device, "auto") == 0)
      status = open_fastest(&c, skip, &r->info, &r->device);
    else
      status = open_named(&c, p->device, skip, &r->info, &r->device);
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
  if (status == OTR_STATUS_OK) status = choose_device(r, &params);
  if (status != OTR_STATUS_OK) {
    release(r);
    return status;
  }
  if (r->info.check == OTR_CHECK_DEMOTED) otr_log(r, OTR_LOG_WARNING, "%s: demoted: %s", r->info.name, r->info.reason);
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

otr_status otr_runtime_pipeline_cache(otr_runtime *r, void *blob, size_t *bytes) {
  if (!r || !bytes) return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "runtime or bytes is NULL");
  if (!r->device->ops->cache_read) {
    *bytes = 0;
    return OTR_STATUS_OK;
  }
  OTR_TRY(otr_runtime_begin(r));
  otr_status status = r->device->ops->cache_read(r->device, blob, bytes);
  otr_runtime_end(r);
  return status;
}

int32_t otr_runtime_threads(const otr_runtime *r) {
  return r ? otr_parallel_threads(r->parallel) : 0;
}

void otr_runtime_memory(const otr_runtime *r, uint64_t *now_bytes, uint64_t *peak_bytes) {
  if (now_bytes) *now_bytes = r ? atomic_load(&r->memory.now) : 0;
  if (peak_bytes) *peak_bytes = r ? atomic_load(&r->memory.peak) : 0;
}
