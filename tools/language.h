// SPDX-License-Identifier: Apache-2.0
/* Text for the parts that need it: tokenizer and chat template of a model file. */
#ifndef TOOL_LANGUAGE_H
#define TOOL_LANGUAGE_H

#include "common.h"
#include "outrider/text.h"

typedef struct tool_language {
  otr_tokenizer *tokenizer;
  otr_tokenizer_info info;
  otr_chat_template chat; /**< OTR_CHAT_NONE: the file has none */
} tool_language;

/** Takes over the text library's detail, so that tool_report prints it. @return `status`. */
otr_status tool_text_status(otr_status status);
/** Reads the tokenizer of a file (only its header is read). */
otr_status tool_language_open(const char *path, tool_language *out);
/** The file's chat template, or the one of `name` where that is not NULL. OK with OTR_CHAT_NONE where there is none. */
otr_status tool_language_chat(const char *path, const char *name, tool_language *language);
void tool_language_close(tool_language *language);

/** Encodes to ids that the caller frees. @param flags OTR_ENCODE_… */
otr_status tool_encode(const tool_language *language, const char *text, size_t n_bytes, uint32_t flags, int32_t **ids,
                       int32_t *n);
/** Renders a dialogue up to the opening of the answer. @param[out] text 0-terminated, freed by the caller. */
otr_status tool_render(const tool_language *language, const otr_chat_message *messages, int32_t n, char **text,
                       size_t *n_bytes);
/** Ids of a prompt: a user's message where the language has a chat template (after `system`, where that is not NULL),
 *  otherwise the text as it stands. At least one. @param[out] ids freed by the caller */
otr_status tool_encode_prompt(const tool_language *language, const char *system, const char *prompt, size_t n_bytes,
                              int32_t **ids, int32_t *n);

#endif
