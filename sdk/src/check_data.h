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
/** Any f16 bits, [n, stride], zero from k on; `wild`: subnormals, infinities and NaN patterns too. */
void otr_data_f16(uint32_t *state, uint16_t *h, int32_t n, int32_t k, int64_t stride, int32_t wild);
/** Scales of weight rows: positive, some 0. */
void otr_data_scales(uint32_t *state, float *x, int32_t n);

#endif
