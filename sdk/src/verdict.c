// SPDX-License-Identifier: Apache-2.0
#include "verdict.h"

#include <string.h>

#include "sha256.h"
#include "status.h"

static const char magic[8] = {'o', 't', 'r', 'c', 'a', 'c', 'h', '2'};
enum { DIGEST_BYTES = 32 };

typedef struct head {
  char magic[8];
  uint8_t key[OTR_VERDICT_KEY];
  uint8_t digest[DIGEST_BYTES]; /* of all that follows, the backend's data included */
  uint64_t data_bytes;
  uint32_t proven, demoted;
  char why[OTR_VERDICT_WHY];
  uint8_t reserved[OTR_VERDICT_HEAD - 8 - OTR_VERDICT_KEY - DIGEST_BYTES - 16 - OTR_VERDICT_WHY];
} head;
_Static_assert(sizeof(head) == OTR_VERDICT_HEAD, "the head has no holes");

static void digest_of(const head *h, const void *data, uint8_t digest[DIGEST_BYTES]) {
  otr_sha256 sha;
  otr_sha256_start(&sha);
  otr_sha256_add(&sha, &h->data_bytes, sizeof *h - offsetof(head, data_bytes));
  otr_sha256_add(&sha, data, (size_t)h->data_bytes);
  otr_sha256_end(&sha, digest);
}

bool otr_verdict_proven(const otr_verdict *verdict, const char **demoted) {
  *demoted = verdict->proven && verdict->why[0] ? verdict->why : NULL;
  return verdict->proven;
}

void otr_verdict_pass(otr_verdict *verdict, const char *demoted) {
  size_t n = demoted ? strlen(demoted) : 0;
  verdict->proven = true;
  memset(verdict->why, 0, sizeof verdict->why);
  if (n > 0) memcpy(verdict->why, demoted, n < sizeof verdict->why ? n : sizeof verdict->why - 1);
}

bool otr_verdict_read(otr_verdict *verdict, const uint8_t *key, const void *blob, size_t bytes) {
  head h;
  uint8_t digest[DIGEST_BYTES];
  *verdict = (otr_verdict){.proven = false};
  if (!blob || bytes < sizeof h) return false;
  memcpy(&h, blob, sizeof h);
  if (memcmp(h.magic, magic, sizeof magic) != 0 || h.data_bytes != bytes - sizeof h) return false;
  if (memcmp(h.key, key, sizeof h.key) != 0) return false;
  digest_of(&h, (const uint8_t *)blob + sizeof h, digest);
  if (memcmp(h.digest, digest, sizeof digest) != 0) return false;
  verdict->proven = h.proven == 1;
  verdict->demoted = verdict->proven ? h.demoted : 0;
  memcpy(verdict->why, h.why, sizeof h.why);
  verdict->why[sizeof verdict->why - 1] = '\0';
  return true;
}

void otr_verdict_write(const otr_verdict *verdict, const uint8_t *key, void *blob, size_t data_bytes) {
  head h = {.data_bytes = data_bytes, .proven = verdict->proven, .demoted = verdict->demoted};
  memcpy(h.magic, magic, sizeof magic);
  memcpy(h.key, key, sizeof h.key);
  memcpy(h.why, verdict->why, sizeof h.why);
  digest_of(&h, (const uint8_t *)blob + sizeof h, h.digest);
  memcpy(blob, &h, sizeof h);
}

otr_status otr_verdict_room(const void *blob, size_t *bytes, size_t needed) {
  size_t room = *bytes;
  *bytes = needed;
  if (!blob || room >= needed) return OTR_STATUS_OK;
  return otr_fail(OTR_STATUS_BUFFER_TOO_SMALL, "the pipeline cache takes %zu bytes, %zu are there", needed, room);
}
