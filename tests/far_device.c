// SPDX-License-Identifier: Apache-2.0
#include "far_device.h"

#include <stdio.h>
#include <string.h>

#include "cpu_device.h"
#include "status.h"

enum { FAR_COPIES, FAR_IN_PLACE, FAR_WRONG, FAR_DEVICES };

far_state far;

static otr_memory far_memory; /* the device's own: nothing of it counts as the host's */
static bool lost;
static const otr_device_ops *near; /* the reference's own table */

typedef struct far_device {
  otr_device base; /* what the runtime sees */
  otr_device *cpu;
  int32_t index;
} far_device;

static otr_device *cpu_of(const otr_device *device) {
  return ((const far_device *)device)->cpu;
}

/** OK, or the failure that the test has ordered for this call. */
static otr_status call(const char *what) {
  if (lost) return otr_fail(OTR_STATUS_DEVICE_LOST, "far device: %s: it is lost", what);
  if (atomic_fetch_add(&far.calls, 1) + 1 != atomic_load(&far.fail_at)) return OTR_STATUS_OK;
  lost = far.fail_with == OTR_STATUS_DEVICE_LOST;
  return otr_fail(far.fail_with, "far device: %s failed as ordered", what);
}

/* ---- buffers ----------------------------------------------------------------------------------------------------- */

static otr_status buffer_create(otr_device *device, size_t bytes, otr_buffer **out) {
  *out = NULL;
  OTR_TRY(call("buffer_create"));
  OTR_TRY(near->buffer_create(cpu_of(device), bytes, out));
  atomic_fetch_add(&far.buffers, 1);
  atomic_fetch_add(&far.bytes, (long)bytes);
  return OTR_STATUS_OK;
}

static otr_status buffer_import(otr_device *device, const void *host, size_t bytes, otr_weights weights,
                                otr_buffer **out) {
  *out = NULL;
  if (((far_device *)device)->index == FAR_COPIES) return OTR_STATUS_UNSUPPORTED;
  OTR_TRY(call("buffer_import"));
  OTR_TRY(near->buffer_import(cpu_of(device), host, bytes, weights, out));
  atomic_fetch_add(&far.buffers, 1);
  return OTR_STATUS_OK;
}

static void buffer_destroy(otr_device *device, otr_buffer *buffer) {
  if (!buffer) return;
  atomic_fetch_sub(&far.buffers, 1);
  if (buffer->owned) atomic_fetch_sub(&far.bytes, (long)buffer->bytes);
  near->buffer_destroy(cpu_of(device), buffer);
}

static otr_status buffer_write(otr_device *device, otr_buffer *buffer, size_t offset, const void *source,
                               size_t bytes) {
  OTR_TRY(call("buffer_write"));
  return near->buffer_write(cpu_of(device), buffer, offset, source, bytes);
}

static otr_status buffer_read(otr_device *device, const otr_buffer *buffer, size_t offset, void *destination,
                              size_t bytes) {
  OTR_TRY(call("buffer_read"));
  return near->buffer_read(cpu_of(device), buffer, offset, destination, bytes);
}

static void *buffer_host(const otr_buffer *buffer) {
  (void)buffer;
  return NULL;
}

static otr_placement placement(const otr_device *device, otr_weights weights) {
  bool copies = ((const far_device *)device)->index == FAR_COPIES;
  return (otr_placement){.separate = true,
                         .in_place = !copies,
                         .doubled = weights == OTR_WEIGHTS_BOTH,
                         .max_buffer = copies ? FAR_MAX_BUFFER : 0};
}

/* ---- layouts ----------------------------------------------------------------------------------------------------- */

static otr_status quantized_read(otr_device *device, otr_ref quantized, int32_t max_rows, int32_t k, int32_t row,
                                 int8_t *q, float *scale, float *pow2e, int32_t *n_outliers, int32_t *outliers,
                                 uint16_t *x16) {
  OTR_TRY(call("quantized_read"));
  return near->quantized_read(cpu_of(device), quantized, max_rows, k, row, q, scale, pow2e, n_outliers, outliers, x16);
}

static otr_status rounded_read(otr_device *device, otr_ref rounded, int32_t max_rows, int32_t k, int32_t row,
                               uint16_t *x16, float *pow2e) {
  OTR_TRY(call("rounded_read"));
  return near->rounded_read(cpu_of(device), rounded, max_rows, k, row, x16, pow2e);
}

static otr_status q16_read(otr_device *device, otr_ref q16, int32_t width, int32_t row, uint16_t *f16) {
  OTR_TRY(call("q16_read"));
  return near->q16_read(cpu_of(device), q16, width, row, f16);
}

static otr_status kv_read(otr_device *device, const otr_kv_shape *shape, otr_page page, int32_t layer, int32_t first,
                          int32_t n, uint16_t *k, uint16_t *v) {
  OTR_TRY(call("kv_read"));
  return near->kv_read(cpu_of(device), shape, page, layer, first, n, k, v);
}

static otr_status kv_write(otr_device *device, const otr_kv_shape *shape, otr_page page, int32_t layer, int32_t first,
                           int32_t n, const uint16_t *k, const uint16_t *v) {
  OTR_TRY(call("kv_write"));
  return near->kv_write(cpu_of(device), shape, page, layer, first, n, k, v);
}

static otr_status kv_copy(otr_device *device, const otr_kv_shape *shape, otr_page to, otr_page from) {
  OTR_TRY(call("kv_copy"));
  return near->kv_copy(cpu_of(device), shape, to, from);
}

/* ---- programs ---------------------------------------------------------------------------------------------------- */

static otr_status prepare(otr_device *device, const otr_program *program, otr_prepared **out) {
  *out = NULL;
  OTR_TRY(call("prepare"));
  for (int32_t i = 0; i < program->n_ops; i++)
    if (program->ops[i].code == OTR_OP_QUANTIZE && program->ops[i].u.quantize.batch)
      return otr_fail(OTR_STATUS_UNSUPPORTED, "batch scope is the reference's");
  OTR_TRY(near->prepare(cpu_of(device), program, out));
  atomic_fetch_add(&far.prepared, 1);
  return OTR_STATUS_OK;
}

static void prepared_destroy(otr_device *device, otr_prepared *prepared) {
  if (!prepared) return;
  atomic_fetch_sub(&far.prepared, 1);
  near->prepared_destroy(cpu_of(device), prepared);
}

static void prepared_bytes(const otr_device *device, const otr_program *program, uint64_t *host,
                           uint64_t *device_bytes) {
  near->prepared_bytes(cpu_of(device), program, device_bytes, host);
}

/* One submission, and a dispatch for each operation. */
static otr_status submit(otr_device *device, otr_prepared *prepared, const otr_step *step, otr_step_result *result) {
  OTR_TRY(call("submit"));
  cpu_of(device)->trace = device->trace;
  cpu_of(device)->trace_user = device->trace_user;
  otr_status status = near->submit(cpu_of(device), prepared, step, result);
  result->submissions = 1;
  result->dispatches = (uint64_t)prepared->program.n_ops;
  return status;
}

/* ---- the self-check ---------------------------------------------------------------------------------------------- */

static void add_in_a_hurry(otr_found *found, float *x, const float *y, size_t n) {
  otr_reference_kernels.add(found, x, y, n);
  if (n > 50) x[50] = 0.0f;
}

/** Right after as many demotions as the test has ordered. */
static void choose_kernels(far_device *device) {
  static otr_cpu_kernels wrong;
  wrong = otr_reference_kernels;
  wrong.add = add_in_a_hurry;
  bool right = device->index != FAR_WRONG || far.demoted >= far.demotions_cure;
  ((otr_cpu_device *)device->cpu)->kernels = right ? &otr_reference_kernels : &wrong;
}

static bool demote(otr_device *device, otr_op_code code, const char *why) {
  (void)why;
  if (((far_device *)device)->index != FAR_WRONG || far.demoted == far.demotions) return false;
  far.demoted++;
  far.demoted_op = code;
  choose_kernels((far_device *)device);
  return true;
}

static bool proven(otr_device *device, const char **demoted) {
  (void)device;
  *demoted = far.demoted > 0 ? "demoted another time" : NULL;
  return far.checks_proven != 0;
}

static void set_proven(otr_device *device, const char *demoted) {
  (void)device;
  (void)demoted;
  far.told_proven = 1;
}

static otr_status cache_read(otr_device *device, void *blob, size_t *bytes) {
  static const char content[] = "pipelines";
  size_t room = *bytes;
  OTR_TRY(call("cache_read"));
  (void)device;
  *bytes = sizeof content;
  if (!blob) return OTR_STATUS_OK;
  if (room < sizeof content) return otr_fail(OTR_STATUS_BUFFER_TOO_SMALL, "the cache has %zu bytes", sizeof content);
  memcpy(blob, content, sizeof content);
  return OTR_STATUS_OK;
}

/* ---- the backend ------------------------------------------------------------------------------------------------- */

static void close_device(otr_device *device) {
  near->close(cpu_of(device));
  otr_memory_give_array(&far_memory, device, 1, sizeof(far_device));
  atomic_fetch_sub(&far.devices, 1);
}

static otr_device_ops far_ops;

/** A CPU device's table; all but the sizes of its layouts goes through here first. */
static void fill_table(const otr_device_ops *cpu_ops) {
  if (near) return;
  near = cpu_ops;
  far_ops = *near;
  far_ops.close = close_device;
  far_ops.buffer_create = buffer_create;
  far_ops.buffer_import = buffer_import;
  far_ops.buffer_destroy = buffer_destroy;
  far_ops.buffer_write = buffer_write;
  far_ops.buffer_read = buffer_read;
  far_ops.buffer_host = buffer_host;
  far_ops.quantized_read = quantized_read;
  far_ops.rounded_read = rounded_read;
  far_ops.q16_read = q16_read;
  far_ops.kv_read = kv_read;
  far_ops.kv_write = kv_write;
  far_ops.kv_copy = kv_copy;
  far_ops.prepare = prepare;
  far_ops.prepared_destroy = prepared_destroy;
  far_ops.prepared_bytes = prepared_bytes;
  far_ops.submit = submit;
  far_ops.placement = placement;
  far_ops.demote = demote;
  far_ops.proven = proven;
  far_ops.set_proven = set_proven;
  far_ops.cache_read = cache_read;
}

static int32_t count(void) {
  return far.show_wrong ? FAR_DEVICES : FAR_WRONG;
}

static void describe(int32_t index, otr_device_info *info) {
  static const char *const names[] = {"far:0", "far:1", "far:wrong"};
  static const char *const descriptions[] = {"Distant Graphics", "Distant Unified", "Distant Hurry"};
  snprintf(info->name, sizeof info->name, "%s", names[index]);
  snprintf(info->backend, sizeof info->backend, "far");
  snprintf(info->description, sizeof info->description, "%s", descriptions[index]);
  info->available = index == FAR_WRONG || !far.hide_others;
  if (!info->available) snprintf(info->reason, sizeof info->reason, "hidden by the test");
}

static otr_status open_device(int32_t index, const otr_device_params *params, otr_device **out) {
  *out = NULL;
  if (far.devices == 0) lost = false; /* a new life */
  OTR_TRY(call("open"));
  if (!far_memory.allocator.allocate) otr_memory_init(&far_memory, NULL);
  far_device *device = otr_memory_take_array(&far_memory, 1, sizeof *device);
  if (!device) return OTR_STATUS_NO_MEMORY;
  otr_device_params own = *params;
  own.memory = &far_memory;
  otr_status status = otr_cpu_device_open(&otr_reference_kernels, &own, &device->cpu);
  if (status != OTR_STATUS_OK) {
    otr_memory_give_array(&far_memory, device, 1, sizeof *device);
    return status;
  }
  fill_table(device->cpu->ops);
  device->base = (otr_device){.ops = &far_ops, .memory = params->memory, .parallel = params->parallel};
  device->index = index;
  choose_kernels(device);
  far.opened_with = *params;
  atomic_fetch_add(&far.devices, 1);
  *out = &device->base;
  return OTR_STATUS_OK;
}

static bool by_name_only(int32_t index) {
  return index == FAR_WRONG;
}

static const otr_backend far_backend = {"far", count, describe, open_device, by_name_only};

/* In the place of registry.c's, which a program that has this one does not link. */
const otr_backend *const *otr_backends(void) {
  static const otr_backend *const backends[] = {&far_backend, &otr_cpu_backend, NULL};
  return backends;
}
