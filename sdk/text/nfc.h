// SPDX-License-Identifier: Apache-2.0
/* Unicode's normalization form C, which some vocabularies were trained on. */
#ifndef OTR_TEXT_NFC_H
#define OTR_TEXT_NFC_H

#include "support.h"

/** Whether a text is surely normalized already: all of its characters are below U+0300. */
bool otr_nfc_is_plain(const char *text, size_t n_bytes);
/** Normalizes; stray bytes stay as they are. In time n log n.
 *  @param[out] out [*room] otr_text_give(allocator, *out, *room, 1), NULL on failure
 *  @param[out] out_bytes of it that are used */
otr_status otr_nfc(const otr_allocator *allocator, const char *text, size_t n_bytes, char **out, size_t *room,
                   size_t *out_bytes);

#endif
