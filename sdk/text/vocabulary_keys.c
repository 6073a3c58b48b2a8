// SPDX-License-Identifier: Apache-2.0
/* The rest of a vocabulary: special tokens, flags, this project's own keys, merges. */
#include <string.h>

#include "vocabulary.h"

/* ---- special tokens ------------------------------------------------------------------------------------------------
 */

/* Tokens that end a generation in one model or another, whatever the file's keys say of them. */
static const char *const end_names[] = {
    "<|im_end|>",    "<|eot_id|>",      "<|eom_id|>", "<|end_of_text|>", "<|endoftext|>", "<|end|>",
    "<end_of_turn>", "<|end_of_turn|>", "<EOT>",      "_<EOT>",          "<|EOT|>",       "<end_of_utterance>",
};

/* *id stays −1 when the key is missing. */
static otr_status load_id(const otr_vocabulary *v, const otr_metadata *metadata, const char *key, int32_t *id) {
  otr_metadata_value value;
  int64_t number = 0;
  *id = -1;
  if (!otr_metadata_find(metadata, key, &value)) return OTR_STATUS_OK;
  if (value.is_array || value.type == OTR_METADATA_BOOL || !otr_metadata_int(&value, 0, &number))
    return otr_text_fail(OTR_STATUS_BAD_FORMAT, "%s is not an integer", key);
  if (number < 0 || number >= v->n)
    return otr_text_fail(OTR_STATUS_BAD_FORMAT, "%s is %lld: the vocabulary has %d tokens", key, (long long)number,
                         v->n);
  *id = (int32_t)number;
  return OTR_STATUS_OK;
}

otr_status otr_vocabulary_find_flag(const otr_metadata *metadata, const char *key, bool missing, bool *flag) {
  otr_metadata_value value;
  int64_t number = 0;
  *flag = missing;
  if (!otr_metadata_find(metadata, key, &value)) return OTR_STATUS_OK;
  if (value.is_array || !otr_metadata_int(&value, 0, &number))
    return otr_text_fail(OTR_STATUS_BAD_FORMAT, "%s is not a flag", key);
  *flag = number != 0;
  return OTR_STATUS_OK;
}

static bool is_end_name(const char *text, size_t n_bytes) {
  for (size_t i = 0; i < sizeof end_names / sizeof *end_names; ++i)
    if (strlen(end_names[i]) == n_bytes && memcmp(end_names[i], text, n_bytes) == 0) return true;
  return false;
}

/* Files exist that list these tokens as normal ones: they never come from plain text. */
static void make_control(otr_vocabulary *v, int32_t id) {
  if (id >= 0 && (v->types[id] == OTR_TOKEN_NORMAL || v->types[id] == OTR_TOKEN_USER)) v->types[id] = OTR_TOKEN_CONTROL;
}

otr_status otr_vocabulary_load_special(otr_vocabulary *v, const otr_metadata *metadata) {
  int32_t eom;
  OTR_TEXT_TRY(load_id(v, metadata, "tokenizer.ggml.bos_token_id", &v->bos));
  OTR_TEXT_TRY(load_id(v, metadata, "tokenizer.ggml.eos_token_id", &v->eos));
  OTR_TEXT_TRY(load_id(v, metadata, "tokenizer.ggml.eot_token_id", &v->eot));
  OTR_TEXT_TRY(load_id(v, metadata, "tokenizer.ggml.eom_token_id", &eom));
  OTR_TEXT_TRY(load_id(v, metadata, "tokenizer.ggml.unknown_token_id", &v->unk));
  OTR_TEXT_TRY(load_id(v, metadata, "tokenizer.ggml.padding_token_id", &v->pad));
  bool wants_bos = v->is_spm || v->split == OTR_SPLIT_LLAMA3;
  bool add_prefix;
  OTR_TEXT_TRY(otr_vocabulary_find_flag(metadata, "tokenizer.ggml.add_bos_token", wants_bos, &v->add_bos));
  OTR_TEXT_TRY(otr_vocabulary_find_flag(metadata, "tokenizer.ggml.add_eos_token", false, &v->add_eos));
  OTR_TEXT_TRY(otr_vocabulary_find_flag(metadata, "tokenizer.ggml.add_space_prefix", v->is_spm, &add_prefix));
  v->add_bos = v->add_bos && v->bos >= 0;
  v->add_eos = v->add_eos && v->eos >= 0;
  v->prefix = add_prefix && v->is_spm ? OTR_PREFIX_AFTER_CONTROL : OTR_PREFIX_NEVER;
  for (int32_t id = 0; id < v->n; ++id) {
    size_t n_bytes;
    const char *text = otr_texts_at(&v->texts, id, &n_bytes);
    v->ends[id] = id == v->eos || id == v->eot || id == eom || is_end_name(text, n_bytes);
    if (v->ends[id]) make_control(v, id);
  }
  make_control(v, v->bos);
  return OTR_STATUS_OK;
}

/* ---- own keys ------------------------------------------------------------------------------------------------------
 */

static otr_status load_prefix(otr_vocabulary *v, const otr_metadata *metadata) {
  static const char key[] = "tokenizer.outrider.space_prefix";
  static const struct {
    const char *name;
    otr_space_prefix prefix;
  } names[] = {{"each", OTR_PREFIX_EACH},
               {"each-unspaced", OTR_PREFIX_EACH_UNSPACED},
               {"first-unspaced", OTR_PREFIX_FIRST_UNSPACED}};
  const char *text;
  size_t n_bytes;
  OTR_TEXT_TRY(otr_vocabulary_find_string(metadata, key, &text, &n_bytes));
  if (n_bytes == 0 || v->prefix == OTR_PREFIX_NEVER) return OTR_STATUS_OK;
  for (size_t i = 0; i < sizeof names / sizeof *names; ++i) {
    if (strlen(names[i].name) != n_bytes || memcmp(names[i].name, text, n_bytes) != 0) continue;
    v->prefix = names[i].prefix;
    return OTR_STATUS_OK;
  }
  return otr_text_fail(OTR_STATUS_UNSUPPORTED, "%s \"%.*s\" is not known", key, (int)(n_bytes < 32 ? n_bytes : 32),
                       text);
}

/* Sets `bit` in marks[id] for each id of an array; a missing one is empty. */
static otr_status mark_ids(const otr_vocabulary *v, const otr_metadata *metadata, const char *key, uint8_t *marks,
                           uint8_t bit) {
  otr_metadata_value ids;
  if (!otr_metadata_find(metadata, key, &ids)) return OTR_STATUS_OK;
  if (!ids.is_array) return otr_text_fail(OTR_STATUS_BAD_FORMAT, "%s is not an array", key);
  for (uint64_t i = 0; i < ids.count; ++i) {
    int64_t id = -1;
    if (!otr_metadata_int(&ids, i, &id) || id < 0 || id >= v->n)
      return otr_text_fail(OTR_STATUS_BAD_FORMAT, "%s holds an id outside the vocabulary of %d", key, v->n);
    marks[id] |= bit;
  }
  return OTR_STATUS_OK;
}

otr_status otr_vocabulary_load_own(otr_vocabulary *v, const otr_metadata *metadata) {
  OTR_TEXT_TRY(load_prefix(v, metadata));
  OTR_TEXT_TRY(otr_vocabulary_find_flag(metadata, "tokenizer.outrider.split_spaces", false, &v->cut_at_each));
  OTR_TEXT_TRY(otr_vocabulary_find_flag(metadata, "tokenizer.outrider.fuse_unknown", false, &v->fuse_unknown));
  OTR_TEXT_TRY(otr_vocabulary_find_flag(metadata, "tokenizer.outrider.nfc", false, &v->nfc));
  OTR_TEXT_TRY(
      otr_vocabulary_find_flag(metadata, "tokenizer.outrider.ignore_merges", v->whole_pieces, &v->whole_pieces));
  OTR_TEXT_TRY(mark_ids(v, metadata, "tokenizer.outrider.strip_left", v->strips, OTR_STRIP_LEFT));
  OTR_TEXT_TRY(mark_ids(v, metadata, "tokenizer.outrider.strip_right", v->strips, OTR_STRIP_RIGHT));
  OTR_TEXT_TRY(mark_ids(v, metadata, "tokenizer.outrider.end_token_ids", v->ends, 1));
  for (int32_t id = 0; id < v->n; ++id)
    if (v->ends[id] != 0) make_control(v, id);
  return OTR_STATUS_OK;
}

/* ---- merges --------------------------------------------------------------------------------------------------------
 */

/* A token of any type with these bytes, −1 for none; *plain becomes false when plain text cannot become it. */
static int32_t find_any(const otr_vocabulary *v, const char *text, size_t n_bytes, bool *plain) {
  int32_t id = otr_text_map_find(&v->map, text, n_bytes);
  if (id >= 0) return id;
  size_t length;
  *plain = false;
  id = otr_trie_match(&v->special, text, n_bytes, &length);
  return length == n_bytes ? id : -1;
}

/* "left right", in the byte-level alphabet or with SentencePiece's spaces. `bytes` has room for the line. A merge that
 * makes or takes a control token is left out: plain text never becomes one. */
static otr_status load_merge(otr_vocabulary *v, size_t rank, const char *line, size_t n_bytes, char *bytes) {
  const char *space = n_bytes > 1 ? memchr(line + 1, ' ', n_bytes - 1) : NULL;
  size_t left_bytes = space != NULL ? (size_t)(space - line) : 0;
  if (space == NULL || left_bytes + 1 == n_bytes)
    return otr_text_fail(OTR_STATUS_BAD_FORMAT, "merge %zu, \"%.*s\", is not two texts", rank,
                         (int)(n_bytes < 64 ? n_bytes : 64), line);
  size_t (*plain_text)(char *, const char *, size_t) = v->is_spm ? otr_spaces_of_spm : otr_bytes_of_letters;
  size_t left = plain_text(bytes, line, left_bytes);
  size_t both = left + plain_text(bytes + left, space + 1, n_bytes - left_bytes - 1);
  bool plain = true;
  int32_t a = find_any(v, bytes, left, &plain), b = find_any(v, bytes + left, both - left, &plain);
  int32_t joined = find_any(v, bytes, both, &plain);
  if (a < 0 || b < 0 || joined < 0)
    return otr_text_fail(OTR_STATUS_BAD_FORMAT,
                         "merge %zu, \"%.*s\": a part of it or its result is not in the vocabulary", rank,
                         (int)(n_bytes < 64 ? n_bytes : 64), line);
  v->merged[rank] = joined;
  if (plain) otr_pair_map_add(&v->merges, otr_pair((uint32_t)a, (uint32_t)b), (uint32_t)rank);
  return OTR_STATUS_OK;
}

static size_t longest_string(const otr_metadata_value *value) {
  size_t cursor = 0, longest = 0, n_bytes;
  const char *text;
  while (otr_metadata_next_string(value, &cursor, &text, &n_bytes))
    if (n_bytes > longest) longest = n_bytes;
  return longest;
}

otr_status otr_vocabulary_load_merges(otr_vocabulary *v, const otr_metadata *metadata) {
  static const char key[] = "tokenizer.ggml.merges";
  otr_metadata_value merges;
  if (!otr_metadata_find(metadata, key, &merges)) return otr_text_fail(OTR_STATUS_BAD_FORMAT, "%s is missing", key);
  if (!merges.is_array || merges.type != OTR_METADATA_STRING)
    return otr_text_fail(OTR_STATUS_BAD_FORMAT, "%s is of the wrong type", key);
  if (merges.count >= INT32_MAX)
    return otr_text_fail(OTR_STATUS_BAD_FORMAT, "%llu merges", (unsigned long long)merges.count);
  v->n_merges = (size_t)merges.count;
  v->merged = otr_text_take(&v->allocator, v->n_merges, sizeof *v->merged);
  if (v->merged == NULL) return OTR_STATUS_NO_MEMORY;
  OTR_TEXT_TRY(otr_pair_map_create(&v->merges, &v->allocator, v->n_merges));
  size_t room = longest_string(&merges), cursor = 0, n_bytes;
  char *bytes = otr_text_take(&v->allocator, room, 1);
  if (bytes == NULL) return OTR_STATUS_NO_MEMORY;
  otr_status status = OTR_STATUS_OK;
  const char *line;
  for (size_t rank = 0; rank < v->n_merges && status == OTR_STATUS_OK; ++rank) {
    status = otr_metadata_next_string(&merges, &cursor, &line, &n_bytes)
                 ? load_merge(v, rank, line, n_bytes, bytes)
                 : otr_text_fail(OTR_STATUS_BAD_FORMAT, "%s ends at merge %zu", key, rank);
  }
  otr_text_give(&v->allocator, bytes, room, 1);
  return status;
}
