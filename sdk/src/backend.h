// SPDX-License-Identifier: Apache-2.0
/* What a backend is: devices that hold buffers and run programs of operations (ops.h). Selection: registry.c. */
#ifndef OTR_BACKEND_H
#define OTR_BACKEND_H

#include <stdatomic.h>
#include <stdbool.h>

#include "memory.h"
#include "ops.h"
#include "outrider/outrider.h"
#include "parallel.h"

typedef struct otr_device otr_device;
typedef struct otr_prepared otr_prepared; /* a program made ready by a backend */

/** Called after each operation with its output as f32 (tests and traces only). */
typedef void (*otr_trace_fn)(void *user, const otr_op *op, const char *what, const float *values, int32_t rows,
                             int32_t width);

/** How a device takes memory. */
typedef struct otr_placement {
  bool separate;     /* buffers are the device's memory, not the runtime's */
  bool in_place;     /* an import of a whole file's bytes works, as far as can be told beforehand */
  bool doubled;      /* ... and takes their size of device memory, too */
  size_t max_buffer; /* weights and KV are cut into buffers of at most this size (a tensor and a page stay whole);
                        0: no limit */
} otr_placement;

/** Everything that an opened device does. One thread at a time uses a device, but for buffers: create, write and read
 *  may run beside a submit that does not use them. All functions set the error detail when they fail. */
typedef struct otr_device_ops {
  void (*close)(otr_device *device);

  /** Zeroed memory, 256-byte aligned. */
  otr_status (*buffer_create)(otr_device *device, size_t bytes, otr_buffer **out);
  /** Host memory used in place until the buffer is destroyed: weights, never written. UNSUPPORTED: the caller creates
   *  and writes instead.
   *  @param weights OTR_WEIGHTS_AUTO, MAPPED (in place also where the device would rather copy) or BOTH (in place, with
   *  a copy beside it for what reads it better from there); COPIED never comes here */
  otr_status (*buffer_import)(otr_device *device, const void *host, size_t bytes, otr_weights weights,
                              otr_buffer **out);
  void (*buffer_destroy)(otr_device *device, otr_buffer *buffer);
  otr_status (*buffer_write)(otr_device *device, otr_buffer *buffer, size_t offset, const void *source, size_t bytes);
  otr_status (*buffer_read)(otr_device *device, const otr_buffer *buffer, size_t offset, void *destination,
                            size_t bytes);
  /** Host address of a buffer's memory, or NULL where the host cannot see it. */
  void *(*buffer_host)(const otr_buffer *buffer);

  /** Sizes of the layouts that are the backend's own, the same on all its devices. 0: too large. */
  size_t (*quantized_bytes)(int32_t max_rows, int32_t k);
  size_t (*rounded_bytes)(int32_t max_rows, int32_t k);
  size_t (*q16_bytes)(int32_t max_rows, int32_t width);
  size_t (*kv_page_bytes)(const otr_kv_shape *shape);

  /** Row `row` of a QUANTIZE output in the one canonical form. Any pointer may be NULL.
   *  @param q [k] @param outliers [k] ascending features @param x16 [k] f16 bits of them */
  otr_status (*quantized_read)(otr_device *device, otr_ref quantized, int32_t max_rows, int32_t k, int32_t row,
                               int8_t *q, float *scale, float *pow2e, int32_t *n_outliers, int32_t *outliers,
                               uint16_t *x16);
  /** Row of a ROUND16 output: f16 bits [k]. */
  otr_status (*rounded_read)(otr_device *device, otr_ref rounded, int32_t max_rows, int32_t k, int32_t row,
                             uint16_t *x16, float *pow2e);
  otr_status (*q16_read)(otr_device *device, otr_ref q16, int32_t width, int32_t row, uint16_t *f16);
  /** Positions [first, first + n) of a page and layer, canonical: f16 bits [n, n_kv_heads, head_dim]. */
  otr_status (*kv_read)(otr_device *device, const otr_kv_shape *shape, otr_page page, int32_t layer, int32_t first,
                        int32_t n, uint16_t *k, uint16_t *v);
  otr_status (*kv_write)(otr_device *device, const otr_kv_shape *shape, otr_page page, int32_t layer, int32_t first,
                         int32_t n, const uint16_t *k, const uint16_t *v);
  otr_status (*kv_copy)(otr_device *device, const otr_kv_shape *shape, otr_page to, otr_page from);

  /** Makes a program ready: everything that a submit needs is allocated here. */
  otr_status (*prepare)(otr_device *device, const otr_program *program, otr_prepared **out);
  void (*prepared_destroy)(otr_device *device, otr_prepared *prepared);
  /** Host and device bytes that prepare would take. */
  void (*prepared_bytes)(const otr_device *device, const otr_program *program, uint64_t *host, uint64_t *device_bytes);
  /** Runs the program on a step and waits. The step's cancel flags are looked at between operations, on a device that
   *  is given many at once between its submissions: CANCELLED. Allocates nothing. A NONFINITE value is told in the
   *  result, not by the status. After DEVICE_LOST every call answers that again, but for those that
   *  release. */
  otr_status (*submit)(otr_device *device, otr_prepared *prepared, const otr_step *step, otr_step_result *result);

  /* NULL where a backend has none: */

  /** For plans and the loader. @param weights as the caller chose. NULL: a CPU's, {false, true, false, 0}. */
  otr_placement (*placement)(const otr_device *device, otr_weights weights);

  /** The self-check failed at `code` (`why` says how): the operation's fast variants are switched off, for every
   *  program that is prepared from now on. @return true: check again; false: nothing is left to switch off. */
  bool (*demote)(otr_device *device, otr_op_code code, const char *why);
  /** True when the pipeline cache that the device was opened with holds the verdict that this device, driver and build
   *  pass; what was demoted then is demoted again, and *demoted says so (NULL: nothing). */
  bool (*proven)(otr_device *device, const char **demoted);
  /** The self-check has passed: cache_read gives the verdict, too. `demoted` as above. */
  void (*set_proven)(otr_device *device, const char *demoted);
  /** Pipelines and verdict as a blob for the app to store. @param blob [*bytes], or NULL for the size needed
   *  @return OK, BUFFER_TOO_SMALL (*bytes is the size needed). */
  otr_status (*cache_read)(otr_device *device, void *blob, size_t *bytes);
} otr_device_ops;

/** Common head of every backend's device. */
struct otr_device {
  const otr_device_ops *ops;
  otr_memory *memory;     /* the runtime's */
  otr_parallel *parallel; /* the runtime's */
  otr_trace_fn trace;     /* NULL: none; set between two submits */
  void *trace_user;
};

/** Calls the device's trace for an operation that has just been run on so many rows. */
otr_status otr_device_trace(otr_device *device, const otr_op *op, int32_t rows);

static inline otr_placement otr_device_placement(const otr_device *device, otr_weights weights) {
  otr_placement cpu = {.in_place = true};
  return device->ops->placement ? device->ops->placement(device, weights) : cpu;
}

/** What a device is opened with. */
typedef struct otr_device_params {
  otr_memory *memory;     /* the runtime's */
  otr_parallel *parallel; /* the runtime's */
  int32_t max_submit_ms;  /* longest submission, about; INT32_MAX: as long as it takes */
  int32_t low_priority;   /* 1: behind the app's own work on the device, where it has priorities */
  const void *cache;      /* what cache_read once gave, or anything else: checked before use; NULL: none */
  size_t cache_bytes;
} otr_device_params;

/** A backend: a list of devices that may or may not be there. */
typedef struct otr_backend {
  const char *name;
  /** Number of devices this build knows of, found or not. One that has found none still lists one, which describe()
   *  gives the reason of. */
  int32_t (*count)(void);
  /** Fills name (the backend's, alone or with a colon and more), backend, description, isa, reason, available, native_*,
   *  memory_bytes. `info` comes zeroed. */
  void (*describe)(int32_t index, otr_device_info *info);
  otr_status (*open)(int32_t index, const otr_device_params *params, otr_device **out);
  /** True for a device that is only taken by name, never by "auto"; by its backend's name when no other is there.
   *  NULL: there are none. */
  bool (*by_name_only)(int32_t index);
} otr_backend;

/** The backends of this build in order of preference, the reference last. NULL-terminated. */
const otr_backend *const *otr_backends(void);

extern const otr_backend otr_cpu_backend; /* the reference */
extern const otr_backend otr_x86_backend; /* where OUTRIDER_X86 is defined */
extern const otr_backend otr_neon_backend; /* where OUTRIDER_NEON is defined */
extern const otr_backend otr_vulkan_backend; /* where OUTRIDER_VULKAN is defined */
extern const otr_backend otr_cuda_backend; /* where OUTRIDER_CUDA is defined */

#endif
