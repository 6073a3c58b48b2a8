// SPDX-License-Identifier: Apache-2.0
/* The public face of the tokenizer. */
#include <string.h>

#include "encoder.h"
#include "nfc.h"
#include "tokenizer.h"
#include "unicode.h"

otr_status otr_tokenizer_create(const otr_metadata *metadata, const otr_tokenizer_params *params, otr_tokenizer **out) {
  if (out == NULL) return otr_text_fail(OTR_STATUS_INVALID_ARGUMENT, "out is NULL");
  *out = NULL;
  if (metadata == NULL) return otr_text_fail(OTR_STATUS_INVALID_ARGUMENT, "metadata is NULL");
  otr_tokenizer_params p;
  OTR_TEXT_TRY(otr_text_params(&p, sizeof p, params));
  OTR_TEXT_TRY(otr_text_check_allocator(&p.allocator));
  otr_tokenizer *t = otr_text_take(&p.allocator, 1, sizeof *t);
  if (t == NULL) return OTR_STATUS_NO_MEMORY;
  t->vocabulary.allocator = p.allocator;
  otr_status status = otr_vocabulary_load(&t->vocabulary, metadata);
  if (status == OTR_STATUS_OK) {
    *out = t;
  } else {
    otr_tokenizer_destroy(t);
  }
  return status;
}

void otr_tokenizer_destroy(otr_tokenizer *tokenizer) {
  if (tokenizer == NULL) return;
  otr_allocator allocator = tokenizer->vocabulary.allocator;
  otr_vocabulary_destroy(&tokenizer->vocabulary);
  otr_text_give(&allocator, tokenizer, 1, sizeof *tokenizer);
}

otr_status otr_tokenizer_get_info(const otr_tokenizer *tokenizer, otr_tokenizer_info *info) {
  if (tokenizer == NULL || info == NULL) return otr_text_fail(OTR_STATUS_INVALID_ARGUMENT, "NULL");
  const otr_vocabulary *v = &tokenizer->vocabulary;
  otr_tokenizer_info filled = {.model = v->is_spm ? "llama" : "gpt2",
                               .pre = v->pre,
                               .vocab = v->n,
                               .bos = v->bos,
                               .eos = v->eos,
                               .eot = v->eot,
                               .unk = v->unk,
                               .pad = v->pad,
                               .add_bos = v->add_bos,
                               .add_eos = v->add_eos,
                               .add_space_prefix = v->prefix != OTR_PREFIX_NEVER};
  return otr_text_result(info, &filled, sizeof filled);
}

int32_t otr_tokenizer_vocab(const otr_tokenizer *tokenizer) {
  return tokenizer == NULL ? 0 : tokenizer->vocabulary.n;
}

/* ---- encode ------------------------------------------------------------------------------------------------------ */

/* What of a text has been encoded: whether nothing yet, and whether the last thing was a control token. */
typedef struct place {
  bool first, after_control;
} place;

static bool wants_prefix(const otr_vocabulary *v, const char *text, size_t n_bytes, place at) {
  bool spaced = text[0] == ' ' || (n_bytes >= 3 && memcmp(text, "\xe2\x96\x81", 3) == 0);
  switch (v->prefix) {
    case OTR_PREFIX_AFTER_CONTROL:
      return at.first || at.after_control;
    case OTR_PREFIX_EACH:
      return true;
    case OTR_PREFIX_EACH_UNSPACED:
      return !spaced;
    case OTR_PREFIX_FIRST_UNSPACED:
      return at.first && !spaced;
    default:
      return false;
  }
}

static otr_status encode_normal(otr_encoder *e, const char *text, size_t n_bytes, place at) {
  if (!e->vocabulary->is_spm) return otr_encode_bpe(e, text, n_bytes);
  return otr_encode_spm(e, text, n_bytes, wants_prefix(e->vocabulary, text, n_bytes, at));
}

static otr_status encode_plain(otr_encoder *e, const char *text, size_t n_bytes, place at) {
  const otr_allocator *allocator = &e->vocabulary->allocator;
  if (n_bytes == 0) return OTR_STATUS_OK;
  if (!e->vocabulary->nfc || otr_nfc_is_plain(text, n_bytes)) return encode_normal(e, text, n_bytes, at);
  char *normal;
  size_t room, n;
  OTR_TEXT_TRY(otr_nfc(allocator, text, n_bytes, &normal, &room, &n));
  otr_status status = encode_normal(e, normal, n, at);
  otr_text_give(allocator, normal, room, 1);
  return status;
}

/* Length of a text without the white space at its end. */
static size_t end_of_words(const char *text, size_t n_bytes) {
  size_t end = 0;
  for (size_t at = 0; at < n_bytes;) {
    otr_char c = otr_char_at(text + at, n_bytes - at);
    at += c.bytes;
    if (otr_char_classify(c.code) != OTR_CHAR_SPACE) end = at;
  }
  return end;
}

/* Length of the white space at the beginning of a text. */
static size_t leading_space(const char *text, size_t n_bytes) {
  size_t at = 0;
  for (otr_char c; at < n_bytes; at += c.bytes) {
    c = otr_char_at(text + at, n_bytes - at);
    if (otr_char_classify(c.code) != OTR_CHAR_SPACE) break;
  }
  return at;
}

/* Cuts the text at the tokens that only exist as a whole and encodes what is between them. */
static otr_status encode_text(otr_encoder *e, const char *text, size_t n_bytes, bool parse_special) {
  const otr_vocabulary *v = e->vocabulary;
  const otr_trie *trie = parse_special ? &v->special : &v->user;
  place here = {.first = true};
  size_t from = 0;
  for (size_t at = 0, length; at < n_bytes; at += length) {
    int32_t id = otr_trie_match(trie, text + at, n_bytes - at, &length);
    if (id < 0) {
      length = 1;
      continue;
    }
    bool left = (v->strips[id] & OTR_STRIP_LEFT) != 0;
    OTR_TEXT_TRY(encode_plain(e, text + from, left ? end_of_words(text + from, at - from) : at - from, here));
    otr_encoder_emit(e, id);
    here = (place){.after_control = v->types[id] != OTR_TOKEN_USER};
    if ((v->strips[id] & OTR_STRIP_RIGHT) != 0) length += leading_space(text + at + length, n_bytes - at - length);
    from = at + length;
  }
  return encode_plain(e, text + from, n_bytes - from, here);
}

static otr_status encode(otr_encoder *e, const char *text, size_t n_bytes, uint32_t flags) {
  const otr_vocabulary *v = e->vocabulary;
  bool add = (flags & OTR_ENCODE_ADD_SPECIAL) != 0;
  if (add && v->add_bos) otr_encoder_emit(e, v->bos);
  OTR_TEXT_TRY(encode_text(e, text, n_bytes, (flags & OTR_ENCODE_PARSE_SPECIAL) != 0));
  if (add && v->add_eos) otr_encoder_emit(e, v->eos);
  if (e->n > INT32_MAX) return otr_text_fail(OTR_STATUS_INVALID_ARGUMENT, "the text has more than 2^31 - 1 ids");
  return OTR_STATUS_OK;
}

otr_status otr_tokenizer_encode(const otr_tokenizer *tokenizer, const char *text, size_t n_bytes, uint32_t flags,
                                int32_t *ids, int32_t capacity, int32_t *n) {
  if (n == NULL) return otr_text_fail(OTR_STATUS_INVALID_ARGUMENT, "n is NULL");
  *n = 0;
  if (tokenizer == NULL || (text == NULL && n_bytes > 0) || capacity < 0 || (ids == NULL && capacity > 0))
    return otr_text_fail(OTR_STATUS_INVALID_ARGUMENT, "a NULL or a negative capacity");
  if (n_bytes > INT32_MAX) return otr_text_fail(OTR_STATUS_INVALID_ARGUMENT, "a text of %zu bytes", n_bytes);
  if (flags > (OTR_ENCODE_ADD_SPECIAL | OTR_ENCODE_PARSE_SPECIAL))
    return otr_text_fail(OTR_STATUS_INVALID_ARGUMENT, "unknown flags %u", (unsigned)flags);
  otr_encoder e = {.vocabulary = &tokenizer->vocabulary, .ids = ids, .capacity = capacity};
  otr_merge_begin(&e.merge, &tokenizer->vocabulary.allocator);
  otr_status status = encode(&e, n_bytes > 0 ? text : "", n_bytes, flags);
  otr_merge_end(&e.merge);
  if (status != OTR_STATUS_OK) return status;
  *n = (int32_t)e.n;
  if (*n <= capacity) return OTR_STATUS_OK;
  return otr_text_fail(OTR_STATUS_BUFFER_TOO_SMALL, "the text has %d ids, the buffer holds %d", *n, capacity);
}

/* ---- decode ------------------------------------------------------------------------------------------------------ */

bool otr_tokenizer_has(const otr_tokenizer *tokenizer, int32_t id) {
  return id >= 0 && id < tokenizer->vocabulary.n;
}

static bool is_special(const otr_vocabulary *v, int32_t id) {
  return v->types[id] == OTR_TOKEN_CONTROL || v->types[id] == OTR_TOKEN_UNKNOWN;
}

const char *otr_tokenizer_decoded(const otr_tokenizer *tokenizer, int32_t id, uint32_t flags, bool first,
                                  size_t *n_bytes) {
  const otr_vocabulary *v = &tokenizer->vocabulary;
  const char *text = otr_texts_at(&v->texts, id, n_bytes);
  if (is_special(v, id)) {
    if ((flags & OTR_DECODE_SPECIAL) == 0) *n_bytes = 0;
  } else if (first && (flags & OTR_DECODE_STRIP_PREFIX) != 0 && v->prefix != OTR_PREFIX_NEVER && *n_bytes > 0 &&
             text[0] == ' ') {
    --*n_bytes;
    ++text;
  }
  return text;
}

otr_status otr_tokenizer_check_id(const otr_tokenizer *tokenizer, int32_t id) {
  if (otr_tokenizer_has(tokenizer, id)) return OTR_STATUS_OK;
  return otr_text_fail(OTR_STATUS_INVALID_ARGUMENT, "id %d is outside the vocabulary of %d", id,
                       tokenizer->vocabulary.n);
}

otr_status otr_tokenizer_decode(const otr_tokenizer *tokenizer, const int32_t *ids, int32_t n, uint32_t flags,
                                char *text, size_t capacity, size_t *n_bytes) {
  if (n_bytes == NULL) return otr_text_fail(OTR_STATUS_INVALID_ARGUMENT, "n_bytes is NULL");
  *n_bytes = 0;
  if (tokenizer == NULL || n < 0 || (ids == NULL && n > 0) || (text == NULL && capacity > 0))
    return otr_text_fail(OTR_STATUS_INVALID_ARGUMENT, "a NULL or a negative count");
  size_t needed = 0;
  bool first = true;
  for (int32_t i = 0; i < n; ++i) {
    OTR_TEXT_TRY(otr_tokenizer_check_id(tokenizer, ids[i]));
    size_t bytes;
    const char *piece = otr_tokenizer_decoded(tokenizer, ids[i], flags, first, &bytes);
    first = first && is_special(&tokenizer->vocabulary, ids[i]);
    size_t room = needed < capacity ? capacity - needed : 0;
    if (bytes > 0 && room > 0) memcpy(text + needed, piece, bytes < room ? bytes : room);
    needed += bytes;
  }
  *n_bytes = needed;
  if (needed <= capacity) return OTR_STATUS_OK;
  return otr_text_fail(OTR_STATUS_BUFFER_TOO_SMALL, "the text has %zu bytes, the buffer holds %zu", needed, capacity);
}

/* ---- single tokens ----------------------------------------------------------------------------------------------- */

otr_status otr_tokenizer_piece(const otr_tokenizer *tokenizer, int32_t id, const char **piece, size_t *n_bytes) {
  if (tokenizer == NULL || piece == NULL || n_bytes == NULL) return otr_text_fail(OTR_STATUS_INVALID_ARGUMENT, "NULL");
  *piece = NULL;
  *n_bytes = 0;
  OTR_TEXT_TRY(otr_tokenizer_check_id(tokenizer, id));
  *piece = otr_texts_at(&tokenizer->vocabulary.texts, id, n_bytes);
  return OTR_STATUS_OK;
}

int32_t otr_tokenizer_find(const otr_tokenizer *tokenizer, const char *piece, size_t n_bytes) {
  if (tokenizer == NULL || piece == NULL || n_bytes == 0) return -1;
  const otr_vocabulary *v = &tokenizer->vocabulary;
  size_t length;
  int32_t id = otr_trie_match(&v->special, piece, n_bytes, &length);
  if (id >= 0 && length == n_bytes) return id;
  id = otr_text_map_find(&v->map, piece, n_bytes);
  return id < 0 && n_bytes == 1 ? v->byte_ids[(unsigned char)piece[0]] : id;
}

int32_t otr_tokenizer_is_special(const otr_tokenizer *tokenizer, int32_t id) {
  return tokenizer != NULL && otr_tokenizer_has(tokenizer, id) && is_special(&tokenizer->vocabulary, id);
}

int32_t otr_tokenizer_is_end_of_generation(const otr_tokenizer *tokenizer, int32_t id) {
  return tokenizer != NULL && otr_tokenizer_has(tokenizer, id) && tokenizer->vocabulary.ends[id];
}
