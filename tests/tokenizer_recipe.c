// SPDX-License-Identifier: Apache-2.0
#include "tokenizer_recipe.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- bytes that grow --------------------------------------------------------------------------------------------- */

typedef struct bytes {
  char *data;
  size_t n, room;
  bool failed;
} bytes;

static void put(bytes *b, const void *data, size_t n) {
  if (b->n + n > b->room && !b->failed) {
    size_t room = (b->n + n) * 2 + 64;
    char *grown = realloc(b->data, room);
    b->failed = grown == NULL;
    if (grown != NULL) b->data = grown, b->room = room;
  }
  if (b->failed || n == 0) return;
  memcpy(b->data + b->n, data, n);
  b->n += n;
}

static void put_u32(bytes *b, uint32_t value) {
  put(b, &value, sizeof value);
}
static void put_u64(bytes *b, uint64_t value) {
  put(b, &value, sizeof value);
}

static void put_string(bytes *b, const char *text, size_t n) {
  put_u64(b, n);
  put(b, text, n);
}

/* ---- recipe ------------------------------------------------------------------------------------------------------ */

typedef struct recipe {
  bytes tokens, scores, types, merges, keys; /* elements; keys: whole pairs */
  uint32_t n_tokens, n_merges, n_keys;
  bool broken[128]; /* by the letters of x */
} recipe;

static void key(recipe *r, const char *name, otr_metadata_type type) {
  char full[64];
  int n = snprintf(full, sizeof full, "tokenizer.%s%s", name[0] == 'c' ? "" : "ggml.", name);
  put_string(&r->keys, full, (size_t)n);
  put_u32(&r->keys, (uint32_t)type);
  ++r->n_keys;
}

static void array(recipe *r, const char *name, otr_metadata_type type, uint64_t count, const bytes *elements) {
  key(r, name, OTR_METADATA_ARRAY);
  put_u32(&r->keys, (uint32_t)type);
  put_u64(&r->keys, count);
  put(&r->keys, elements->data, elements->n);
}

static void string_key(recipe *r, const char *name, const char *text, size_t n, bool number) {
  key(r, name, number ? OTR_METADATA_U32 : OTR_METADATA_STRING);
  if (number) {
    put_u32(&r->keys, 7);
  } else {
    put_string(&r->keys, text, n);
  }
}

static void token(recipe *r, uint32_t type, const char *text, size_t n) {
  float score = -(float)r->n_tokens++;
  put_string(&r->tokens, text, n);
  put_u32(&r->types, type);
  put(&r->scores, &score, sizeof score);
}

static void rescore(recipe *r, const char *text) {
  float score = strtof(text, NULL);
  if (r->scores.n >= sizeof score) memcpy(r->scores.data + r->scores.n - sizeof score, &score, sizeof score);
}

static void all_bytes(recipe *r) {
  char text[8];
  for (unsigned i = 0; i < 256; ++i) token(r, 6, text, (size_t)snprintf(text, sizeof text, "<0x%02X>", i));
}

static void all_letters(recipe *r) {
  for (unsigned i = 0, others = 0; i < 256; ++i) {
    bool itself = (i >= 33 && i <= 126) || (i >= 161 && i != 173);
    unsigned code = itself ? i : 256 + others++;
    char text[2] = {(char)(0xc0 | (code >> 6)), (char)(0x80 | (code & 0x3f))};
    if (code < 128) text[0] = (char)code;
    token(r, 1, text, code < 128 ? 1 : 2);
  }
}

static void id_key(recipe *r, const char *text) {
  static const char *const names[] = {"bbos_token_id", "eeos_token_id",     "oeot_token_id",
                                      "meom_token_id", "uunknown_token_id", "ppadding_token_id"};
  for (int i = 0; i < 6; ++i) {
    if (names[i][0] != text[0]) continue;
    key(r, names[i] + 1, r->broken['i'] ? OTR_METADATA_STRING : OTR_METADATA_I64);
    put_u64(&r->keys, r->broken['i'] ? 0 : (uint64_t)strtoll(text + 1, NULL, 10));
  }
}

static void flag_key(recipe *r, const char *text) {
  static const char *const names[] = {"badd_bos_token", "eadd_eos_token", "sadd_space_prefix"};
  static const uint8_t no = 0;
  bytes one = {.data = (char *)(uintptr_t)&no, .n = 1};
  uint8_t value = text[0] != '\0' && text[1] == '1';
  for (int i = 0; i < 3; ++i) {
    if (names[i][0] != text[0]) continue;
    if (r->broken['f']) {
      array(r, names[i] + 1, OTR_METADATA_BOOL, 1, &one);
    } else {
      key(r, names[i] + 1, OTR_METADATA_BOOL);
      put(&r->keys, &value, 1);
    }
  }
}

/* Undoes the escapes of a line in place. */
static size_t unescape(char *text, size_t n) {
  size_t to = 0;
  for (size_t i = 0; i < n; ++i) {
    char c = text[i];
    if (c == '\\' && i + 1 < n) {
      c = text[++i];
      if (c == 'x' && i + 2 < n) {
        char hex[3] = {text[i + 1], text[i + 2], '\0'};
        c = (char)(unsigned char)strtoul(hex, NULL, 16);
        i += 2;
      } else {
        c = c == 'n' ? '\n' : c == 'r' ? '\r' : c == 't' ? '\t' : c == 's' ? ' ' : c;
      }
    }
    text[to++] = c;
  }
  text[to] = '\0';
  return to;
}

/* One line, without its first letter; text[n] is 0. */
static void item(recipe *r, char what, char *text, size_t n) {
  switch (what) {
    case 'M':
      if (!r->broken['k']) string_key(r, "model", text, n, false);
      break;
    case 'P':
      string_key(r, "pre", text, n, r->broken['p']);
      break;
    case 'c':
      string_key(r, "chat_template", text, n, r->broken['c']);
      break;
    case 't':
      if (n > 0) token(r, (uint32_t)(text[0] - '0'), text + 1, n - 1);
      break;
    case 's':
      rescore(r, text);
      break;
    case 'B':
      all_bytes(r);
      break;
    case 'L':
      all_letters(r);
      break;
    case 'm':
      put_string(&r->merges, text, n), ++r->n_merges;
      break;
    case 'i':
      id_key(r, text);
      break;
    case 'f':
      flag_key(r, text);
      break;
    case 'x':
      if (n > 0 && text[0] > 0) r->broken[(unsigned char)text[0]] = true;
      break;
    default:
      break;
  }
}

static void arrays(recipe *r) {
  const bool *x = r->broken;
  uint32_t n = r->n_tokens;
  bytes flat = {.data = r->types.data, .n = r->types.n}, fewer = r->scores;
  uint32_t less = n > 0 && x['z'] ? 1 : 0, less_types = n > 0 && x['w'] ? 1 : 0;
  if (!x['t'] && !x['T']) array(r, "tokens", OTR_METADATA_STRING, n, &r->tokens);
  if (x['T']) array(r, "tokens", OTR_METADATA_I32, n, &flat);
  fewer.n -= less * sizeof(float);
  flat.n -= less_types * sizeof(uint32_t);
  if (!x['s']) array(r, "scores", x['S'] ? OTR_METADATA_I32 : OTR_METADATA_F32, n - less, &fewer);
  if (!x['y']) array(r, "token_type", x['Y'] ? OTR_METADATA_F32 : OTR_METADATA_I32, n - less_types, &flat);
  bytes no_merges = {.data = r->types.data, .n = r->types.n};
  if (x['M']) array(r, "merges", OTR_METADATA_U32, n, &no_merges);
  if (!x['m'] && !x['M']) array(r, "merges", OTR_METADATA_STRING, r->n_merges, &r->merges);
}

/* ---- GGUF -------------------------------------------------------------------------------------------------------- */

static int32_t read_bytes(void *user, uint64_t offset, void *destination, size_t n_bytes) {
  memcpy(destination, (const char *)user + offset, n_bytes);
  return 0;
}

/* Through a reader: what is needed of the file is copied. */
static otr_metadata *open_file(const recipe *r) {
  bytes file = {0};
  otr_metadata *metadata = NULL;
  put(&file, "GGUF", 4);
  put_u32(&file, 3);
  put_u64(&file, 0);
  put_u64(&file, r->n_keys);
  put(&file, r->keys.data, r->keys.n);
  otr_source source = {.kind = OTR_SOURCE_READER, .reader = {file.data, file.n, read_bytes}};
  if (!file.failed && !r->keys.failed) (void)otr_metadata_open(&source, &metadata);
  free(file.data);
  return metadata;
}

otr_metadata *tokenizer_recipe(const char *text, size_t n_bytes, const char **rest, size_t *rest_bytes) {
  recipe *r = calloc(1, sizeof *r);
  otr_metadata *metadata = NULL;
  char *line = malloc(n_bytes + 1);
  size_t at = 0;
  while (r != NULL && line != NULL && at < n_bytes && text[at] != '\n') {
    const char *end = memchr(text + at, '\n', n_bytes - at);
    size_t n = end != NULL ? (size_t)(end - text) - at : n_bytes - at;
    memcpy(line, text + at + 1, n - 1);
    item(r, text[at], line, unescape(line, n - 1));
    at += n + (end != NULL);
  }
  if (at < n_bytes) ++at;
  if (rest != NULL) *rest = text + at;
  if (rest_bytes != NULL) *rest_bytes = n_bytes - at;
  if (r != NULL && line != NULL) {
    arrays(r);
    metadata = open_file(r);
    free(r->tokens.data);
    free(r->scores.data);
    free(r->types.data);
    free(r->merges.data);
    free(r->keys.data);
  }
  free(line);
  free(r);
  return metadata;
}
