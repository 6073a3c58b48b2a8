// SPDX-License-Identifier: Apache-2.0
/* SHA-256 (FIPS 180-4): model hashes, state checksums. */
#ifndef OTR_SHA256_H
#define OTR_SHA256_H

#include <stddef.h>
#include <stdint.h>

typedef struct otr_sha256 {
  uint32_t state[8];
  uint64_t bytes;
  uint8_t block[64];
} otr_sha256;

void otr_sha256_start(otr_sha256 *sha);
void otr_sha256_add(otr_sha256 *sha, const void *bytes, size_t n_bytes);
void otr_sha256_end(otr_sha256 *sha, uint8_t digest[32]);
/** Adds f32 values as little-endian bytes, whatever the machine's order. */
void otr_sha256_add_f32(otr_sha256 *sha, const float *values, size_t n);
/** 64 hex digits and a 0. */
void otr_hex_digest(char out[65], const uint8_t digest[32]);

#endif
