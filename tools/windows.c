// SPDX-License-Identifier: Apache-2.0
#include "windows.h"

#include <stdlib.h>
#include <string.h>

#include "language.h"
#include "status.h"

/* ---- options ---------------------------------------------------------------------------------------------------- */

enum { KEY_TEXT = TOOL_KEY_WINDOWS, KEY_TOKENS, KEY_CTX, KEY_WINDOWS };
#define TOKENS_ROW \
  { "tokens", KEY_TOKENS, "FILE", 0, "token ids instead of a text, one window a line", 0 }
#define CTX_ROW \
  { "ctx", KEY_CTX, "N", 0, "tokens of a window (default 512)", 0 }
static const struct argp_option rows[] = {
    {"text", KEY_TEXT, "FILE", 0, "the text, cut into windows (- for standard input)", 0},
    TOKENS_ROW,
    CTX_ROW,
    {"windows", KEY_WINDOWS, "N", 0, "only the first N windows (default 8)", 0},
    {0}};
static const struct argp_option plain_rows[] = {
    TOKENS_ROW, CTX_ROW, {"windows", KEY_WINDOWS, "N", 0, "only the first N windows", 0}, {0}};

static error_t parse_plain(int key, char *arg, struct argp_state *state) {
  tool_window_rule *rule = state->input;
  switch (key) {
    case KEY_TEXT:
      rule->text = arg;
      return 0;
    case KEY_TOKENS:
      rule->tokens = arg;
      return 0;
    case KEY_CTX:
      rule->n_ctx = (int32_t)tool_integer(state, "--ctx", arg, 2, 1 << 17);
      return 0;
    case KEY_WINDOWS:
      rule->limit = (int32_t)tool_integer(state, "--windows", arg, 1, 1 << 20);
      return 0;
    default:
      return ARGP_ERR_UNKNOWN;
  }
}

static error_t parse(int key, char *arg, struct argp_state *state) {
  const tool_window_rule *rule = state->input;
  if (key != ARGP_KEY_END) return parse_plain(key, arg, state);
  if (!rule->text == !rule->tokens) argp_error(state, "either --text or --tokens");
  return 0;
}

const struct argp tool_windows_argp = {.options = rows, .parser = parse};
const struct argp tool_windows_plain_argp = {.options = plain_rows, .parser = parse_plain};

/* ---- windows of a text ------------------------------------------------------------------------------------------ */

/* Appends [bos] ids[n] as a window. */
static otr_status append(tool_ids *out, const tool_window_rule *rule, int32_t bos, const int32_t *ids, size_t n) {
  if (rule->limit && out->n >= (size_t)rule->limit) return OTR_STATUS_OK;
  int32_t *window;
  OTR_TRY(tool_allocate(n + 1, sizeof *window, (void **)&window));
  window[0] = bos;
  memcpy(window + 1, ids, n * sizeof *window);
  otr_status status = rule->bos ? tool_ids_append(out, window, n + 1) : tool_ids_append(out, ids, n);
  free(window);
  return status;
}

static otr_status begin_token(const tool_window_rule *rule, const tool_language *language, int32_t *bos) {
  *bos = language->info.bos;
  if (rule->bos && *bos < 0) return otr_fail(OTR_STATUS_UNSUPPORTED, "--bos: the model names no begin token");
  return OTR_STATUS_OK;
}

static otr_status add_whole(const tool_language *language, const char *text, size_t n_bytes,
                            const tool_window_rule *rule, tool_ids *out) {
  int32_t *ids, n, bos;
  OTR_TRY(begin_token(rule, language, &bos));
  OTR_TRY(tool_encode(language, text, n_bytes, 0, &ids, &n));
  const int32_t step = rule->n_ctx - (rule->bos ? 1 : 0);
  otr_status status = OTR_STATUS_OK;
  for (int32_t at = 0; at < n && status == OTR_STATUS_OK; at += step) {
    int32_t length = n - at < step ? n - at : step;
    if (length == step || at == 0) status = append(out, rule, bos, ids + at, (size_t)length);
  }
  free(ids);
  return status;
}

static otr_status add_piece(const tool_language *language, const char *text, size_t n_bytes,
                            const tool_window_rule *rule, tool_ids *out) {
  int32_t *ids, n, bos;
  OTR_TRY(begin_token(rule, language, &bos));
  OTR_TRY(tool_encode(language, text, n_bytes, 0, &ids, &n));
  const int32_t most = rule->n_ctx - (rule->bos ? 1 : 0);
  otr_status status = append(out, rule, bos, ids, (size_t)(n < most ? n : most));
  free(ids);
  return status;
}

/* Pieces are what lies between blank lines, without the newlines at their ends. */
static otr_status add_pieces(const tool_language *language, const char *text, size_t n_bytes,
                             const tool_window_rule *rule, tool_ids *out) {
  const char *end = text + n_bytes;
  while (text < end) {
    while (text < end && *text == '\n') text++;
    const char *stop = text;
    while (stop < end && !(stop[0] == '\n' && (stop + 1 == end || stop[1] == '\n'))) stop++;
    if (stop > text) OTR_TRY(add_piece(language, text, (size_t)(stop - text), rule, out));
    text = stop;
  }
  return OTR_STATUS_OK;
}

static otr_status of_text(const char *model_path, const tool_window_rule *rule, tool_ids *out) {
  char *text;
  size_t n_bytes;
  tool_language language;
  OTR_TRY(tool_read_file(rule->text, &text, &n_bytes));
  otr_status status = tool_language_open(model_path, &language);
  if (status == OTR_STATUS_OK) {
    status = (rule->pieces ? add_pieces : add_whole)(&language, text, n_bytes, rule, out);
  }
  if (status == OTR_STATUS_OK && out->n == 0) status = otr_fail(OTR_STATUS_INVALID_ARGUMENT, "%s is empty", rule->text);
  tool_language_close(&language);
  free(text);
  return status;
}

/* ---- windows of ids --------------------------------------------------------------------------------------------- */

static otr_status add_lines(const tool_language *language, const tool_ids *lines, const tool_window_rule *rule,
                            tool_ids *out) {
  int32_t bos = -1;
  if (language) OTR_TRY(begin_token(rule, language, &bos));
  for (size_t i = 0; i < lines->n; i++) {
    OTR_TRY(append(out, rule, bos, lines->ids + lines->start[i], tool_ids_length(lines, i)));
  }
  return OTR_STATUS_OK;
}

static otr_status of_ids(const char *model_path, int32_t vocab, const tool_window_rule *rule, tool_ids *out) {
  tool_ids lines;
  tool_language language = {0};
  OTR_TRY(tool_ids_read(rule->tokens, vocab, &lines));
  otr_status status = rule->bos ? tool_language_open(model_path, &language) : OTR_STATUS_OK;
  if (status == OTR_STATUS_OK) status = add_lines(rule->bos ? &language : NULL, &lines, rule, out);
  tool_language_close(&language);
  tool_ids_free(&lines);
  return status;
}

otr_status tool_windows(const char *model_path, int32_t vocab, const tool_window_rule *rule, tool_ids *out) {
  *out = (tool_ids){0};
  otr_status status = rule->tokens ? of_ids(model_path, vocab, rule, out) : of_text(model_path, rule, out);
  if (status != OTR_STATUS_OK) tool_ids_free(out);
  return status;
}
