// SPDX-License-Identifier: Apache-2.0
/* JSON read with jansson, memory that runs out included. */
#ifndef TOOL_JSON_READ_H
#define TOOL_JSON_READ_H

#include <jansson.h>

#include "outrider/outrider.h"

/** Parses a text or a file; an object with a key twice is refused. jansson's allocations are this file's from then on.
 *  @param flags  jansson's, beside JSON_REJECT_DUPLICATES
 *  @param[out] out json_decref; NULL on failure
 *  @param[out] error jansson's; on BAD_FORMAT and IO it says what the caller puts in words
 *  @return OK; BAD_FORMAT; IO: the file cannot be opened; NO_MEMORY
 *  @threads one at a time */
otr_status json_read_text(const void *text, size_t n_bytes, size_t flags, json_t **out, json_error_t *error);
otr_status json_read_file(const char *path, size_t flags, json_t **out, json_error_t *error);

#endif
