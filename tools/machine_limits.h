// SPDX-License-Identifier: Apache-2.0
/* What the machine can do at most, measured: the yardstick of `outrider bench`. */
#ifndef TOOL_MACHINE_LIMITS_H
#define TOOL_MACHINE_LIMITS_H

#include "outrider/outrider.h"

typedef struct tool_limits {
  double read_gbs;         /**< 10^9 bytes read from memory a second */
  double int8_gmacs;       /**< 10^9 int8 multiply-adds a second, on registers alone */
  const char *instruction; /**< that int8_gmacs was measured with */
} tool_limits;

/** Measures with `n_threads` at once and raises `limits` where the new figures are higher: call it again for the best
 * of several moments. Start from zero. Takes about half a second. */
otr_status tool_limits_measure(int32_t n_threads, tool_limits *limits);

#endif
