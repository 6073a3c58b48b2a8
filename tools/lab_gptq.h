// SPDX-License-Identifier: Apache-2.0
/* GPTQ (Frantar et al. 2022, arXiv 2210.17323): weights rounded one input after another, the error of each spread over
 * the inputs still to come as the inverse Hessian of calibration inputs says. */
#ifndef TOOL_LAB_GPTQ_H
#define TOOL_LAB_GPTQ_H

#include "lab_model.h"

/** Quantizes w [n, k] in place, in the inputs' own order, on asymmetric min-max grids as in the paper.
 *  @param hessian [k, k] sum of x xᵀ over calibration rows; only its lower half is read
 *  @param bits 2 … 8 @param group inputs that share a grid, 0: the row
 *  @return OK, NO_MEMORY, INVALID_ARGUMENT (the Hessian is not positive). Not between otr_parallel_begin and end. */
otr_status lab_gptq_quantize(otr_parallel *parallel, float *w, int32_t n, int32_t k, const float *hessian, int32_t bits,
                             int32_t group);
/** hessian[k, k] += xᵀ x of x [m, k]. Between otr_parallel_begin and end. */
otr_status lab_gptq_gather(otr_parallel *parallel, float *hessian, const float *x, int32_t m, int32_t k);

/** Makes ready to quantize the layers in order. */
otr_status lab_gptq_begin(lab_weights *weights, const tool_ids *calibration);
/** Loads and quantizes the next layer; the calibration's rows go through it. */
otr_status lab_gptq_layer(lab_weights *weights, int32_t layer, lab_layer *out);

#endif
