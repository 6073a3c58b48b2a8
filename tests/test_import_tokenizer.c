// SPDX-License-Identifier: Apache-2.0
/* Tokenizers of Hugging Face directories: the families' forms against the ids that Hugging Face's and SentencePiece's
 * own programs give (tests/fixtures/make_tokenizer_fixtures.py), side files, bad input. */
#include <stdbool.h>
#include <string.h>

#include "fixture.h"
#include "suite.h"
#include "tokenizer_folder.h"

#ifndef FIXTURES
#error "FIXTURES is the folder of the fixtures"
#endif

/* ---- families ---------------------------------------------------------------------------------------------------- */

static const struct family {
  const char *name;
  uint32_t flags;
} families[] = {
    {"gpt2", 3},
    {"gpt_neox", 3},
    {"bloom", 3},
    {"falcon", 3},
    {"smollm2", 3},
    {"qwen3", 3},
    {"llama3", 3},
    {"llama2", 3},
    {"mistral", 3},
    {"metaspace", 3},
    {"phi3", 3},
    {"gemma", 3},
    {"opt", 3},
    {"spm-llama", OTR_ENCODE_ADD_SPECIAL},
    {"spm-gemma", OTR_ENCODE_ADD_SPECIAL},
};
enum { N_FAMILIES = sizeof families / sizeof *families };

static void check_ids(const otr_tokenizer *t, const struct family *family, const char *text, size_t n_bytes,
                      const char *want) {
  int32_t ids[512], n;
  char list[4096] = "";
  ck_assert_int_eq(otr_tokenizer_encode(t, text, n_bytes, family->flags, ids, 512, &n), OTR_STATUS_OK);
  for (int32_t i = 0; i < n; ++i)
    snprintf(list + strlen(list), sizeof list - strlen(list), "%s%d", i ? " " : "", ids[i]);
  ck_assert_msg(strcmp(list, want) == 0, "%s: \"%.*s\" gives\n%s instead of\n%s", family->name, (int)n_bytes, text,
                list, want);
}

START_TEST(family_ids) {
  const struct family *family = &families[_i];
  char folder[1024];
  snprintf(folder, sizeof folder, "%s/tokenizers/%s", FIXTURES, family->name);
  otr_tokenizer *t = folder_tokenizer(folder, 0);
  char *texts = fixture_read(FIXTURES, "tokenizers/texts.txt", NULL), *ids = fixture_read(folder, "ids.txt", NULL);
  ck_assert(texts != NULL && ids != NULL);
  char *text_cursor = texts, *ids_cursor = ids;
  int n = 0;
  for (char *text = fixture_line(&text_cursor); text != NULL; text = fixture_line(&text_cursor), ++n) {
    char *want = fixture_line(&ids_cursor);
    ck_assert_ptr_nonnull(want);
    check_ids(t, family, text, fixture_unescape(text), want);
  }
  ck_assert_int_gt(n, 80);
  free(texts);
  free(ids);
  otr_tokenizer_destroy(t);
}
END_TEST

/* ---- side files -------------------------------------------------------------------------------------------------- */

#define ADDED_TOKEN(id, text, more) "{\"id\":" id ",\"content\":\"" text "\",\"special\":true" more "}"
#define BYTE_LEVEL "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false}"
#define VOCAB "{\"a\":0,\"b\":1,\"ab\":2,\"<s>\":3,\"</s>\":4}"
#define MODEL "\"model\":{\"type\":\"BPE\",\"vocab\":" VOCAB ",\"merges\":[\"a b\"]}"
#define SMALL "{" BYTE_LEVEL ",\"added_tokens\":[" ADDED_TOKEN("3", "<s>", "") "]," MODEL "}"

static void write_text(const char *name, const char *text) {
  folder_write(name, text, text != NULL ? strlen(text) : 0);
}

static otr_tokenizer_info information(const otr_tokenizer *t) {
  otr_tokenizer_info info = OTR_TOKENIZER_INFO_INIT;
  ck_assert_int_eq(otr_tokenizer_get_info(t, &info), OTR_STATUS_OK);
  return info;
}

START_TEST(special_tokens) {
  const char *folder = folder_make();
  write_text("tokenizer.json", SMALL);
  otr_tokenizer *t = folder_tokenizer(folder, 8);
  ck_assert(otr_tokenizer_vocab(t) == 8 && information(t).bos == -1 && information(t).eos == -1);
  const char *piece;
  size_t n_bytes;
  ck_assert_int_eq(otr_tokenizer_piece(t, 7, &piece, &n_bytes), OTR_STATUS_OK);
  ck_assert_uint_eq(n_bytes, 0); /* the model has more ids than the tokenizer */
  otr_tokenizer_destroy(t);

  write_text("config.json", "{\"bos_token_id\":3,\"eos_token_id\":[4,1]}");
  t = folder_tokenizer(folder, 0);
  ck_assert(otr_tokenizer_vocab(t) == 5 && information(t).bos == 3 && information(t).eos == 4);
  ck_assert(!information(t).add_bos && !otr_tokenizer_is_end_of_generation(t, 1));
  otr_tokenizer_destroy(t);

  write_text("generation_config.json", "{\"eos_token_id\":[4,1,99]}");
  write_text("special_tokens_map.json", "{\"bos_token\":\"</s>\",\"pad_token\":{\"content\":\"<s>\"}}");
  write_text("tokenizer_config.json", "{\"eos_token\":{\"content\":\"</s>\"},\"bos_token\":null}");
  t = folder_tokenizer(folder, 0);
  ck_assert(information(t).bos == 4 && information(t).eos == 4 && information(t).pad == 3);
  ck_assert(otr_tokenizer_is_end_of_generation(t, 1) && otr_tokenizer_is_end_of_generation(t, 4));
  ck_assert(!otr_tokenizer_is_end_of_generation(t, 0) && otr_tokenizer_is_special(t, 4));
  otr_tokenizer_destroy(t);
  folder_remove();
}
END_TEST

/* The chat template that a folder's file gives; "" for none. The caller frees it. */
static char *chat_template(const char *folder) {
  int found;
  otr_metadata *metadata;
  otr_metadata_value value;
  const char *text = "";
  size_t cursor = 0, n_bytes = 0;
  ck_ok(folder_import(folder, 0, &found, &metadata));
  if (otr_metadata_find(metadata, "tokenizer.chat_template", &value))
    ck_assert(otr_metadata_next_string(&value, &cursor, &text, &n_bytes));
  char *copy = strndup(text, n_bytes);
  otr_metadata_close(metadata);
  return copy;
}

START_TEST(chat_templates) {
  static const struct {
    const char *file, *text, *want;
  } steps[] = {
      {"tokenizer_config.json", "{}", ""},
      {"chat_template.json", "{\"chat_template\":\"json\"}", "json"},
      {"tokenizer_config.json", "{\"chat_template\":[{\"name\":\"tool_use\",\"template\":\"no\"}]}", "json"},
      {"tokenizer_config.json",
       "{\"chat_template\":[{\"name\":\"tool_use\",\"template\":\"no\"},{\"name\":\"default\",\"template\":\"of "
       "list\"}]}",
       "of list"},
      {"tokenizer_config.json", "{\"chat_template\":\"of config\"}", "of config"},
      {"chat_template.jinja", "of file\n", "of file\n"},
  };
  const char *folder = folder_make();
  write_text("tokenizer.json", SMALL);
  for (size_t i = 0; i < sizeof steps / sizeof *steps; ++i) {
    write_text(steps[i].file, steps[i].text);
    char *got = chat_template(folder);
    ck_assert_str_eq(got, steps[i].want);
    free(got);
  }
  folder_remove();
}
END_TEST

START_TEST(no_tokenizer) {
  int found = 7;
  otr_metadata *metadata;
  const char *folder = folder_make();
  write_text("config.json", "{}");
  ck_ok(folder_import(folder, 10, &found, &metadata));
  otr_metadata_value value;
  ck_assert(found == 0 && !otr_metadata_find(metadata, "tokenizer.ggml.model", &value));
  otr_metadata_close(metadata);
  folder_remove();
  ck_ok(folder_import("/nonexistent/folder", 10, &found, &metadata));
  otr_metadata_close(metadata);
}
END_TEST

/* An added token beyond the model's ids is left out; one of the vocabulary is an error. */
START_TEST(more_ids_than_the_model) {
  int found;
  otr_metadata *metadata;
  const char *folder = folder_make();
  write_text("tokenizer.json", "{" BYTE_LEVEL ",\"added_tokens\":[" ADDED_TOKEN("5", "<pad>", "") "]," MODEL "}");
  otr_tokenizer *t = folder_tokenizer(folder, 5);
  ck_assert(otr_tokenizer_vocab(t) == 5 && otr_tokenizer_find(t, "<pad>", 5) < 0);
  otr_tokenizer_destroy(t);
  ck_assert_int_eq(folder_import(folder, 4, &found, &metadata), OTR_STATUS_BAD_FORMAT);
  ck_assert_ptr_nonnull(strstr(otr_error_detail(), "tokenizer.json: token \"</s>\" has id 4"));
  folder_remove();
}
END_TEST

/* ---- bad input --------------------------------------------------------------------------------------------------- */

#define WITH_MODEL(model) "{" BYTE_LEVEL ",\"model\":" model "}"
#define WITH(member) "{" BYTE_LEVEL "," member "," MODEL "}"
#define WITH_PRE(pre) "{\"pre_tokenizer\":" pre "," MODEL "}"
#define BPE(vocab, merges) WITH_MODEL("{\"vocab\":" vocab ",\"merges\":" merges "}")

static const struct bad {
  const char *text, *detail;
  otr_status status;
} bad_json[] = {
    {"", "line 1", OTR_STATUS_BAD_FORMAT},
    {"[", "']'", OTR_STATUS_BAD_FORMAT},
    {"{\"a\":1,\"a\":2}", "duplicate", OTR_STATUS_BAD_FORMAT},
    {"{\"a\":\"\xff\"}", "decode byte 0xff", OTR_STATUS_BAD_FORMAT},
    {"{}", "there is no model", OTR_STATUS_BAD_FORMAT},
    {WITH_MODEL("{\"type\":\"Unigram\"}"), "\"Unigram\"", OTR_STATUS_UNSUPPORTED},
    {WITH_MODEL("{\"type\":\"BPE\"}"), "no object", OTR_STATUS_BAD_FORMAT},
    {WITH_MODEL("{\"dropout\":0.1}"), "dropout", OTR_STATUS_UNSUPPORTED},
    {WITH_MODEL("{\"end_of_word_suffix\":\"</w>\"}"), "end_of_word_suffix \"</w>\"", OTR_STATUS_UNSUPPORTED},
    {BPE("{}", "[]"), "no object", OTR_STATUS_BAD_FORMAT},
    {BPE("{\"a\":-1}", "[]"), "\"a\" has id -1", OTR_STATUS_BAD_FORMAT},
    {BPE("{\"a\":99999999999}", "[]"), "id 99999999999", OTR_STATUS_BAD_FORMAT},
    {BPE("{\"a\":1,\"b\":1}", "[]"), "\"a\" and \"b\" have the same id 1", OTR_STATUS_BAD_FORMAT},
    {BPE("{\"a\":\"1\"}", "[]"), "\"a\" is no integer", OTR_STATUS_BAD_FORMAT},
    {BPE("{\"a\":0}", "7"), "no array", OTR_STATUS_BAD_FORMAT},
    {BPE("{\"a\":0}", "[\"aa\"]"), "merge 0, \"aa\", is not two texts", OTR_STATUS_BAD_FORMAT},
    {BPE("{\"a\":0}", "[\"a \"]"), "merge 0, \"a \"", OTR_STATUS_BAD_FORMAT},
    {BPE("{\"a\":0}", "[\" a\"]"), "merge 0, \" a\"", OTR_STATUS_BAD_FORMAT},
    {BPE("{\"a\":0}", "[\"a a\"]"), "its result is no token", OTR_STATUS_BAD_FORMAT},
    {BPE("{\"a\":0,\"aa\":1}", "[[\"a\",\"a\"],[\"a\"]]"), "merge 1 is not two texts", OTR_STATUS_BAD_FORMAT},
    {BPE("{\"a\":0}", "[[\"a\",1]]"), "merge 0 is not two texts", OTR_STATUS_BAD_FORMAT},
    {WITH("\"added_tokens\":[{\"content\":\"x\"}]"), "added token 0 has no id", OTR_STATUS_BAD_FORMAT},
    {WITH("\"added_tokens\":[{\"id\":9}]"), "added token 9 has no content", OTR_STATUS_BAD_FORMAT},
    {WITH("\"added_tokens\":[{\"id\":9,\"content\":\"\"}]"), "no content", OTR_STATUS_BAD_FORMAT},
    {WITH("\"added_tokens\":[{\"id\":1,\"content\":\"x\"}]"), "\"b\" and \"x\" have the same id",
     OTR_STATUS_BAD_FORMAT},
    {WITH("\"added_tokens\":[{\"id\":-5,\"content\":\"x\"}]"), "id -5", OTR_STATUS_BAD_FORMAT},
    {WITH("\"added_tokens\":[" ADDED_TOKEN("9", "x", ",\"single_word\":true") "]"), "single words",
     OTR_STATUS_UNSUPPORTED},
    {WITH("\"normalizer\":{\"type\":\"NFKC\"}"), "normalizer \"NFKC()\"", OTR_STATUS_UNSUPPORTED},
    {WITH("\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"Lowercase\"}]}"),
     "\"NFC(), Lowercase()\"", OTR_STATUS_UNSUPPORTED},
    {WITH("\"normalizer\":5"), "normalizer \"?()\"", OTR_STATUS_UNSUPPORTED},
    {WITH("\"post_processor\":{\"type\":\"BertProcessing\"}"), "\"BertProcessing\"", OTR_STATUS_UNSUPPORTED},
    {WITH("\"post_processor\":7"), "post-processor", OTR_STATUS_UNSUPPORTED},
    {WITH("\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"q\"}}]}"),
     "\"q\" stands for no id", OTR_STATUS_BAD_FORMAT},
    {WITH("\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"a\"}},"
          "{\"SpecialToken\":{\"id\":\"a\"}}],\"special_tokens\":{\"a\":{\"ids\":[0]}}}"),
     "more than one", OTR_STATUS_UNSUPPORTED},
    {WITH_PRE("null"), "normalizer \"\" with pre-tokenizer \"\"", OTR_STATUS_UNSUPPORTED},
    {WITH_PRE("{\"type\":\"Whitespace\"}"), "\"Whitespace()\"", OTR_STATUS_UNSUPPORTED},
    {WITH_PRE("{\"type\":\"ByteLevel\",\"add_prefix_space\":true}"), "\"ByteLevel(prefix regex)\"",
     OTR_STATUS_UNSUPPORTED},
    {WITH_PRE(
         "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"x+\"},\"behavior\":"
         "\"Isolated\"},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]}"),
     "\"Split(Isolated /x+/), ByteLevel(plain)\"", OTR_STATUS_UNSUPPORTED},
    {"{\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"_\"}," MODEL "}", "Metaspace(_ always split)",
     OTR_STATUS_UNSUPPORTED},
};

START_TEST(bad_tokenizer_json) {
  int found;
  otr_metadata *metadata;
  const struct bad *bad = &bad_json[_i];
  const char *folder = folder_make();
  write_text("tokenizer.json", bad->text);
  otr_status status = folder_import(folder, 0, &found, &metadata);
  ck_assert_msg(status == bad->status && found == 0, "%s: %s: %s", bad->text, otr_status_text(status),
                otr_error_detail());
  ck_assert_msg(strstr(otr_error_detail(), bad->detail) != NULL, "%s: %s", bad->text, otr_error_detail());
  ck_assert_ptr_nonnull(strstr(otr_error_detail(), "tokenizer.json: "));
  folder_remove();
}
END_TEST

/* Files beside a vocabulary that is right. */
static const struct bad_file {
  const char *file, *text, *detail;
  otr_status status;
} bad_files[] = {
    {"tokenizer_config.json", "{", "tokenizer_config.json: line 1", OTR_STATUS_BAD_FORMAT},
    {"generation_config.json", "nul", "generation_config.json: line 1", OTR_STATUS_BAD_FORMAT},
    {"merges.txt", NULL, "no merges.txt", OTR_STATUS_BAD_FORMAT},
    {"merges.txt", "#version: 0.2\r\n\r\na b\r\nb c", "merges.txt: merge 1, \"b c\"", OTR_STATUS_BAD_FORMAT},
    {"merges.txt", "ab", "merges.txt: merge 0, \"ab\", is not two", OTR_STATUS_BAD_FORMAT},
    {"vocab.json", "[]", "vocab.json: the vocabulary is no object", OTR_STATUS_BAD_FORMAT},
    {"added_tokens.json", "{\"x\":\"y\"}", "added_tokens.json: the id of \"x\"", OTR_STATUS_BAD_FORMAT},
    {"added_tokens.json", "{\"x\":0}", "added_tokens.json: tokens \"a\" and \"x\"", OTR_STATUS_BAD_FORMAT},
    {"tokenizer_config.json", "{\"added_tokens_decoder\":{\"x\":{}}}", "\"x\" is no id", OTR_STATUS_BAD_FORMAT},
    {"tokenizer_config.json", "{\"added_tokens_decoder\":{\"7\":{}}}", "added token 7 has no", OTR_STATUS_BAD_FORMAT},
    {"tokenizer_config.json", "{\"tokenizer_class\":\"T5Tokenizer\"}", "\"T5Tokenizer\"", OTR_STATUS_UNSUPPORTED},
    {"tokenizer_config.json", "{\"add_prefix_space\":true}", "add_prefix_space", OTR_STATUS_UNSUPPORTED},
    {"config.json", "{\"model_type\":\"gpt_neox\"}", "\"gpt_neox\"", OTR_STATUS_UNSUPPORTED},
    {"config.json", "{}", "an unnamed tokenizer class", OTR_STATUS_UNSUPPORTED},
};

START_TEST(bad_side_files) {
  int found;
  otr_metadata *metadata;
  const struct bad_file *bad = &bad_files[_i];
  const char *folder = folder_make();
  write_text("config.json", "{\"model_type\":\"gpt2\"}");
  write_text("vocab.json", VOCAB);
  write_text("merges.txt", "#version: 0.2\na b\n");
  otr_tokenizer_destroy(folder_tokenizer(folder, 0));
  write_text(bad->file, bad->text);
  otr_status status = folder_import(folder, 0, &found, &metadata);
  ck_assert_msg(status == bad->status, "%s: %s: %s", bad->text, otr_status_text(status), otr_error_detail());
  ck_assert_msg(strstr(otr_error_detail(), bad->detail) != NULL, "%s: %s", bad->text, otr_error_detail());
  folder_remove();
}
END_TEST

/* Protobuf: fields are (number << 3 | wire) and a value. */
#define PIECE_A "\x0a\x03\x0a\x01\x61"
#define BPE_KIND "\x12\x02\x18\x02"
#define PLAIN "\x1a\x02\x20\x00" /* remove_extra_whitespaces 0 */

static const struct bad_model {
  const char *bytes;
  size_t n_bytes;
  const char *detail;
  otr_status status;
} bad_models[] = {
#define BAD(bytes, detail, status) \
  { bytes, sizeof(bytes) - 1, detail, status }
    BAD("", "no pieces", OTR_STATUS_BAD_FORMAT),
    BAD("\xff", "the file is no whole", OTR_STATUS_BAD_FORMAT),
    BAD("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x00", "the file is no whole", OTR_STATUS_BAD_FORMAT),
    BAD("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x61", "the file is no whole", OTR_STATUS_BAD_FORMAT),
    BAD("\x0a\x05\x0a\x01\x61", "the file is no whole", OTR_STATUS_BAD_FORMAT),
    BAD("\x0b\x00", "the file is no whole", OTR_STATUS_BAD_FORMAT),
    BAD("\x0a\x03\x0a\x09\x61", "a piece is no whole", OTR_STATUS_BAD_FORMAT),
    BAD("\x0a\x05\x0a\x01\x61\x18\x09", "piece 0, \"a\", has no known type", OTR_STATUS_BAD_FORMAT),
    BAD("\x0a\x08\x0a\x01\x61\x15\x00\x00\xc0\x7f", "no score", OTR_STATUS_BAD_FORMAT),
    BAD(PIECE_A "\x12\x01\x18", "the trainer's part", OTR_STATUS_BAD_FORMAT),
    BAD(PIECE_A "\x1a\x02\x12\x05", "the normalizer's part", OTR_STATUS_BAD_FORMAT),
    BAD(PIECE_A, "kind unigram", OTR_STATUS_UNSUPPORTED),
    BAD(PIECE_A "\x12\x02\x18\x63", "kind ?", OTR_STATUS_UNSUPPORTED),
    BAD(PIECE_A BPE_KIND, "removes extra white space", OTR_STATUS_UNSUPPORTED),
    BAD(PIECE_A BPE_KIND "\x1a\x04\x20\x00\x28\x00", "does not escape", OTR_STATUS_UNSUPPORTED),
    BAD(PIECE_A "\x12\x05\x18\x02\xc0\x01\x01" PLAIN, "as a suffix", OTR_STATUS_UNSUPPORTED),
    BAD(PIECE_A BPE_KIND "\x1a\x0c\x0a\x03nmt\x12\x03map\x20\x00", "\"nmt\"", OTR_STATUS_UNSUPPORTED),
};

START_TEST(bad_sentencepiece) {
  int found;
  otr_metadata *metadata;
  const struct bad_model *bad = &bad_models[_i];
  const char *folder = folder_make();
  folder_write("tokenizer.model", bad->bytes, bad->n_bytes);
  otr_status status = folder_import(folder, 0, &found, &metadata);
  ck_assert_msg(status == bad->status, "%d: %s: %s", _i, otr_status_text(status), otr_error_detail());
  ck_assert_msg(strstr(otr_error_detail(), bad->detail) != NULL, "%d: %s", _i, otr_error_detail());
  ck_assert_ptr_nonnull(strstr(otr_error_detail(), "tokenizer.model: "));
  folder_remove();
}
END_TEST

/* Fields that are not known are skipped, whatever their wire type. */
START_TEST(small_sentencepiece) {
  static const char model[] = PIECE_A "\x0a\x07\x0a\x05<unk>" BPE_KIND PLAIN
                                      "\x31\x01\x02\x03\x04\x05\x06\x07\x08\x3d\x01\x02\x03\x04\x20\x07\x4a\x00";
  const char *folder = folder_make();
  folder_write("tokenizer.model", model, sizeof model - 1);
  write_text("added_tokens.json", "{\"<x>\":2}");
  otr_tokenizer *t = folder_tokenizer(folder, 4);
  ck_assert(otr_tokenizer_vocab(t) == 4 && information(t).add_space_prefix && information(t).unk == 0);
  ck_assert_int_eq(otr_tokenizer_find(t, "<x>", 3), 2);
  otr_tokenizer_destroy(t);
  folder_remove();
}
END_TEST

static void add(TCase *tests) {
  tcase_add_loop_test(tests, family_ids, 0, N_FAMILIES);
  tcase_add_test(tests, special_tokens);
  tcase_add_test(tests, chat_templates);
  tcase_add_test(tests, no_tokenizer);
  tcase_add_test(tests, more_ids_than_the_model);
  tcase_add_loop_test(tests, bad_tokenizer_json, 0, sizeof bad_json / sizeof *bad_json);
  tcase_add_loop_test(tests, bad_side_files, 0, sizeof bad_files / sizeof *bad_files);
  tcase_add_loop_test(tests, bad_sentencepiece, 0, sizeof bad_models / sizeof *bad_models);
  tcase_add_test(tests, small_sentencepiece);
}

int main(void) {
  return suite_run("import_tokenizer", add);
}
