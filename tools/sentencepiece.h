// SPDX-License-Identifier: Apache-2.0
/* Reads SentencePiece's model file, a protobuf message, as far as encoding needs it. */
#ifndef TOOL_SENTENCEPIECE_H
#define TOOL_SENTENCEPIECE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "outrider/outrider.h"

typedef struct sentencepiece_piece {
  const char *text; /**< [n_bytes] in the file */
  size_t n_bytes;
  float score;
  int32_t type; /**< 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte: as in GGUF */
} sentencepiece_piece;

enum { SENTENCEPIECE_UNIGRAM = 1, SENTENCEPIECE_BPE = 2, SENTENCEPIECE_WORD = 3, SENTENCEPIECE_CHAR = 4 };

typedef struct sentencepiece_model {
  sentencepiece_piece *pieces; /**< [n] by id */
  size_t n, room;
  int64_t kind;               /**< SENTENCEPIECE_… */
  int32_t unk, bos, eos, pad; /**< −1: none */
  bool space_behind;          /**< spaces end words instead of beginning them */
  size_t charsmap_bytes;      /**< of a precompiled normalizer; 0: text stays as it is */
  const char *normalizer;     /**< [normalizer_bytes] its name */
  size_t normalizer_bytes;
  bool prefix, trims, keeps_spaces; /**< add_dummy_prefix, remove_extra_whitespaces, not escape_whitespaces */
} sentencepiece_model;

/** @param bytes [n_bytes], must outlive the model
 *  @param[out] out sentencepiece_free, also on failure
 *  @return OK, BAD_FORMAT, NO_MEMORY. @threads Any. */
otr_status sentencepiece_read(const void *bytes, size_t n_bytes, sentencepiece_model *out);
void sentencepiece_free(sentencepiece_model *model);

#endif
