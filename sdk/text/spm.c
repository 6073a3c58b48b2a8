// SPDX-License-Identifier: Apache-2.0
/* SentencePiece BPE: a text begins as its characters; the pair that makes the token with the highest score is joined
 * first, or the pair with the lowest merge rank. A character without a token becomes its bytes. */
#include "encoder.h"
#include "unicode.h"

static bool pair_by_score(const void *model, const char *text, const otr_symbol *left, const otr_symbol *right,
                          uint32_t *key, int32_t *id) {
  const otr_vocabulary *v = model;
  size_t n_bytes = (size_t)left->bytes + right->bytes;
  if (n_bytes > v->longest) return false;
  *id = otr_text_map_find(&v->map, text + left->start, n_bytes);
  if (*id < 0) return false;
  *key = v->keys[*id];
  return true;
}

/* @return whether it was unknown; `fused`: the symbol before it was, and one id is to stand for both. */
static bool emit(otr_encoder *e, const char *text, const otr_symbol *symbol, bool fused) {
  const otr_vocabulary *v = e->vocabulary;
  if (symbol->id >= 0) {
    otr_encoder_emit(e, symbol->id);
    return false;
  }
  bool all = true;
  for (uint32_t i = 0; i < symbol->bytes; ++i) all = all && v->byte_ids[(unsigned char)text[symbol->start + i]] >= 0;
  if (!all && v->unk >= 0 && !fused) otr_encoder_emit(e, v->unk);
  for (uint32_t i = 0; all && i < symbol->bytes; ++i)
    otr_encoder_emit(e, v->byte_ids[(unsigned char)text[symbol->start + i]]);
  return !all;
}

static otr_status encode_piece(otr_encoder *e, const char *text, size_t n_bytes) {
  const otr_vocabulary *v = e->vocabulary;
  OTR_TEXT_TRY(otr_merge_reserve(&e->merge, n_bytes));
  for (size_t at = 0; at < n_bytes;) {
    uint32_t bytes = otr_char_at(text + at, n_bytes - at).bytes;
    otr_merge_append(&e->merge, (uint32_t)at, bytes, otr_text_map_find(&v->map, text + at, bytes));
    at += bytes;
  }
  otr_merge_run(&e->merge, v->keys != NULL ? pair_by_score : otr_pair_by_merge, v, text);
  bool unknown = false;
  for (int32_t i = 0; i >= 0; i = e->merge.symbols[i].next)
    unknown = emit(e, text, &e->merge.symbols[i], unknown && v->fuse_unknown);
  return OTR_STATUS_OK;
}

/* Length of what can be encoded on its own: all of it, or up to a space (one that follows something else). */
static size_t piece_length(const otr_vocabulary *v, const char *text, size_t n_bytes) {
  for (size_t i = 1; (v->cut_at_spaces || v->cut_at_each) && i < n_bytes; ++i)
    if (text[i] == ' ' && (v->cut_at_each || text[i - 1] != ' ')) return i;
  return n_bytes;
}

otr_status otr_encode_spm(otr_encoder *e, const char *text, size_t n_bytes, bool prefix) {
  size_t room = n_bytes + 1;
  char *normal = otr_text_take(&e->vocabulary->allocator, room, 1);
  if (normal == NULL) return OTR_STATUS_NO_MEMORY;
  if (prefix) normal[0] = ' ';
  size_t n = prefix + otr_spaces_of_spm(normal + prefix, text, n_bytes);
  otr_status status = OTR_STATUS_OK;
  for (size_t at = 0, length; at < n && status == OTR_STATUS_OK; at += length) {
    length = piece_length(e->vocabulary, normal + at, n - at);
    status = encode_piece(e, normal + at, length);
  }
  otr_text_give(&e->vocabulary->allocator, normal, room, 1);
  return status;
}
