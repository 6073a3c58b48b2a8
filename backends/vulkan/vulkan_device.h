// SPDX-License-Identifier: Apache-2.0
/* Inside of the Vulkan device: which file does what.
 *
 *   vulkan_backend.c  the list of devices
 *   vulkan_traits.c   what one is and offers
 *   vulkan_device.c   opening and closing one
 *   vulkan_memory.c   blocks of memory, buffers in them
 *   vulkan_transfer.c submitting; copies from and to the host
 *   vulkan_pipeline.c pipelines
 *   vulkan_cache.c    their cache as a blob, with the self-check's verdict
 *   vulkan_prepare.c  a program lowered, recorded
 *   vulkan_submit.c   a pass
 *   vulkan_access.c   layouts read and written by the host */
#ifndef OTR_VULKAN_DEVICE_H
#define OTR_VULKAN_DEVICE_H

#include <pthread.h>

#include "backend.h"
#include "verdict.h"
#include "vulkan_traits.h"

enum { VULKAN_ALIGN = 256, VULKAN_STAGING_BYTES = 8 << 20 };

/** What a piece of memory is for. */
typedef enum vulkan_use {
  VULKAN_MEMORY_DEVICE,  /* buffers: the fastest there is for the device */
  VULKAN_MEMORY_CONTROL, /* written by the host before each pass */
  VULKAN_MEMORY_READBACK /* read by the host after it */
} vulkan_use;

/** One VkDeviceMemory and the one VkBuffer over all of it. Buffers lie in it, in ascending order. */
typedef struct vulkan_block {
  struct vulkan_block *next;
  VkDeviceMemory memory;
  VkBuffer buffer;
  size_t bytes;
  uint8_t *host; /* mapped, or the imported memory; NULL: the host cannot see it */
  vulkan_use use;
  bool imported;
  otr_buffer *first;
  uint64_t serial; /* never used again: tells a new block from a destroyed one at the same address */
} vulkan_block;

struct otr_buffer {
  otr_buffer *next; /* in its block */
  vulkan_block *block;
  size_t offset, bytes; /* in the block */
};

typedef struct vulkan_pipeline {
  vulkan_shader shader;
  uint32_t constant[VULKAN_CONSTANTS];
  VkPipeline handle;
} vulkan_pipeline;

/** What the host may read of a pass without asking the device again: the program's result. */
typedef struct vulkan_mirror {
  const otr_buffer *buffer;
  size_t offset, bytes;
  const uint8_t *host;
} vulkan_mirror;

typedef struct vulkan_device {
  otr_device base;
  const vulkan_instance *instance;
  VkPhysicalDevice physical;
  vulkan_traits traits;
  vulkan_caps caps; /* traits.caps less what was demoted */
  VkPhysicalDeviceMemoryProperties memory;
  bool unified; /* all memory is mapped */
  double max_submit_seconds;

  VkDevice handle;
  vulkan_functions vk;
  VkQueue queue;
  pthread_mutex_t queue_lock;
  atomic_bool lost;

  VkDescriptorSetLayout set_layout, kv_layout;
  VkPipelineLayout layout;
  VkPipelineCache cache;
  vulkan_pipeline *pipelines;
  int32_t n_pipelines, pipelines_capacity;
  otr_verdict verdict;

  pthread_mutex_t memory_lock; /* blocks and their lists */
  vulkan_block *blocks;
  vulkan_block *retired; /* to be destroyed when the pass in progress is over */
  bool in_pass;
  uint64_t next_serial;
  uint64_t block_epoch; /* counts destroyed blocks */

  /* Copies to memory that the host cannot see. */
  pthread_mutex_t transfer_lock;
  otr_buffer *staging;
  VkCommandPool transfer_pool;
  VkCommandBuffer transfer;
  VkFence transfer_fence;
  otr_buffer *dummy; /* bound for KV windows that are not there */

  bool holds_instance;
  vulkan_mirror mirror;
} vulkan_device;

/* ---- vulkan_memory.c, vulkan_transfer.c -------------------------------------------------------------------------- */

/** Zeroed where `use` is DEVICE or CONTROL. */
otr_status vulkan_buffer_take(vulkan_device *d, vulkan_use use, size_t bytes, otr_buffer **out);
void vulkan_buffer_give(vulkan_device *d, otr_buffer *buffer);
otr_status vulkan_buffer_import(vulkan_device *d, const void *host, size_t bytes, otr_buffer **out);
otr_status vulkan_buffer_copy_in(vulkan_device *d, otr_buffer *buffer, size_t offset, const void *source, size_t bytes);
otr_status vulkan_buffer_copy_out(vulkan_device *d, const otr_buffer *buffer, size_t offset, void *to, size_t bytes);
otr_status vulkan_buffer_copy(vulkan_device *d, otr_ref to, otr_ref from, size_t bytes);
static inline uint8_t *vulkan_buffer_host(const otr_buffer *buffer) {
  return buffer->block->host ? buffer->block->host + buffer->offset : NULL;
}
otr_status vulkan_buffer_zero(vulkan_device *d, const otr_buffer *buffer);
/** Blocks given back in between are destroyed at its end. */
void vulkan_memory_begin_pass(vulkan_device *d);
void vulkan_memory_end_pass(vulkan_device *d);
/** All blocks that are left, when the device closes. */
void vulkan_memory_close(vulkan_device *d);
/** DEVICE_LOST once it was. */
otr_status vulkan_check_lost(const vulkan_device *d);
/** Submits recorded commands and waits. A device lost stays lost. */
otr_status vulkan_submit_wait(vulkan_device *d, const VkCommandBuffer *commands, uint32_t n, VkFence fence);

/* ---- vulkan_pipeline.c, vulkan_cache.c --------------------------------------------------------------------------- */

otr_status vulkan_pipeline_get(vulkan_device *d, const vulkan_dispatch *dispatch, VkPipeline *out);
/** Makes the pipeline cache, from the app's blob where that is this device's, driver's and build's. */
otr_status vulkan_cache_open(vulkan_device *d, const void *blob, size_t bytes);
otr_status vulkan_cache_read(otr_device *device, void *blob, size_t *bytes);
bool vulkan_proven(otr_device *device, const char **demoted);
void vulkan_set_proven(otr_device *device, const char *demoted);
void vulkan_pipelines_close(vulkan_device *d);

/* ---- vulkan_device.c --------------------------------------------------------------------------------------------- */

/** Opens physical device `physical`, which the traits describe. Takes over one use of the instance when it succeeds. */
otr_status vulkan_device_open(const vulkan_instance *instance, VkPhysicalDevice physical, const vulkan_traits *traits,
                              const otr_device_params *params, otr_device **out);

/* ---- vulkan_prepare.c, vulkan_submit.c, vulkan_access.c: entries of otr_device_ops ------------------------------- */

otr_status vulkan_prepare(otr_device *device, const otr_program *program, otr_prepared **out);
void vulkan_prepared_destroy(otr_device *device, otr_prepared *prepared);
void vulkan_prepared_bytes(const otr_device *device, const otr_program *program, uint64_t *host, uint64_t *bytes);
otr_status vulkan_submit(otr_device *device, otr_prepared *prepared, const otr_step *step, otr_step_result *result);

size_t vulkan_kv_page_bytes(const otr_kv_shape *shape);
otr_status vulkan_quantized_read(otr_device *device, otr_ref ref, int32_t max_rows, int32_t k, int32_t row, int8_t *q,
                                 float *scale, float *pow2e, int32_t *n_outliers, int32_t *outliers, uint16_t *x16);
otr_status vulkan_rounded_read(otr_device *device, otr_ref ref, int32_t max_rows, int32_t k, int32_t row, uint16_t *x16,
                               float *pow2e);
otr_status vulkan_q16_read(otr_device *device, otr_ref ref, int32_t width, int32_t row, uint16_t *f16);
otr_status vulkan_kv_read(otr_device *device, const otr_kv_shape *shape, otr_page page, int32_t layer, int32_t first,
                          int32_t n, uint16_t *k, uint16_t *v);
otr_status vulkan_kv_write(otr_device *device, const otr_kv_shape *shape, otr_page page, int32_t layer, int32_t first,
                           int32_t n, const uint16_t *k, const uint16_t *v);
otr_status vulkan_kv_copy(otr_device *device, const otr_kv_shape *shape, otr_page to, otr_page from);

#endif
