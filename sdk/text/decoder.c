// SPDX-License-Identifier: Apache-2.0
/* Streaming decoder: whole UTF-8 out of ids that may cut characters anywhere. */
#include <string.h>

#include "tokenizer.h"
#include "unicode.h"

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */
#define MOST_HELD 3                /* bytes of an unfinished character */

struct otr_decoder {
  const otr_tokenizer *tokenizer;
  uint32_t flags;
  bool first;  /* nothing but control tokens so far */
  char *bytes; /* [longest + MOST_HELD]: what was held, then the new piece */
  size_t n_bytes, bytes_room;
  char *text; /* [3 times that] what the last call gave */
  size_t text_room;
};

otr_status otr_decoder_create(const otr_tokenizer *tokenizer, uint32_t flags, otr_decoder **out) {
  if (out == NULL) return otr_text_fail(OTR_STATUS_INVALID_ARGUMENT, "out is NULL");
  *out = NULL;
  if (tokenizer == NULL) return otr_text_fail(OTR_STATUS_INVALID_ARGUMENT, "tokenizer is NULL");
  if (flags > (OTR_DECODE_SPECIAL | OTR_DECODE_STRIP_PREFIX))
    return otr_text_fail(OTR_STATUS_INVALID_ARGUMENT, "unknown flags %u", (unsigned)flags);
  const otr_allocator *allocator = &tokenizer->vocabulary.allocator;
  otr_decoder *d = otr_text_take(allocator, 1, sizeof *d);
  if (d == NULL) return OTR_STATUS_NO_MEMORY;
  *d = (otr_decoder){.tokenizer = tokenizer, .flags = flags, .first = true};
  d->bytes_room = tokenizer->vocabulary.longest + MOST_HELD;
  d->text_room = d->bytes_room * 3;
  d->bytes = otr_text_take(allocator, d->bytes_room, 1);
  d->text = otr_text_take(allocator, d->text_room, 1);
  if (d->bytes == NULL || d->text == NULL) {
    otr_decoder_destroy(d);
    return OTR_STATUS_NO_MEMORY;
  }
  *out = d;
  return OTR_STATUS_OK;
}

void otr_decoder_destroy(otr_decoder *decoder) {
  if (decoder == NULL) return;
  const otr_allocator *allocator = &decoder->tokenizer->vocabulary.allocator;
  otr_text_give(allocator, decoder->bytes, decoder->bytes_room, 1);
  otr_text_give(allocator, decoder->text, decoder->text_room, 1);
  otr_text_give(allocator, decoder, 1, sizeof *decoder);
}

size_t otr_decoder_room(const otr_decoder *decoder) {
  return decoder->text_room;
}

/* Moves whole characters from bytes to text; keeps an unfinished one at the end. */
static size_t move_whole(otr_decoder *d) {
  size_t at = 0, n = 0;
  while (at < d->n_bytes) {
    otr_char c = otr_char_at(d->bytes + at, d->n_bytes - at);
    if (c.code < 0 && otr_char_is_beginning(d->bytes + at, d->n_bytes - at)) break;
    memcpy(d->text + n, c.code < 0 ? REPLACEMENT : d->bytes + at, c.code < 0 ? 3 : c.bytes);
    n += c.code < 0 ? 3 : c.bytes;
    at += c.bytes;
  }
  d->n_bytes -= at;
  memmove(d->bytes, d->bytes + at, d->n_bytes);
  return n;
}

otr_status otr_decoder_push(otr_decoder *decoder, int32_t id, const char **text, size_t *n_bytes) {
  if (decoder == NULL || text == NULL || n_bytes == NULL) return otr_text_fail(OTR_STATUS_INVALID_ARGUMENT, "NULL");
  *text = decoder->text;
  *n_bytes = 0;
  OTR_TEXT_TRY(otr_tokenizer_check_id(decoder->tokenizer, id));
  size_t bytes;
  const char *piece = otr_tokenizer_decoded(decoder->tokenizer, id, decoder->flags, decoder->first, &bytes);
  if (!otr_tokenizer_is_special(decoder->tokenizer, id)) decoder->first = false;
  if (bytes > 0) memcpy(decoder->bytes + decoder->n_bytes, piece, bytes);
  decoder->n_bytes += bytes;
  *n_bytes = move_whole(decoder);
  return OTR_STATUS_OK;
}

void otr_decoder_finish(otr_decoder *decoder, const char **text, size_t *n_bytes) {
  if (text != NULL) *text = "";
  if (n_bytes != NULL) *n_bytes = 0;
  if (decoder == NULL || text == NULL || n_bytes == NULL) return;
  if (decoder->n_bytes > 0) {
    *text = decoder->text;
    memcpy(decoder->text, REPLACEMENT, 3);
    *n_bytes = 3;
  }
  decoder->n_bytes = 0;
  decoder->first = true;
}
