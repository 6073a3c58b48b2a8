// SPDX-License-Identifier: Apache-2.0
/* Tokenizers of Hugging Face directories as GGUF keys. */
#ifndef TOOL_IMPORT_TOKENIZER_H
#define TOOL_IMPORT_TOKENIZER_H

#include "gguf_write.h"

/** Reads the tokenizer of a directory and puts it as keys tokenizer.*: of tokenizer.json, else tokenizer.model
 *  (SentencePiece), else vocab.json and merges.txt. Special tokens and the chat template come from
 *  tokenizer_config.json, special_tokens_map.json, added_tokens.json, chat_template.jinja, generation_config.json and
 *  config.json.
 *  @param vocab ids of the model: unused tokens fill up what the tokenizer lacks, an added token beyond is left out
 * with a warning; < 1: as many as the tokenizer has
 *  @param keys  a failure to put is the writer's, told by its begin
 *  @param[out] found 0 after a warning on stderr: the directory has no tokenizer, nothing was put
 *  @return OK; BAD_FORMAT, UNSUPPORTED (a normalizer, pre-tokenizer, model … that is not known: the detail names it),
 * IO, NO_MEMORY. */
otr_status import_tokenizer(const char *directory, int32_t vocab, otr_gguf_writer *keys, int *found);

#endif
