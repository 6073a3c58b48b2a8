// SPDX-License-Identifier: Apache-2.0
/* The pipeline cache as a blob for the app to store: the verdict, then the driver's own data. */
#include "numerics.h"
#include "sha256.h"
#include "status.h"
#include "vulkan_device.h"

static void make_key(const vulkan_device *d, uint8_t key[OTR_VERDICT_KEY]) {
  const vulkan_traits *t = &d->traits;
  const uint32_t numbers[] = {OTR_CONTRACT_REVISION, t->vendor, t->device, t->driver_version};
  const uint8_t flags[] = {t->rte, t->signed_zero, t->caps.int_dot};
  otr_sha256 sha;
  otr_sha256_start(&sha);
  otr_sha256_add(&sha, numbers, sizeof numbers);
  otr_sha256_add(&sha, flags, sizeof flags);
  otr_sha256_add(&sha, t->uuid, sizeof t->uuid);
  otr_sha256_add(&sha, t->cache_uuid, sizeof t->cache_uuid);
  for (int i = 0; i < VULKAN_SHADER_COUNT; i++)
    otr_sha256_add(&sha, vulkan_spirv_of[i].words, vulkan_spirv_of[i].bytes);
  otr_sha256_end(&sha, key);
}

otr_status vulkan_cache_open(vulkan_device *d, const void *blob, size_t bytes) {
  uint8_t key[OTR_VERDICT_KEY];
  VkPipelineCacheCreateInfo info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO};
  make_key(d, key);
  if (otr_verdict_read(&d->verdict, key, blob, bytes)) {
    d->caps.demoted = d->verdict.demoted;
    info.pInitialData = (const uint8_t *)blob + OTR_VERDICT_HEAD;
    info.initialDataSize = bytes - OTR_VERDICT_HEAD;
  }
  VULKAN_TRY(d->vk.CreatePipelineCache(d->handle, &info, NULL, &d->cache), "vkCreatePipelineCache");
  return OTR_STATUS_OK;
}

otr_status vulkan_cache_read(otr_device *base, void *blob, size_t *bytes) {
  vulkan_device *d = (vulkan_device *)base;
  uint8_t key[OTR_VERDICT_KEY];
  size_t data_bytes = 0;
  VULKAN_TRY(d->vk.GetPipelineCacheData(d->handle, d->cache, &data_bytes, NULL), "vkGetPipelineCacheData");
  OTR_TRY(otr_verdict_room(blob, bytes, OTR_VERDICT_HEAD + data_bytes));
  if (!blob) return OTR_STATUS_OK;
  VULKAN_TRY(d->vk.GetPipelineCacheData(d->handle, d->cache, &data_bytes, (uint8_t *)blob + OTR_VERDICT_HEAD),
             "vkGetPipelineCacheData");
  make_key(d, key);
  d->verdict.demoted = d->caps.demoted;
  otr_verdict_write(&d->verdict, key, blob, data_bytes);
  *bytes = OTR_VERDICT_HEAD + data_bytes;
  return OTR_STATUS_OK;
}

bool vulkan_proven(otr_device *base, const char **demoted) {
  return otr_verdict_proven(&((const vulkan_device *)base)->verdict, demoted);
}

void vulkan_set_proven(otr_device *base, const char *demoted) {
  otr_verdict_pass(&((vulkan_device *)base)->verdict, demoted);
}
