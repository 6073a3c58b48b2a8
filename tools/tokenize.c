// SPDX-License-Identifier: Apache-2.0
/* outrider tokenize: text to ids and pieces, ids to text. */
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "language.h"
#include "status.h"

typedef struct arguments {
  const char *model, *file, *text;
  int32_t json, decode, special, parse_special, plain;
} arguments;

enum { KEY_IDS = TOOL_KEY_OWN, KEY_SPECIAL, KEY_PARSE, KEY_PLAIN };
static const struct argp_option rows[] = {
    {"prompt", 'p', "TEXT", 0, "the text, instead of FILE", 0},
    {"ids", KEY_IDS, NULL, 0, "the other way: the text is ids, separated by blanks; print what they stand for", 0},
    {"special", KEY_SPECIAL, NULL, 0,
     "add the begin and end tokens that the model wants; with --ids write control "
     "tokens out",
     0},
    {"parse-special", KEY_PARSE, NULL, 0, "control tokens that stand in the text become their ids", 0},
    {"ids-only", KEY_PLAIN, NULL, 0, "print the ids on one line and nothing else", 0},
    TOOL_JSON_OPTION,
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state) {
  arguments *a = state->input;
  switch (key) {
    case 'p':
      a->text = arg;
      return 0;
    case KEY_IDS:
      a->decode = 1;
      return 0;
    case KEY_SPECIAL:
      a->special = 1;
      return 0;
    case KEY_PARSE:
      a->parse_special = 1;
      return 0;
    case KEY_PLAIN:
      a->plain = 1;
      return 0;
    case TOOL_KEY_JSON:
      a->json = 1;
      return 0;
    case ARGP_KEY_ARG:
      if (a->model) {
        tool_take_file(state, &a->file, arg);
      } else {
        a->model = arg;
      }
      return 0;
    case ARGP_KEY_END:
      if (!a->model) argp_error(state, "MODEL is missing");
      if (!a->file == !a->text) argp_error(state, "either -p TEXT or a FILE (- for standard input)");
      return 0;
    default:
      return ARGP_ERR_UNKNOWN;
  }
}

static const struct argp argp = {
    .options = rows,
    .parser = parse,
    .args_doc = "MODEL [FILE]",
    .doc = "Prints the token ids of a text and the piece that each stands for." TOOL_EXIT_DOC,
};

static otr_status read_text(const arguments *a, char **text, size_t *n_bytes) {
  if (a->file) return tool_read_file(a->file, text, n_bytes);
  *n_bytes = strlen(a->text);
  OTR_TRY(tool_allocate(*n_bytes + 1, 1, (void **)text));
  memcpy(*text, a->text, *n_bytes);
  return OTR_STATUS_OK;
}

/* A piece as a JSON string; bytes that are no UTF-8 of their own as "<0xE2><0x82>". */
static json_t *piece_json(const char *piece, size_t n) {
  json_t *string = json_stringn(piece, n);
  if (string) return string;
  char *text;
  if (tool_allocate(6 * n + 1, 1, (void **)&text) != OTR_STATUS_OK) return NULL;
  for (size_t i = 0; i < n; i++) snprintf(text + 6 * i, 7, "<0x%02X>", (unsigned)(unsigned char)piece[i]);
  string = json_string(text);
  free(text);
  return string;
}

static otr_status print_ids(const tool_language *language, const int32_t *ids, int32_t n, const arguments *a) {
  json_t *list = json_array(), *pieces = json_array();
  otr_status status = OTR_STATUS_OK;
  for (int32_t i = 0; i < n && status == OTR_STATUS_OK; i++) {
    const char *piece;
    size_t n_bytes;
    status = tool_text_status(otr_tokenizer_piece(language->tokenizer, ids[i], &piece, &n_bytes));
    if (status != OTR_STATUS_OK) break;
    json_t *string = piece_json(piece, n_bytes);
    char *quoted = a->json || a->plain ? NULL : json_dumps(string, JSON_ENCODE_ANY);
    if (a->plain && !a->json) printf("%s%d", i ? " " : "", (int)ids[i]);
    if (quoted) printf("%8d  %s\n", (int)ids[i], quoted);
    free(quoted);
    json_array_append_new(list, json_integer(ids[i]));
    json_array_append_new(pieces, string);
  }
  if (a->plain && !a->json) putchar('\n');
  if (status == OTR_STATUS_OK && a->json) {
    return tool_print_json(json_pack("{s:o, s:o}", "ids", list, "pieces", pieces));
  }
  json_decref(list);
  json_decref(pieces);
  return status;
}

static otr_status encode(const arguments *a, const tool_language *language, const char *text, size_t n_bytes) {
  uint32_t flags =
      (a->special ? (uint32_t)OTR_ENCODE_ADD_SPECIAL : 0) | (a->parse_special ? (uint32_t)OTR_ENCODE_PARSE_SPECIAL : 0);
  int32_t *ids, n;
  OTR_TRY(tool_encode(language, text, n_bytes, flags, &ids, &n));
  otr_status status = print_ids(language, ids, n, a);
  free(ids);
  return status;
}

static otr_status decode_ids(const arguments *a, const tool_language *language, const int32_t *ids, int32_t n) {
  uint32_t flags = (uint32_t)OTR_DECODE_STRIP_PREFIX | (a->special ? (uint32_t)OTR_DECODE_SPECIAL : 0);
  size_t n_bytes, written;
  otr_status status = otr_tokenizer_decode(language->tokenizer, ids, n, flags, NULL, 0, &n_bytes);
  if (status != OTR_STATUS_OK && status != OTR_STATUS_BUFFER_TOO_SMALL) return tool_text_status(status);
  char *text;
  OTR_TRY(tool_allocate(n_bytes + 1, 1, (void **)&text));
  status = tool_text_status(otr_tokenizer_decode(language->tokenizer, ids, n, flags, text, n_bytes, &written));
  if (status == OTR_STATUS_OK && a->json) {
    status = tool_print_json(json_pack("{s:o}", "text", piece_json(text, n_bytes)));
  } else if (status == OTR_STATUS_OK) {
    fwrite(text, 1, n_bytes, stdout);
    if (n_bytes == 0 || text[n_bytes - 1] != '\n') putchar('\n');
  }
  free(text);
  return status;
}

static otr_status tokenize(const arguments *a, const tool_language *language) {
  if (a->decode) {
    tool_ids ids;
    OTR_TRY(a->file ? tool_ids_read(a->file, language->info.vocab, &ids)
                    : tool_ids_parse(a->text, language->info.vocab, &ids));
    otr_status status = decode_ids(a, language, ids.ids, (int32_t)ids.start[ids.n]);
    tool_ids_free(&ids);
    return status;
  }
  char *text;
  size_t n_bytes;
  OTR_TRY(read_text(a, &text, &n_bytes));
  otr_status status = encode(a, language, text, n_bytes);
  free(text);
  return status;
}

int tool_tokenize(int argc, char **argv) {
  arguments a = {0};
  tool_parse(&argp, argc, argv, &a);
  tool_language language;
  otr_status status = tool_language_open(a.model, &language);
  if (status == OTR_STATUS_OK) status = tokenize(&a, &language);
  tool_language_close(&language);
  return tool_report(status);
}
