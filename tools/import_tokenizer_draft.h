// SPDX-License-Identifier: Apache-2.0
/* A tokenizer on its way from a Hugging Face directory to GGUF keys: tokens, merges, special ids and flags, gathered by
 * the readers of the several files. Texts are borrowed from what the draft keeps open. */
#ifndef TOOL_IMPORT_TOKENIZER_DRAFT_H
#define TOOL_IMPORT_TOKENIZER_DRAFT_H

#include <jansson.h>
#include <stdbool.h>

#include "gguf_write.h"

enum { DRAFT_HOLE = 0 }; /**< type of an id without a token; the others are GGUF's: */
enum { DRAFT_NORMAL = 1, DRAFT_UNKNOWN = 2, DRAFT_CONTROL = 3, DRAFT_USER = 4, DRAFT_UNUSED = 5, DRAFT_BYTE = 6 };
enum { DRAFT_MOST_ENDS = 16, DRAFT_MOST_KEPT = 8 };

typedef struct draft_token {
  const char *text; /**< [n_bytes] */
  size_t n_bytes;
  float score;
  uint8_t type;                 /**< DRAFT_… */
  bool strip_left, strip_right; /**< white space beside it belongs to it */
} draft_token;

typedef struct tokenizer_draft {
  int32_t vocab;       /**< ids of the model, 0: any number */
  draft_token *tokens; /**< [n] by id */
  size_t n, tokens_room;
  char *merges; /**< "left right" one behind the other, each with a 0 behind it */
  size_t merges_bytes, merges_room, n_merges;
  char *scratch; /**< [scratch_room] */
  size_t scratch_room;

  bool is_spm;              /**< spaces are U+2581, bytes fall back; else byte-level */
  bool has_scores;          /**< the order of merging is in the scores: no merges */
  const char *pre;          /**< byte-level: GGUF's name of the pre-tokenizer */
  const char *space_prefix; /**< SPM: NULL for none, "" for SentencePiece's, else tokenizer.outrider.space_prefix */
  bool split_spaces, fuse_unknown, nfc, ignore_merges;
  int32_t bos, eos, unk, pad; /**< −1: none */
  bool add_bos, add_eos;
  bool fixed_bos, fixed_eos;     /**< the one that is added: whatever the side files call so */
  int32_t ends[DRAFT_MOST_ENDS]; /**< [n_ends] more ids that end a generation */
  int32_t n_ends;
  const char *chat_template; /**< NULL: none */

  json_t *roots[DRAFT_MOST_KEPT]; /**< what the texts are borrowed from */
  char *buffers[DRAFT_MOST_KEPT];
  int32_t n_roots, n_buffers;
} tokenizer_draft;

void draft_begin(tokenizer_draft *draft, int32_t vocab);
void draft_end(tokenizer_draft *draft);

/** Keeps a JSON value or a malloc'ed buffer until draft_end; takes it over on failure, too. */
otr_status draft_keep(tokenizer_draft *draft, json_t *root, char *buffer);

/** Sets the token of an id that has none.
 *  @param text borrowed until draft_end
 *  @return BAD_FORMAT for an id that is taken or outside the model's vocabulary */
otr_status draft_set(tokenizer_draft *draft, int64_t id, const char *text, size_t n_bytes, uint8_t type);
/** The token of an id, NULL where there is none. */
draft_token *draft_at(const tokenizer_draft *draft, int64_t id);
/** @return the id of the token with this text, −1 for none. Takes time linear in the vocabulary. */
int32_t draft_find(const tokenizer_draft *draft, const char *text, size_t n_bytes);
/** Adds a token beside the vocabulary, or changes the one of the same text and id. One beyond the model's vocabulary is
 *  left out with a warning. */
otr_status draft_add(tokenizer_draft *draft, int64_t id, const char *text, size_t n_bytes, bool special);

/** Appends a merge. @param vocab object of texts: both parts and what they make must be in it */
otr_status draft_merge(tokenizer_draft *draft, const json_t *vocab, const char *left, size_t left_bytes,
                       const char *right, size_t right_bytes);
/** Another id that ends a generation; one outside the vocabulary, or too many: ignored. */
void draft_end_id(tokenizer_draft *draft, int64_t id);

/** Puts everything as keys. @return NO_MEMORY, or BAD_FORMAT for a tokenizer without tokens */
otr_status draft_put(const tokenizer_draft *draft, otr_gguf_writer *keys);

#endif
