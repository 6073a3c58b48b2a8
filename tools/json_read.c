// SPDX-License-Identifier: Apache-2.0
#include "json_read.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "status.h"

/* jansson calls a text malformed, or loses a character of it and goes on, when a buffer cannot grow: only whoever
 * allocates can tell. */
static bool missed;

static void *allocate(size_t bytes) {
  void *memory = malloc(bytes);
  missed = missed || memory == NULL;
  return memory;
}

static void begin(void) {
  missed = false;
  json_set_alloc_funcs(allocate, free);
}

static otr_status end(json_t **out, const json_error_t *error) {
  bool cannot_open = *out == NULL && json_error_code(error) == json_error_cannot_open_file;
  if (missed || (cannot_open && errno == ENOMEM)) {
    json_decref(*out);
    *out = NULL;
    return otr_fail(OTR_STATUS_NO_MEMORY, "no memory for JSON");
  }
  if (*out != NULL) return OTR_STATUS_OK;
  return cannot_open ? OTR_STATUS_IO : OTR_STATUS_BAD_FORMAT;
}

otr_status json_read_text(const void *text, size_t n_bytes, size_t flags, json_t **out, json_error_t *error) {
  begin();
  *out = json_loadb(text, n_bytes, JSON_REJECT_DUPLICATES | flags, error);
  return end(out, error);
}

otr_status json_read_file(const char *path, size_t flags, json_t **out, json_error_t *error) {
  begin();
  *out = json_load_file(path, JSON_REJECT_DUPLICATES | flags, error);
  return end(out, error);
}
