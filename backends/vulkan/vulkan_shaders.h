// SPDX-License-Identifier: Apache-2.0
/* The one list of shaders: feeds the build, the pipelines and the lowering. X(name): shaders/<name>.comp. */
#ifndef OTR_VULKAN_SHADERS_H
#define OTR_VULKAN_SHADERS_H

#include <stddef.h>
#include <stdint.h>

#define VULKAN_SHADER_LIST(X) \
  X(embed) \
  X(position) \
  X(row) \
  X(round16) \
  X(linear) \
  X(linear_dot) \
  X(linear_row) \
  X(linear_row_dot) \
  X(linear_rows_dot) \
  X(linear_tile) \
  X(linear_tile_dot) \
  X(linear16) \
  X(linear16_row) \
  X(rope_kv) \
  X(attention) \
  X(attention_merge) \
  X(glu) \
  X(add) \
  X(select) \
  X(copy)

typedef enum vulkan_shader {
#define X(name) VULKAN_SHADER_##name,
  VULKAN_SHADER_LIST(X)
#undef X
  VULKAN_SHADER_COUNT
} vulkan_shader;

typedef struct vulkan_spirv {
  const uint32_t *words;
  size_t bytes;
  const char *name;
} vulkan_spirv;

/** Compiled, checked and optimized at build time. */
extern const vulkan_spirv vulkan_spirv_of[VULKAN_SHADER_COUNT];

#endif
