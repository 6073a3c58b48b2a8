// SPDX-License-Identifier: Apache-2.0
/* What a pass writes to the control buffer (vulkan_step.c). */
#ifndef OTR_VULKAN_STEP_H
#define OTR_VULKAN_STEP_H

#include "vulkan_prepare.h"

/** What numbers of workgroups follow. */
typedef struct vulkan_counts {
  uint32_t rows, logits, chunks;
} vulkan_counts;

/** Writes the step block, an empty found block and all group counts; binds new KV buffers and records anew where there
 *  are some. */
otr_status vulkan_step_write(otr_prepared *p, const otr_step *step);
/** Makes entry `index` run `y` workgroup rows from `base` on. No submission may be in progress. */
void vulkan_put_groups(otr_prepared *p, int32_t index, uint32_t base, uint32_t y);

#endif
