// SPDX-License-Identifier: Apache-2.0
/* What a CUDA device keeps in the app's blob: the self-check's verdict alone. The driver has a cache of its own for the
 * code it compiles from PTX. */
#include <stdio.h>
#include <string.h>

#include "cuda_device.h"
#include "numerics.h"
#include "sha256.h"
#include "status.h"

/** The kernel driver's own version, where the system shows it: the API's tells CUDA's major and minor only. */
static size_t driver_build(char text[256]) {
  FILE *file = fopen("/proc/driver/nvidia/version", "rb");
  if (!file) return 0;
  size_t n = fread(text, 1, 256, file);
  fclose(file);
  return n;
}

static void make_key(const cuda_device *d, uint8_t key[OTR_VERDICT_KEY]) {
  const cuda_traits *t = &d->traits;
  const otr_version_info v = otr_version();
  const int32_t numbers[] = {
      OTR_CONTRACT_REVISION, v.major,       v.minor,      v.patch,       d->api->version,
      t->caps.major,         t->caps.minor, t->caps.n_sm, t->integrated, t->caps.shared_per_block};
  char text[256];
  otr_sha256 sha;
  otr_sha256_start(&sha);
  otr_sha256_add(&sha, "cuda", 4);
  otr_sha256_add(&sha, numbers, sizeof numbers);
  otr_sha256_add(&sha, t->uuid.bytes, sizeof t->uuid.bytes);
  otr_sha256_add(&sha, t->name, strlen(t->name));
  otr_sha256_add(&sha, text, driver_build(text));
  otr_sha256_add(&sha, d->image->data, d->image->bytes);
  otr_sha256_end(&sha, key);
}

void cuda_cache_open(cuda_device *d, const void *blob, size_t bytes) {
  uint8_t key[OTR_VERDICT_KEY];
  if (!blob || bytes != OTR_VERDICT_HEAD) return;
  make_key(d, key);
  otr_verdict_read(&d->verdict, key, blob, bytes);
}

otr_status cuda_cache_read(otr_device *base, void *blob, size_t *bytes) {
  const cuda_device *d = (const cuda_device *)base;
  uint8_t key[OTR_VERDICT_KEY];
  OTR_TRY(otr_verdict_room(blob, bytes, OTR_VERDICT_HEAD));
  if (!blob) return OTR_STATUS_OK;
  make_key(d, key);
  otr_verdict_write(&d->verdict, key, blob, 0);
  return OTR_STATUS_OK;
}

bool cuda_proven(otr_device *base, const char **demoted) {
  return otr_verdict_proven(&((const cuda_device *)base)->verdict, demoted);
}

void cuda_set_proven(otr_device *base, const char *demoted) {
  otr_verdict_pass(&((cuda_device *)base)->verdict, demoted);
}
