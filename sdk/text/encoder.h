// SPDX-License-Identifier: Apache-2.0
/* One encode in progress: where the ids go and the working memory. */
#ifndef OTR_TEXT_ENCODER_H
#define OTR_TEXT_ENCODER_H

#include "merge.h"
#include "vocabulary.h"

typedef struct otr_encoder {
  const otr_vocabulary *vocabulary;
  otr_merge merge;
  int32_t *ids; /**< [capacity] */
  int32_t capacity;
  uint64_t n; /**< ids so far, also those that did not fit */
} otr_encoder;

static inline void otr_encoder_emit(otr_encoder *e, int32_t id) {
  if (e->n < (uint64_t)e->capacity) e->ids[e->n] = id;
  ++e->n;
}

/** otr_merge_pair_fn of a vocabulary's merges. */
bool otr_pair_by_merge(const void *model, const char *text, const otr_symbol *left, const otr_symbol *right,
                       uint32_t *key, int32_t *id);
/** Encodes plain text [n_bytes] with a byte-level vocabulary. */
otr_status otr_encode_bpe(otr_encoder *e, const char *text, size_t n_bytes);
/** Encodes plain text [n_bytes] with a SentencePiece vocabulary; `prefix`: a space is put before it. */
otr_status otr_encode_spm(otr_encoder *e, const char *text, size_t n_bytes, bool prefix);

#endif
