// SPDX-License-Identifier: Apache-2.0
#include "language.h"

#include <stdlib.h>
#include <string.h>

#include "source.h"
#include "status.h"

otr_status tool_text_status(otr_status status) {
  return status == OTR_STATUS_OK ? status : otr_fail(status, "%s", otr_text_error_detail());
}

/* The metadata of a GGUF file, or of a Hugging Face directory as a GGUF has it. */
typedef struct text_metadata {
  const otr_metadata *metadata;
  otr_metadata *own;
  source *directory;
  otr_memory memory;
} text_metadata;

static void close_metadata(text_metadata *m) {
  otr_metadata_close(m->own);
  source_close(m->directory);
}

static otr_status open_metadata(const char *path, text_metadata *m) {
  otr_source file = {.kind = OTR_SOURCE_PATH, .path = path};
  *m = (text_metadata){0};
  if (!tool_is_directory(path)) {
    OTR_TRY(otr_metadata_open(&file, &m->own));
    m->metadata = m->own;
    return OTR_STATUS_OK;
  }
  otr_memory_init(&m->memory, NULL);
  OTR_TRY(source_open(path, &m->memory, &m->directory));
  m->metadata = &source_gguf(m->directory)->metadata;
  return OTR_STATUS_OK;
}

/* A file may well be without one: its model takes ids. */
static otr_status create_tokenizer(const otr_metadata *metadata, otr_tokenizer **out) {
  otr_metadata_value value;
  if (!otr_metadata_find(metadata, "tokenizer.ggml.model", &value))
    return otr_fail(OTR_STATUS_UNSUPPORTED,
                    "no tokenizer (tokenizer.ggml.model): the model takes token ids alone, which perplexity, compare, "
                    "analyze and logits read from a file (--tokens)");
  return tool_text_status(otr_tokenizer_create(metadata, NULL, out));
}

otr_status tool_language_open(const char *path, tool_language *out) {
  *out = (tool_language){.info = OTR_TOKENIZER_INFO_INIT};
  text_metadata m;
  OTR_TRY(open_metadata(path, &m));
  otr_status status = create_tokenizer(m.metadata, &out->tokenizer);
  close_metadata(&m);
  if (status != OTR_STATUS_OK) return otr_fail_in(status, "%s", path);
  return tool_text_status(otr_tokenizer_get_info(out->tokenizer, &out->info));
}

otr_status tool_language_chat(const char *path, const char *name, tool_language *language) {
  if (name) return tool_text_status(otr_chat_template_by_name(name, &language->chat));
  text_metadata m;
  otr_metadata_value value;
  OTR_TRY(open_metadata(path, &m));
  otr_status status = OTR_STATUS_OK;
  language->chat = OTR_CHAT_NONE;
  if (otr_metadata_find(m.metadata, "tokenizer.chat_template", &value)) {
    status = tool_text_status(otr_chat_template_of_metadata(m.metadata, &language->chat));
    if (status == OTR_STATUS_UNSUPPORTED)
      status = otr_fail(status,
                        "the model's chat template is not one of those known: `run --raw' takes a prompt that is "
                        "rendered already, --template NAME takes another template");
  }
  close_metadata(&m);
  return status;
}

void tool_language_close(tool_language *language) {
  otr_tokenizer_destroy(language->tokenizer);
  language->tokenizer = NULL;
}

otr_status tool_encode(const tool_language *language, const char *text, size_t n_bytes, uint32_t flags, int32_t **ids,
                       int32_t *n) {
  otr_status status = OTR_STATUS_BUFFER_TOO_SMALL;
  *ids = NULL;
  /* A token is hardly ever less than a byte: the first try nearly always has room, the second always. */
  for (size_t capacity = n_bytes + 4; status == OTR_STATUS_BUFFER_TOO_SMALL; capacity = (size_t)*n) {
    free(*ids);
    *ids = NULL;
    if (capacity > INT32_MAX) return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "a text of %zu bytes is too long", n_bytes);
    OTR_TRY(tool_allocate(capacity, sizeof **ids, (void **)ids));
    status = otr_tokenizer_encode(language->tokenizer, text, n_bytes, flags, *ids, (int32_t)capacity, n);
  }
  if (status == OTR_STATUS_OK) return status;
  free(*ids);
  *ids = NULL;
  return tool_text_status(status);
}

/* The text of a special id, 0-terminated; NULL where there is none (the template's family's own is right then). */
static otr_status special_text(const tool_language *language, int32_t id, char **out) {
  const char *piece;
  size_t n;
  *out = NULL;
  if (id < 0 || otr_tokenizer_piece(language->tokenizer, id, &piece, &n) != OTR_STATUS_OK) return OTR_STATUS_OK;
  OTR_TRY(tool_allocate(n + 1, 1, (void **)out));
  memcpy(*out, piece, n);
  return OTR_STATUS_OK;
}

static otr_status render(const tool_language *language, const otr_chat_message *messages, int32_t n,
                         const otr_chat_params *params, char **text, size_t *n_bytes) {
  otr_status status = otr_chat_apply(language->chat, messages, n, 1, params, NULL, 0, n_bytes);
  if (status != OTR_STATUS_OK && status != OTR_STATUS_BUFFER_TOO_SMALL) return tool_text_status(status);
  OTR_TRY(tool_allocate(*n_bytes + 1, 1, (void **)text));
  status = tool_text_status(otr_chat_apply(language->chat, messages, n, 1, params, *text, *n_bytes, n_bytes));
  if (status != OTR_STATUS_OK) {
    free(*text);
    *text = NULL;
  }
  return status;
}

otr_status tool_render(const tool_language *language, const otr_chat_message *messages, int32_t n, char **text,
                       size_t *n_bytes) {
  char *bos = NULL, *eos = NULL;
  *text = NULL;
  otr_status status = special_text(language, language->info.bos, &bos);
  if (status == OTR_STATUS_OK) status = special_text(language, language->info.eos, &eos);
  if (status == OTR_STATUS_OK) {
    otr_chat_params params = OTR_CHAT_PARAMS_INIT;
    params.bos = bos;
    params.eos = eos;
    status = render(language, messages, n, &params, text, n_bytes);
  }
  free(bos);
  free(eos);
  return status;
}

static otr_status encode_chat(const tool_language *language, const char *system, const char *prompt, int32_t **ids,
                              int32_t *n) {
  otr_chat_message messages[2];
  int32_t n_messages = 0;
  char *text;
  size_t n_bytes;
  if (system) messages[n_messages++] = (otr_chat_message){"system", system};
  messages[n_messages++] = (otr_chat_message){"user", prompt};
  OTR_TRY(tool_render(language, messages, n_messages, &text, &n_bytes));
  otr_status status = tool_encode(language, text, n_bytes, OTR_ENCODE_PARSE_SPECIAL, ids, n);
  free(text);
  return status;
}

otr_status tool_encode_prompt(const tool_language *language, const char *system, const char *prompt, size_t n_bytes,
                              int32_t **ids, int32_t *n) {
  *ids = NULL;
  if (language->chat != OTR_CHAT_NONE) {
    OTR_TRY(encode_chat(language, system, prompt, ids, n));
  } else if (system) {
    return otr_fail(OTR_STATUS_UNSUPPORTED, "the model has no chat template that --system could go to");
  } else {
    OTR_TRY(tool_encode(language, prompt, n_bytes, OTR_ENCODE_ADD_SPECIAL, ids, n));
  }
  return *n > 0 ? OTR_STATUS_OK : otr_fail(OTR_STATUS_INVALID_ARGUMENT, "the prompt is empty");
}
