// SPDX-License-Identifier: Apache-2.0
/* The reference as a backend: device "cpu", always there. And what the backends of the CPUs' own kernels share. */
#include <stdio.h>
#include <unistd.h>

#include "kernels.h"
#include "status.h"

static void fill(const char *name, const char *backend, const char *isa, otr_device_info *info) {
  long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
  snprintf(info->name, sizeof info->name, "%s", name);
  snprintf(info->backend, sizeof info->backend, "%s", backend);
  snprintf(info->isa, sizeof info->isa, "%s", isa);
  info->available = info->reason[0] == '\0';
  info->native_int8 = 1;
  if (pages > 0 && page > 0) info->memory_bytes = (uint64_t)pages * (uint64_t)page;
}

void otr_cpu_describe(const otr_cpu_isa *isa, const char *backend, otr_device_info *info) {
  fill(isa->name, backend, isa->kernels.isa, info);
  info->native_f16 = 1;
  info->native_dot = isa->native_dot;
}

otr_status otr_cpu_open(const otr_cpu_isa *isa, const char *reason, const otr_device_params *params, otr_device **out) {
  *out = NULL;
  if (reason[0]) return otr_fail(OTR_STATUS_NO_DEVICE, "%s: %s", isa->name, reason);
  return otr_cpu_device_open(&isa->kernels, params, out);
}

static int32_t count(void) {
  return 1;
}

static void describe(int32_t index, otr_device_info *info) {
  (void)index;
  snprintf(info->description, sizeof info->description, "any CPU: the reference");
  fill("cpu", "cpu", otr_reference_kernels.isa, info);
}

static otr_status open_device(int32_t index, const otr_device_params *params, otr_device **out) {
  (void)index;
  return otr_cpu_device_open(&otr_reference_kernels, params, out);
}

const otr_backend otr_cpu_backend = {"cpu", count, describe, open_device, NULL};
