// SPDX-License-Identifier: Apache-2.0
/* Tokenizers of fuzzed vocabularies, merges and keys (tests/tokenizer_recipe.h); what is behind the recipe is encoded,
 * decoded, streamed, split. Beyond not crashing, the answers must agree with each other. */
#include <stdlib.h>
#include <string.h>

#include "outrider/text.h"
#include "split.h"
#include "tokenizer_recipe.h"
#include "unicode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(int holds) {
  if (!holds) abort();
}

/* The sized call, then one into a buffer of exactly that size, then one that is too small. */
static int32_t *encode(const otr_tokenizer *t, const char *text, size_t n_bytes, uint32_t flags, int32_t *n) {
  int32_t again;
  otr_status status = otr_tokenizer_encode(t, text, n_bytes, flags, NULL, 0, n);
  demand(status == OTR_STATUS_OK ? *n == 0 : status == OTR_STATUS_BUFFER_TOO_SMALL && *n > 0);
  int32_t *ids = malloc(((size_t)*n + 1) * sizeof *ids);
  if (ids == NULL) return NULL;
  demand(otr_tokenizer_encode(t, text, n_bytes, flags, ids, *n, &again) == OTR_STATUS_OK && again == *n);
  for (int32_t i = 0; i < *n; ++i) demand(ids[i] >= 0 && ids[i] < otr_tokenizer_vocab(t));
  if (*n > 1) {
    int32_t first;
    status = otr_tokenizer_encode(t, text, n_bytes, flags, &first, 1, &again);
    demand(status == OTR_STATUS_BUFFER_TOO_SMALL && again == *n && first == ids[0]);
  }
  return ids;
}

static void decode(const otr_tokenizer *t, const int32_t *ids, int32_t n, uint32_t flags) {
  size_t n_bytes, again;
  otr_status status = otr_tokenizer_decode(t, ids, n, flags, NULL, 0, &n_bytes);
  demand(status == OTR_STATUS_OK ? n_bytes == 0 : status == OTR_STATUS_BUFFER_TOO_SMALL);
  char *text = malloc(n_bytes + 1);
  if (text == NULL) return;
  demand(otr_tokenizer_decode(t, ids, n, flags, text, n_bytes, &again) == OTR_STATUS_OK && again == n_bytes);
  free(text);
}

static void demand_utf8(const char *text, size_t n_bytes) {
  for (size_t at = 0; at < n_bytes;) {
    otr_char c = otr_char_at(text + at, n_bytes - at);
    demand(c.code >= 0);
    at += c.bytes;
  }
}

static void stream(const otr_tokenizer *t, const int32_t *ids, int32_t n, uint32_t flags) {
  otr_decoder *decoder;
  const char *text;
  size_t n_bytes;
  if (otr_decoder_create(t, flags, &decoder) != OTR_STATUS_OK) return;
  for (int32_t i = 0; i < n; ++i) {
    demand(otr_decoder_push(decoder, ids[i], &text, &n_bytes) == OTR_STATUS_OK);
    demand_utf8(text, n_bytes);
  }
  otr_decoder_finish(decoder, &text, &n_bytes);
  demand_utf8(text, n_bytes);
  otr_decoder_destroy(decoder);
}

static void pieces(const otr_tokenizer *t) {
  for (int32_t id = 0; id < otr_tokenizer_vocab(t); ++id) {
    const char *piece;
    size_t n_bytes;
    demand(otr_tokenizer_piece(t, id, &piece, &n_bytes) == OTR_STATUS_OK);
    int32_t found = otr_tokenizer_find(t, piece, n_bytes);
    demand(found < otr_tokenizer_vocab(t) && (n_bytes == 0 || found >= 0));
    (void)otr_tokenizer_is_special(t, id);
    (void)otr_tokenizer_is_end_of_generation(t, id);
  }
}

static void split(const char *text, size_t n_bytes) {
  for (int kind = OTR_SPLIT_GPT2; kind <= OTR_SPLIT_DEFAULT; ++kind) {
    otr_split s;
    size_t sum = 0;
    otr_split_begin(&s, (otr_split_kind)kind, text, n_bytes);
    for (size_t n = otr_split_next(&s); n > 0; n = otr_split_next(&s)) sum += n;
    demand(sum == n_bytes);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const char *text;
  size_t n_bytes;
  otr_tokenizer *tokenizer;
  otr_chat_template chat;
  otr_metadata *metadata = tokenizer_recipe((const char *)data, size, &text, &n_bytes);
  if (metadata == NULL) return 0;
  otr_status status = otr_tokenizer_create(metadata, NULL, &tokenizer);
  (void)otr_chat_template_of_metadata(metadata, &chat);
  otr_metadata_close(metadata);
  split(text, n_bytes);
  if (status != OTR_STATUS_OK) {
    demand(tokenizer == NULL && otr_text_error_detail()[0] != '\0');
    return 0;
  }
  pieces(tokenizer);
  for (uint32_t flags = 0; flags < 4; ++flags) {
    int32_t n;
    int32_t *ids = encode(tokenizer, text, n_bytes, flags, &n);
    if (ids != NULL) decode(tokenizer, ids, n, flags);
    if (ids != NULL) stream(tokenizer, ids, n, flags);
    free(ids);
  }
  otr_tokenizer_destroy(tokenizer);
  return 0;
}
