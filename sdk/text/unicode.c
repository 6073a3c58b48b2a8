// SPDX-License-Identifier: Apache-2.0
#include "unicode.h"

#include <utf8proc.h>

/* Number of bytes that the character beginning with this byte should have, 1 for a stray one. */
static uint32_t announced_bytes(unsigned char first) {
  if (first >= 0xc2 && first <= 0xdf) return 2;
  if (first >= 0xe0 && first <= 0xef) return 3;
  if (first >= 0xf0 && first <= 0xf4) return 4;
  return 1;
}

/* The second byte of these leads has a narrower range: no overlong forms, no surrogates, nothing beyond U+10FFFF. */
static bool second_fits(unsigned char first, unsigned char second) {
  switch (first) {
    case 0xe0:
      return second >= 0xa0 && second <= 0xbf;
    case 0xed:
      return second >= 0x80 && second <= 0x9f;
    case 0xf0:
      return second >= 0x90 && second <= 0xbf;
    case 0xf4:
      return second >= 0x80 && second <= 0x8f;
    default:
      return second >= 0x80 && second <= 0xbf;
  }
}

/* Number of leading bytes of text that fit the form that its first byte announces. */
static uint32_t fitting_bytes(const unsigned char *text, size_t n_bytes, uint32_t needed) {
  uint32_t n = 1;
  while (n < needed && n < n_bytes && (n == 1 ? second_fits(text[0], text[1]) : (text[n] & 0xc0) == 0x80)) ++n;
  return n;
}

otr_char otr_char_at(const char *text, size_t n_bytes) {
  const unsigned char *t = (const unsigned char *)text;
  if (n_bytes == 0) return (otr_char){-1, 0};
  if (t[0] < 0x80) return (otr_char){t[0], 1};
  uint32_t needed = announced_bytes(t[0]);
  if (needed == 1 || fitting_bytes(t, n_bytes, needed) < needed) return (otr_char){-1, 1};
  int32_t code = t[0] & (0x7f >> needed);
  for (uint32_t i = 1; i < needed; ++i) code = code * 64 + (t[i] & 0x3f);
  return (otr_char){code, needed};
}

bool otr_char_is_beginning(const char *text, size_t n_bytes) {
  const unsigned char *t = (const unsigned char *)text;
  if (n_bytes == 0) return true;
  uint32_t needed = announced_bytes(t[0]);
  return needed > n_bytes && fitting_bytes(t, n_bytes, needed) == n_bytes;
}

static bool is_space(int32_t code) {
  if (code <= 0x20) return code == 0x20 || (code >= 0x09 && code <= 0x0d);
  if (code < 0x1680) return code == 0x85 || code == 0xa0;
  return code == 0x1680 || (code >= 0x2000 && code <= 0x200a) || code == 0x2028 || code == 0x2029 || code == 0x202f ||
         code == 0x205f || code == 0x3000;
}

otr_char_class otr_char_classify(int32_t code) {
  if (code < 0) return OTR_CHAR_OTHER;
  if (code < 0x80) {
    if ((code | 0x20) >= 'a' && (code | 0x20) <= 'z') return OTR_CHAR_LETTER;
    if (code >= '0' && code <= '9') return OTR_CHAR_NUMBER;
    return is_space(code) ? OTR_CHAR_SPACE : OTR_CHAR_OTHER;
  }
  if (is_space(code)) return OTR_CHAR_SPACE;
  utf8proc_category_t category = utf8proc_category(code);
  if (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO) return OTR_CHAR_LETTER;
  if (category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO) return OTR_CHAR_NUMBER;
  return OTR_CHAR_OTHER;
}

bool otr_char_is_punctuation(int32_t code) {
  if (code < 0) return false;
  utf8proc_category_t category = utf8proc_category(code);
  return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
}
