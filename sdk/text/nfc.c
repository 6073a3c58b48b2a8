// SPDX-License-Identifier: Apache-2.0
#include "nfc.h"

#include <stdlib.h>
#include <utf8proc.h>

#include "unicode.h"

/* Text is normalized in stretches that end before an ASCII character, which composes with nothing before it. */
enum { STRETCH = 4096 };
/* A character of b bytes has at most 2 b code points when decomposed, and those have at most 3 b bytes composed. */
enum { MOST_CODES = 2, MOST_BYTES = 3 };

typedef struct stretch {
  const otr_allocator *allocator;
  int32_t *codes; /* [room] */
  size_t room, n;
} stretch;

bool otr_nfc_is_plain(const char *text, size_t n_bytes) {
  for (size_t i = 0; i < n_bytes; ++i)
    if ((unsigned char)text[i] >= 0xcc) return false;
  return true;
}

static int combining_class(int32_t code) {
  return utf8proc_get_property(code)->combining_class;
}

typedef struct mark {
  int32_t code, class;
  size_t place;
} mark;

static int compare_marks(const void *a, const void *b) {
  const mark *x = a, *y = b;
  if (x->class != y->class) return x->class < y->class ? -1 : 1;
  return x->place < y->place ? -1 : x->place > y->place;
}

/* Orders the run of combining marks codes[begin … end) by class, equal ones as they stand. */
static otr_status order_run(const stretch *s, size_t begin, size_t end) {
  size_t n = end - begin;
  if (n < 2) return OTR_STATUS_OK;
  mark few[32], *marks = n <= 32 ? few : otr_text_take(s->allocator, n, sizeof *marks);
  if (marks == NULL) return OTR_STATUS_NO_MEMORY;
  for (size_t i = 0; i < n; ++i) {
    int32_t code = s->codes[begin + i];
    marks[i] = (mark){code, combining_class(code), i};
  }
  qsort(marks, n, sizeof *marks, compare_marks);
  for (size_t i = 0; i < n; ++i) s->codes[begin + i] = marks[i].code;
  if (marks != few) otr_text_give(s->allocator, marks, n, sizeof *marks);
  return OTR_STATUS_OK;
}

static otr_status order_marks(const stretch *s) {
  for (size_t begin = 0, end; begin < s->n; begin = end + 1) {
    for (end = begin; end < s->n && combining_class(s->codes[end]) != 0;) ++end;
    OTR_TEXT_TRY(order_run(s, begin, end));
  }
  return OTR_STATUS_OK;
}

/* Bytes of the stretch at the beginning of text: of valid characters alone. */
static size_t stretch_bytes(const char *text, size_t n_bytes) {
  size_t at = 0;
  while (at < n_bytes) {
    otr_char c = otr_char_at(text + at, n_bytes - at);
    if (c.code < 0 || (at >= STRETCH && c.code < 0x80)) break;
    at += c.bytes;
  }
  return at;
}

/* Normalizes text [n_bytes] into out. @return in *n the bytes written */
static otr_status normalize(stretch *s, const char *text, size_t n_bytes, char *out, size_t *n) {
  void *codes = s->codes;
  bool ok = otr_text_grow(s->allocator, &codes, &s->room, n_bytes * MOST_CODES, sizeof *s->codes);
  s->codes = codes;
  if (!ok) return OTR_STATUS_NO_MEMORY;
  s->n = 0;
  for (size_t at = 0; at < n_bytes;) {
    otr_char c = otr_char_at(text + at, n_bytes - at);
    int boundary = 0;
    utf8proc_ssize_t got = utf8proc_decompose_char(c.code, s->codes + s->n, (utf8proc_ssize_t)(s->room - s->n),
                                                   UTF8PROC_STABLE | UTF8PROC_DECOMPOSE, &boundary);
    if (got > 0) s->n += (size_t)got;
    at += c.bytes;
  }
  OTR_TEXT_TRY(order_marks(s));
  utf8proc_ssize_t composed =
      utf8proc_normalize_utf32(s->codes, (utf8proc_ssize_t)s->n, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
  *n = 0;
  for (utf8proc_ssize_t i = 0; i < composed; ++i)
    *n += (size_t)utf8proc_encode_char(s->codes[i], (utf8proc_uint8_t *)out + *n);
  return OTR_STATUS_OK;
}

otr_status otr_nfc(const otr_allocator *allocator, const char *text, size_t n_bytes, char **out, size_t *room,
                   size_t *out_bytes) {
  stretch s = {.allocator = allocator};
  otr_status status = OTR_STATUS_OK;
  *out_bytes = 0;
  *room = n_bytes * MOST_BYTES;
  *out = otr_text_take(allocator, *room, 1);
  if (*out == NULL) return OTR_STATUS_NO_MEMORY;
  for (size_t at = 0; at < n_bytes && status == OTR_STATUS_OK;) {
    size_t length = stretch_bytes(text + at, n_bytes - at), n = 0;
    if (length > 0) {
      status = normalize(&s, text + at, length, *out + *out_bytes, &n);
      *out_bytes += n;
    } else {
      (*out)[(*out_bytes)++] = text[at];
      length = 1;
    }
    at += length;
  }
  otr_text_give(allocator, s.codes, s.room, sizeof *s.codes);
  if (status != OTR_STATUS_OK) {
    otr_text_give(allocator, *out, *room, 1);
    *out = NULL;
  }
  return status;
}
