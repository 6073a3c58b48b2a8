// SPDX-License-Identifier: Apache-2.0
#include "split.h"

#include <stdbool.h>
#include <string.h>

#include "unicode.h"

/* A character with its class; bytes is 0 at the end of the text. */
typedef struct glyph {
  int32_t code;
  uint32_t bytes;
  otr_char_class class;
} glyph;

static glyph glyph_at(const char *text, size_t n, size_t at) {
  otr_char c = otr_char_at(text + at, n - at);
  return (glyph){c.code, c.bytes, otr_char_classify(c.code)};
}

static bool is(glyph g, otr_char_class class) {
  return g.bytes != 0 && g.class == class;
}

/* End of the run of characters of `class` that begins at `at`; at most `most` of them. */
static size_t run_end(const char *text, size_t n, size_t at, otr_char_class class, size_t most) {
  for (; most > 0; --most) {
    glyph g = glyph_at(text, n, at);
    if (!is(g, class)) break;
    at += g.bytes;
  }
  return at;
}

static size_t newlines_end(const char *text, size_t n, size_t at) {
  while (at < n && (text[at] == '\r' || text[at] == '\n')) ++at;
  return at;
}

/* Lower-case letter that `code` matches: itself, or without regard to case (U+017F is an s then). */
static int32_t fold(int32_t code, bool any_case) {
  if (any_case && code >= 'A' && code <= 'Z') return code + 32;
  return any_case && code == 0x17f ? 's' : code;
}

/* Length of 's, 't, 're, 've, 'm, 'll or 'd at the beginning of text, 0 for none. */
static size_t contraction(const char *text, size_t n, bool any_case) {
  if (n < 2 || text[0] != '\'') return 0;
  otr_char first = otr_char_at(text + 1, n - 1);
  int32_t a = fold(first.code, any_case);
  if (a == 's' || a == 't' || a == 'm' || a == 'd') return 1 + first.bytes;
  otr_char second = otr_char_at(text + 1 + first.bytes, n - 1 - first.bytes);
  int32_t b = fold(second.code, any_case);
  bool found = ((a == 'r' || a == 'v') && b == 'e') || (a == 'l' && b == 'l');
  return found ? 1 + first.bytes + second.bytes : 0;
}

/* \s+(?!\S)|\s+ for a text that begins with white space: a run gives its last character to what follows it. */
static size_t white_space(const char *text, size_t n) {
  size_t at = 0, last = 0;
  for (glyph g = glyph_at(text, n, 0); is(g, OTR_CHAR_SPACE); g = glyph_at(text, n, at)) {
    last = at;
    at += g.bytes;
  }
  return at < n && last > 0 ? last : at;
}

static size_t piece_gpt2(const char *text, size_t n) {
  size_t length = contraction(text, n, false);
  if (length > 0) return length;
  glyph first = glyph_at(text, n, 0);
  size_t start = first.code == ' ' ? 1 : 0;
  glyph g = start > 0 ? glyph_at(text, n, start) : first;
  if (g.bytes != 0 && g.class != OTR_CHAR_SPACE) return run_end(text, n, start, g.class, SIZE_MAX);
  return white_space(text, n);
}

/* \s*[\r\n]+ at the beginning of text: up to the last line break of the run of white space; 0 for none. */
static size_t line_breaks(const char *text, size_t n) {
  size_t at = 0, end = 0;
  for (glyph g = glyph_at(text, n, 0); is(g, OTR_CHAR_SPACE); g = glyph_at(text, n, at)) {
    at += g.bytes;
    if (g.code == '\r' || g.code == '\n') end = at;
  }
  return end;
}

static size_t piece_llama3(const char *text, size_t n, size_t most_digits) {
  size_t length = contraction(text, n, true);
  if (length > 0) return length;
  glyph first = glyph_at(text, n, 0);
  if (is(first, OTR_CHAR_LETTER)) return run_end(text, n, 0, OTR_CHAR_LETTER, SIZE_MAX);
  if (is(first, OTR_CHAR_NUMBER)) return run_end(text, n, 0, OTR_CHAR_NUMBER, most_digits);
  glyph second = glyph_at(text, n, first.bytes);
  if (first.code != '\r' && first.code != '\n' && is(second, OTR_CHAR_LETTER))
    return run_end(text, n, first.bytes, OTR_CHAR_LETTER, SIZE_MAX);
  if (is(first, OTR_CHAR_OTHER) || (first.code == ' ' && is(second, OTR_CHAR_OTHER)))
    return newlines_end(text, n, run_end(text, n, first.code == ' ' ? 1 : 0, OTR_CHAR_OTHER, SIZE_MAX));
  length = line_breaks(text, n);
  return length > 0 ? length : white_space(text, n);
}

/* What BLOOM leaves out: white space, brackets of the published class's own spelling, marks of several scripts. */
static bool is_bloom_mark(glyph g) {
  static const int32_t others[] = {0x2026, 0x3002, 0xff0c, 0x3001, 0x964, 0x6d4, 0x60c};
  if (g.class == OTR_CHAR_SPACE) return true;
  if (g.code > 0 && g.code < 0x80) return strchr("(|).,!?", g.code) != NULL;
  for (size_t i = 0; i < sizeof others / sizeof *others; ++i)
    if (g.code == others[i]) return true;
  return false;
}

/* A match, or what stands before the next one. */
static size_t piece_bloom(const char *text, size_t n) {
  glyph g = glyph_at(text, n, 0), next = glyph_at(text, n, g.bytes);
  size_t at = 0;
  bool match = !is_bloom_mark(g) || (g.code == ' ' && next.bytes != 0 && !is_bloom_mark(next));
  do {
    at += g.bytes;
    g = next;
    next = glyph_at(text, n, at + g.bytes);
    bool begins = !is_bloom_mark(g) || (g.code == ' ' && next.bytes != 0 && !is_bloom_mark(next));
    if (match ? is_bloom_mark(g) : begins) break;
  } while (g.bytes != 0);
  return at;
}

/* Punctuation and those of the ASCII symbols `ascii` that are none. */
static bool is_mark(glyph g, const char *ascii) {
  if (g.code > 0 && g.code < 0x80 && strchr(ascii, g.code) != NULL) return true;
  return g.class == OTR_CHAR_OTHER && otr_char_is_punctuation(g.code);
}

/* Length of the leading run of characters that are marks, or that are none. */
static size_t marks(const char *text, size_t n, const char *ascii) {
  size_t at = 0;
  glyph g = glyph_at(text, n, 0);
  bool mark = is_mark(g, ascii);
  for (; g.bytes != 0 && is_mark(g, ascii) == mark; g = glyph_at(text, n, at)) at += g.bytes;
  return at;
}

/* Length of the leading run of numbers (at most `most`), or of characters that are none. */
static size_t numbers(const char *text, size_t n, size_t most, int *whole) {
  size_t at = 0;
  glyph g = glyph_at(text, n, 0);
  *whole = g.class == OTR_CHAR_NUMBER;
  if (*whole) return run_end(text, n, 0, OTR_CHAR_NUMBER, most);
  for (; g.bytes != 0 && g.class != OTR_CHAR_NUMBER; g = glyph_at(text, n, at)) at += g.bytes;
  return at;
}

/* Numbers of the byte-level alphabet: digits, and ² ³ ¹ ¼ ½ ¾, which stand for the bytes of their code points. */
static bool is_number_byte(char c) {
  return (c >= '0' && c <= '9') || (c != '\0' && strchr("\xb2\xb3\xb9\xbc\xbd\xbe", c) != NULL);
}

static size_t number_bytes(const char *text, size_t n) {
  size_t at = 1;
  while (at < n && is_number_byte(text[at]) == is_number_byte(text[0])) ++at;
  return at;
}

static bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

/* Three digits, or what stands before the next three of them. */
static size_t triple(const char *text, size_t n) {
  for (size_t at = 0; at + 3 <= n; ++at)
    if (is_digit(text[at]) && is_digit(text[at + 1]) && is_digit(text[at + 2])) return at == 0 ? 3 : at;
  return n;
}

static size_t next_digits(otr_split *s) {
  const char *text = s->text + s->position;
  if (s->position == s->end[0]) s->end[0] += numbers(text, s->n_bytes - s->position, 1, &s->whole);
  size_t n = s->end[0] - s->position;
  return s->whole ? n : piece_gpt2(text, n);
}

static size_t next_default(otr_split *s) {
  const char *text = s->text + s->position;
  bool falcon = s->kind == OTR_SPLIT_FALCON;
  if (s->position == s->end[0]) s->end[0] += marks(text, s->n_bytes - s->position, falcon ? "$+<=>^`~|" : "$+<=>^~|");
  if (s->position == s->end[1]) s->end[1] += piece_gpt2(text, s->end[0] - s->position);
  if (s->position == s->end[2]) {
    size_t n = s->end[1] - s->position;
    s->end[2] += falcon ? number_bytes(text, n) : numbers(text, n, SIZE_MAX, &s->whole);
  }
  return triple(text, s->end[2] - s->position);
}

void otr_split_begin(otr_split *split, otr_split_kind kind, const char *text, size_t n_bytes) {
  *split = (otr_split){.kind = kind, .text = text, .n_bytes = n_bytes};
}

size_t otr_split_next(otr_split *split) {
  const char *text = split->text + split->position;
  size_t n = split->n_bytes - split->position, length = 0;
  if (n == 0) return 0;
  switch (split->kind) {
    case OTR_SPLIT_GPT2:
      length = piece_gpt2(text, n);
      break;
    case OTR_SPLIT_DIGITS:
      length = next_digits(split);
      break;
    case OTR_SPLIT_LLAMA3:
      length = piece_llama3(text, n, 3);
      break;
    case OTR_SPLIT_QWEN2:
      length = piece_llama3(text, n, 1);
      break;
    case OTR_SPLIT_BLOOM:
      length = piece_bloom(text, n);
      break;
    case OTR_SPLIT_FALCON:
    case OTR_SPLIT_DEFAULT:
      length = next_default(split);
      break;
  }
  split->position += length;
  return length;
}
