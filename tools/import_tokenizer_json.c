// SPDX-License-Identifier: Apache-2.0
/* tokenizer.json, and its older form in two files: the vocabulary and the merges. */
#include <string.h>

#include "import_tokenizer_parts.h"
#include "status.h"

/* ---- vocabulary -------------------------------------------------------------------------------------------------- */

/* "<0x41>": a byte that a character without a token falls back to. */
static bool is_byte_text(const char *text) {
  static const char hex[] = "0123456789ABCDEFabcdef";
  return strlen(text) == 6 && memcmp(text, "<0x", 3) == 0 && strchr(hex, text[3]) != NULL &&
         strchr(hex, text[4]) != NULL && text[5] == '>';
}

static otr_status read_vocabulary(tokenizer_draft *draft, const json_t *vocab, bool byte_fallback) {
  const char *text;
  json_t *id;
  if (!json_is_object(vocab) || json_object_size(vocab) == 0)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "the vocabulary is no object of ids");
  json_object_foreach((json_t *)(uintptr_t)vocab, text, id) {
    if (!json_is_integer(id)) return otr_fail(OTR_STATUS_BAD_FORMAT, "the id of token \"%.32s\" is no integer", text);
    uint8_t type = byte_fallback && is_byte_text(text) ? DRAFT_BYTE : DRAFT_NORMAL;
    OTR_TRY(draft_set(draft, json_integer_value(id), text, strlen(text), type));
  }
  return OTR_STATUS_OK;
}

otr_status parts_vocabulary(tokenizer_draft *draft, const json_t *root) {
  return read_vocabulary(draft, root, false);
}

otr_status parts_added(tokenizer_draft *draft, int64_t id, const json_t *token) {
  size_t n_bytes;
  const char *text = parts_text(token, "content", &n_bytes);
  if (text == NULL || n_bytes == 0)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "added token %lld has no content", (long long)id);
  if (parts_flag(token, "single_word", false))
    return otr_fail(OTR_STATUS_UNSUPPORTED, "added token \"%.32s\" is for single words", text);
  OTR_TRY(draft_add(draft, id, text, n_bytes, parts_flag(token, "special", false)));
  draft_token *added = draft_at(draft, id);
  if (added == NULL) return OTR_STATUS_OK;
  added->strip_left = parts_flag(token, "lstrip", false);
  added->strip_right = parts_flag(token, "rstrip", false);
  return OTR_STATUS_OK;
}

static otr_status read_added(tokenizer_draft *draft, const json_t *list) {
  for (size_t i = 0; i < json_array_size(list); ++i) {
    const json_t *token = json_array_get(list, i), *id = json_object_get(token, "id");
    if (!json_is_integer(id)) return otr_fail(OTR_STATUS_BAD_FORMAT, "added token %zu has no id", i);
    OTR_TRY(parts_added(draft, json_integer_value(id), token));
  }
  return OTR_STATUS_OK;
}

/* ---- merges ------------------------------------------------------------------------------------------------------ */

/* A merge written as one text. */
static otr_status read_line(tokenizer_draft *draft, const json_t *vocab, const char *line, size_t n_bytes) {
  const char *space = memchr(line, ' ', n_bytes);
  if (space == NULL)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "merge %zu, \"%.*s\", is not two texts", draft->n_merges,
                    (int)(n_bytes < 64 ? n_bytes : 64), line);
  size_t left = (size_t)(space - line);
  return draft_merge(draft, vocab, line, left, space + 1, n_bytes - left - 1);
}

static otr_status read_merge(tokenizer_draft *draft, const json_t *vocab, const json_t *merge) {
  if (json_is_string(merge)) return read_line(draft, vocab, json_string_value(merge), json_string_length(merge));
  const json_t *left = json_array_get(merge, 0), *right = json_array_get(merge, 1);
  if (json_array_size(merge) != 2 || !json_is_string(left) || !json_is_string(right))
    return otr_fail(OTR_STATUS_BAD_FORMAT, "merge %zu is not two texts", draft->n_merges);
  return draft_merge(draft, vocab, json_string_value(left), json_string_length(left), json_string_value(right),
                     json_string_length(right));
}

static otr_status read_merges(tokenizer_draft *draft, const json_t *vocab, const json_t *merges) {
  if (!json_is_array(merges)) return otr_fail(OTR_STATUS_BAD_FORMAT, "the merges are no array");
  for (size_t i = 0; i < json_array_size(merges); ++i) OTR_TRY(read_merge(draft, vocab, json_array_get(merges, i)));
  return OTR_STATUS_OK;
}

otr_status parts_merges_text(tokenizer_draft *draft, const json_t *vocab, const char *text, size_t n_bytes) {
  static const char version[] = "#version";
  const char *end = text + n_bytes;
  for (const char *line = text, *next; line < end; line = next) {
    const char *line_break = memchr(line, '\n', (size_t)(end - line));
    const char *stop = line_break != NULL ? line_break : end;
    next = line_break != NULL ? line_break + 1 : end;
    if (stop > line && stop[-1] == '\r') --stop;
    size_t n = (size_t)(stop - line);
    if (n == 0 || (n >= sizeof version - 1 && memcmp(line, version, sizeof version - 1) == 0)) continue;
    OTR_TRY(read_line(draft, vocab, line, n));
  }
  return OTR_STATUS_OK;
}

/* ---- tokenizer.json ---------------------------------------------------------------------------------------------- */

/* What of a model is not the usual: a setting that would change its ids is refused. */
static otr_status check_model(const json_t *model) {
  static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
  const char *type = parts_text(model, "type", NULL);
  if (!json_is_object(model)) return otr_fail(OTR_STATUS_BAD_FORMAT, "there is no model");
  if (type != NULL && strcmp(type, "BPE") != 0)
    return otr_fail(OTR_STATUS_UNSUPPORTED, "tokenizer model \"%.64s\" is not known: only BPE is", type);
  for (int i = 0; i < 2; ++i) {
    const char *affix = parts_text(model, affixes[i], NULL);
    if (affix != NULL && affix[0] != '\0')
      return otr_fail(OTR_STATUS_UNSUPPORTED, "%s \"%.32s\" is not supported", affixes[i], affix);
  }
  if (json_number_value(json_object_get(model, "dropout")) != 0.0)
    return otr_fail(OTR_STATUS_UNSUPPORTED, "a model with dropout gives other ids each time");
  return OTR_STATUS_OK;
}

/* The unknown token has a type of its own; in a byte-level vocabulary it is an ordinary control token. */
static otr_status read_unknown(tokenizer_draft *draft, const json_t *model) {
  size_t n_bytes;
  const char *text = parts_text(model, "unk_token", &n_bytes);
  if (text == NULL) return OTR_STATUS_OK;
  draft->unk = draft_find(draft, text, n_bytes);
  if (draft->unk < 0) return otr_fail(OTR_STATUS_BAD_FORMAT, "unknown token \"%.32s\" is no token", text);
  if (draft->is_spm) draft->tokens[draft->unk].type = DRAFT_UNKNOWN;
  return OTR_STATUS_OK;
}

otr_status parts_tokenizer_json(tokenizer_draft *draft, const json_t *root) {
  const json_t *model = json_object_get(root, "model"), *vocab = json_object_get(model, "vocab");
  OTR_TRY(check_model(model));
  OTR_TRY(parts_rules(draft, json_object_get(root, "normalizer"), json_object_get(root, "pre_tokenizer")));
  draft->ignore_merges = parts_flag(model, "ignore_merges", false);
  if (draft->is_spm && draft->ignore_merges)
    return otr_fail(OTR_STATUS_UNSUPPORTED, "ignore_merges is supported for byte-level vocabularies only");
  draft->fuse_unknown = draft->is_spm && parts_flag(model, "fuse_unk", false);
  OTR_TRY(read_vocabulary(draft, vocab, draft->is_spm && parts_flag(model, "byte_fallback", false)));
  OTR_TRY(read_added(draft, json_object_get(root, "added_tokens")));
  OTR_TRY(read_unknown(draft, model));
  OTR_TRY(read_merges(draft, vocab, json_object_get(model, "merges")));
  return parts_template(draft, json_object_get(root, "post_processor"));
}

otr_status parts_tokenizer_text(tokenizer_draft *draft, const char *text, size_t n_bytes) {
  json_t *root;
  OTR_TRY(parts_parse(text, n_bytes, &root));
  OTR_TRY(draft_keep(draft, root, NULL));
  return parts_tokenizer_json(draft, root);
}
