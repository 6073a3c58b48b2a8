// SPDX-License-Identifier: Apache-2.0
/* The x86 backend: a device for each instruction set, the preferred one first. All run on the CPU executor. */
#include "x86_backend.h"

#include <stdio.h>
#include <unistd.h>

#include "cpu_features.h"
#include "linear_x86.h"
#include "rows.h"
#include "status.h"

#define KERNELS(isa_text, linears, linears16, rows)                                                           \
  {                                                                                                           \
    .isa = isa_text, .norm = otr_norm_##rows, .quantize = otr_quantize_##rows, .round16 = otr_round16_##rows, \
    .linear = otr_linear_##linears, .linear_scratch = otr_linear_scratch_##linears,                           \
    .linear16 = otr_linear16_##linears16, .rope = otr_rope_##rows, .attention = otr_attention_##rows,         \
    .attention_scratch = otr_attention_scratch_##rows, .attention_rows = OTR_ATTENTION_ROWS,              \
    .glu = otr_glu_##rows, .act = otr_act_##rows, .add = otr_add_##rows                                       \
  }

#define NEEDS_AVX2 (OTR_X86_OS_AVX | OTR_X86_AVX2 | OTR_X86_FMA | OTR_X86_F16C)
#define NEEDS_AVX512_VNNI (NEEDS_AVX2 | OTR_X86_OS_AVX512 | OTR_X86_AVX512 | OTR_X86_AVX512_VNNI)

typedef struct x86_device {
  const char *name;
  uint32_t needs;
  int32_t native_dot;
  otr_cpu_kernels kernels;
} x86_device;

static const x86_device devices[] = {
    {"x86:avx512vnni", NEEDS_AVX512_VNNI, 1, KERNELS("AVX-512 VNNI", avx512vnni, avx512vnni, avx512)},
    {"x86:avxvnni", NEEDS_AVX2 | OTR_X86_AVX_VNNI, 1, KERNELS("AVX2, AVX-VNNI", avxvnni, avx2, avx2)},
    {"x86:avx2", NEEDS_AVX2, 0, KERNELS("AVX2, FMA, F16C", avx2, avx2, avx2)},
#if OUTRIDER_X86_EVEX256
    /* The source of x86:avxvnni in its EVEX form: checks it on a machine with AVX-512. */
    {"x86:avxvnni-evex", NEEDS_AVX512_VNNI, 1, KERNELS("AVX2, AVX-512 VNNI in 256 bits", avxvnni_evex, avx2, avx2)},
#endif
};
#define N_DEVICES ((int32_t)(sizeof devices / sizeof *devices))

const otr_cpu_kernels *otr_x86_kernels(int32_t index) {
  return &devices[index].kernels;
}

static int32_t count(void) {
  return N_DEVICES;
}

static void describe(int32_t index, otr_device_info *info) {
  const x86_device *device = &devices[index];
  snprintf(info->name, sizeof info->name, "%s", device->name);
  snprintf(info->backend, sizeof info->backend, "x86");
  snprintf(info->isa, sizeof info->isa, "%s", device->kernels.isa);
  otr_x86_brand(info->description, sizeof info->description);
  otr_x86_missing(device->needs, otr_x86_features(), info->reason, sizeof info->reason);
  info->available = info->reason[0] == '\0';
  info->native_int8 = 1;
  info->native_f16 = 1;
  info->native_dot = device->native_dot;
  long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
  if (pages > 0 && page > 0) info->memory_bytes = (uint64_t)pages * (uint64_t)page;
}

static otr_status open_device(int32_t index, otr_memory *memory, otr_parallel *parallel, otr_device **out) {
  char reason[96];
  otr_x86_missing(devices[index].needs, otr_x86_features(), reason, sizeof reason);
  *out = NULL;
  if (reason[0]) return otr_fail(OTR_STATUS_NO_DEVICE, "%s: %s", devices[index].name, reason);
  return otr_cpu_device_open(&devices[index].kernels, memory, parallel, out);
}

#if OUTRIDER_X86_EVEX256
#define N_BY_NAME 1
#else
#define N_BY_NAME 0
#endif

const otr_backend otr_x86_backend = {"x86", count, describe, open_device, N_BY_NAME};
