// SPDX-License-Identifier: Apache-2.0
/* The reference as a backend: device "cpu", always there. */
#include <stdio.h>
#include <unistd.h>

#include "kernels.h"

static int32_t count(void) {
  return 1;
}

static void describe(int32_t index, otr_device_info *info) {
  (void)index;
  snprintf(info->name, sizeof info->name, "cpu");
  snprintf(info->backend, sizeof info->backend, "cpu");
  snprintf(info->description, sizeof info->description, "any CPU: the reference");
  snprintf(info->isa, sizeof info->isa, "%s", otr_reference_kernels.isa);
  info->available = 1;
  info->native_int8 = 1;
  long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
  if (pages > 0 && page > 0) info->memory_bytes = (uint64_t)pages * (uint64_t)page;
}

static otr_status open_device(int32_t index, otr_memory *memory, otr_parallel *parallel, otr_device **out) {
  (void)index;
  return otr_cpu_device_open(&otr_reference_kernels, memory, parallel, out);
}

const otr_backend otr_cpu_backend = {"cpu", count, describe, open_device, 0};
