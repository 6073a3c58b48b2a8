// SPDX-License-Identifier: Apache-2.0
/* A model's tensors as the lab holds them: f32, rounded to a scheme's grid, packed for lab_matmul. */
#ifndef TOOL_LAB_MODEL_H
#define TOOL_LAB_MODEL_H

#include "lab.h"

typedef struct lab_tensor {
  const source_tensor *from;  // NULL: absent
  int32_t n, k;
  float *packed;  // a linear: lab_matmul's panels of [n, k]
  float *values;  // a vector [k] or a table [n, k]
  float *bias;    // [n] or NULL
} lab_tensor;

/** The tensors of a layer, or those of the model itself. */
typedef struct lab_layer {
  lab_tensor role[OTR_ROLES];
  bool loaded;
} lab_layer;

struct lab_model {
  otr_memory memory;
  otr_parallel *parallel;
  source *source;
  const otr_config *config;
  const source_tensor *embedding;
  struct lab_pass *pass;  // buffers of lab_forward.c
};

struct lab_weights {
  lab_model *lab;
  lab_scheme scheme, head_scheme;
  bool resident;
  lab_layer *layers;  // [n_layers]
  lab_layer ends;
  lab_rounding embedding;
  lab_count count;
  const tool_ids *calibration;
  float *calibration_x;  // [ids of calibration, dim]: the residual stream before layer `calibrated`
  int32_t calibrated;
};

/** Row `id` of the embedding, rounded as the scheme says. @param out [k of the embedding] */
otr_status lab_embed(const lab_weights *weights, int32_t id, float *out);
/** Loads tensors of a layer, or with layer = n_layers the model's own. `exact`: as stored, nothing rounded. */
otr_status lab_layer_load(const lab_weights *weights, int32_t layer, bool exact, lab_layer *out);
void lab_layer_free(lab_layer *layer);
/** Packs rows w [n, k] as a tensor's weights. Between otr_parallel_begin and end. */
void lab_tensor_pack(const lab_model *lab, lab_tensor *tensor, const float *w);

/** The output layer's tensor: `output`, or the embedding where they are one. */
const lab_tensor *lab_head(const lab_weights *weights);

/* ---- lab_forward.c ---- */

/** Layer `layer` with the tensors of `tensors`, x [n, dim] in place. Between otr_parallel_begin and end.
 *  @param scheme what the inputs are rounded to. @return NO_MEMORY. */
typedef struct lab_block {
  const lab_layer *tensors;
  const lab_scheme *scheme;
  const lab_watch *watch;
  lab_count *count;
  int32_t layer;
} lab_block;
otr_status lab_block_run(lab_model *lab, const lab_block *block, float *x, int32_t n);
/** The residual stream [n, dim] before the first layer. */
otr_status lab_embed_rows(lab_model *lab, lab_weights *weights, const lab_watch *watch, const int32_t *ids, int32_t n,
                          float *x);
void lab_pass_free(lab_model *lab);

#endif
