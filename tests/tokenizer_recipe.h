// SPDX-License-Identifier: Apache-2.0
/* For tests: tokenizer metadata out of a short text, and the text to encode behind it. One item a line, the first
 * letter says what it is; an empty line ends the recipe. \n, \r, \t, \s (space), \\ and \xHH are escapes in texts.
 *   Mllama          tokenizer.ggml.model
 *   Psmollm         tokenizer.ggml.pre
 *   t1the           a token of type 1; its score is minus its number
 *   s-3.5           another score for the token before (also nan, inf)
 *   B               the 256 byte tokens <0x00> … <0xFF> of type 6
 *   L               the 256 letters of the byte-level alphabet, of type 1
 *   mt h            a merge
 *   ib5             tokenizer.ggml.bos_token_id; e eos, o eot, m eom, u unknown, p padding
 *   fb1             tokenizer.ggml.add_bos_token; e add_eos_token, s add_space_prefix
 *   c{{ … }}        tokenizer.chat_template
 *   xT              break something: t no tokens, T their type; s no scores, S their type, z one score less; y no
 * types, Y their type, w one type less; m no merges, M their type; i ids are strings; f flags are arrays; p pre is a
 * number; c the template is a number; k no model */
#ifndef TOKENIZER_RECIPE_H
#define TOKENIZER_RECIPE_H

#include <stddef.h>
#include <stdint.h>

#include "outrider/outrider.h"

/** @param[out] rest the bytes behind the recipe, in `text`
 *  @return metadata, the caller's to close; NULL when there is no memory. */
otr_metadata *tokenizer_recipe(const char *text, size_t n_bytes, const char **rest, size_t *rest_bytes);

#endif
