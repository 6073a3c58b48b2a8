// SPDX-License-Identifier: Apache-2.0
/* Plain f32 matrix product of the lab, and what else it sums: for comparison, outside the numerical contract. */
#ifndef TOOL_LAB_MATMUL_H
#define TOOL_LAB_MATMUL_H

#include <stddef.h>
#include <stdint.h>

#define LAB_PANEL 16 /* outputs of a panel */

/** Floats that the packed form of weights [n, k] takes: panels [ceil(n / 16)][k][16]. */
size_t lab_packed_floats(int32_t n, int32_t k);
/** Puts one weight row into its place; rows that are missing in the last panel must be zero before.
 *  @param values [k], `stride` floats apart */
void lab_pack_row(float *packed, int32_t row, const float *values, size_t stride, int32_t k);
/** The other way. @param values [k] */
void lab_unpack_row(float *values, const float *packed, int32_t row, int32_t k);
/** y[i, j] = sum over k of x[i, k] · W[j, k], for i < m and outputs j of panels [first, last).
 *  @param y, x rows of ldy and ldx floats @param n outputs in all */
void lab_matmul(float *y, size_t ldy, const float *x, size_t ldx, const float *packed, int32_t m, int32_t n, int32_t k,
                int32_t first, int32_t last);

/* For GPTQ's triangles. */
#define LAB_COMBINE 32 /* columns that lab_combine sums at a time */
/** Sum of a[i] · b[i]. */
double lab_dot(const double *a, const double *b, int32_t n);
/** sum[LAB_COMBINE] = sum over i of factors[i] · rows[i · ld + j]. */
void lab_combine(double *sum, const double *factors, const double *rows, size_t ld, int32_t n);
/** y[n] += a · x[n]. */
void lab_axpy(float *y, float a, const float *x, int32_t n);

#endif
