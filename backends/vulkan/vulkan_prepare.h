// SPDX-License-Identifier: Apache-2.0
/* A program made ready: shared by vulkan_prepare.c (lowering, memory, descriptors), vulkan_record.c (command buffers)
 * and vulkan_submit.c (a pass). */
#ifndef OTR_VULKAN_PREPARE_H
#define OTR_VULKAN_PREPARE_H

#include "vulkan_device.h"

/** Bytes [begin, end) of a block that a dispatch uses. */
typedef struct vulkan_range {
  uint64_t serial; /* of the block */
  size_t begin, end;
  bool writes;
} vulkan_range;

/** One dispatch, ready to be recorded. */
typedef struct vulkan_entry {
  VkPipeline pipeline;
  VkDescriptorSet set;
  uint32_t push[VULKAN_PUSH_WORDS];
  vulkan_axis groups[3];
  vulkan_range range[VULKAN_OPERANDS];
  uint32_t n_ranges;
  uint32_t phases, kv;
  otr_rows rows;   /* whose number decides between few and many */
  uint32_t now[3]; /* workgroups of this pass */
  double seconds;  /* of a workgroup row (axis y) among many rows, as measured; 0: not yet */
} vulkan_entry;

/** A part of a block that holds KV pages, as set 1 binds it. */
typedef struct vulkan_window {
  uint64_t serial; /* of the block; 0: unused */
  VkBuffer buffer;
  size_t base, bytes;
  bool used; /* by this pass */
} vulkan_window;

/** Places of the step block's arrays, in words, and of what follows it in the control buffer, in bytes. */
typedef struct vulkan_places {
  uint32_t token, row, row_page, logits_row, n_pages, page, rope_cos, rope_sin, embedding;
  size_t step_bytes, found, arguments, bytes;
} vulkan_places;

struct otr_prepared {
  vulkan_device *device;
  otr_program program; /* defaults filled in; ops are the caller's */
  otr_op *ops;         /* [n_lowered] those, and what copies the logits to mapped memory */
  int32_t n_lowered;
  bool fuse;
  bool attends;
  int32_t half_rot, embed_width;
  vulkan_places at;
  otr_buffer *control, *scratch, *mirror;
  vulkan_entry *entries;
  int32_t n_entries, n_counted;
  VkDescriptorPool pool;
  VkDescriptorSet kv_set;
  VkCommandPool command_pool;
  VkCommandBuffer *commands; /* [2 + n_entries] few rows; the end of a submission; each entry for many rows */
  VkCommandBuffer *batch;    /* [n_entries + 1] of a submission */
  VkFence fence;
  vulkan_window window[VULKAN_KV_WINDOWS];
  uint64_t epoch; /* block_epoch that the windows were checked at */
  bool recorded;
};

/** The program itself, or one operation of it for a trace, which is not fused with others. */
otr_status vulkan_prepare_with(vulkan_device *d, const otr_program *program, bool fuse, otr_prepared **out);
/** Records all command buffers; again after the windows have changed. */
otr_status vulkan_record(otr_prepared *p);
/** Binds the windows to set 1. No pass may be in progress. */
void vulkan_bind_windows(otr_prepared *p);

static inline VkCommandBuffer vulkan_few(const otr_prepared *p) {
  return p->commands[0];
}
static inline VkCommandBuffer vulkan_end(const otr_prepared *p) {
  return p->commands[1];
}
static inline VkCommandBuffer vulkan_many(const otr_prepared *p, int32_t entry) {
  return p->commands[2 + entry];
}
/** Whether an entry is in the recording for few rows. Operations on selected rows may be few among many. */
static inline bool vulkan_in_few(const vulkan_entry *e) {
  return e->phases & VULKAN_FEW_ROWS;
}
static inline bool vulkan_in_many(const vulkan_entry *e) {
  return e->rows == OTR_ROWS_LOGITS || (e->phases & VULKAN_MANY_ROWS);
}

#endif
