// SPDX-License-Identifier: Apache-2.0
/* Made-up data for checks: the same on every machine. */
#ifndef OTR_CHECK_DATA_H
#define OTR_CHECK_DATA_H

#include "check_case.h"

/** The next of a generator's numbers (splitmix32). */
uint32_t otr_data_next(uint32_t *state);
/** In [-1, 1). */
float otr_data_unit(uint32_t *state);
/** x [rows, width]. */
void otr_data_rows(uint32_t *state, float *x, int32_t rows, int32_t width, otr_case_values values);
/** Weights q [n, stride], zero from k on: rows that are random, sparse, or +-127 and -128 throughout. */
void otr_data_int8(uint32_t *state, int8_t *q, int32_t n, int32_t k, int64_t stride);
/** Magnitudes of 2^-4 to 2; the contract's thresholds among them; subnormals, infinities and NaN patterns as well. */
typedef enum otr_data_f16_kind { OTR_F16_PLAIN = 0, OTR_F16_EDGES = 1, OTR_F16_ANY = 2 } otr_data_f16_kind;
/** f16 bits [n, stride], zero from k on. */
void otr_data_f16(uint32_t *state, uint16_t *h, int32_t n, int32_t k, int64_t stride, otr_data_f16_kind kind);
/** Scales of weight rows: positive, some 0. */
void otr_data_scales(uint32_t *state, float *x, int32_t n);

#endif
