// SPDX-License-Identifier: Apache-2.0
/* A model's forward pass as a program of operations (ops.h), and the activations it works in. */
#ifndef OTR_FORWARD_H
#define OTR_FORWARD_H

#include "arena.h"
#include "model.h"

/** Device memory and programs of one session. */
typedef struct otr_forward {
  otr_op *ops;
  int32_t n_ops, capacity;
  int32_t head_begin; /* ops from here on make logits of selected rows: the head program */
  otr_arena activations;
  otr_ref slot[OTR_SLOTS];
  otr_ref quantized, rounded, q16;
  otr_ref selected, logits, hidden;
  int32_t max_rows, max_logits, keep_hidden;
  otr_prepared *body; /* the whole pass */
  otr_prepared *head; /* ops[head_begin …] only, for more rows' logits */
} otr_forward;

typedef struct otr_forward_params {
  int32_t max_rows, max_logits, max_pages, max_table, max_sequences;
  int32_t keep_hidden;
} otr_forward_params;

/** @return OK, NO_MEMORY, or what the device answers. otr_forward_destroy undoes it, also after a failure. */
otr_status otr_forward_create(otr_model *model, const otr_forward_params *params, otr_forward *out);
void otr_forward_destroy(otr_model *model, otr_forward *forward);
/** Host and device bytes that create would take. */
otr_status otr_forward_bytes(otr_model *model, const otr_forward_params *params, uint64_t *host, uint64_t *device);

#endif
