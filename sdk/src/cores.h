// SPDX-License-Identifier: Apache-2.0
/* Which cores are the fast ones where a chip has several kinds. */
#ifndef OTR_CORES_H
#define OTR_CORES_H

#include <stdbool.h>
#include <stdint.h>

/** How many of the cores [0, n) with allowed[i] are fast: at least half as capable as the most capable of them, as the
 *  kernel rates them under `folder` (/sys/devices/system/cpu: cpuN/cpu_capacity, else cpuN/cpufreq/cpuinfo_max_freq).
 *  All of them where it says nothing of one. */
int32_t otr_fast_cores(const char *folder, const bool *allowed, int32_t n);

#endif
