// SPDX-License-Identifier: Apache-2.0
#ifndef OTR_MODEL_H
#define OTR_MODEL_H

#include <pthread.h>

#include "config.h"
#include "io.h"
#include "numerics.h"
#include "runtime.h"

/** A tensor of the model, on the device. */
typedef struct otr_loaded {
  otr_weight w;   /* linears; w.n 0: absent */
  otr_rule rule;  /* its outlier rule */
  otr_ref values; /* gains: f32 [n_values]; a position table: f32 [n_positions, n_values] */
  otr_ref bias;   /* of a norm: f32 [n_values], or absent */
  int32_t n_values;
} otr_loaded;

typedef struct otr_page_pool otr_page_pool;

#define OTR_MAX_SLABS 128 /* buffers of a model's own weights */

struct otr_model {
  otr_runtime *runtime;
  otr_file file;
  otr_gguf *gguf;
  otr_config config;
  otr_buffer *mapped; /* the file, used in place, or NULL */
  otr_buffer *made[OTR_MAX_SLABS]; /* what was copied or quantized: several where the device does not take it as one */
  uint64_t mapped_bytes, made_bytes;
  otr_loaded *tensors;  /* [n_layers * OTR_LAYER_ROLES + OTR_ROLES - OTR_LAYER_ROLES] */
  double *rope_inverse; /* [2, n_rot / 2]; the second is for long sessions (config.rope_original) */
  otr_buffer *slopes;   /* ALiBi's f32 [n_heads], or NULL */
  char name[128];       /* general.name */
  atomic_int sessions;
  otr_page_pool *pool;
};

/** The tensor of a role; `layer` is 0 for the model's own. */
const otr_loaded *otr_model_role(const otr_model *model, int32_t layer, otr_role role);

/** Fills model->tensors, made, mapped from model->file, gguf, config. On failure otr_model_close undoes it. */
otr_status otr_load_weights(otr_model *model, const otr_model_params *params);
/** What otr_load_weights would take; nothing is read but the header. Fields of `plan` about weights are set. */
otr_status otr_plan_weights(otr_model *model, const otr_model_params *params, otr_plan_info *plan);

/** Bytes of a session's parts for a plan. */
otr_status otr_plan_session(otr_model *model, const otr_session_params *params, otr_plan_info *plan);

/** SHA-256 that says which model and rule a state belongs to. */
otr_status otr_model_digest(const otr_model *model, uint8_t digest[32]);

#define OTR_VERIFY_TOKENS 32
/** How many ids the verify hash is of: fewer for a model whose position table is shorter. */
static inline int32_t otr_verify_count(const otr_config *c) {
  return c->n_positions > 0 && c->n_positions < OTR_VERIFY_TOKENS ? c->n_positions : OTR_VERIFY_TOKENS;
}
/** The fixed ids of the verify hash: (i * 7919 + 13) mod vocab. */
static inline int32_t otr_verify_token(int32_t i, int32_t vocab) {
  return (int32_t)((i * 7919LL + 13) % vocab);
}

#endif
