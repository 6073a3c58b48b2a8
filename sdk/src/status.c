// SPDX-License-Identifier: Apache-2.0
#include "status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char detail[OTR_DETAIL_BYTES];

const char *otr_status_text(otr_status status) {
  static const char *const texts[] = {"ok",
                                      "invalid argument",
                                      "out of memory",
                                      "input/output error",
                                      "bad format",
                                      "unsupported",
                                      "no such device",
                                      "device lost",
                                      "cancelled",
                                      "context full",
                                      "non-finite value",
                                      "mismatch",
                                      "buffer too small",
                                      "busy",
                                      "internal error"};
  if (status < 0 || (size_t)status >= sizeof texts / sizeof texts[0]) return "unknown status";
  return texts[status];
}

const char *otr_error_detail(void) {
  return detail;
}

/* A file can put anything into a name: what is not printable in a detail becomes '?'. */
static void one_line(char *text) {
  for (; *text; text++)
    if ((unsigned char)*text < 0x20 || *text == 0x7f) *text = '?';
}

otr_status otr_fail(otr_status status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  int n = vsnprintf(detail, sizeof detail, format, arguments);
  va_end(arguments);
  if (n < 0) detail[0] = 0;
  one_line(detail);
  return status;
}

otr_status otr_fail_in(otr_status status, const char *format, ...) {
  char rest[OTR_DETAIL_BYTES];
  memcpy(rest, detail, sizeof rest);
  va_list arguments;
  va_start(arguments, format);
  int n = vsnprintf(detail, sizeof detail, format, arguments);
  va_end(arguments);
  if (n < 0) n = 0;
  if ((size_t)n + 3 < sizeof detail)
    snprintf(detail + n, sizeof detail - (size_t)n, ": %.*s", (int)(sizeof detail - (size_t)n - 3), rest);
  one_line(detail);
  return status;
}

void otr_detail_get(char out[OTR_DETAIL_BYTES]) {
  memcpy(out, detail, OTR_DETAIL_BYTES);
}

void otr_detail_set(const char *text) {
  size_t n = strlen(text);
  if (n >= sizeof detail) n = sizeof detail - 1;
  memmove(detail, text, n);
  detail[n] = 0;
}
