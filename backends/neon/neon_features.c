// SPDX-License-Identifier: Apache-2.0
#include "neon_features.h"

#include <stdio.h>
#include <sys/auxv.h>

/* Bits of the kernel's AT_HWCAP and AT_HWCAP2, which no libc is old enough to lack but in its headers. */
#define HWCAP_BIT_ASIMD (1ul << 1)
#define HWCAP_BIT_CPUID (1ul << 11)
#define HWCAP_BIT_ASIMDDP (1ul << 20)
#define HWCAP2_BIT_I8MM (1ul << 13)

uint32_t otr_neon_features(void) {
  unsigned long first = getauxval(AT_HWCAP), second = getauxval(AT_HWCAP2);
  return (first & HWCAP_BIT_ASIMD ? OTR_NEON_ASIMD : 0u) | (first & HWCAP_BIT_ASIMDDP ? OTR_NEON_DOTPROD : 0u) |
         (second & HWCAP2_BIT_I8MM ? OTR_NEON_I8MM : 0u);
}

void otr_neon_missing(uint32_t needed, uint32_t present, char *reason, size_t reason_bytes) {
  static const char *const names[] = {"Advanced SIMD", "SDOT (FEAT_DotProd)", "SMMLA (FEAT_I8MM)"};
  reason[0] = '\0';
  for (uint32_t i = 0; i < sizeof names / sizeof *names; i++) {
    if (!(needed & ~present & (1u << i))) continue;
    snprintf(reason, reason_bytes, "the CPU lacks %s", names[i]);
    return;
  }
}

/** MIDR_EL1, which the kernel lets programs read where HWCAP says so; 0 elsewhere. */
static uint64_t main_id(void) {
  uint64_t id = 0;
  if (getauxval(AT_HWCAP) & HWCAP_BIT_CPUID) __asm__("mrs %0, MIDR_EL1" : "=r"(id));
  return id;
}

void otr_neon_brand(char *out, size_t out_bytes) {
  static const struct {
    uint32_t part;
    const char *name;
  } parts[] = {
      {0xd03, "Cortex-A53"},   {0xd04, "Cortex-A35"},  {0xd05, "Cortex-A55"},  {0xd07, "Cortex-A57"},
      {0xd08, "Cortex-A72"},   {0xd09, "Cortex-A73"},  {0xd0a, "Cortex-A75"},  {0xd0b, "Cortex-A76"},
      {0xd0c, "Neoverse-N1"},  {0xd0d, "Cortex-A77"},  {0xd40, "Neoverse-V1"}, {0xd41, "Cortex-A78"},
      {0xd42, "Cortex-A78AE"}, {0xd44, "Cortex-X1"},   {0xd46, "Cortex-A510"}, {0xd47, "Cortex-A710"},
      {0xd48, "Cortex-X2"},    {0xd49, "Neoverse-N2"}, {0xd4d, "Cortex-A715"}, {0xd4e, "Cortex-X3"},
      {0xd4f, "Neoverse-V2"},
  };
  uint64_t id = main_id();
  uint32_t maker = (uint32_t)(id >> 24) & 0xff, part = (uint32_t)(id >> 4) & 0xfff;
  for (size_t i = 0; maker == 0x41 && i < sizeof parts / sizeof *parts; i++) {
    if (parts[i].part != part) continue;
    snprintf(out, out_bytes, "Arm %s", parts[i].name);
    return;
  }
  snprintf(out, out_bytes, "64-bit Arm CPU");
}
