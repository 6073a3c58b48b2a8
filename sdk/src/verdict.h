// SPDX-License-Identifier: Apache-2.0
/* The self-check's verdict on a device, kept in a blob that the app stores: a head with the verdict, then the backend's
 * own data, such as a driver's pipeline cache. A driver may trust what it is given, so that nothing of a blob is
 * believed that is not whole, and of this device, driver and build. */
#ifndef OTR_VERDICT_H
#define OTR_VERDICT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "outrider/outrider.h"

enum { OTR_VERDICT_KEY = 32, OTR_VERDICT_WHY = 192, OTR_VERDICT_HEAD = 288 };

typedef struct otr_verdict {
  bool proven;               /* the self-check has passed, now or when the blob was made ... */
  uint32_t demoted;          /* ... with these fast variants off: bits, the backend's own */
  char why[OTR_VERDICT_WHY]; /* what was demoted; "": nothing */
} otr_verdict;

/** What otr_device_ops.proven and set_proven do. */
bool otr_verdict_proven(const otr_verdict *verdict, const char **demoted);
void otr_verdict_pass(otr_verdict *verdict, const char *demoted);

/** Reads a blob.
 *  @param key   [OTR_VERDICT_KEY] digest of all that the blob depends on: another device, driver or build makes another
 *  @param blob  [bytes] anything, or NULL
 *  @param[out] verdict as it was kept; not proven where the result is false
 *  @return whether the blob is whole and has this key: then the backend's data is what follows OTR_VERDICT_HEAD bytes.
 */
bool otr_verdict_read(otr_verdict *verdict, const uint8_t *key, const void *blob, size_t bytes);

/** Writes the head of a blob; the backend's data is behind it already.
 *  @param blob [OTR_VERDICT_HEAD + data_bytes] */
void otr_verdict_write(const otr_verdict *verdict, const uint8_t *key, void *blob, size_t data_bytes);

/** Answers for otr_device_ops.cache_read of a blob of `needed` bytes: sets *bytes, OK where blob is NULL or *bytes was
 *  enough, else BUFFER_TOO_SMALL. */
otr_status otr_verdict_room(const void *blob, size_t *bytes, size_t needed);

#endif
