// SPDX-License-Identifier: Apache-2.0
/* Whether this process can load a driver's shared library. */
#ifndef OTR_DRIVER_LIBRARY_H
#define OTR_DRIVER_LIBRARY_H

#include <link.h>
#include <stdbool.h>
#include <sys/auxv.h>

/** False in a statically linked program: dlopen would bring a second libc, whose threads and heap are not set up, and a
 *  driver that uses them crashes. Such a program names no interpreter. */
static inline bool otr_can_load_libraries(void) {
  const ElfW(Phdr) *header = (const ElfW(Phdr) *)getauxval(AT_PHDR);
  unsigned long n = getauxval(AT_PHNUM);
  for (unsigned long i = 0; header && i < n; i++)
    if (header[i].p_type == PT_INTERP) return true;
  return false;
}
#define OTR_CANNOT_LOAD "a statically linked program cannot load drivers"

#endif
