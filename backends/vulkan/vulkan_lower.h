// SPDX-License-Identifier: Apache-2.0
/* From operations to dispatches: which shader, which constants, which operands. Pure: no driver call, so that the host
 * side may record the dispatches, run them one operation at a time, or only count them. */
#ifndef OTR_VULKAN_LOWER_H
#define OTR_VULKAN_LOWER_H

#include <stdbool.h>

#include "outrider/outrider.h"
#include "ops.h"
#include "vulkan_shaders.h"

enum {
  VULKAN_OPERANDS = 8,    /* storage buffers of set 0 beside the step block and the found block */
  VULKAN_PUSH_WORDS = 32, /* 128 bytes, what every device has */
  VULKAN_CONSTANTS = 8,
  VULKAN_KV_WINDOWS = 8 /* storage buffers of set 1 */
};

/* vulkan_dispatch.kv */
enum { VULKAN_KV_READS = 1, VULKAN_KV_WRITES = 2 };
/* vulkan_dispatch.phases: a program is recorded twice. */
enum { VULKAN_FEW_ROWS = 1, VULKAN_MANY_ROWS = 2, VULKAN_FEW = 8 /* rows of a pass up to which they are few */ };

/* Kinds that ACT has here beside otr_act_kind: the contract's functions themselves, so that a test can prove them over
 * all mantissas on a device. */
enum { VULKAN_ACT_RECIP = 4, VULKAN_ACT_SQRT = 5 };

/** What a device can do, and what of it may be used. */
typedef struct vulkan_caps {
  uint64_t max_operand_bytes; /* of one operand; larger tables are split */
  uint32_t max_groups[3];     /* of a dispatch */
  uint32_t max_invocations;   /* of a workgroup, also on axis x alone */
  uint32_t max_shared_bytes;
  uint32_t subgroup_size;
  uint32_t demoted; /* operations whose fast variant is off: bit of each otr_op_code */
  bool is_cpu;        /* a driver without a GPU */
  bool is_integrated;
  bool int_dot;             /* 4x8-bit integer dot products may be used */
  bool int_dot_accelerated; /* and are said to be faster than shifts and products */
  bool subgroup_arithmetic; /* integer subgroup sums may be used */
} vulkan_caps;

/** A storage buffer of a dispatch. It is bound at its offset rounded down to 256 bytes, and the rest, in bytes, is the
 *  push constant word of its index. ref.buffer NULL: absent, some small buffer is bound. */
typedef struct vulkan_operand {
  otr_ref ref;
  uint64_t bytes;
  bool writes; /* also reads, for all that is known */
} vulkan_operand;

/** What the number of workgroups on an axis follows. */
typedef enum vulkan_scale {
  VULKAN_FIXED,  /* per */
  VULKAN_ROWS,   /* ceil(step.n_rows / per) */
  VULKAN_LOGITS, /* ceil(step.n_logits / per) */
  VULKAN_CHUNKS  /* pages of the sequence that has most, ceil(n_chunks / per); at most program.max_pages */
} vulkan_scale;

typedef struct vulkan_axis {
  vulkan_scale scale;
  uint32_t per; /* >= 1 */
} vulkan_axis;

/** One dispatch. Where a pass would keep the device busy too long, it is cut along axis y, if that is not FIXED: the
 *  shader adds the step block's STEP_GROUP_BASE to gl_WorkGroupID.y. */
typedef struct vulkan_dispatch {
  vulkan_shader shader;
  uint32_t constant[VULKAN_CONSTANTS];     /* specialization constants, id = index */
  vulkan_operand operand[VULKAN_OPERANDS]; /* set 0, binding 2 + index */
  uint32_t n_operands;
  uint32_t push[VULKAN_PUSH_WORDS]; /* [0, 8) are the operands' rests, the others the shader's own */
  vulkan_axis groups[3];
  uint32_t phases; /* VULKAN_FEW_ROWS | VULKAN_MANY_ROWS: the recordings that it is in */
  uint32_t kv;     /* VULKAN_KV_READS | VULKAN_KV_WRITES: set 1 is used */
} vulkan_dispatch;

/** Takes a dispatch, which is valid during the call only. What is not OK ends vulkan_lower with that status. */
typedef otr_status (*vulkan_emit)(void *user, const vulkan_dispatch *dispatch);

/** What is the same for all dispatches of a program. */
typedef struct vulkan_lowering {
  const vulkan_caps *caps;
  const otr_program *program; /* its defaults filled in: max_table, max_sequences */
  otr_ref scratch;            /* vulkan_scratch_bytes(), shared by all operations; absent while counting */
  bool fuse;                  /* false: one operation at a time, a trace looks at every output */
} vulkan_lowering;

/** Dispatches of the operation program->ops[index], in order. A fused sequence is lowered at its first.
 *  @param[out] n_ops how many operations were done
 *  @return OK, UNSUPPORTED (batch scope; sizes beyond the shaders'), or what emit returned. */
otr_status vulkan_lower(const vulkan_lowering *l, int32_t index, int32_t *n_ops, vulkan_emit emit, void *user);

/** Scratch that the operations of a program need at most; 0: none. */
size_t vulkan_scratch_bytes(const vulkan_caps *caps, const otr_program *program);

/** Whether `code` has a fast variant in use that vulkan_caps.demoted can switch off. */
bool vulkan_has_fast(const vulkan_caps *caps, otr_op_code code);

#endif
