// SPDX-License-Identifier: Apache-2.0
/* The NEON backend: a device for each way to multiply, the preferred one first. All run on the CPU executor. */
#include <stdio.h>
#include <unistd.h>

#include "kernels.h"
#include "linear_neon.h"
#include "neon_features.h"
#include "rows.h"
#include "status.h"

#define KERNELS(isa_text, linears)                                                                                 \
  {                                                                                                                \
    .isa = isa_text, .norm = otr_norm_neon, .quantize = otr_quantize_neon, .round16 = otr_round16_neon,            \
    .linear = otr_linear_##linears, .linear_scratch = otr_linear_scratch_##linears, .linear16 = otr_linear16_neon, \
    .rope = otr_rope_neon, .attention = otr_attention_neon, .attention_scratch = otr_attention_scratch_neon,       \
    .attention_rows = OTR_ATTENTION_ROWS, .glu = otr_glu_neon, .act = otr_act_neon, .add = otr_add_neon            \
  }

static const struct neon_device {
  const char *name;
  uint32_t needs;
  int32_t native_dot;
  otr_cpu_kernels kernels;
} devices[] = {
    {"neon:i8mm", OTR_NEON_ASIMD | OTR_NEON_DOTPROD | OTR_NEON_I8MM, 1, KERNELS("NEON, SMMLA", i8mm)},
    {"neon:dotprod", OTR_NEON_ASIMD | OTR_NEON_DOTPROD, 1, KERNELS("NEON, SDOT", dotprod)},
    {"neon:plain", OTR_NEON_ASIMD, 0, KERNELS("NEON", plain)},
};

static int32_t count(void) {
  return (int32_t)(sizeof devices / sizeof *devices);
}

static void describe(int32_t index, otr_device_info *info) {
  const struct neon_device *device = &devices[index];
  snprintf(info->name, sizeof info->name, "%s", device->name);
  snprintf(info->backend, sizeof info->backend, "neon");
  snprintf(info->isa, sizeof info->isa, "%s", device->kernels.isa);
  otr_neon_brand(info->description, sizeof info->description);
  otr_neon_missing(device->needs, otr_neon_features(), info->reason, sizeof info->reason);
  info->available = info->reason[0] == '\0';
  info->native_int8 = 1;
  info->native_f16 = 1;
  info->native_dot = device->native_dot;
  long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
  if (pages > 0 && page > 0) info->memory_bytes = (uint64_t)pages * (uint64_t)page;
}

static otr_status open_device(int32_t index, otr_memory *memory, otr_parallel *parallel, otr_device **out) {
  char reason[96];
  otr_neon_missing(devices[index].needs, otr_neon_features(), reason, sizeof reason);
  *out = NULL;
  if (reason[0]) return otr_fail(OTR_STATUS_NO_DEVICE, "%s: %s", devices[index].name, reason);
  return otr_cpu_device_open(&devices[index].kernels, memory, parallel, out);
}

const otr_backend otr_neon_backend = {"neon", count, describe, open_device, 0};
