// SPDX-License-Identifier: Apache-2.0
#include "cpu_features.h"

#include <cpuid.h>
#include <stdio.h>
#include <string.h>

#define XCR0_AVX 0x06u    /* xmm, ymm */
#define XCR0_AVX512 0xe6u /* and opmask, the upper halves of zmm, zmm 16 to 31 */

typedef struct cpuid_regs {
  uint32_t a, b, c, d;
} cpuid_regs;

/** All zero where the CPU does not have the leaf. */
static cpuid_regs cpuid_leaf(uint32_t leaf, uint32_t subleaf) {
  cpuid_regs r = {0, 0, 0, 0};
  __get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d);
  return r;
}

/** Register sets that the operating system saves. Only where CPUID tells OSXSAVE. */
static uint32_t saved_state(void) {
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

static uint32_t flag_if(uint32_t word, uint32_t bits, uint32_t flag) {
  return (word & bits) == bits ? flag : 0u;
}

uint32_t otr_x86_features(void) {
  cpuid_regs base = cpuid_leaf(1, 0), more = cpuid_leaf(7, 0);
  cpuid_regs last = more.a >= 1 ? cpuid_leaf(7, 1) : (cpuid_regs){0, 0, 0, 0};
  uint32_t saved = base.c & bit_OSXSAVE ? saved_state() : 0u;
  return flag_if(saved, XCR0_AVX, OTR_X86_OS_AVX) | flag_if(saved, XCR0_AVX512, OTR_X86_OS_AVX512) |
         flag_if(more.b, bit_AVX2, OTR_X86_AVX2) | flag_if(base.c, bit_FMA, OTR_X86_FMA) |
         flag_if(base.c, bit_F16C, OTR_X86_F16C) |
         flag_if(more.b, bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL, OTR_X86_AVX512) |
         flag_if(more.c, bit_AVX512VNNI, OTR_X86_AVX512_VNNI) | flag_if(last.a, 1u << 4, OTR_X86_AVX_VNNI);
}

void otr_x86_missing(uint32_t needed, uint32_t present, char *reason, size_t reason_bytes) {
  static const struct {
    uint32_t flag;
    const char *text;
  } reasons[] = {
      {OTR_X86_AVX2, "the CPU lacks AVX2"},
      {OTR_X86_FMA, "the CPU lacks FMA"},
      {OTR_X86_F16C, "the CPU lacks F16C"},
      {OTR_X86_AVX512, "the CPU lacks AVX-512 F, BW, DQ and VL"},
      {OTR_X86_AVX512_VNNI, "the CPU lacks AVX-512 VNNI"},
      {OTR_X86_AVX_VNNI, "the CPU lacks AVX-VNNI"},
      {OTR_X86_OS_AVX, "the operating system does not save AVX state"},
      {OTR_X86_OS_AVX512, "the operating system does not save AVX-512 state"},
  };
  reason[0] = '\0';
  for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++) {
    if (!(needed & ~present & reasons[i].flag)) continue;
    snprintf(reason, reason_bytes, "%s", reasons[i].text);
    return;
  }
}

void otr_x86_brand(char *out, size_t out_bytes) {
  char brand[49] = {0};
  if (cpuid_leaf(0x80000000u, 0).a >= 0x80000004u) {
    for (uint32_t i = 0; i < 3; i++) {
      cpuid_regs r = cpuid_leaf(0x80000002u + i, 0);
      memcpy(brand + 16 * i, &r, sizeof r);
    }
  }
  const char *start = brand + strspn(brand, " ");
  for (size_t n = strlen(brand); n > 0 && brand[n - 1] == ' '; n--) brand[n - 1] = '\0';
  snprintf(out, out_bytes, "%s", *start ? start : "x86-64 CPU");
}
