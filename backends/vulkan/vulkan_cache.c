// SPDX-License-Identifier: Apache-2.0
/* The pipeline cache as a blob for the app to store: this project's head, then the driver's own data. A driver may
 * trust what it is given, so that nothing reaches it but what it once gave itself, unchanged. */
#include <string.h>

#include "numerics.h"
#include "sha256.h"
#include "status.h"
#include "vulkan_device.h"

static const char cache_magic[8] = {'o', 't', 'r', 'v', 'k', 'p', 'c', '1'};
#define DIGEST_BYTES 32

/** Everything that the blob depends on: another build, device or driver makes another digest. */
typedef struct cache_head {
  char magic[8];
  uint8_t key[DIGEST_BYTES];  /* of device, driver and build */
  uint8_t data[DIGEST_BYTES]; /* of all that follows */
  uint64_t data_bytes;        /* the driver's */
  uint32_t proven;            /* 1: the self-check has passed */
  uint32_t demoted;           /* bits of vulkan_caps.demoted with which it did */
  char why[VULKAN_WHY_BYTES];
} cache_head;

static void make_key(const vulkan_device *d, uint8_t key[DIGEST_BYTES]) {
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

/** Of the head from `data_bytes` on, and the driver's data. */
static void make_digest(const cache_head *h, const void *data, uint8_t digest[DIGEST_BYTES]) {
  otr_sha256 sha;
  otr_sha256_start(&sha);
  otr_sha256_add(&sha, &h->data_bytes, sizeof *h - offsetof(cache_head, data_bytes));
  otr_sha256_add(&sha, data, (size_t)h->data_bytes);
  otr_sha256_end(&sha, digest);
}

/** Whether a blob is this device's, driver's and build's, and whole. */
static bool is_ours(const vulkan_device *d, const void *blob, size_t bytes, cache_head *h) {
  uint8_t digest[DIGEST_BYTES];
  if (!blob || bytes < sizeof *h) return false;
  memcpy(h, blob, sizeof *h);
  if (memcmp(h->magic, cache_magic, sizeof h->magic) != 0 || h->data_bytes != bytes - sizeof *h) return false;
  make_key(d, digest);
  if (memcmp(h->key, digest, sizeof digest) != 0) return false;
  make_digest(h, (const uint8_t *)blob + sizeof *h, digest);
  return memcmp(h->data, digest, sizeof digest) == 0;
}

otr_status vulkan_cache_open(vulkan_device *d, const void *blob, size_t bytes) {
  cache_head h;
  VkPipelineCacheCreateInfo info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO};
  if (is_ours(d, blob, bytes, &h)) {
    d->proven = h.proven == 1;
    d->caps.demoted = d->proven ? h.demoted : 0;
    memcpy(d->why, h.why, sizeof d->why);
    d->why[sizeof d->why - 1] = '\0';
    info.pInitialData = (const uint8_t *)blob + sizeof h;
    info.initialDataSize = (size_t)h.data_bytes;
  }
  VULKAN_TRY(d->vk.CreatePipelineCache(d->handle, &info, NULL, &d->cache), "vkCreatePipelineCache");
  return OTR_STATUS_OK;
}

otr_status vulkan_cache_read(otr_device *base, void *blob, size_t *bytes) {
  vulkan_device *d = (vulkan_device *)base;
  size_t data_bytes = 0, room = *bytes;
  VULKAN_TRY(d->vk.GetPipelineCacheData(d->handle, d->cache, &data_bytes, NULL), "vkGetPipelineCacheData");
  *bytes = sizeof(cache_head) + data_bytes;
  if (!blob) return OTR_STATUS_OK;
  if (room < *bytes)
    return otr_fail(OTR_STATUS_BUFFER_TOO_SMALL, "the pipeline cache takes %zu bytes, %zu are there", *bytes, room);
  uint8_t *data = (uint8_t *)blob + sizeof(cache_head);
  VULKAN_TRY(d->vk.GetPipelineCacheData(d->handle, d->cache, &data_bytes, data), "vkGetPipelineCacheData");
  cache_head h = {.data_bytes = data_bytes, .proven = d->proven, .demoted = d->caps.demoted};
  memcpy(h.magic, cache_magic, sizeof h.magic);
  memcpy(h.why, d->why, sizeof h.why);
  make_key(d, h.key);
  make_digest(&h, data, h.data);
  memcpy(blob, &h, sizeof h);
  *bytes = sizeof h + data_bytes;
  return OTR_STATUS_OK;
}

bool vulkan_proven(otr_device *base, const char **demoted) {
  const vulkan_device *d = (const vulkan_device *)base;
  *demoted = d->proven && d->why[0] ? d->why : NULL;
  return d->proven;
}

void vulkan_set_proven(otr_device *base, const char *demoted) {
  vulkan_device *d = (vulkan_device *)base;
  size_t n = demoted ? strlen(demoted) : 0;
  d->proven = true;
  memset(d->why, 0, sizeof d->why);
  if (n > 0) memcpy(d->why, demoted, n < sizeof d->why ? n : sizeof d->why - 1);
}
