// SPDX-License-Identifier: Apache-2.0
/* Buffers, and copies between them and host memory of any kind. Copies have a stream and pinned memory of their own, so
 * that buffers can be made and filled beside a pass. */
#include <string.h>

#include "cuda_device.h"
#include "status.h"

/* ---- staging ----------------------------------------------------------------------------------------------------- */

otr_status cuda_staging_create(cuda_device *d) {
  cuda_staging *s = &d->staging;
  CUDA_TRY(d, cuStreamCreateWithPriority(&s->stream, CU_STREAM_NON_BLOCKING, 0));
  for (int32_t i = 0; i < CUDA_STAGING_HALVES; i++) {
    CUDA_TRY(d, cuEventCreate(&s->done[i], CU_EVENT_DISABLE_TIMING));
    CUDA_TRY(d, cuMemAllocHost((void **)&s->half[i], CUDA_STAGING_BYTES));
  }
  return OTR_STATUS_OK;
}

void cuda_staging_destroy(cuda_device *d) {
  cuda_staging *s = &d->staging;
  for (int32_t i = 0; i < CUDA_STAGING_HALVES; i++) {
    if (s->half[i]) d->api->cuMemFreeHost(s->half[i]);
    if (s->done[i]) d->api->cuEventDestroy(s->done[i]);
  }
  if (s->stream) d->api->cuStreamDestroy(s->stream);
}

static size_t least(size_t a, size_t b) {
  return a < b ? a : b;
}

static otr_status wait(cuda_device *d) {
  CUDA_TRY(d, cuStreamSynchronize(d->staging.stream));
  return OTR_STATUS_OK;
}

static otr_status write_pieces(cuda_device *d, uint64_t to, const unsigned char *from, size_t bytes) {
  cuda_staging *s = &d->staging;
  for (size_t at = 0, piece = 0; at < bytes; at += CUDA_STAGING_BYTES, piece++) {
    size_t half = piece % CUDA_STAGING_HALVES, n = least(bytes - at, CUDA_STAGING_BYTES);
    if (piece >= CUDA_STAGING_HALVES) CUDA_TRY(d, cuEventSynchronize(s->done[half]));
    memcpy(s->half[half], from + at, n);
    CUDA_TRY(d, cuMemcpyHtoDAsync(to + at, s->half[half], n, s->stream));
    CUDA_TRY(d, cuEventRecord(s->done[half], s->stream));
  }
  return OTR_STATUS_OK;
}

static otr_status read_pieces(cuda_device *d, uint64_t from, unsigned char *to, size_t bytes) {
  cuda_staging *s = &d->staging;
  for (size_t at = 0; at < bytes; at += CUDA_STAGING_BYTES) {
    size_t n = least(bytes - at, CUDA_STAGING_BYTES);
    CUDA_TRY(d, cuMemcpyDtoHAsync(s->half[0], from + at, n, s->stream));
    OTR_TRY(wait(d));
    memcpy(to + at, s->half[0], n);
  }
  return OTR_STATUS_OK;
}

/** Begins and ends what is done with the staging memory. What fails on the way is still waited for: its pieces must not
 *  travel while the next caller fills the halves, or a buffer is given back. */
static otr_status begin(cuda_device *d) {
  OTR_TRY(cuda_enter(d));
  pthread_mutex_lock(&d->staging.lock);
  return OTR_STATUS_OK;
}

static otr_status end(cuda_device *d, otr_status status) {
  if (status == OTR_STATUS_OK) status = wait(d);
  if (status != OTR_STATUS_OK) d->api->cuStreamSynchronize(d->staging.stream);
  pthread_mutex_unlock(&d->staging.lock);
  return cuda_leave(d, status);
}

otr_status cuda_write(cuda_device *d, uint64_t to, const void *from, size_t bytes) {
  OTR_TRY(begin(d));
  return end(d, write_pieces(d, to, from, bytes));
}

otr_status cuda_read(cuda_device *d, uint64_t from, void *to, size_t bytes) {
  OTR_TRY(begin(d));
  return end(d, read_pieces(d, from, to, bytes));
}

otr_status cuda_copy(cuda_device *d, uint64_t to, uint64_t from, size_t bytes) {
  OTR_TRY(begin(d));
  return end(d, cuda_result(d, d->api->cuMemcpyDtoDAsync(to, from, bytes, d->staging.stream), "cuMemcpyDtoDAsync"));
}

/* ---- results of the last pass ------------------------------------------------------------------------------------ */

void cuda_result_is(cuda_device *d, const otr_buffer *buffer, size_t offset, size_t bytes, const void *host) {
  cuda_result_copy *r = &d->result;
  pthread_mutex_lock(&r->lock);
  r->buffer = buffer;
  r->offset = offset;
  r->bytes = bytes;
  r->host = host;
  pthread_mutex_unlock(&r->lock);
}

/** True when the bytes were here already. */
static bool take_result(cuda_device *d, const otr_buffer *b, size_t offset, void *destination, size_t bytes) {
  cuda_result_copy *r = &d->result;
  pthread_mutex_lock(&r->lock);
  bool here = r->buffer == b && offset >= r->offset && offset - r->offset <= r->bytes &&
              bytes <= r->bytes - (offset - r->offset);
  if (here) memcpy(destination, r->host + (offset - r->offset), bytes);
  pthread_mutex_unlock(&r->lock);
  return here;
}

static void forget_result(cuda_device *d, const otr_buffer *b) {
  pthread_mutex_lock(&d->result.lock);
  if (d->result.buffer == b) d->result.buffer = NULL;
  pthread_mutex_unlock(&d->result.lock);
}

/* ---- buffers ----------------------------------------------------------------------------------------------------- */

/** Device memory of a buffer. `cleared` 0: it is written at once. */
static otr_status allocate(cuda_device *d, otr_buffer *b, bool cleared) {
  CUdeviceptr address = 0;
  OTR_TRY(cuda_enter(d));
  CUresult result = d->api->cuMemAlloc(&address, b->bytes > 0 ? b->bytes : 1);
  if (result == CUDA_SUCCESS) b->device = address;
  otr_status status = result == CUDA_ERROR_OUT_OF_MEMORY
                          ? otr_fail(OTR_STATUS_NO_MEMORY, "%s: %zu bytes of device memory", d->name, b->bytes)
                          : cuda_result(d, result, "cuMemAlloc");
  OTR_TRY(cuda_leave(d, status));
  if (!cleared || b->bytes == 0) return OTR_STATUS_OK;
  OTR_TRY(begin(d));
  return end(d, cuda_result(d, d->api->cuMemsetD8Async(address, 0, b->bytes, d->staging.stream), "cuMemsetD8Async"));
}

otr_status cuda_buffer_create(otr_device *base, size_t bytes, otr_buffer **out) {
  cuda_device *d = (cuda_device *)base;
  *out = NULL;
  otr_buffer *b = otr_memory_take_array(base->memory, 1, sizeof *b);
  if (!b) return OTR_STATUS_NO_MEMORY;
  b->bytes = bytes;
  otr_status status = allocate(d, b, true);
  if (status == OTR_STATUS_OK)
    *out = b;
  else
    cuda_buffer_destroy(base, b);
  return status;
}

/** Lets the GPU read host memory where it lies. */
static otr_status map(cuda_device *d, otr_buffer *b, const void *host) {
  unsigned flags = CU_MEMHOSTREGISTER_DEVICEMAP | (d->traits.registers_readonly ? CU_MEMHOSTREGISTER_READ_ONLY : 0u);
  CUdeviceptr address = 0;
  void *memory;
  memcpy(&memory, &host, sizeof memory); /* it is only ever read */
  CUresult result = d->api->cuMemHostRegister(memory, b->bytes, flags);
  if (result != CUDA_SUCCESS) {
    /* What cannot be registered can be copied, unless the device or memory itself has failed. */
    otr_status status = cuda_result(d, result, "cuMemHostRegister");
    return status == OTR_STATUS_INTERNAL ? OTR_STATUS_UNSUPPORTED : status;
  }
  b->host = memory;
  CUDA_TRY(d, cuMemHostGetDevicePointer(&address, memory, 0));
  b->mapped = address;
  return OTR_STATUS_OK;
}

/* A discrete GPU would read through the bus. An integrated one does not cache registered memory: right for a decode,
 * which reads each weight once, slow for prompts, whose tiles read it often; so the copy is the better of the two where
 * nothing is said, and costs no more memory once the file's pages are given back to the system. */
otr_placement cuda_placement(const otr_device *base, otr_weights weights) {
  const cuda_traits *t = &((const cuda_device *)base)->traits;
  bool wanted = weights == OTR_WEIGHTS_MAPPED || weights == OTR_WEIGHTS_BOTH;
  return (otr_placement){.separate = true,
                         .in_place = wanted && t->integrated && t->registers_host,
                         .doubled = weights == OTR_WEIGHTS_BOTH};
}

otr_status cuda_buffer_import(otr_device *base, const void *host, size_t bytes, otr_weights weights, otr_buffer **out) {
  cuda_device *d = (cuda_device *)base;
  *out = NULL;
  if (!cuda_placement(base, weights).in_place)
    return otr_fail(OTR_STATUS_UNSUPPORTED, "%s: host memory is copied", d->name);
  otr_buffer *b = otr_memory_take_array(base->memory, 1, sizeof *b);
  if (!b) return OTR_STATUS_NO_MEMORY;
  b->bytes = bytes;
  otr_status status = cuda_enter(d);
  if (status == OTR_STATUS_OK) status = cuda_leave(d, map(d, b, host));
  if (status == OTR_STATUS_OK && weights == OTR_WEIGHTS_BOTH) {
    status = allocate(d, b, false);
    if (status == OTR_STATUS_OK) status = cuda_write(d, b->device, host, bytes);
  }
  if (status == OTR_STATUS_OK)
    *out = b;
  else
    cuda_buffer_destroy(base, b);
  return status;
}

void cuda_buffer_destroy(otr_device *base, otr_buffer *b) {
  cuda_device *d = (cuda_device *)base;
  if (!b) return;
  forget_result(d, b);
  if ((b->device || b->host) && cuda_enter_to_release(d)) {
    if (b->device) d->api->cuMemFree(b->device);
    if (b->host) d->api->cuMemHostUnregister(b->host);
    cuda_leave(d, OTR_STATUS_OK);
  }
  otr_memory_give_array(base->memory, b, 1, sizeof *b);
}

static otr_status check_range(const otr_buffer *b, size_t offset, size_t bytes) {
  if (offset > b->bytes || bytes > b->bytes - offset)
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "%zu bytes at %zu of a buffer of %zu", bytes, offset, b->bytes);
  return OTR_STATUS_OK;
}

otr_status cuda_buffer_write(otr_device *base, otr_buffer *b, size_t offset, const void *source, size_t bytes) {
  OTR_TRY(check_range(b, offset, bytes));
  if (b->host) return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "an imported buffer cannot be written");
  forget_result((cuda_device *)base, b);
  return cuda_write((cuda_device *)base, b->device + offset, source, bytes);
}

otr_status cuda_buffer_read(otr_device *base, const otr_buffer *b, size_t offset, void *destination, size_t bytes) {
  OTR_TRY(check_range(b, offset, bytes));
  if (b->host) {
    memcpy(destination, (const unsigned char *)b->host + offset, bytes);
    return OTR_STATUS_OK;
  }
  cuda_device *d = (cuda_device *)base;
  if (take_result(d, b, offset, destination, bytes)) return OTR_STATUS_OK;
  return cuda_read(d, b->device + offset, destination, bytes);
}
