// SPDX-License-Identifier: Apache-2.0
/* Inside of the tokenizer handle, for the decoder and generate. */
#ifndef OTR_TEXT_TOKENIZER_H
#define OTR_TEXT_TOKENIZER_H

#include "vocabulary.h"

struct otr_tokenizer {
  otr_vocabulary vocabulary;
};

bool otr_tokenizer_has(const otr_tokenizer *tokenizer, int32_t id);
/** OK, or INVALID_ARGUMENT for an id outside the vocabulary. */
otr_status otr_tokenizer_check_id(const otr_tokenizer *tokenizer, int32_t id);
/** What an id of the vocabulary gives under the flags OTR_DECODE_…; `first`: nothing but control tokens before it. */
const char *otr_tokenizer_decoded(const otr_tokenizer *tokenizer, int32_t id, uint32_t flags, bool first,
                                  size_t *n_bytes);
/** The most bytes that one call of the decoder gives. */
size_t otr_decoder_room(const otr_decoder *decoder);

#endif
