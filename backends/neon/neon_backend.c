// SPDX-License-Identifier: Apache-2.0
/* The NEON backend: a device for each way to multiply, the preferred one first. All run on the CPU executor. */
#include "kernels.h"
#include "linear_neon.h"
#include "neon_features.h"
#include "rows.h"

#define KERNELS(isa_text, linears)                                                                                 \
  {                                                                                                                \
    .isa = isa_text, .norm = otr_norm_neon, .quantize = otr_quantize_neon, .round16 = otr_round16_neon,            \
    .linear = otr_linear_##linears, .linear_scratch = otr_linear_scratch_##linears, .linear16 = otr_linear16_neon, \
    .rope = otr_rope_neon, .attention = otr_attention_neon, .attention_scratch = otr_attention_scratch_neon,       \
    .attention_rows = OTR_ATTENTION_ROWS, .glu = otr_glu_neon, .act = otr_act_neon, .add = otr_add_neon            \
  }

static const otr_cpu_isa devices[] = {
    {"neon:i8mm", OTR_NEON_ASIMD | OTR_NEON_DOTPROD | OTR_NEON_I8MM, 1, KERNELS("NEON, SMMLA", i8mm)},
    {"neon:dotprod", OTR_NEON_ASIMD | OTR_NEON_DOTPROD, 1, KERNELS("NEON, SDOT", dotprod)},
    {"neon:plain", OTR_NEON_ASIMD, 0, KERNELS("NEON", plain)},
};

static int32_t count(void) {
  return (int32_t)(sizeof devices / sizeof *devices);
}

static void describe(int32_t index, otr_device_info *info) {
  otr_neon_brand(info->description, sizeof info->description);
  otr_neon_missing(devices[index].needs, otr_neon_features(), info->reason, sizeof info->reason);
  otr_cpu_describe(&devices[index], "neon", info);
}

static otr_status open_device(int32_t index, const otr_device_params *params, otr_device **out) {
  char reason[96];
  otr_neon_missing(devices[index].needs, otr_neon_features(), reason, sizeof reason);
  return otr_cpu_open(&devices[index], reason, params, out);
}

const otr_backend otr_neon_backend = {"neon", count, describe, open_device, NULL};
