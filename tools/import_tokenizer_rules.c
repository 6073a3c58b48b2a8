// SPDX-License-Identifier: Apache-2.0
/* What a tokenizer.json says besides its vocabulary. Normalizers and pre-tokenizers are lists of stages; each list is
 * written as a short text, and the texts of the known families are looked up: any other one is refused by that text. */
#include <stdio.h>
#include <string.h>

#include "import_tokenizer_parts.h"
#include "json_read.h"
#include "status.h"

#define SPACE "\xe2\x96\x81" /* U+2581, SentencePiece's space */

/* ---- JSON -------------------------------------------------------------------------------------------------------- */

const char *parts_text(const json_t *object, const char *key, size_t *n_bytes) {
  const json_t *value = json_object_get(object, key);
  if (n_bytes != NULL) *n_bytes = json_string_length(value);
  return json_string_value(value);
}

bool parts_flag(const json_t *object, const char *key, bool missing) {
  const json_t *value = json_object_get(object, key);
  return json_is_boolean(value) ? json_is_true(value) : missing;
}

otr_status parts_parse(const char *text, size_t n_bytes, json_t **out) {
  json_error_t error;
  otr_status status = json_read_text(text, n_bytes, JSON_ALLOW_NUL, out, &error);
  if (status != OTR_STATUS_BAD_FORMAT) return status;
  return otr_fail(OTR_STATUS_BAD_FORMAT, "line %d, column %d: %s", error.line, error.column, error.text);
}

/* ---- stages as text ---------------------------------------------------------------------------------------------- */

typedef struct stages {
  char text[1024];
  size_t n;
  int32_t depth;
} stages;

static void say(stages *s, const char *text) {
  int n = snprintf(s->text + s->n, sizeof s->text - s->n, "%s", text);
  s->n += n > 0 && (size_t)n < sizeof s->text - s->n ? (size_t)n : sizeof s->text - s->n - 1;
}

/* A pattern: {"String": …} or {"Regex": …}. */
static void say_pattern(stages *s, const json_t *stage) {
  const json_t *pattern = json_object_get(stage, "pattern");
  const char *string = parts_text(pattern, "String", NULL), *regex = parts_text(pattern, "Regex", NULL);
  say(s, string != NULL ? "'" : "/");
  say(s, string != NULL ? string : regex != NULL ? regex : "?");
  say(s, string != NULL ? "'" : "/");
}

static void say_member(stages *s, const json_t *stage, const char *key) {
  const char *text = parts_text(stage, key, NULL);
  say(s, text != NULL ? text : "?");
}

/* Old files say add_prefix_space; the newer prepend_scheme wins. */
static void say_metaspace(stages *s, const json_t *stage) {
  const char *scheme = parts_text(stage, "prepend_scheme", NULL);
  say_member(s, stage, "replacement");
  say(s, " ");
  say(s, scheme != NULL ? scheme : parts_flag(stage, "add_prefix_space", true) ? "always" : "never");
  if (parts_flag(stage, "split", true)) say(s, " split");
}

/* What of a stage matters. */
static void say_details(stages *s, const char *type, const json_t *stage) {
  if (strcmp(type, "ByteLevel") == 0) {
    if (parts_flag(stage, "add_prefix_space", true)) say(s, "prefix ");
    say(s, parts_flag(stage, "use_regex", true) ? "regex" : "plain");
  } else if (strcmp(type, "Digits") == 0) {
    say(s, parts_flag(stage, "individual_digits", false) ? "each" : "runs");
  } else if (strcmp(type, "Punctuation") == 0) {
    say_member(s, stage, "behavior");
  } else if (strcmp(type, "Split") == 0) {
    say_member(s, stage, "behavior");
    say(s, parts_flag(stage, "invert", false) ? " inverted " : " ");
    say_pattern(s, stage);
  } else if (strcmp(type, "Metaspace") == 0) {
    say_metaspace(s, stage);
  } else if (strcmp(type, "Prepend") == 0) {
    say_member(s, stage, "prepend");
  } else if (strcmp(type, "Replace") == 0) {
    say_pattern(s, stage);
    say_member(s, stage, "content");
  }
}

/* Appends a stage, or those of a sequence, under the key that sequences of its kind have. */
static void say_stages(stages *s, const json_t *stage, const char *list) {
  const char *type = parts_text(stage, "type", NULL);
  const json_t *inner = json_object_get(stage, list);
  if (stage == NULL || json_is_null(stage)) return;
  if (type != NULL && strcmp(type, "Sequence") == 0 && json_is_array(inner) && s->depth < 4) {
    ++s->depth;
    for (size_t i = 0; i < json_array_size(inner); ++i) say_stages(s, json_array_get(inner, i), list);
    --s->depth;
    return;
  }
  if (s->n > 0) say(s, ", ");
  say(s, type != NULL ? type : "?");
  say(s, "(");
  say_details(s, type != NULL ? type : "", stage);
  say(s, ")");
}

/* ---- known families ---------------------------------------------------------------------------------------------- */

#define LLAMA3(digits)                                                                 \
  "Split(Isolated /(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits \
  "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+/), ByteLevel(plain)"
/* The same pieces: possessive quantifiers, and a line break that \s* comes up to. */
#define CL100K                                                                       \
  "Split(Isolated /'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}{1,3}" \
  "| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+/), ByteLevel(plain)"

static const struct byte_level {
  const char *stages, *pre;
} byte_levels[] = {
    {"ByteLevel(regex)", "gpt-2"},
    {"Digits(each), ByteLevel(regex)", "smollm"},
    {LLAMA3("\\p{N}{1,3}"), "llama-bpe"},
    {CL100K, "llama-bpe"},
    {LLAMA3("\\p{N}"), "qwen2"},
    {"Split(Isolated / ?[^(\\s|[.,!?…。，、।۔،])]+/), ByteLevel(plain)", "bloom"},
    {"Punctuation(Contiguous), ByteLevel(regex), Digits(runs), Split(Isolated /[0-9][0-9][0-9]/)", "falcon"},
};

#define REPLACE "Replace(' '" SPACE ")"

static const struct metaspace {
  const char *normalizer, *stages, *prefix; /* prefix NULL: none */
  bool split;
} metaspaces[] = {
    {"Prepend(" SPACE "), " REPLACE, "", "each", false},
    {REPLACE, "", NULL, false},
    {REPLACE, "Split(MergedWithPrevious ' ')", NULL, false}, /* no space is left to split at */
    {"", "Metaspace(" SPACE " always)", "each-unspaced", false},
    {"", "Metaspace(" SPACE " first)", "first-unspaced", false},
    {"", "Metaspace(" SPACE " never)", NULL, false},
    {"", "Metaspace(" SPACE " always split)", "each-unspaced", true},
    {"", "Metaspace(" SPACE " first split)", "first-unspaced", true},
    {"", "Metaspace(" SPACE " never split)", NULL, true},
};

static bool find_byte_level(tokenizer_draft *draft, const stages *pre) {
  for (size_t i = 0; i < sizeof byte_levels / sizeof *byte_levels; ++i) {
    if (strcmp(pre->text, byte_levels[i].stages) != 0) continue;
    draft->pre = byte_levels[i].pre;
    return true;
  }
  return false;
}

static otr_status find_metaspace(tokenizer_draft *draft, const stages *normalizer, const stages *pre) {
  for (size_t i = 0; i < sizeof metaspaces / sizeof *metaspaces; ++i) {
    const struct metaspace *m = &metaspaces[i];
    if (strcmp(normalizer->text, m->normalizer) != 0 || strcmp(pre->text, m->stages) != 0) continue;
    draft->is_spm = true;
    draft->space_prefix = m->prefix;
    draft->split_spaces = m->split;
    return OTR_STATUS_OK;
  }
  return otr_fail(OTR_STATUS_UNSUPPORTED, "normalizer \"%.120s\" with pre-tokenizer \"%.120s\" is not known",
                  normalizer->text, pre->text);
}

otr_status parts_rules(tokenizer_draft *draft, const json_t *normalizer, const json_t *pre_tokenizer) {
  stages n = {.text = ""}, pre = {.text = ""};
  say_stages(&n, normalizer, "normalizers");
  say_stages(&pre, pre_tokenizer, "pretokenizers");
  if (strstr(pre.text, "ByteLevel") == NULL) return find_metaspace(draft, &n, &pre);
  if (!find_byte_level(draft, &pre))
    return otr_fail(OTR_STATUS_UNSUPPORTED, "pre-tokenizer \"%.240s\" is not known", pre.text);
  draft->nfc = strcmp(n.text, "NFC()") == 0;
  if (draft->nfc || n.n == 0) return OTR_STATUS_OK;
  return otr_fail(OTR_STATUS_UNSUPPORTED, "normalizer \"%.240s\" is not known", n.text);
}

/* ---- post-processor ---------------------------------------------------------------------------------------------- */

/* The one id that a special token of a template stands for. */
static otr_status template_id(const tokenizer_draft *draft, const json_t *specials, const char *name, int32_t *id) {
  const json_t *special = json_object_get(specials, name);
  const json_t *ids = json_object_get(special, "ids"), *first = json_array_get(ids, 0);
  if (json_array_size(ids) != 1 || !json_is_integer(first) || draft_at(draft, json_integer_value(first)) == NULL)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "post-processor: \"%.32s\" stands for no id of the vocabulary", name);
  *id = (int32_t)json_integer_value(first);
  return OTR_STATUS_OK;
}

static otr_status read_template(tokenizer_draft *draft, const json_t *processor) {
  const json_t *single = json_object_get(processor, "single");
  const json_t *specials = json_object_get(processor, "special_tokens");
  bool text = false;
  for (size_t i = 0; i < json_array_size(single); ++i) {
    const json_t *item = json_array_get(single, i);
    const char *name = parts_text(json_object_get(item, "SpecialToken"), "id", NULL);
    bool first = name != NULL && !text && !draft->add_bos, last = name != NULL && text && !draft->add_eos;
    bool sequence = json_object_get(item, "Sequence") != NULL && !text;
    if (!first && !last && !sequence)
      return otr_fail(OTR_STATUS_UNSUPPORTED, "post-processor: more than one token before or behind the text");
    text = text || sequence;
    if (first) OTR_TRY(template_id(draft, specials, name, &draft->bos));
    if (last) OTR_TRY(template_id(draft, specials, name, &draft->eos));
    draft->add_bos = draft->fixed_bos = draft->add_bos || first;
    draft->add_eos = draft->fixed_eos = draft->add_eos || last;
  }
  return OTR_STATUS_OK;
}

static otr_status read_processor(tokenizer_draft *draft, const json_t *processor, int32_t depth) {
  const char *type = parts_text(processor, "type", NULL);
  if (processor == NULL || json_is_null(processor)) return OTR_STATUS_OK;
  if (type != NULL && strcmp(type, "ByteLevel") == 0) return OTR_STATUS_OK;
  if (type != NULL && strcmp(type, "TemplateProcessing") == 0) return read_template(draft, processor);
  if (type == NULL || strcmp(type, "Sequence") != 0 || depth > 4)
    return otr_fail(OTR_STATUS_UNSUPPORTED, "post-processor \"%.64s\" is not known", type != NULL ? type : "?");
  const json_t *inner = json_object_get(processor, "processors");
  for (size_t i = 0; i < json_array_size(inner); ++i)
    OTR_TRY(read_processor(draft, json_array_get(inner, i), depth + 1));
  return OTR_STATUS_OK;
}

otr_status parts_template(tokenizer_draft *draft, const json_t *post_processor) {
  return read_processor(draft, post_processor, 0);
}
