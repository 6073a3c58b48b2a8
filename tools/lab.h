// SPDX-License-Identifier: Apache-2.0
/* The lab: a published model's forward pass in f32 under a scheme (lab_scheme.h), layer by layer over any number of
 * windows, with a look at what goes into each linear. It walks the architecture's own table of steps, so it runs what
 * the library runs. For comparison, outside the numerical contract. One thread uses a lab at a time. */
#ifndef TOOL_LAB_H
#define TOOL_LAB_H

#include "common.h"
#include "lab_scheme.h"
#include "source.h"

typedef struct lab_model lab_model;
typedef struct lab_weights lab_weights;

/** Opens a GGUF or what else source_open takes. @param n_threads 0: one for each core.
 *  @param[out] out lab_close on OK; NULL otherwise. */
otr_status lab_open(const char *path, int32_t n_threads, lab_model **out);
/** NULL is allowed. */
void lab_close(lab_model *lab);
const source *lab_source(const lab_model *lab);
const otr_config *lab_config(const lab_model *lab);
otr_parallel *lab_parallel(const lab_model *lab);

/** A scheme's weights, loaded as the pass needs them.
 *  @param calibration windows whose inputs GPTQ fits its weights to; NULL for other schemes. Must stay.
 *  @param resident true: every layer is kept once it is there, 4 bytes a weight; false: one layer at a time
 *  @param[out] out lab_weights_free on OK; NULL otherwise. Not beyond the lab's life. */
otr_status lab_weights_create(lab_model *lab, const lab_scheme *scheme, const tool_ids *calibration, bool resident,
                              lab_weights **out);
/** NULL is allowed. */
void lab_weights_free(lab_weights *weights);
/** Outliers and inputs met so far. */
lab_count lab_weights_count(const lab_weights *weights);
/** Bytes of the whole model under the scheme: its linears and embedding so, all else in f32. */
uint64_t lab_model_bytes(const lab_model *lab, const lab_scheme *scheme);

/** Looks into a pass. Any function may be NULL. Layers come in ascending order, in each layer the windows. */
typedef struct lab_watch {
  void *user;
  /** A linear's input x [m, k], before the scheme rounds it; linears with one input are told one by one. A
   *  projection of the embedding comes first, with layer = -1; one before the output layer, and that, last, with
   *  layer = n_layers. */
  void (*input)(void *user, const otr_tensor_rule *rule, int32_t layer, const float *x, int32_t m, int32_t k);
  /** May change x [m, k], a copy that only this linear reads (and those that have the same input: q, k, v). */
  void (*edit)(void *user, const otr_tensor_rule *rule, int32_t layer, float *x, int32_t m, int32_t k);
  /** The residual stream x [n, dim] of window `window` behind a layer. */
  void (*state)(void *user, int32_t layer, size_t window, const float *x, int32_t n, int32_t dim);
  /** The weights of the linear `weight_name`, row by row, as the scheme has them. @param w [k] */
  const char *weight_name;
  void (*weight)(void *user, int32_t row, const float *w, int32_t k);
} lab_watch;

/** Runs all layers over all windows, each from position 0.
 *  @param watch NULL: none
 *  @param[out] out [ids of all windows, width]: what the output layer is multiplied with, the scheme's rounding done.
 *              width: lab_head_width */
otr_status lab_run(lab_model *lab, lab_weights *weights, const tool_ids *windows, const lab_watch *watch, float *out);
int32_t lab_head_width(const lab_model *lab);
/** Logits [m, vocab] of rows of lab_run's `out`. */
otr_status lab_logits(lab_model *lab, lab_weights *weights, const float *x, int32_t m, float *logits);

#endif
