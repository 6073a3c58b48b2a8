// SPDX-License-Identifier: Apache-2.0
/* Inside of the CUDA backend: the open device, and what its files do for each other. */
#ifndef OTR_CUDA_DEVICE_H
#define OTR_CUDA_DEVICE_H

#include <pthread.h>

#include "backend.h"
#include "cuda_api.h"
#include "cuda_images.h"
#include "cuda_lower.h"
#include "verdict.h"

enum {
  CUDA_STAGING_HALVES = 2,
  CUDA_STAGING_BYTES = 2 << 20, /* of a half */
  CUDA_NAME_BYTES = 16
};

/** What a device says of itself, asked without a context. */
typedef struct cuda_traits {
  cuda_caps caps;
  char name[128];
  CUuuid uuid;
  size_t memory_bytes;
  bool integrated;         /* one memory with the host: Jetson */
  bool registers_host;     /* host memory can be registered ... */
  bool registers_readonly; /* ... and a read-only mapping too */
} cuda_traits;

/** Pinned memory that host memory of any kind is copied through: one half is filled while the other travels. */
typedef struct cuda_staging {
  pthread_mutex_t lock; /* also the stream's */
  CUstream stream;
  unsigned char *half[CUDA_STAGING_HALVES];
  CUevent done[CUDA_STAGING_HALVES];
} cuda_staging;

/** The rows that the last pass brought along (otr_program.result): a read of them asks the device for nothing. */
typedef struct cuda_result_copy {
  pthread_mutex_t lock;
  const otr_buffer *buffer; /* NULL: there is none */
  size_t offset, bytes;
  const unsigned char *host;
} cuda_result_copy;

typedef struct cuda_device {
  otr_device base;
  const cuda_api *api;
  CUdevice device;
  CUcontext context; /* the device's primary one */
  char name[CUDA_NAME_BYTES];
  cuda_traits traits;
  CUmodule module;
  const cuda_image *image; /* that the module is made of */
  CUfunction function[CUDA_KERNEL_COUNT];
  pthread_mutex_t pass_lock; /* the stream's: sessions are made while another's pass is under way */
  CUstream stream;           /* of passes, and what graphs are recorded with */
  cuda_staging staging;
  cuda_result_copy result;
  int32_t max_submit_ms;
  otr_verdict verdict; /* demoted: bit of each operation whose fast variant is off */
  atomic_int lost;
} cuda_device;

/** Status of a driver call's result; not OK: with the detail "cuda:0: <call>: CUDA_ERROR_...". */
otr_status cuda_result(cuda_device *device, CUresult result, const char *call);

/** Returns from the calling function when a driver call fails: CUDA_TRY(device, cuMemFree(address)). */
#define CUDA_TRY(device, call) OTR_TRY(cuda_result((device), (device)->api->call, #call))

/** Makes the device's context the thread's current one; cuda_leave puts back what was current before.
 *  cuda_leave returns `status`, or its own failure where that is OK. */
otr_status cuda_enter(cuda_device *device);
otr_status cuda_leave(cuda_device *device, otr_status status);
/** cuda_enter for what must be given back: tries again, and false only when there is no way in. */
bool cuda_enter_to_release(cuda_device *device);

/* cuda_modules.c */
/** The image that a device can run best: same major capability and the highest minor not above its own, PTX last; with
 *  `after` the next best. NULL: none. */
const cuda_image *cuda_choose_image(const cuda_image *images, int32_t n, const cuda_caps *caps,
                                    const cuda_image *after);
/** Loads the kernels; the context is current. NO_DEVICE with the reason where no image is for this device. */
otr_status cuda_load_kernels(cuda_device *device);

/* cuda_cache.c */
/** Takes the verdict of an app's blob; the kernels are loaded. */
void cuda_cache_open(cuda_device *device, const void *blob, size_t bytes);
otr_status cuda_cache_read(otr_device *base, void *blob, size_t *bytes);
bool cuda_proven(otr_device *base, const char **demoted);
void cuda_set_proven(otr_device *base, const char *demoted);

/* cuda_memory.c. All of them enter and leave the context themselves. */
otr_status cuda_staging_create(cuda_device *device);
void cuda_staging_destroy(cuda_device *device);
otr_placement cuda_placement(const otr_device *base, otr_weights weights);
otr_status cuda_buffer_create(otr_device *base, size_t bytes, otr_buffer **out);
otr_status cuda_buffer_import(otr_device *base, const void *host, size_t bytes, otr_weights weights, otr_buffer **out);
void cuda_buffer_destroy(otr_device *base, otr_buffer *buffer);
otr_status cuda_buffer_write(otr_device *base, otr_buffer *buffer, size_t offset, const void *source, size_t bytes);
otr_status cuda_buffer_read(otr_device *base, const otr_buffer *buffer, size_t offset, void *destination, size_t bytes);
/** From anywhere on the device to anywhere on it. */
otr_status cuda_copy(cuda_device *device, uint64_t to, uint64_t from, size_t bytes);
otr_status cuda_write(cuda_device *device, uint64_t to, const void *from, size_t bytes);
otr_status cuda_read(cuda_device *device, uint64_t from, void *to, size_t bytes);

/** Makes [offset, offset + bytes) of `buffer` known to lie at `host`; with buffer NULL forgets what is known. */
void cuda_result_is(cuda_device *device, const otr_buffer *buffer, size_t offset, size_t bytes, const void *host);

/* cuda_canonical.c: the canonical reads of otr_device_ops. */
otr_status cuda_quantized_read(otr_device *base, otr_ref quantized, int32_t max_rows, int32_t k, int32_t row, int8_t *q,
                               float *scale, float *pow2e, int32_t *n_outliers, int32_t *outliers, uint16_t *x16);
otr_status cuda_rounded_read(otr_device *base, otr_ref rounded, int32_t max_rows, int32_t k, int32_t row, uint16_t *x16,
                             float *pow2e);
otr_status cuda_q16_read(otr_device *base, otr_ref q16, int32_t width, int32_t row, uint16_t *f16);
otr_status cuda_kv_read(otr_device *base, const otr_kv_shape *shape, otr_page page, int32_t layer, int32_t first,
                        int32_t n, uint16_t *k, uint16_t *v);
otr_status cuda_kv_write(otr_device *base, const otr_kv_shape *shape, otr_page page, int32_t layer, int32_t first,
                         int32_t n, const uint16_t *k, const uint16_t *v);
otr_status cuda_kv_copy(otr_device *base, const otr_kv_shape *shape, otr_page to, otr_page from);

/* cuda_prepare.c, cuda_submit.c */
otr_status cuda_prepare(otr_device *base, const otr_program *program, otr_prepared **out);
void cuda_prepared_destroy(otr_device *base, otr_prepared *prepared);
void cuda_prepared_bytes(const otr_device *base, const otr_program *program, uint64_t *host, uint64_t *device_bytes);
otr_status cuda_submit(otr_device *base, otr_prepared *prepared, const otr_step *step, otr_step_result *result);

#endif
