// SPDX-License-Identifier: Apache-2.0
/* The x86 backend: a device for each instruction set, the preferred one first. All run on the CPU executor. */
#include "cpu_features.h"
#include "kernels.h"
#include "linear_x86.h"
#include "rows.h"

#define KERNELS(isa_text, linears, linears16, rows, columns, places)                                            \
  {                                                                                                             \
    .isa = isa_text, .norm = otr_norm_##rows, .quantize = otr_quantize_##rows, .round16 = otr_round16_##rows,   \
    .linear = otr_linear_##linears, .linear_scratch = otr_linear_scratch_##linears, .wants_columns = (columns), \
    .streams = (places), .linear16 = otr_linear16_##linears16, .rope = otr_rope_##rows,                         \
    .attention = otr_attention_##rows, .attention_scratch = otr_attention_scratch_##rows,                       \
    .attention_rows = OTR_ATTENTION_ROWS, .glu = otr_glu_##rows, .act = otr_act_##rows, .add = otr_add_##rows   \
  }

#define NEEDS_AVX2 (OTR_X86_OS_AVX | OTR_X86_AVX2 | OTR_X86_FMA | OTR_X86_F16C)
#define NEEDS_AVX512_VNNI (NEEDS_AVX2 | OTR_X86_OS_AVX512 | OTR_X86_AVX512 | OTR_X86_AVX512_VNNI)

static const otr_cpu_isa devices[] = {
    {"x86:avx512vnni", NEEDS_AVX512_VNNI, 1,
     KERNELS("AVX-512 VNNI", avx512vnni, avx512vnni, avx512, true, OTR_STREAMS_AVX512)},
    {"x86:avxvnni", NEEDS_AVX2 | OTR_X86_AVX_VNNI, 1, KERNELS("AVX2, AVX-VNNI", avxvnni, avx2, avx2, false, 1)},
    {"x86:avx2", NEEDS_AVX2, 0, KERNELS("AVX2, FMA, F16C", avx2, avx2, avx2, false, 1)},
#if OUTRIDER_X86_EVEX256
    /* The source of x86:avxvnni in its EVEX form: checks it on a machine with AVX-512. */
    {"x86:avxvnni-evex", NEEDS_AVX512_VNNI, 1,
     KERNELS("AVX2, AVX-512 VNNI in 256 bits", avxvnni_evex, avx2, avx2, false, 1)},
#endif
};
#define N_DEVICES ((int32_t)(sizeof devices / sizeof *devices))

static int32_t count(void) {
  return N_DEVICES;
}

static void describe(int32_t index, otr_device_info *info) {
  otr_x86_brand(info->description, sizeof info->description);
  otr_x86_missing(devices[index].needs, otr_x86_features(), info->reason, sizeof info->reason);
  otr_cpu_describe(&devices[index], "x86", info);
}

static otr_status open_device(int32_t index, const otr_device_params *params, otr_device **out) {
  char reason[96];
  otr_x86_missing(devices[index].needs, otr_x86_features(), reason, sizeof reason);
  return otr_cpu_open(&devices[index], reason, params, out);
}

#if OUTRIDER_X86_EVEX256
static bool by_name_only(int32_t index) {
  return index == N_DEVICES - 1;
}
#else
#define by_name_only NULL
#endif

const otr_backend otr_x86_backend = {"x86", count, describe, open_device, by_name_only};
