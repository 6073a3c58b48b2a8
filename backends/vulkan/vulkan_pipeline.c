// SPDX-License-Identifier: Apache-2.0
/* Pipelines, made when a program is prepared and kept until the device closes. */
#include <string.h>

#include "status.h"
#include "vulkan_device.h"

/* ---- SPIR-V with float controls ---------------------------------------------------------------------------------- */

/* Of the SPIR-V specification; SPV_KHR_float_controls. */
enum {
  SPIRV_HEAD_WORDS = 5,
  OP_EXTENSION = 10,
  OP_ENTRY_POINT = 15,
  OP_EXECUTION_MODE = 16,
  OP_CAPABILITY = 17,
  CAPABILITY_SIGNED_ZERO = 4466,
  CAPABILITY_RTE = 4467,
  MODE_SIGNED_ZERO = 4461,
  MODE_RTE = 4462,
  CONTROL_WORDS = 2 * (2 + 4) + 7
};

static uint32_t head(uint32_t words, uint32_t op) {
  return words << 16 | op;
}

static uint32_t words_of(uint32_t instruction) {
  return instruction >> 16 ? instruction >> 16 : 1;
}

/** Copies instructions up to, and not, the first that is neither `op` nor `other`; returns where. */
static size_t copy_while(uint32_t **to, const uint32_t *words, size_t at, size_t n, uint32_t op) {
  while (at < n && (words[at] & 0xffff) == op) {
    uint32_t length = words_of(words[at]);
    for (uint32_t i = 0; i < length && at < n; i++) *(*to)++ = words[at++];
  }
  return at;
}

static uint32_t entry_point(const uint32_t *words, size_t n) {
  for (size_t at = SPIRV_HEAD_WORDS; at + 2 < n; at += words_of(words[at]))
    if ((words[at] & 0xffff) == OP_ENTRY_POINT) return words[at + 2];
  return 0;
}

/** The module with the float controls that the device offers: rounding to nearest even, zeros' signs kept. `to` has
 *  room for CONTROL_WORDS more. Returns the number of words. */
static size_t add_controls(uint32_t *to, const vulkan_spirv *spirv, bool rte, bool signed_zero, bool by_extension) {
  static const char extension[24] = "SPV_KHR_float_controls";
  const uint32_t *words = spirv->words, *begin = to;
  size_t n = spirv->bytes / sizeof *words, at = SPIRV_HEAD_WORDS;
  uint32_t entry = entry_point(words, n);
  memcpy(to, words, at * sizeof *words);
  to += at;
  at = copy_while(&to, words, at, n, OP_CAPABILITY);
  if (rte) *to++ = head(2, OP_CAPABILITY), *to++ = CAPABILITY_RTE;
  if (signed_zero) *to++ = head(2, OP_CAPABILITY), *to++ = CAPABILITY_SIGNED_ZERO;
  at = copy_while(&to, words, at, n, OP_EXTENSION);
  if (by_extension) {
    *to++ = head(1 + sizeof extension / sizeof *to, OP_EXTENSION);
    memcpy(to, extension, sizeof extension);
    to += sizeof extension / sizeof *to;
  }
  while (at < n && (words[at] & 0xffff) != OP_ENTRY_POINT) *to++ = words[at++];
  at = copy_while(&to, words, at, n, OP_ENTRY_POINT);
  if (rte) *to++ = head(4, OP_EXECUTION_MODE), *to++ = entry, *to++ = MODE_RTE, *to++ = 32;
  if (signed_zero) *to++ = head(4, OP_EXECUTION_MODE), *to++ = entry, *to++ = MODE_SIGNED_ZERO, *to++ = 32;
  memcpy(to, words + at, (n - at) * sizeof *words);
  return (size_t)(to - begin) + n - at;
}

static otr_status create_module(vulkan_device *d, const vulkan_spirv *spirv, VkShaderModule *out) {
  VkShaderModuleCreateInfo info = {.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO};
  size_t room = spirv->bytes + CONTROL_WORDS * sizeof(uint32_t);
  uint32_t *words = otr_memory_take(d->base.memory, room, 64);
  if (!words) return OTR_STATUS_NO_MEMORY;
  const vulkan_traits *t = &d->traits;
  info.pCode = spirv->words;
  info.codeSize = spirv->bytes;
  if (t->rte || t->signed_zero) {
    info.pCode = words;
    /* The extension is named under every version: SPIR-V 1.3, which the shaders are, has it as one. */
    info.codeSize = add_controls(words, spirv, t->rte, t->signed_zero, true) * sizeof *words;
  }
  VkResult result = d->vk.CreateShaderModule(d->handle, &info, NULL, out);
  otr_memory_give(d->base.memory, words, room);
  VULKAN_TRY(result, "vkCreateShaderModule");
  return OTR_STATUS_OK;
}

/* ---- pipelines --------------------------------------------------------------------------------------------------- */

static otr_status create_pipeline(vulkan_device *d, const vulkan_dispatch *dispatch, VkPipeline *out) {
  const vulkan_spirv *spirv = &vulkan_spirv_of[dispatch->shader];
  VkSpecializationMapEntry entries[VULKAN_CONSTANTS];
  for (uint32_t i = 0; i < VULKAN_CONSTANTS; i++)
    entries[i] = (VkSpecializationMapEntry){i, i * (uint32_t)sizeof(uint32_t), sizeof(uint32_t)};
  VkSpecializationInfo constants = {VULKAN_CONSTANTS, entries, sizeof dispatch->constant, dispatch->constant};
  VkShaderModule module;
  OTR_TRY(create_module(d, spirv, &module));
  VkComputePipelineCreateInfo info = {.sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
                                      .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                                                .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                                                .module = module,
                                                .pName = "main",
                                                .pSpecializationInfo = &constants},
                                      .layout = d->layout};
  VkResult result = d->vk.CreateComputePipelines(d->handle, d->cache, 1, &info, NULL, out);
  d->vk.DestroyShaderModule(d->handle, module, NULL);
  if (result == VK_SUCCESS) return OTR_STATUS_OK;
  otr_status status = vulkan_fail(result, "vkCreateComputePipelines");
  return otr_fail_in(status, "shader %s", spirv->name);
}

static otr_status grow(vulkan_device *d) {
  int32_t capacity = d->pipelines_capacity * 2 + 32;
  vulkan_pipeline *larger = otr_memory_take_array(d->base.memory, (size_t)capacity, sizeof *larger);
  if (!larger) return OTR_STATUS_NO_MEMORY;
  if (d->pipelines) {
    memcpy(larger, d->pipelines, (size_t)d->n_pipelines * sizeof *larger);
    otr_memory_give_array(d->base.memory, d->pipelines, (size_t)d->pipelines_capacity, sizeof *larger);
  }
  d->pipelines = larger;
  d->pipelines_capacity = capacity;
  return OTR_STATUS_OK;
}

otr_status vulkan_pipeline_get(vulkan_device *d, const vulkan_dispatch *dispatch, VkPipeline *out) {
  for (int32_t i = 0; i < d->n_pipelines; i++) {
    const vulkan_pipeline *p = &d->pipelines[i];
    if (p->shader != dispatch->shader || memcmp(p->constant, dispatch->constant, sizeof p->constant) != 0) continue;
    *out = p->handle;
    return OTR_STATUS_OK;
  }
  if (d->n_pipelines == d->pipelines_capacity) OTR_TRY(grow(d));
  vulkan_pipeline *p = &d->pipelines[d->n_pipelines];
  p->shader = dispatch->shader;
  memcpy(p->constant, dispatch->constant, sizeof p->constant);
  OTR_TRY(create_pipeline(d, dispatch, &p->handle));
  d->n_pipelines++;
  *out = p->handle;
  return OTR_STATUS_OK;
}

void vulkan_pipelines_close(vulkan_device *d) {
  for (int32_t i = 0; i < d->n_pipelines; i++) d->vk.DestroyPipeline(d->handle, d->pipelines[i].handle, NULL);
  if (d->pipelines)
    otr_memory_give_array(d->base.memory, d->pipelines, (size_t)d->pipelines_capacity, sizeof *d->pipelines);
  if (d->cache) d->vk.DestroyPipelineCache(d->handle, d->cache, NULL);
}
