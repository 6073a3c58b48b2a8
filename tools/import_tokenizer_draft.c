// SPDX-License-Identifier: Apache-2.0
#include "import_tokenizer_draft.h"

#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "status.h"

/* As many as the text library takes. */
#define MOST_TOKENS (1 << 24)

void draft_begin(tokenizer_draft *draft, int32_t vocab) {
  *draft = (tokenizer_draft){.vocab = vocab > 0 ? vocab : 0, .bos = -1, .eos = -1, .unk = -1, .pad = -1};
}

void draft_end(tokenizer_draft *draft) {
  for (int32_t i = 0; i < draft->n_roots; ++i) json_decref(draft->roots[i]);
  for (int32_t i = 0; i < draft->n_buffers; ++i) free(draft->buffers[i]);
  free(draft->tokens);
  free(draft->merges);
  free(draft->scratch);
  draft_begin(draft, 0);
}

otr_status draft_keep(tokenizer_draft *draft, json_t *root, char *buffer) {
  if (draft->n_roots == DRAFT_MOST_KEPT || draft->n_buffers == DRAFT_MOST_KEPT) {
    json_decref(root);
    free(buffer);
    return otr_fail(OTR_STATUS_INTERNAL, "more than %d files of a tokenizer", DRAFT_MOST_KEPT);
  }
  if (root != NULL) draft->roots[draft->n_roots++] = root;
  if (buffer != NULL) draft->buffers[draft->n_buffers++] = buffer;
  return OTR_STATUS_OK;
}

/* Room for `needed` elements of `size` bytes: doubles. */
static otr_status grow(void **array, size_t *room, size_t needed, size_t size) {
  if (needed <= *room) return OTR_STATUS_OK;
  size_t larger = needed > 2 * *room ? needed : 2 * *room;
  void *grown = realloc(*array, larger * size);
  if (grown == NULL) return otr_fail(OTR_STATUS_NO_MEMORY, "%zu x %zu bytes", larger, size);
  *array = grown;
  *room = larger;
  return OTR_STATUS_OK;
}

/* ---- tokens ------------------------------------------------------------------------------------------------------ */

/* Room for id, which becomes the last one unless it is within the tokens; those between are holes. */
static otr_status reach(tokenizer_draft *draft, int64_t id) {
  size_t needed = (size_t)id + 1;
  void *tokens = draft->tokens;
  if (needed <= draft->n) return OTR_STATUS_OK;
  otr_status status = grow(&tokens, &draft->tokens_room, needed, sizeof *draft->tokens);
  draft->tokens = tokens;
  OTR_TRY(status);
  memset(draft->tokens + draft->n, 0, (needed - draft->n) * sizeof *draft->tokens);
  draft->n = needed;
  return OTR_STATUS_OK;
}

otr_status draft_set(tokenizer_draft *draft, int64_t id, const char *text, size_t n_bytes, uint8_t type) {
  int shown = (int)(n_bytes < 32 ? n_bytes : 32);
  int64_t end = draft->vocab > 0 ? draft->vocab : MOST_TOKENS;
  if (id < 0 || id >= end)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "token \"%.*s\" has id %lld, outside of the model's %lld", shown, text,
                    (long long)id, (long long)end);
  const draft_token *there = draft_at(draft, id);
  if (there != NULL)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "tokens \"%.*s\" and \"%.*s\" have the same id %lld",
                    (int)(there->n_bytes < 32 ? there->n_bytes : 32), there->text, shown, text, (long long)id);
  OTR_TRY(reach(draft, id));
  draft->tokens[id] = (draft_token){.text = text, .n_bytes = n_bytes, .type = type};
  return OTR_STATUS_OK;
}

draft_token *draft_at(const tokenizer_draft *draft, int64_t id) {
  if (id < 0 || (uint64_t)id >= draft->n || draft->tokens[id].type == DRAFT_HOLE) return NULL;
  return &draft->tokens[id];
}

int32_t draft_find(const tokenizer_draft *draft, const char *text, size_t n_bytes) {
  for (size_t i = 0; i < draft->n; ++i) {
    const draft_token *token = &draft->tokens[i];
    if (token->type != DRAFT_HOLE && token->n_bytes == n_bytes && memcmp(token->text, text, n_bytes) == 0)
      return (int32_t)i;
  }
  return -1;
}

otr_status draft_add(tokenizer_draft *draft, int64_t id, const char *text, size_t n_bytes, bool special) {
  draft_token *there = draft_at(draft, id);
  int shown = (int)(n_bytes < 32 ? n_bytes : 32);
  if (draft->vocab > 0 && id >= draft->vocab) {
    fprintf(stderr, "outrider: warning: added token \"%.*s\" of id %lld is left out: the model has %d ids\n", shown,
            text, (long long)id, draft->vocab);
    return OTR_STATUS_OK;
  }
  if (there == NULL || there->n_bytes != n_bytes || memcmp(there->text, text, n_bytes) != 0) {
    OTR_TRY(draft_set(draft, id, text, n_bytes, DRAFT_USER));
    there = &draft->tokens[id];
  }
  /* What holds SentencePiece's space is made by merging: as a whole it would be looked for with that very letter. */
  bool spaces = draft->is_spm && there->type == DRAFT_NORMAL && n_bytes >= 3 && memcmp(text, "\xe2\x96\x81", 3) == 0;
  if (there->type != DRAFT_UNKNOWN && there->type != DRAFT_BYTE && (special || !spaces))
    there->type = special ? DRAFT_CONTROL : DRAFT_USER;
  return OTR_STATUS_OK;
}

/* ---- merges ------------------------------------------------------------------------------------------------------ */

static otr_status scratch_text(tokenizer_draft *draft, size_t n_bytes) {
  void *scratch = draft->scratch;
  otr_status status = grow(&scratch, &draft->scratch_room, n_bytes + 1, 1);
  draft->scratch = scratch;
  return status;
}

/* Whether left right, of which one may be empty, is a text of the vocabulary. */
static bool known(tokenizer_draft *draft, const json_t *vocab, const char *left, size_t left_bytes, const char *right,
                  size_t right_bytes) {
  memcpy(draft->scratch, left, left_bytes);
  memcpy(draft->scratch + left_bytes, right, right_bytes);
  draft->scratch[left_bytes + right_bytes] = '\0';
  return json_object_get(vocab, draft->scratch) != NULL;
}

otr_status draft_merge(tokenizer_draft *draft, const json_t *vocab, const char *left, size_t left_bytes,
                       const char *right, size_t right_bytes) {
  OTR_TRY(scratch_text(draft, left_bytes + right_bytes));
  bool whole = left_bytes > 0 && right_bytes > 0 && known(draft, vocab, left, left_bytes, "", 0) &&
               known(draft, vocab, "", 0, right, right_bytes) &&
               known(draft, vocab, left, left_bytes, right, right_bytes);
  if (!whole)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "merge %zu, \"%.*s %.*s\": a part of it or its result is no token",
                    draft->n_merges, (int)(left_bytes < 32 ? left_bytes : 32), left,
                    (int)(right_bytes < 32 ? right_bytes : 32), right);
  /* Text never holds a space where merging begins, so such a merge does nothing, and GGUF could not hold it. */
  if (memchr(left, ' ', left_bytes) != NULL || memchr(right, ' ', right_bytes) != NULL) return OTR_STATUS_OK;
  void *merges = draft->merges;
  size_t begin = draft->merges_bytes, n_bytes = left_bytes + right_bytes + 2;
  otr_status status = grow(&merges, &draft->merges_room, begin + n_bytes, 1);
  draft->merges = merges;
  OTR_TRY(status);
  char *out = draft->merges + begin;
  memcpy(out, left, left_bytes);
  out[left_bytes] = ' ';
  memcpy(out + left_bytes + 1, right, right_bytes);
  out[n_bytes - 1] = '\0';
  draft->merges_bytes += n_bytes;
  ++draft->n_merges;
  return OTR_STATUS_OK;
}

void draft_end_id(tokenizer_draft *draft, int64_t id) {
  if (draft_at(draft, id) != NULL && draft->n_ends < DRAFT_MOST_ENDS) draft->ends[draft->n_ends++] = (int32_t)id;
}

/* ---- keys -------------------------------------------------------------------------------------------------------- */

/* Arrays of a vocabulary of n ids, in one block each. */
typedef struct columns {
  const char **texts;
  size_t *bytes;
  float *scores;
  int32_t *types, *ids;
} columns;

static void columns_free(columns *c) {
  free(c->texts);
  free(c->bytes);
  free(c->scores);
  free(c->types);
  free(c->ids);
}

static otr_status columns_allocate(columns *c, size_t n) {
  c->texts = calloc(n, sizeof *c->texts);
  c->bytes = calloc(n, sizeof *c->bytes);
  c->scores = calloc(n, sizeof *c->scores);
  c->types = calloc(n, sizeof *c->types);
  c->ids = calloc(n, sizeof *c->ids);
  if (c->texts && c->bytes && c->scores && c->types && c->ids) return OTR_STATUS_OK;
  return otr_fail(OTR_STATUS_NO_MEMORY, "a vocabulary of %zu tokens", n);
}

/* An id without a token is one that stands for nothing. */
static void put_tokens(const tokenizer_draft *draft, columns *c, size_t n, otr_gguf_writer *keys) {
  for (size_t i = 0; i < n; ++i) {
    const draft_token *token = draft_at(draft, (int64_t)i);
    c->texts[i] = token != NULL ? token->text : "";
    c->bytes[i] = token != NULL ? token->n_bytes : 0;
    c->scores[i] = token != NULL ? token->score : 0.0f;
    c->types[i] = token != NULL ? token->type : DRAFT_UNUSED;
  }
  otr_gguf_put_strings(keys, "tokenizer.ggml.tokens", n, c->texts, c->bytes);
  if (draft->has_scores) otr_gguf_put_array(keys, "tokenizer.ggml.scores", OTR_METADATA_F32, n, c->scores);
  otr_gguf_put_array(keys, "tokenizer.ggml.token_type", OTR_METADATA_I32, n, c->types);
}

static otr_status put_merges(const tokenizer_draft *draft, otr_gguf_writer *keys) {
  if (draft->has_scores) return OTR_STATUS_OK;
  const char **merges = calloc(draft->n_merges + 1, sizeof *merges);
  if (merges == NULL) return otr_fail(OTR_STATUS_NO_MEMORY, "%zu merges", draft->n_merges);
  const char *at = draft->merges;
  for (size_t i = 0; i < draft->n_merges; ++i, at += strlen(at) + 1) merges[i] = at;
  otr_gguf_put_strings(keys, "tokenizer.ggml.merges", draft->n_merges, merges, NULL);
  free(merges);
  return OTR_STATUS_OK;
}

static void put_id(otr_gguf_writer *keys, const char *key, int32_t id) {
  if (id >= 0) otr_gguf_put_u32(keys, key, (uint32_t)id);
}

static void put_flag(otr_gguf_writer *keys, const char *key, bool flag) {
  if (flag) otr_gguf_put_bool(keys, key, 1);
}

/* The ids of tokens that swallow the white space on one side. */
static void put_strips(const tokenizer_draft *draft, columns *c, bool right, otr_gguf_writer *keys) {
  uint64_t n = 0;
  for (size_t i = 0; i < draft->n; ++i)
    if (right ? draft->tokens[i].strip_right : draft->tokens[i].strip_left) c->ids[n++] = (int32_t)i;
  const char *key = right ? "tokenizer.outrider.strip_right" : "tokenizer.outrider.strip_left";
  if (n > 0) otr_gguf_put_array(keys, key, OTR_METADATA_I32, n, c->ids);
}

static void put_rules(const tokenizer_draft *draft, otr_gguf_writer *keys) {
  put_id(keys, "tokenizer.ggml.bos_token_id", draft->bos);
  put_id(keys, "tokenizer.ggml.eos_token_id", draft->eos);
  put_id(keys, "tokenizer.ggml.unknown_token_id", draft->unk);
  put_id(keys, "tokenizer.ggml.padding_token_id", draft->pad);
  otr_gguf_put_bool(keys, "tokenizer.ggml.add_bos_token", draft->add_bos);
  otr_gguf_put_bool(keys, "tokenizer.ggml.add_eos_token", draft->add_eos);
  if (draft->is_spm) otr_gguf_put_bool(keys, "tokenizer.ggml.add_space_prefix", draft->space_prefix != NULL);
  if (draft->is_spm && draft->space_prefix != NULL && draft->space_prefix[0] != '\0')
    otr_gguf_put_string(keys, "tokenizer.outrider.space_prefix", draft->space_prefix);
  put_flag(keys, "tokenizer.outrider.split_spaces", draft->split_spaces);
  put_flag(keys, "tokenizer.outrider.fuse_unknown", draft->fuse_unknown);
  put_flag(keys, "tokenizer.outrider.nfc", draft->nfc);
  if (!draft->is_spm) otr_gguf_put_bool(keys, "tokenizer.outrider.ignore_merges", draft->ignore_merges);
  if (draft->n_ends > 0)
    otr_gguf_put_array(keys, "tokenizer.outrider.end_token_ids", OTR_METADATA_I32, (uint64_t)draft->n_ends,
                       draft->ends);
  if (draft->chat_template != NULL) otr_gguf_put_string(keys, "tokenizer.chat_template", draft->chat_template);
}

otr_status draft_put(const tokenizer_draft *draft, otr_gguf_writer *keys) {
  size_t n = draft->vocab > 0 ? (size_t)draft->vocab : draft->n;
  if (draft->n == 0) return otr_fail(OTR_STATUS_BAD_FORMAT, "a tokenizer without tokens");
  if (draft->is_spm && !draft->has_scores && draft->n_merges == 0)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "a tokenizer without merges");
  columns c = {0};
  otr_status status = columns_allocate(&c, n);
  if (status == OTR_STATUS_OK) {
    otr_gguf_put_string(keys, "tokenizer.ggml.model", draft->is_spm ? "llama" : "gpt2");
    if (!draft->is_spm) otr_gguf_put_string(keys, "tokenizer.ggml.pre", draft->pre);
    put_tokens(draft, &c, n, keys);
    put_strips(draft, &c, false, keys);
    put_strips(draft, &c, true, keys);
    status = put_merges(draft, keys);
    put_rules(draft, keys);
  }
  columns_free(&c);
  return status;
}
