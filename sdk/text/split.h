// SPDX-License-Identifier: Apache-2.0
// clang-format off: the lists below stay as they are
/* Pre-tokenizers: text is cut into pieces, and no token crosses a cut. Each is one or more published regular
 * expressions applied one after the other (to what the one before gave; what does not match is a piece as well),
 * written by hand:
 *   GPT2     's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 *   DIGITS   \p{N}, then GPT2 (starcoder, refact, smollm)
 *   LLAMA3   (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+
 *            |\s+(?!\S)|\s+
 *   QWEN2    LLAMA3 with \p{N} for \p{N}{1,3}
 *   BLOOM    [space]?[^(\s|[.,!?…。，、।۔،])]+
 *   FALCON   [\p{P}$+<=>^`~|]+, then GPT2, then, on the letters of the byte-level alphabet, \p{N}+ (which cuts inside
 *            characters that hold a byte B2, B3, B9, BC, BD or BE) and [0-9][0-9][0-9]
 *   DEFAULT  [\p{P}\$\+<=>\^~\|]+, then GPT2, then \p{N}+, then [0-9][0-9][0-9] */
// clang-format on
#ifndef OTR_TEXT_SPLIT_H
#define OTR_TEXT_SPLIT_H

#include <stddef.h>

typedef enum otr_split_kind {
  OTR_SPLIT_GPT2,
  OTR_SPLIT_DIGITS,
  OTR_SPLIT_LLAMA3,
  OTR_SPLIT_QWEN2,
  OTR_SPLIT_BLOOM,
  OTR_SPLIT_FALCON,
  OTR_SPLIT_DEFAULT
} otr_split_kind;

/** Walks the pieces of a text, in time linear in its length. */
typedef struct otr_split {
  otr_split_kind kind;
  const char *text; /**< [n_bytes] */
  size_t n_bytes, position;
  size_t end[3]; /**< where the current match of each outer expression ends */
  int whole;     /**< 1: the current match is one that the inner expressions leave alone */
} otr_split;

void otr_split_begin(otr_split *split, otr_split_kind kind, const char *text, size_t n_bytes);
/** @return the length of the next piece, 0 at the end of the text; split->position is behind it. */
size_t otr_split_next(otr_split *split);

#endif
