// SPDX-License-Identifier: Apache-2.0
/* Byte-level BPE (GPT-2): a piece begins as its bytes; the pair with the lowest merge rank is joined first. */
#include "encoder.h"

bool otr_pair_by_merge(const void *model, const char *text, const otr_symbol *left, const otr_symbol *right,
                       uint32_t *key, int32_t *id) {
  (void)text;
  const otr_vocabulary *v = model;
  if (left->id < 0 || right->id < 0) return false;
  if (!otr_pair_map_find(&v->merges, otr_pair((uint32_t)left->id, (uint32_t)right->id), key)) return false;
  *id = v->merged[*key];
  return true;
}

/* A byte that has no token becomes the unknown one, or nothing where there is none. A control token is not for plain
 * text, also where a file names it as the unknown one. */
static void emit(otr_encoder *e, int32_t id) {
  const otr_vocabulary *v = e->vocabulary;
  if (id < 0 && v->unk >= 0 && v->types[v->unk] != OTR_TOKEN_CONTROL) id = v->unk;
  if (id >= 0) otr_encoder_emit(e, id);
}

static otr_status encode_piece(otr_encoder *e, const char *text, size_t n_bytes) {
  const otr_vocabulary *v = e->vocabulary;
  int32_t whole = n_bytes == 1                               ? v->byte_ids[(unsigned char)text[0]]
                  : v->whole_pieces && n_bytes <= v->longest ? otr_text_map_find(&v->map, text, n_bytes)
                                                             : -1;
  if (whole >= 0 || n_bytes == 1) {
    emit(e, whole);
    return OTR_STATUS_OK;
  }
  OTR_TEXT_TRY(otr_merge_reserve(&e->merge, n_bytes));
  for (size_t i = 0; i < n_bytes; ++i) otr_merge_append(&e->merge, (uint32_t)i, 1, v->byte_ids[(unsigned char)text[i]]);
  otr_merge_run(&e->merge, otr_pair_by_merge, v, text);
  for (int32_t i = 0; i >= 0; i = e->merge.symbols[i].next) emit(e, e->merge.symbols[i].id);
  return OTR_STATUS_OK;
}

otr_status otr_encode_bpe(otr_encoder *e, const char *text, size_t n_bytes) {
  otr_split split;
  otr_split_begin(&split, e->vocabulary->split, text, n_bytes);
  for (size_t n = otr_split_next(&split); n > 0; n = otr_split_next(&split))
    OTR_TEXT_TRY(encode_piece(e, text + split.position - n, n));
  return OTR_STATUS_OK;
}
