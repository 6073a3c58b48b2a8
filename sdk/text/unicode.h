// SPDX-License-Identifier: Apache-2.0
/* Characters of UTF-8 text and their classes. */
#ifndef OTR_TEXT_UNICODE_H
#define OTR_TEXT_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum otr_char_class {
  OTR_CHAR_LETTER, /**< \p{L} */
  OTR_CHAR_NUMBER, /**< \p{N} */
  OTR_CHAR_SPACE,  /**< \s: Unicode's White_Space */
  OTR_CHAR_OTHER   /**< anything else, a stray byte too */
} otr_char_class;

typedef struct otr_char {
  int32_t code;   /**< code point, −1 for a stray byte */
  uint32_t bytes; /**< of its form in the text; 0 at the end of the text */
} otr_char;

/** The character at the beginning of text [n_bytes]. A byte that begins no valid character (stray, cut off, overlong,
 *  surrogate, beyond U+10FFFF) is one of its own. */
otr_char otr_char_at(const char *text, size_t n_bytes);
/** `text` [n_bytes], n_bytes < 4, may still become a valid character when more bytes follow. */
bool otr_char_is_beginning(const char *text, size_t n_bytes);
otr_char_class otr_char_classify(int32_t code);
/** \p{P}. */
bool otr_char_is_punctuation(int32_t code);

#endif
