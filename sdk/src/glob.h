// SPDX-License-Identifier: Apache-2.0
/* Globs of tensor names, as keep_f16 takes them: the loader and the converter read them alike. */
#ifndef OTR_GLOB_H
#define OTR_GLOB_H

#include <stdbool.h>
#include <stdint.h>

/** @param glob * stands for any characters, ? for one */
bool otr_glob_matches(const char *glob, const char *name);
/** Whether one of globs [n] matches. */
bool otr_glob_any(const char *const *globs, int32_t n, const char *name);

#endif
