// SPDX-License-Identifier: Apache-2.0
#include "import_tokenizer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common.h"
#include "import_tokenizer_parts.h"
#include "status.h"

/* Ten times the largest tokenizer.json there is. */
#define MOST_FILE_BYTES ((off_t)512 << 20)

typedef struct folder {
  const char *path;
  tokenizer_draft *draft;
  json_t *config, *specials, *generation, *model; /* tokenizer_config, special_tokens_map, generation_config, config */
} folder;

/* ---- files ------------------------------------------------------------------------------------------------------- */

/* A file of the directory, freed by the caller; *text NULL where there is none. */
static otr_status load_file(const folder *f, const char *name, char **text, size_t *n_bytes) {
  char path[4096];
  struct stat info;
  *text = NULL;
  *n_bytes = 0;
  int n = snprintf(path, sizeof path, "%s/%s", f->path, name);
  if (n < 0 || (size_t)n >= sizeof path) return otr_fail(OTR_STATUS_IO, "a path of %d characters", n);
  if (stat(path, &info) != 0) {
    if (errno == ENOENT) return OTR_STATUS_OK;
    return otr_fail(OTR_STATUS_IO, "%s: %s", path, strerror(errno));
  }
  if (!S_ISREG(info.st_mode)) return otr_fail(OTR_STATUS_IO, "%s: not a file", path);
  if (info.st_size > MOST_FILE_BYTES)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "%s: %lld bytes are too many for a tokenizer", path,
                    (long long)info.st_size);
  return tool_read_file(path, text, n_bytes);
}

/* The same, kept by the draft. */
static otr_status read_file(const folder *f, const char *name, char **text, size_t *n_bytes) {
  OTR_TRY(load_file(f, name, text, n_bytes));
  return draft_keep(f->draft, NULL, *text);
}

/* A file parsed, kept by the draft; *root NULL where there is none. */
static otr_status read_json(const folder *f, const char *name, json_t **root) {
  char *text;
  size_t n_bytes;
  *root = NULL;
  OTR_TRY(load_file(f, name, &text, &n_bytes));
  if (text == NULL) return OTR_STATUS_OK;
  otr_status status = parts_parse(text, n_bytes, root);
  free(text);
  if (status == OTR_STATUS_OK) status = draft_keep(f->draft, *root, NULL);
  return status == OTR_STATUS_OK ? status : otr_fail_in(status, "%s/%s", f->path, name);
}

static otr_status in_file(const folder *f, const char *name, otr_status status) {
  return status == OTR_STATUS_OK ? status : otr_fail_in(status, "%s/%s", f->path, name);
}

/* ---- the three forms --------------------------------------------------------------------------------------------- */

/* What vocab.json and merges.txt do not say themselves. */
static const struct form {
  const char *class, *model_type, *pre;
  bool nfc;
} forms[] = {
    {"GPT2Tokenizer", "gpt2", "gpt-2", false},
    {"GPT2TokenizerFast", "opt", "gpt-2", false},
    {"Qwen2Tokenizer", "qwen2", "qwen2", true},
    {"Qwen2TokenizerFast", "qwen3", "qwen2", true},
};

/* By the tokenizer's class, or where no file names one by the model's type. */
static otr_status find_form(const folder *f) {
  const char *class = parts_text(f->config, "tokenizer_class", NULL);
  const char *type = parts_text(f->model, "model_type", NULL);
  if (class == NULL) class = parts_text(f->model, "tokenizer_class", NULL);
  if (parts_flag(f->config, "add_prefix_space", false))
    return otr_fail(OTR_STATUS_UNSUPPORTED, "%s/tokenizer_config.json: add_prefix_space is not supported", f->path);
  for (size_t i = 0; i < sizeof forms / sizeof *forms; ++i) {
    bool found =
        class != NULL ? strcmp(class, forms[i].class) == 0 : type != NULL && strcmp(type, forms[i].model_type) == 0;
    if (!found) continue;
    f->draft->pre = forms[i].pre;
    f->draft->nfc = forms[i].nfc;
    return OTR_STATUS_OK;
  }
  return otr_fail(OTR_STATUS_UNSUPPORTED,
                  "%s: how \"%.64s\" cuts text is not known; a tokenizer.json would say it (save the tokenizer with "
                  "transformers' fast class)",
                  f->path,
                  class != NULL  ? class
                  : type != NULL ? type
                                 : "an unnamed tokenizer class");
}

static otr_status read_two_files(const folder *f, const json_t *vocab) {
  char *merges;
  size_t n_bytes;
  OTR_TRY(find_form(f));
  OTR_TRY(in_file(f, "vocab.json", parts_vocabulary(f->draft, vocab)));
  OTR_TRY(read_file(f, "merges.txt", &merges, &n_bytes));
  if (merges == NULL) return otr_fail(OTR_STATUS_BAD_FORMAT, "%s: there is vocab.json, but no merges.txt", f->path);
  f->draft->add_bos = parts_flag(f->config, "add_bos_token", false);
  f->draft->add_eos = parts_flag(f->config, "add_eos_token", false);
  return in_file(f, "merges.txt", parts_merges_text(f->draft, vocab, merges, n_bytes));
}

static otr_status read_sentencepiece(const folder *f, const char *bytes, size_t n_bytes) {
  OTR_TRY(in_file(f, "tokenizer.model", parts_sentencepiece(f->draft, bytes, n_bytes)));
  f->draft->add_bos = parts_flag(f->config, "add_bos_token", true);
  f->draft->add_eos = parts_flag(f->config, "add_eos_token", false);
  return OTR_STATUS_OK;
}

/* Tokens that were added to a vocabulary whose own file does not hold them. */
static otr_status read_added(const folder *f) {
  const json_t *decoder = json_object_get(f->config, "added_tokens_decoder");
  json_t *added, *value;
  const char *name;
  OTR_TRY(read_json(f, "added_tokens.json", &added));
  json_object_foreach(added, name, value) {
    if (!json_is_integer(value))
      return otr_fail(OTR_STATUS_BAD_FORMAT, "%s/added_tokens.json: the id of \"%.32s\" is no integer", f->path, name);
    otr_status status = draft_add(f->draft, json_integer_value(value), name, strlen(name), false);
    OTR_TRY(in_file(f, "added_tokens.json", status));
  }
  json_object_foreach((json_t *)(uintptr_t)decoder, name, value) {
    char *end;
    errno = 0;
    long long id = strtoll(name, &end, 10);
    if (errno != 0 || *end != '\0' || end == name)
      return otr_fail(OTR_STATUS_BAD_FORMAT, "%s/tokenizer_config.json: \"%.32s\" is no id", f->path, name);
    OTR_TRY(in_file(f, "tokenizer_config.json", parts_added(f->draft, id, value)));
  }
  return OTR_STATUS_OK;
}

/* *found 0 where there is none of them. */
static otr_status read_tokens(const folder *f, int *found) {
  json_t *root;
  char *bytes;
  size_t n_bytes;
  *found = 1;
  OTR_TRY(read_json(f, "tokenizer.json", &root));
  if (root != NULL) return in_file(f, "tokenizer.json", parts_tokenizer_json(f->draft, root));
  OTR_TRY(read_file(f, "tokenizer.model", &bytes, &n_bytes));
  if (bytes == NULL) {
    OTR_TRY(read_json(f, "vocab.json", &root));
    *found = root != NULL;
    if (root == NULL) return OTR_STATUS_OK;
  }
  OTR_TRY(bytes != NULL ? read_sentencepiece(f, bytes, n_bytes) : read_two_files(f, root));
  return read_added(f);
}

/* ---- special tokens ---------------------------------------------------------------------------------------------- */

/* The id of a special token by its name in the side files: a text, or an object with one; −1 for none. */
static int32_t special_id(const folder *f, const char *name) {
  const json_t *files[] = {f->config, f->specials};
  for (int i = 0; i < 2; ++i) {
    const json_t *value = json_object_get(files[i], name);
    if (json_is_object(value)) value = json_object_get(value, "content");
    if (!json_is_string(value)) continue;
    int32_t id = draft_find(f->draft, json_string_value(value), json_string_length(value));
    if (id >= 0) return id;
  }
  return -1;
}

/* The first id of a member that is an id or a list of them, −1 for none. */
static int32_t first_id(const folder *f, const json_t *object, const char *name) {
  const json_t *value = json_object_get(object, name);
  if (json_is_array(value)) value = json_array_get(value, 0);
  bool there = json_is_integer(value) && draft_at(f->draft, json_integer_value(value)) != NULL;
  return there ? (int32_t)json_integer_value(value) : -1;
}

/* A special token: as the side files name it, else as it was, else by its id in the model's own files. */
static void choose(const folder *f, const char *name, const char *id_name, bool fixed, int32_t *id) {
  int32_t by_name = special_id(f, name);
  if (!fixed && by_name >= 0) *id = by_name;
  if (*id < 0 && f->config == NULL) *id = first_id(f, f->generation, id_name);
  if (*id < 0 && f->config == NULL) *id = first_id(f, f->model, id_name);
  draft_token *token = draft_at(f->draft, *id);
  if (token != NULL && token->type == DRAFT_NORMAL) token->type = DRAFT_CONTROL;
}

static void read_special(const folder *f) {
  tokenizer_draft *draft = f->draft;
  const json_t *ends = json_object_get(f->generation, "eos_token_id");
  choose(f, "bos_token", "bos_token_id", draft->fixed_bos, &draft->bos);
  choose(f, "eos_token", "eos_token_id", draft->fixed_eos, &draft->eos);
  choose(f, "pad_token", "pad_token_id", false, &draft->pad);
  int32_t unk = special_id(f, "unk_token");
  if (draft->unk < 0) draft->unk = unk;
  if (json_is_integer(ends)) draft_end_id(draft, json_integer_value(ends));
  for (size_t i = 0; i < json_array_size(ends); ++i) draft_end_id(draft, json_integer_value(json_array_get(ends, i)));
}

/* ---- chat template ----------------------------------------------------------------------------------------------- */

/* "chat_template" of an object: a text, or the one that a list of named ones calls default. */
static const char *template_of(const json_t *object) {
  const json_t *value = json_object_get(object, "chat_template");
  if (json_is_string(value)) return json_string_value(value);
  for (size_t i = 0; i < json_array_size(value); ++i) {
    const json_t *entry = json_array_get(value, i);
    const char *name = parts_text(entry, "name", NULL), *text = parts_text(entry, "template", NULL);
    if (name != NULL && text != NULL && strcmp(name, "default") == 0) return text;
  }
  return NULL;
}

static otr_status read_chat_template(const folder *f) {
  char *text;
  size_t n_bytes;
  json_t *file;
  OTR_TRY(read_file(f, "chat_template.jinja", &text, &n_bytes));
  f->draft->chat_template = text != NULL ? text : template_of(f->config);
  if (f->draft->chat_template != NULL) return OTR_STATUS_OK;
  OTR_TRY(read_json(f, "chat_template.json", &file));
  f->draft->chat_template = template_of(file);
  return OTR_STATUS_OK;
}

/* ---- all of it --------------------------------------------------------------------------------------------------- */

static otr_status read_folder(folder *f, int *found) {
  OTR_TRY(read_json(f, "tokenizer_config.json", &f->config));
  OTR_TRY(read_json(f, "special_tokens_map.json", &f->specials));
  OTR_TRY(read_json(f, "generation_config.json", &f->generation));
  OTR_TRY(read_json(f, "config.json", &f->model));
  OTR_TRY(read_tokens(f, found));
  if (!*found) return OTR_STATUS_OK;
  read_special(f);
  return read_chat_template(f);
}

otr_status import_tokenizer(const char *directory, int32_t vocab, otr_gguf_writer *keys, int *found) {
  tokenizer_draft draft;
  draft_begin(&draft, vocab);
  folder f = {.path = directory, .draft = &draft};
  *found = 0;
  otr_status status = read_folder(&f, found);
  if (status == OTR_STATUS_OK && *found)
    status = draft_put(&draft, keys);
  else if (status == OTR_STATUS_OK)
    fprintf(stderr,
            "outrider: warning: %s has no tokenizer (tokenizer.json, tokenizer.model, or vocab.json and merges.txt): "
            "the model will take token ids only\n",
            directory);
  draft_end(&draft);
  if (status != OTR_STATUS_OK) *found = 0;
  return status;
}
