// SPDX-License-Identifier: Apache-2.0
#include "glob.h"

#include <stddef.h>

bool otr_glob_matches(const char *glob, const char *name) {
  const char *star = NULL, *retry = NULL;
  while (*name) {
    if (*glob == '*') {
      star = glob++;
      retry = name;
    } else if (*glob == *name || *glob == '?') {
      glob++, name++;
    } else if (star) {
      glob = star + 1;
      name = ++retry;
    } else {
      return false;
    }
  }
  while (*glob == '*') glob++;
  return *glob == 0;
}

bool otr_glob_any(const char *const *globs, int32_t n, const char *name) {
  for (int32_t i = 0; i < n; i++)
    if (otr_glob_matches(globs[i], name)) return true;
  return false;
}
