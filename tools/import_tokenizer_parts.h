// SPDX-License-Identifier: Apache-2.0
/* Readers of a tokenizer's several files into a draft. Details of failures do not name the file: the caller adds it. */
#ifndef TOOL_IMPORT_TOKENIZER_PARTS_H
#define TOOL_IMPORT_TOKENIZER_PARTS_H

#include "import_tokenizer_draft.h"

/* ---- JSON (import_tokenizer_rules.c) ---- */

/** A member of an object as a text: NULL where there is none or it is none. *n_bytes NULL is allowed. */
const char *parts_text(const json_t *object, const char *key, size_t *n_bytes);
/** A member as a flag; `missing` where there is none. */
bool parts_flag(const json_t *object, const char *key, bool missing);

/** Parses JSON of a file. @param[out] out json_decref; NULL on failure. @return BAD_FORMAT with line and column */
otr_status parts_parse(const char *text, size_t n_bytes, json_t **out);

/** Normalizer and pre-tokenizer of a tokenizer.json: the kind of vocabulary and how text is prepared and cut.
 *  @return UNSUPPORTED where they are not those of a known family: the detail names them */
otr_status parts_rules(tokenizer_draft *draft, const json_t *normalizer, const json_t *pre_tokenizer);
/** Its post-processor, after the tokens: ids that are added before and behind a text. */
otr_status parts_template(tokenizer_draft *draft, const json_t *post_processor);

/* ---- whole files ---- */

/** A tokenizer.json (import_tokenizer_json.c). `root` must outlive the draft. */
otr_status parts_tokenizer_json(tokenizer_draft *draft, const json_t *root);
/** The same of a file's text; the draft keeps what it needs. For a fuzzer and for import_tokenizer alike. */
otr_status parts_tokenizer_text(tokenizer_draft *draft, const char *text, size_t n_bytes);
/** vocab.json: {text: id}. `root` must outlive the draft. */
otr_status parts_vocabulary(tokenizer_draft *draft, const json_t *root);
/** merges.txt: a merge a line. @param text [n_bytes] */
otr_status parts_merges_text(tokenizer_draft *draft, const json_t *vocab, const char *text, size_t n_bytes);
/** An entry of "added_tokens" or "added_tokens_decoder". */
otr_status parts_added(tokenizer_draft *draft, int64_t id, const json_t *token);

/** A tokenizer.model (import_tokenizer_spm.c). `bytes` must outlive the draft. */
otr_status parts_sentencepiece(tokenizer_draft *draft, const void *bytes, size_t n_bytes);

#endif
