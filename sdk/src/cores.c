// SPDX-License-Identifier: Apache-2.0
#include "cores.h"

#include <stdio.h>

/* Shares of the best that still are fast. Little cores have less than half the capacity, which counts instructions a
 * cycle, too; of the clock alone they have up to two thirds. */
#define FAST_PERCENT_CAPACITY 50
#define FAST_PERCENT_CLOCK 75

/** The number in a file; 0: there is none. */
static int64_t read_number(const char *folder, int32_t core, const char *file) {
  char path[256];
  long long value = 0;
  int length = snprintf(path, sizeof path, "%s/cpu%d/%s", folder, core, file);
  FILE *from = length > 0 && (size_t)length < sizeof path ? fopen(path, "r") : NULL;
  if (!from) return 0;
  if (fscanf(from, "%lld", &value) != 1 || value < 0 || value > INT32_MAX) value = 0;
  fclose(from);
  return value;
}

/** Cores whose number in `file` is at least `percent` of the largest; 0 where a core has none. */
static int32_t count_best(const char *folder, const bool *allowed, int32_t n, const char *file, int64_t percent) {
  int64_t best = 0;
  int32_t count = 0;
  for (int32_t i = 0; i < n; i++) {
    if (!allowed[i]) continue;
    int64_t value = read_number(folder, i, file);
    if (value == 0) return 0;
    if (value > best) best = value;
  }
  for (int32_t i = 0; i < n; i++)
    if (allowed[i] && read_number(folder, i, file) * 100 >= best * percent) count++;
  return count;
}

int32_t otr_fast_cores(const char *folder, const bool *allowed, int32_t n) {
  int32_t all = 0;
  for (int32_t i = 0; i < n; i++) all += allowed[i];
  int32_t fast = count_best(folder, allowed, n, "cpu_capacity", FAST_PERCENT_CAPACITY);
  if (fast == 0) fast = count_best(folder, allowed, n, "cpufreq/cpuinfo_max_freq", FAST_PERCENT_CLOCK);
  return fast > 0 ? fast : all;
}
