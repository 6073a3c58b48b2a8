// SPDX-License-Identifier: Apache-2.0
/* What single instructions of the hardware compute; fragments as the PTX manual lays them out. */
#include "cuda_emulation.h"

namespace {
struct ballot {
  int predicate;
  unsigned result;
};
struct matrices {
  const void *row;
  unsigned *r;
};
struct product_8816 {
  int *c;
  unsigned a, b;
};
struct product_16832 {
  int *c;
  const unsigned *a, *b;
};
}  // namespace

static void ballot_act(void *const brought[32]) {
  unsigned result = 0;
  for (int lane = 0; lane < 32; lane++)
    if (brought[lane] && static_cast<ballot *>(brought[lane])->predicate) result |= 1u << lane;
  for (int lane = 0; lane < 32; lane++)
    if (brought[lane]) static_cast<ballot *>(brought[lane])->result = result;
}

unsigned emulation_ballot(const char *what, unsigned mask, int predicate) {
  ballot mine = {predicate, 0};
  emulation_meet(what, ballot_act, mask, &mine);
  return mine.result;
}

template <int n>
static void ldmatrix_act(void *const brought[32]) {
  for (int lane = 0; lane < 32; lane++)
    for (int i = 0; i < n; i++) {
      const matrices *source = static_cast<const matrices *>(brought[i * 8 + lane / 4]);
      memcpy(&static_cast<matrices *>(brought[lane])->r[i], static_cast<const char *>(source->row) + lane % 4 * 4, 4);
    }
}

void ldmatrix_x4(unsigned r[4], const void *row) {
  emulation_check_shared(row, 16, 16, "ldmatrix");
  matrices mine = {row, r};
  emulation_meet_all("ldmatrix.x4", ldmatrix_act<4>, &mine);
}

void ldmatrix_x2(unsigned r[2], const void *row) {
  if (emulation_lane() < 16) emulation_check_shared(row, 16, 16, "ldmatrix");
  matrices mine = {row, r};
  emulation_meet_all("ldmatrix.x2", ldmatrix_act<2>, &mine);
}

/* a[m][k] and b[n][k] as bytes, c[m][n]. */
template <int m, int k>
static void multiply(int c[m][8], const int8_t a[m][k], const int8_t b[8][k]) {
  for (int i = 0; i < m; i++)
    for (int j = 0; j < 8; j++) {
      int sum = 0;
      for (int l = 0; l < k; l++) sum += a[i][l] * b[j][l];
      c[i][j] = (int)((unsigned)c[i][j] + (unsigned)sum);
    }
}

static void mma_8816_act(void *const brought[32]) {
  int8_t a[8][16], b[8][16];
  int c[8][8];
  for (int lane = 0; lane < 32; lane++) {
    const product_8816 *p = static_cast<const product_8816 *>(brought[lane]);
    memcpy(&a[lane / 4][lane % 4 * 4], &p->a, 4);
    memcpy(&b[lane / 4][lane % 4 * 4], &p->b, 4);
    memcpy(&c[lane / 4][lane % 4 * 2], p->c, 8);
  }
  multiply<8, 16>(c, a, b);
  for (int lane = 0; lane < 32; lane++)
    memcpy(static_cast<product_8816 *>(brought[lane])->c, &c[lane / 4][lane % 4 * 2], 8);
}

void mma_s8_8816(int c[2], unsigned a, unsigned b) {
  product_8816 mine = {c, a, b};
  emulation_meet_all("mma.m8n8k16", mma_8816_act, &mine);
}

static void mma_16832_act(void *const brought[32]) {
  int8_t a[16][32], b[8][32];
  int c[16][8];
  for (int lane = 0; lane < 32; lane++) {
    const product_16832 *p = static_cast<const product_16832 *>(brought[lane]);
    int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; i++) memcpy(&a[g + i % 2 * 8][t * 4 + i / 2 * 16], &p->a[i], 4);
    for (int i = 0; i < 2; i++) memcpy(&b[g][t * 4 + i * 16], &p->b[i], 4);
    for (int i = 0; i < 2; i++) memcpy(&c[g + i * 8][t * 2], &p->c[2 * i], 8);
  }
  multiply<16, 32>(c, a, b);
  for (int lane = 0; lane < 32; lane++)
    for (int i = 0; i < 2; i++)
      memcpy(&static_cast<product_16832 *>(brought[lane])->c[2 * i], &c[lane / 4 + i * 8][lane % 4 * 2], 8);
}

void mma_s8_16832(int c[4], const unsigned a[4], const unsigned b[2]) {
  product_16832 mine = {c, a, b};
  emulation_meet_all("mma.m16n8k32", mma_16832_act, &mine);
}

/* To nearest even, subnormals and infinity as IEEE has them; NaN gives 0x7fff as the hardware does. */
unsigned cvt_f16_bits(float x) {
  unsigned bits = __float_as_uint(x), sign = bits >> 16 & 0x8000u, a = bits & 0x7fffffffu;
  if (a > 0x7f800000u) return 0x7fffu;
  if (a >= 0x477ff000u) return sign | 0x7c00u;
  if (a < 0x38800000u) /* steps of 2^-24: the sum rounds to them */
    return sign | (__float_as_uint(__uint_as_float(a) + 0.5f) - 0x3f000000u);
  return sign | ((a - 0x38000000u + 0xfffu + (a >> 13 & 1u)) >> 13);
}

float cvt_f16_value(unsigned bits) {
  unsigned a = bits & 0x7fffu, sign = (bits & 0x8000u) << 16;
  if (a < 0x400u) return __uint_as_float(sign | __float_as_uint((float)a * 0x1p-24f));
  if (a >= 0x7c00u) return __uint_as_float(sign | 0x7f800000u | (a & 0x3ffu) << 13);
  return __uint_as_float(sign | ((a << 13) + 0x38000000u));
}

unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
  uint64_t bytes = (uint64_t)b << 32 | a;
  unsigned result = 0;
  for (unsigned i = 0; i < 4; i++) {
    unsigned s = selector >> (4 * i) & 0xf, byte = (unsigned)(bytes >> (8 * (s & 7))) & 0xff;
    if (s & 8) byte = byte & 0x80 ? 0xff : 0;
    result |= byte << (8 * i);
  }
  return result;
}

int __dp4a(int a, int b, int c) {
  unsigned sum = (unsigned)c;
  for (int i = 0; i < 32; i += 8) sum += (unsigned)((int8_t)((unsigned)a >> i) * (int8_t)((unsigned)b >> i));
  return (int)sum;
}
