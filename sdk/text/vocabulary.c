// SPDX-License-Identifier: Apache-2.0
#include "vocabulary.h"

#include <math.h>
#include <string.h>

#include "unicode.h"

/* 2^24 ids are sixty times the largest vocabulary there is; 4 GiB of text fit the offsets. */
#define MOST_TOKENS (1 << 24)

/* ---- keys -------------------------------------------------------------------------------------------------------- */

static bool equals(const char *text, size_t n_bytes, const char *other) {
  return strlen(other) == n_bytes && memcmp(text, other, n_bytes) == 0;
}

/* An array of `type`, or one of integers for OTR_METADATA_I32. Missing: OK and count 0 unless it is `required`. */
static otr_status find_array(const otr_metadata *metadata, const char *key, otr_metadata_type type, bool required,
                             otr_metadata_value *value) {
  if (!otr_metadata_find(metadata, key, value)) {
    value->count = 0;
    return required ? otr_text_fail(OTR_STATUS_BAD_FORMAT, "%s is missing", key) : OTR_STATUS_OK;
  }
  bool integers = value->type != OTR_METADATA_STRING && value->type != OTR_METADATA_ARRAY &&
                  value->type != OTR_METADATA_F32 && value->type != OTR_METADATA_F64;
  bool fits = value->is_array && (type == OTR_METADATA_I32 ? integers : value->type == type);
  if (!fits) return otr_text_fail(OTR_STATUS_BAD_FORMAT, "%s is of the wrong type", key);
  return OTR_STATUS_OK;
}

otr_status otr_vocabulary_find_string(const otr_metadata *metadata, const char *key, const char **text,
                                      size_t *n_bytes) {
  otr_metadata_value value;
  size_t cursor = 0;
  *text = "";
  *n_bytes = 0;
  if (!otr_metadata_find(metadata, key, &value)) return OTR_STATUS_OK;
  if (value.is_array || !otr_metadata_next_string(&value, &cursor, text, n_bytes))
    return otr_text_fail(OTR_STATUS_BAD_FORMAT, "%s is not a string", key);
  return OTR_STATUS_OK;
}

/* ---- model and pre-tokenizer --------------------------------------------------------------------------------------
 */

static const struct pre_tokenizer {
  const char *name, *shown;
  otr_split_kind kind;
} pre_tokenizers[] = {
    {"default", "default", OTR_SPLIT_DEFAULT},
    {"gpt-2", "gpt-2", OTR_SPLIT_GPT2},
    {"llama-bpe", "llama-bpe", OTR_SPLIT_LLAMA3},
    {"llama3", "llama-bpe", OTR_SPLIT_LLAMA3},
    {"llama-v3", "llama-bpe", OTR_SPLIT_LLAMA3},
    {"qwen2", "qwen2", OTR_SPLIT_QWEN2},
    {"refact", "refact", OTR_SPLIT_DIGITS},
    {"smollm", "smollm", OTR_SPLIT_DIGITS},
    {"starcoder", "starcoder", OTR_SPLIT_DIGITS},
    {"bloom", "bloom", OTR_SPLIT_BLOOM},
    {"falcon", "falcon", OTR_SPLIT_FALCON},
    {"mpt", "mpt", OTR_SPLIT_GPT2},
    {"olmo", "olmo", OTR_SPLIT_GPT2},
    {"stablelm2", "stablelm2", OTR_SPLIT_QWEN2},
};

static otr_status load_pre(otr_vocabulary *v, const otr_metadata *metadata) {
  const char *text;
  size_t n_bytes;
  OTR_TEXT_TRY(otr_vocabulary_find_string(metadata, "tokenizer.ggml.pre", &text, &n_bytes));
  if (n_bytes == 0) text = "default", n_bytes = 7;
  for (size_t i = 0; i < sizeof pre_tokenizers / sizeof *pre_tokenizers; ++i) {
    if (!equals(text, n_bytes, pre_tokenizers[i].name)) continue;
    v->pre = pre_tokenizers[i].shown;
    v->split = pre_tokenizers[i].kind;
    v->whole_pieces = v->split == OTR_SPLIT_LLAMA3;
    return OTR_STATUS_OK;
  }
  return otr_text_fail(OTR_STATUS_UNSUPPORTED, "pre-tokenizer \"%.*s\" (tokenizer.ggml.pre) is not known",
                       (int)(n_bytes < 64 ? n_bytes : 64), text);
}

static otr_status load_model(otr_vocabulary *v, const otr_metadata *metadata) {
  const char *text;
  size_t n_bytes;
  OTR_TEXT_TRY(otr_vocabulary_find_string(metadata, "tokenizer.ggml.model", &text, &n_bytes));
  if (n_bytes == 0) return otr_text_fail(OTR_STATUS_BAD_FORMAT, "tokenizer.ggml.model is missing");
  v->is_spm = equals(text, n_bytes, "llama");
  v->pre = "";
  if (v->is_spm) return OTR_STATUS_OK;
  if (equals(text, n_bytes, "gpt2")) return load_pre(v, metadata);
  return otr_text_fail(OTR_STATUS_UNSUPPORTED, "tokenizer model \"%.*s\" (tokenizer.ggml.model) is not known",
                       (int)(n_bytes < 64 ? n_bytes : 64), text);
}

/* ---- texts of the tokens -------------------------------------------------------------------------------------------
 */

/* Code point of the byte-level alphabet → byte, −1 for any other. Printable bytes stand for themselves; the 68 others
 * (0 … 32, 127 … 160, 173) are 256 and on, in order. */
static int32_t byte_of_letter(int32_t code) {
  if ((code >= 33 && code <= 126) || (code >= 161 && code <= 255 && code != 173)) return code;
  if (code >= 256 && code <= 288) return code - 256;
  if (code >= 289 && code <= 322) return code - 289 + 127;
  return code == 323 ? 173 : -1;
}

size_t otr_bytes_of_letters(char *out, const char *text, size_t n_bytes) {
  size_t n = 0;
  while (n_bytes > 0) {
    otr_char c = otr_char_at(text, n_bytes);
    int32_t byte = byte_of_letter(c.code);
    if (byte >= 0) {
      out[n++] = (char)(unsigned char)byte;
    } else {
      memmove(out + n, text, c.bytes);
      n += c.bytes;
    }
    text += c.bytes;
    n_bytes -= c.bytes;
  }
  return n;
}

size_t otr_spaces_of_spm(char *out, const char *text, size_t n_bytes) {
  size_t n = 0;
  for (size_t i = 0; i < n_bytes; ++i) {
    bool space = n_bytes - i >= 3 && memcmp(text + i, "\xe2\x96\x81", 3) == 0;
    out[n++] = space ? ' ' : text[i];
    if (space) i += 2;
  }
  return n;
}

static int32_t hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte that a token "<0x41>" stands for, −1 for any other text. */
static int32_t byte_of_token(const char *text, size_t n_bytes) {
  if (n_bytes != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>') return -1;
  int32_t high = hex_digit(text[3]), low = hex_digit(text[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* Writes what token `id` stands for behind the texts before it. */
static otr_status load_text(otr_vocabulary *v, int32_t id, const char *text, size_t n_bytes) {
  char *out = v->texts.bytes + v->texts.start[id];
  uint8_t type = v->types[id];
  int32_t byte = v->is_spm ? byte_of_token(text, n_bytes) : -1;
  size_t n = n_bytes;
  if (type == OTR_TOKEN_BYTE || (type == 0 && byte >= 0)) {
    if (byte < 0)
      return otr_text_fail(OTR_STATUS_BAD_FORMAT,
                           "token %d is of type byte, but its text \"%.*s\" is not <0x00> … <0xFF>", id,
                           (int)(n_bytes < 32 ? n_bytes : 32), text);
    v->types[id] = OTR_TOKEN_BYTE;
    out[0] = (char)(unsigned char)byte;
    n = 1;
  } else if (type == OTR_TOKEN_CONTROL || type == OTR_TOKEN_UNKNOWN || (!v->is_spm && type == OTR_TOKEN_USER)) {
    if (n_bytes > 0) memcpy(out, text, n_bytes);
  } else {
    n = v->is_spm ? otr_spaces_of_spm(out, text, n_bytes) : otr_bytes_of_letters(out, text, n_bytes);
    if (type == 0) v->types[id] = OTR_TOKEN_NORMAL;
  }
  v->texts.start[id + 1] = v->texts.start[id] + (uint32_t)n;
  if (n > v->longest) v->longest = n;
  return OTR_STATUS_OK;
}

static otr_status load_types(otr_vocabulary *v, const otr_metadata *metadata) {
  otr_metadata_value types;
  OTR_TEXT_TRY(find_array(metadata, "tokenizer.ggml.token_type", OTR_METADATA_I32, false, &types));
  if (types.count == 0) return OTR_STATUS_OK;
  if (types.count != (uint64_t)v->n)
    return otr_text_fail(OTR_STATUS_BAD_FORMAT, "%llu token types for %d tokens", (unsigned long long)types.count,
                         v->n);
  for (int32_t id = 0; id < v->n; ++id) {
    int64_t type = -1;
    if (!otr_metadata_int(&types, (uint64_t)id, &type) || type < 0 || type > OTR_TOKEN_BYTE)
      return otr_text_fail(OTR_STATUS_BAD_FORMAT, "token %d is of type %lld", id, (long long)type);
    v->types[id] = (uint8_t)type;
  }
  return OTR_STATUS_OK;
}

static otr_status load_texts(otr_vocabulary *v, const otr_metadata *metadata) {
  otr_metadata_value tokens;
  OTR_TEXT_TRY(find_array(metadata, "tokenizer.ggml.tokens", OTR_METADATA_STRING, true, &tokens));
  if (tokens.count == 0 || tokens.count > MOST_TOKENS || tokens.bytes > UINT32_MAX)
    return otr_text_fail(OTR_STATUS_BAD_FORMAT, "a vocabulary of %llu tokens", (unsigned long long)tokens.count);
  v->n = (int32_t)tokens.count;
  size_t n = (size_t)v->n;
  v->texts_bytes = tokens.bytes; /* no text grows: this is enough */
  v->texts.bytes = otr_text_take(&v->allocator, v->texts_bytes, 1);
  v->texts.start = otr_text_take(&v->allocator, n + 1, sizeof *v->texts.start);
  v->types = otr_text_take(&v->allocator, n, 1);
  v->ends = otr_text_take(&v->allocator, n, 1);
  v->strips = otr_text_take(&v->allocator, n, 1);
  if (v->texts.bytes == NULL || v->texts.start == NULL || v->types == NULL || v->ends == NULL || v->strips == NULL)
    return OTR_STATUS_NO_MEMORY;
  OTR_TEXT_TRY(load_types(v, metadata));
  size_t cursor = 0, n_bytes;
  const char *text;
  for (int32_t id = 0; id < v->n; ++id) {
    if (!otr_metadata_next_string(&tokens, &cursor, &text, &n_bytes))
      return otr_text_fail(OTR_STATUS_BAD_FORMAT, "tokenizer.ggml.tokens ends at token %d", id);
    OTR_TEXT_TRY(load_text(v, id, text, n_bytes));
  }
  return OTR_STATUS_OK;
}

/* ---- scores, maps --------------------------------------------------------------------------------------------------
 */

static otr_status load_scores(otr_vocabulary *v, const otr_metadata *metadata) {
  otr_metadata_value scores, merges;
  bool by_merges = otr_metadata_find(metadata, "tokenizer.ggml.merges", &merges) && merges.count > 0;
  OTR_TEXT_TRY(find_array(metadata, "tokenizer.ggml.scores", OTR_METADATA_F32, !by_merges, &scores));
  if (by_merges && scores.count == 0) return otr_vocabulary_load_merges(v, metadata);
  if (scores.count != (uint64_t)v->n)
    return otr_text_fail(OTR_STATUS_BAD_FORMAT, "%llu scores for %d tokens", (unsigned long long)scores.count, v->n);
  v->keys = otr_text_take(&v->allocator, (size_t)v->n, sizeof *v->keys);
  if (v->keys == NULL) return OTR_STATUS_NO_MEMORY;
  for (int32_t id = 0; id < v->n; ++id) {
    double score = 0.0;
    if (!otr_metadata_number(&scores, (uint64_t)id, &score) || isnan(score))
      return otr_text_fail(OTR_STATUS_BAD_FORMAT, "the score of token %d is not a number", id);
    v->keys[id] = otr_descending_key((float)score);
  }
  return OTR_STATUS_OK;
}

/* Whether plain text can become this token by merging. */
static bool is_plain(const otr_vocabulary *v, int32_t id) {
  uint8_t type = v->types[id];
  return type == OTR_TOKEN_NORMAL || type == OTR_TOKEN_UNUSED || (v->is_spm && type == OTR_TOKEN_USER);
}

static bool has_inner_space(const char *text, size_t n_bytes) {
  for (size_t i = 1; i < n_bytes; ++i)
    if (text[i] == ' ' && text[i - 1] != ' ') return true;
  return false;
}

static void add_byte(otr_vocabulary *v, int32_t id, const char *text, size_t n_bytes) {
  if (n_bytes != 1 || (v->is_spm ? v->types[id] != OTR_TOKEN_BYTE : !is_plain(v, id))) return;
  int32_t *slot = &v->byte_ids[(unsigned char)text[0]];
  if (*slot < 0) *slot = id;
}

static otr_status load_maps(otr_vocabulary *v) {
  size_t user_bytes = 0, special_bytes = 0, n_bytes;
  for (int32_t id = 0; id < v->n; ++id) {
    otr_texts_at(&v->texts, id, &n_bytes);
    if (v->types[id] == OTR_TOKEN_USER) user_bytes += n_bytes;
    if (v->types[id] == OTR_TOKEN_CONTROL || v->types[id] == OTR_TOKEN_UNKNOWN) special_bytes += n_bytes;
  }
  OTR_TEXT_TRY(otr_text_map_create(&v->map, &v->allocator, &v->texts, (size_t)v->n));
  OTR_TEXT_TRY(otr_trie_create(&v->user, &v->allocator, user_bytes));
  OTR_TEXT_TRY(otr_trie_create(&v->special, &v->allocator, user_bytes + special_bytes));
  v->cut_at_spaces = v->is_spm;
  for (int32_t i = 0; i < 256; ++i) v->byte_ids[i] = -1;
  for (int32_t id = 0; id < v->n; ++id) {
    const char *text = otr_texts_at(&v->texts, id, &n_bytes);
    uint8_t type = v->types[id];
    if (type == OTR_TOKEN_USER) otr_trie_add(&v->user, text, n_bytes, id);
    if (type == OTR_TOKEN_USER || type == OTR_TOKEN_CONTROL || type == OTR_TOKEN_UNKNOWN)
      otr_trie_add(&v->special, text, n_bytes, id);
    add_byte(v, id, text, n_bytes);
    if (n_bytes == 0 || !is_plain(v, id)) continue;
    otr_text_map_add(&v->map, id);
    if (has_inner_space(text, n_bytes)) v->cut_at_spaces = false;
  }
  return OTR_STATUS_OK;
}

otr_status otr_vocabulary_load(otr_vocabulary *v, const otr_metadata *metadata) {
  OTR_TEXT_TRY(load_model(v, metadata));
  OTR_TEXT_TRY(load_texts(v, metadata));
  OTR_TEXT_TRY(otr_vocabulary_load_special(v, metadata));
  OTR_TEXT_TRY(otr_vocabulary_load_own(v, metadata));
  OTR_TEXT_TRY(load_maps(v));
  return v->is_spm ? load_scores(v, metadata) : otr_vocabulary_load_merges(v, metadata);
}

void otr_vocabulary_destroy(otr_vocabulary *v) {
  size_t n = (size_t)v->n;
  otr_text_give(&v->allocator, v->texts.bytes, v->texts_bytes, 1);
  otr_text_give(&v->allocator, v->texts.start, n + 1, sizeof *v->texts.start);
  otr_text_give(&v->allocator, v->types, n, 1);
  otr_text_give(&v->allocator, v->ends, n, 1);
  otr_text_give(&v->allocator, v->strips, n, 1);
  otr_text_give(&v->allocator, v->keys, n, sizeof *v->keys);
  otr_text_give(&v->allocator, v->merged, v->n_merges, sizeof *v->merged);
  otr_text_map_destroy(&v->map, &v->allocator);
  otr_pair_map_destroy(&v->merges, &v->allocator);
  otr_trie_destroy(&v->special, &v->allocator);
  otr_trie_destroy(&v->user, &v->allocator);
}
