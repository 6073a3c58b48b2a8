// SPDX-License-Identifier: Apache-2.0
#ifndef OTR_CLOCK_H
#define OTR_CLOCK_H

#include <time.h>

/** Seconds of a clock that never goes back. */
static inline double otr_clock_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#endif
