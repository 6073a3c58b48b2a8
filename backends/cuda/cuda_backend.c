// SPDX-License-Identifier: Apache-2.0
/* The backend: which devices there are, and opening one. */
#include <stdio.h>
#include <string.h>

#include "cuda_device.h"
#include "cuda_layout.h"
#include "status.h"

enum { REASON_BYTES = 160 };

/* ---- driver calls ------------------------------------------------------------------------------------------------ */

/** After these every call of the process on this device fails, until its context is gone. */
static bool is_sticky(CUresult result) {
  switch (result) {
    case CUDA_ERROR_DEINITIALIZED:
    case CUDA_ERROR_DEVICE_UNAVAILABLE:
    case CUDA_ERROR_ECC_UNCORRECTABLE:
    case CUDA_ERROR_ILLEGAL_ADDRESS:
    case CUDA_ERROR_LAUNCH_TIMEOUT:
    case CUDA_ERROR_CONTEXT_IS_DESTROYED:
    case CUDA_ERROR_ASSERT:
    case CUDA_ERROR_SYSTEM_NOT_READY:
    case CUDA_ERROR_SYSTEM_DRIVER_MISMATCH:
    case CUDA_ERROR_UNKNOWN:
      return true;
    default: /* illegal instruction, misaligned address ... launch failed */
      return result >= CUDA_ERROR_HARDWARE_STACK_ERROR && result <= CUDA_ERROR_LAUNCH_FAILED;
  }
}

otr_status cuda_result(cuda_device *d, CUresult result, const char *call) {
  if (result == CUDA_SUCCESS) return OTR_STATUS_OK;
  otr_status status = OTR_STATUS_INTERNAL;
  if (result == CUDA_ERROR_OUT_OF_MEMORY) status = OTR_STATUS_NO_MEMORY;
  if (is_sticky(result)) {
    atomic_store(&d->lost, 1);
    status = OTR_STATUS_DEVICE_LOST;
  }
  int n = (int)strcspn(call, "(");
  return otr_fail(status, "%s: %.*s answers %s", d->name, n, call, cuda_error_name(d->api, result));
}

otr_status cuda_enter(cuda_device *d) {
  if (atomic_load(&d->lost)) return otr_fail(OTR_STATUS_DEVICE_LOST, "%s was lost by an earlier call", d->name);
  CUDA_TRY(d, cuCtxPushCurrent(d->context));
  return OTR_STATUS_OK;
}

otr_status cuda_leave(cuda_device *d, otr_status status) {
  CUcontext context = NULL;
  CUresult result = d->api->cuCtxPopCurrent(&context);
  if (result == CUDA_SUCCESS) return status;
  /* An error of earlier work can be told by any call, also by one that did what it should. */
  if (d->api->cuCtxGetCurrent(&context) == CUDA_SUCCESS && context == d->context) d->api->cuCtxPopCurrent(&context);
  return status == OTR_STATUS_OK ? cuda_result(d, result, "cuCtxPopCurrent") : status;
}

bool cuda_enter_to_release(cuda_device *d) {
  return d->api->cuCtxPushCurrent(d->context) == CUDA_SUCCESS || d->api->cuCtxPushCurrent(d->context) == CUDA_SUCCESS;
}

/* ---- what there is ----------------------------------------------------------------------------------------------- */

static CUresult read_traits(const cuda_api *api, CUdevice device, cuda_traits *t) {
  int integrated = 0, registers = 0, readonly = 0;
  const struct {
    int *to, attribute;
  } wanted[] = {{&t->caps.major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR},
                {&t->caps.minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR},
                {&t->caps.n_sm, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT},
                {&t->caps.shared_per_block, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN},
                {&t->caps.shared_per_sm, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR},
                {&integrated, CU_DEVICE_ATTRIBUTE_INTEGRATED},
                {&registers, CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED},
                {&readonly, CU_DEVICE_ATTRIBUTE_READ_ONLY_HOST_REGISTER_SUPPORTED}};
  memset(t, 0, sizeof *t);
  CUresult result = api->cuDeviceGetName(t->name, (int)sizeof t->name, device);
  if (result == CUDA_SUCCESS) result = api->cuDeviceGetUuid(&t->uuid, device);
  if (result == CUDA_SUCCESS) result = api->cuDeviceTotalMem(&t->memory_bytes, device);
  for (size_t i = 0; result == CUDA_SUCCESS && i < sizeof wanted / sizeof wanted[0]; i++)
    result = api->cuDeviceGetAttribute(wanted[i].to, wanted[i].attribute, device);
  t->name[sizeof t->name - 1] = 0;
  t->integrated = integrated != 0;
  t->registers_host = registers != 0;
  t->registers_readonly = readonly != 0;
  return result;
}

/** The driver, device `index` of it and its traits; false with the reason. */
static bool probe(int32_t index, const cuda_api **api, CUdevice *device, cuda_traits *t, char reason[REASON_BYTES]) {
  *api = cuda_api_get(reason, REASON_BYTES);
  if (!*api) return false;
  CUresult result = (*api)->cuDeviceGet(device, index);
  if (result == CUDA_SUCCESS) result = read_traits(*api, *device, t);
  if (result != CUDA_SUCCESS) {
    snprintf(reason, REASON_BYTES, "the driver answers %s", cuda_error_name(*api, result));
    return false;
  }
  if (cuda_choose_image(cuda_images, cuda_n_images, &t->caps, NULL)) return true;
  snprintf(reason, REASON_BYTES, "no kernel image of this build is for capability %d.%d", t->caps.major, t->caps.minor);
  return false;
}

static int32_t count(void) {
  char reason[REASON_BYTES];
  const cuda_api *api = cuda_api_get(reason, sizeof reason);
  return api ? api->n_devices : 1;
}

static void describe(int32_t index, otr_device_info *info) {
  const cuda_api *api;
  CUdevice device;
  cuda_traits t = {.name = ""};
  char reason[REASON_BYTES] = "";
  snprintf(info->name, sizeof info->name, "cuda:%d", index);
  snprintf(info->backend, sizeof info->backend, "cuda");
  info->available = probe(index, &api, &device, &t, reason);
  snprintf(info->reason, sizeof info->reason, "%s", reason);
  if (t.caps.major == 0) return;
  snprintf(info->description, sizeof info->description, "%.100s", t.name);
  snprintf(info->isa, sizeof info->isa, "sm_%d%d, CUDA %d.%d", t.caps.major, t.caps.minor, api->version / 1000,
           api->version % 1000 / 10);
  info->memory_bytes = t.memory_bytes;
  info->native_int8 = info->native_f16 = info->native_dot = 1;
}

/* ---- opening ----------------------------------------------------------------------------------------------------- */

static void *buffer_host(const otr_buffer *buffer) {
  (void)buffer;
  return NULL;
}

static bool demote(otr_device *base, otr_op_code code, const char *why) {
  cuda_device *d = (cuda_device *)base;
  (void)why;
  uint32_t bit = 1u << code;
  if ((d->verdict.demoted & bit) || !cuda_has_fast(&d->traits.caps, code)) return false;
  d->verdict.demoted |= bit;
  return true;
}

static void close_device(otr_device *base) {
  cuda_device *d = (cuda_device *)base;
  if (d->context) {
    if (cuda_enter_to_release(d)) {
      cuda_staging_destroy(d);
      if (d->stream) d->api->cuStreamDestroy(d->stream);
      if (d->module) d->api->cuModuleUnload(d->module);
      cuda_leave(d, OTR_STATUS_OK);
    }
    d->api->cuDevicePrimaryCtxRelease(d->device);
  }
  pthread_mutex_destroy(&d->pass_lock);
  pthread_mutex_destroy(&d->staging.lock);
  pthread_mutex_destroy(&d->result.lock);
  otr_memory_give_array(base->memory, d, 1, sizeof *d);
}

static const otr_device_ops device_ops = {
    .close = close_device,
    .buffer_create = cuda_buffer_create,
    .buffer_import = cuda_buffer_import,
    .buffer_destroy = cuda_buffer_destroy,
    .buffer_write = cuda_buffer_write,
    .buffer_read = cuda_buffer_read,
    .buffer_host = buffer_host,
    .quantized_bytes = cuda_quantized_bytes,
    .rounded_bytes = cuda_rounded_bytes,
    .q16_bytes = cuda_q16_bytes,
    .kv_page_bytes = cuda_kv_page_bytes,
    .quantized_read = cuda_quantized_read,
    .rounded_read = cuda_rounded_read,
    .q16_read = cuda_q16_read,
    .kv_read = cuda_kv_read,
    .kv_write = cuda_kv_write,
    .kv_copy = cuda_kv_copy,
    .prepare = cuda_prepare,
    .prepared_destroy = cuda_prepared_destroy,
    .prepared_bytes = cuda_prepared_bytes,
    .submit = cuda_submit,
    .placement = cuda_placement,
    .demote = demote,
    .proven = cuda_proven,
    .set_proven = cuda_set_proven,
    .cache_read = cuda_cache_read,
};

/** Streams, pinned memory and kernels; the context is current. A pass's stream has CUDA's own priority, 0, which
 *  NVIDIA's drivers rank lowest: an app's stream of any other priority goes before it. */
static otr_status make_contents(cuda_device *d, bool low_priority) {
  int least = 0, greatest = 0;
  CUDA_TRY(d, cuCtxGetStreamPriorityRange(&least, &greatest));
  CUDA_TRY(d, cuStreamCreateWithPriority(&d->stream, CU_STREAM_NON_BLOCKING, low_priority ? least : 0));
  OTR_TRY(cuda_staging_create(d));
  return cuda_load_kernels(d);
}

static otr_status open_device(int32_t index, const otr_device_params *params, otr_device **out) {
  char reason[REASON_BYTES];
  *out = NULL;
  cuda_device *d = otr_memory_take_array(params->memory, 1, sizeof *d);
  if (!d) return OTR_STATUS_NO_MEMORY;
  d->base = (otr_device){.ops = &device_ops, .memory = params->memory, .parallel = params->parallel};
  d->max_submit_ms = params->max_submit_ms;
  atomic_init(&d->lost, 0);
  pthread_mutex_init(&d->pass_lock, NULL);
  pthread_mutex_init(&d->staging.lock, NULL);
  pthread_mutex_init(&d->result.lock, NULL);
  snprintf(d->name, sizeof d->name, "cuda:%d", index);
  otr_status status = OTR_STATUS_OK;
  if (!probe(index, &d->api, &d->device, &d->traits, reason))
    status = otr_fail(OTR_STATUS_NO_DEVICE, "%s: %s", d->name, reason);
  if (status == OTR_STATUS_OK)
    status = cuda_result(d, d->api->cuDevicePrimaryCtxRetain(&d->context, d->device), "cuDevicePrimaryCtxRetain");
  if (status == OTR_STATUS_OK) status = cuda_enter(d);
  if (status == OTR_STATUS_OK) status = cuda_leave(d, make_contents(d, params->low_priority != 0));
  if (status != OTR_STATUS_OK) {
    close_device(&d->base);
    return status;
  }
  cuda_cache_open(d, params->cache, params->cache_bytes);
  *out = &d->base;
  return OTR_STATUS_OK;
}

const otr_backend otr_cuda_backend = {"cuda", count, describe, open_device, NULL};
