// SPDX-License-Identifier: Apache-2.0
/* Real vocabularies, of GGUF files with golden encodings, written as Hugging Face directories and imported again: the
 * encodings must be the golden ones. */
#include <jansson.h>
#include <stdbool.h>
#include <string.h>

#include "fixture.h"
#include "suite.h"
#include "tokenizer_folder.h"

typedef struct vocabulary {
  otr_metadata *metadata;
  otr_metadata_value types, scores;
  json_t *ids;   /* {text: id} */
  json_t *texts; /* [text] by id */
} vocabulary;

static vocabulary open_vocabulary(const char *data, const char *name) {
  vocabulary v = {.ids = json_object(), .texts = json_array()};
  otr_metadata_value tokens;
  char path[1024];
  snprintf(path, sizeof path, "%s/tokenizers/ggml-vocab-%s.gguf", data, name);
  otr_source source = {.kind = OTR_SOURCE_PATH, .path = path};
  ck_ok(otr_metadata_open(&source, &v.metadata));
  ck_assert(otr_metadata_find(v.metadata, "tokenizer.ggml.tokens", &tokens));
  ck_assert(otr_metadata_find(v.metadata, "tokenizer.ggml.token_type", &v.types));
  (void)otr_metadata_find(v.metadata, "tokenizer.ggml.scores", &v.scores);
  size_t cursor = 0, n_bytes;
  const char *text;
  for (json_int_t id = 0; otr_metadata_next_string(&tokens, &cursor, &text, &n_bytes); ++id) {
    json_t *copy = json_stringn(text, n_bytes);
    ck_assert_ptr_nonnull(copy);
    json_object_set_new(v.ids, json_string_value(copy), json_integer(id));
    json_array_append_new(v.texts, copy);
  }
  return v;
}

static void close_vocabulary(vocabulary *v) {
  otr_metadata_close(v->metadata);
  json_decref(v->ids);
  json_decref(v->texts);
}

static int64_t type_of(const vocabulary *v, size_t id) {
  int64_t type = 0;
  ck_assert(otr_metadata_int(&v->types, id, &type));
  return type;
}

static double score_of(const vocabulary *v, size_t id) {
  double score = 0.0;
  ck_assert(otr_metadata_number(&v->scores, id, &score));
  return score;
}

static const char *text_of(const vocabulary *v, size_t id) {
  return json_string_value(json_array_get(v->texts, id));
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

static void write_json(const char *name, json_t *value) {
  char *text = json_dumps(value, JSON_COMPACT);
  ck_assert_ptr_nonnull(text);
  folder_write(name, text, strlen(text));
  free(text);
  json_decref(value);
}

static json_t *merges_of(const vocabulary *v) {
  otr_metadata_value merges;
  size_t cursor = 0, n_bytes;
  const char *text;
  json_t *list = json_array();
  ck_assert(otr_metadata_find(v->metadata, "tokenizer.ggml.merges", &merges));
  while (otr_metadata_next_string(&merges, &cursor, &text, &n_bytes))
    json_array_append_new(list, json_stringn(text, n_bytes));
  return list;
}

static json_t *added_tokens(const vocabulary *v) {
  json_t *list = json_array();
  for (size_t id = 0; id < json_array_size(v->texts); ++id) {
    int64_t type = type_of(v, id);
    if (type != 3 && type != 4) continue;
    json_array_append_new(
        list, json_pack("{s:I,s:s,s:b}", "id", (json_int_t)id, "content", text_of(v, id), "special", type == 3));
  }
  return list;
}

static void write_byte_level(const vocabulary *v, bool digits) {
  json_t *stages = json_array();
  if (digits) json_array_append_new(stages, json_pack("{s:s,s:b}", "type", "Digits", "individual_digits", 1));
  json_array_append_new(stages, json_pack("{s:s,s:b,s:b}", "type", "ByteLevel", "add_prefix_space", 0, "use_regex", 1));
  json_t *model = json_pack("{s:s,s:O,s:o}", "type", "BPE", "vocab", v->ids, "merges", merges_of(v));
  write_json("tokenizer.json", json_pack("{s:o,s:{s:s,s:o},s:o}", "added_tokens", added_tokens(v), "pre_tokenizer",
                                         "type", "Sequence", "pretokenizers", stages, "model", model));
}

static void write_two_files(const vocabulary *v) {
  json_t *merges = merges_of(v);
  size_t size = 1 << 24, n = (size_t)snprintf(NULL, 0, "#version: 0.2\n");
  char *text = malloc(size);
  ck_assert_ptr_nonnull(text);
  memcpy(text, "#version: 0.2\n", n);
  for (size_t i = 0; i < json_array_size(merges); ++i)
    n += (size_t)snprintf(text + n, size - n, "%s\n", json_string_value(json_array_get(merges, i)));
  folder_write("merges.txt", text, n);
  write_json("vocab.json", json_incref(v->ids));
  write_json("config.json", json_pack("{s:s}", "model_type", "gpt2"));
  free(text);
  json_decref(merges);
}

/* ---- SentencePiece ----------------------------------------------------------------------------------------------- */

/* A piece as protobuf: text, score, type; all lengths are below 128. */
static size_t put_piece(unsigned char *out, const char *text, float score, int64_t type) {
  size_t n = strlen(text);
  unsigned char *at = out;
  ck_assert_uint_lt(n, 110);
  *at++ = 0x0a;
  *at++ = (unsigned char)(n + 9);
  *at++ = 0x0a;
  *at++ = (unsigned char)n;
  memcpy(at, text, n);
  at += n;
  *at++ = 0x15;
  memcpy(at, &score, 4);
  at[4] = 0x18;
  at[5] = (unsigned char)type;
  return n + 11;
}

static void write_sentencepiece(const vocabulary *v) {
  static const unsigned char rest[] = {0x12, 2, 0x18, 2, 0x1a, 2, 0x20, 0}; /* BPE; extra white space stays */
  unsigned char *bytes = malloc(json_array_size(v->texts) * 128 + sizeof rest);
  size_t n = 0;
  ck_assert_ptr_nonnull(bytes);
  for (size_t id = 0; id < json_array_size(v->texts); ++id)
    n += put_piece(bytes + n, text_of(v, id), (float)score_of(v, id), type_of(v, id));
  memcpy(bytes + n, rest, sizeof rest);
  folder_write("tokenizer.model", bytes, n + sizeof rest);
  free(bytes);
}

typedef struct merge {
  double score;
  size_t order;
  json_t *pair;
} merge;

static int compare_merges(const void *a, const void *b) {
  const merge *x = a, *y = b;
  if (x->score != y->score) return x->score > y->score ? -1 : 1;
  return x->order < y->order ? -1 : 1;
}

/* Every split of a token into two others, the highest score first: how transformers makes merges of a SentencePiece
 * model. */
static json_t *merges_of_scores(const vocabulary *v) {
  size_t room = 1 << 20, n = 0;
  merge *merges = malloc(room * sizeof *merges);
  ck_assert_ptr_nonnull(merges);
  for (size_t id = 0; id < json_array_size(v->texts); ++id) {
    const char *text = text_of(v, id);
    for (size_t i = 1; type_of(v, id) == 1 && i < strlen(text); ++i) {
      char left[128];
      snprintf(left, sizeof left, "%.*s", (int)i, text);
      if (json_object_get(v->ids, left) == NULL || json_object_get(v->ids, text + i) == NULL) continue;
      ck_assert_uint_lt(n, room);
      merges[n] = (merge){score_of(v, id), n, json_pack("[s,s]", left, text + i)};
      ++n;
    }
  }
  qsort(merges, n, sizeof *merges, compare_merges);
  json_t *list = json_array();
  for (size_t i = 0; i < n; ++i) json_array_append_new(list, merges[i].pair);
  free(merges);
  return list;
}

static void write_metaspace(const vocabulary *v) {
  json_t *normalizers = json_pack("[{s:s,s:s},{s:s,s:{s:s},s:s}]", "type", "Prepend", "prepend", "▁", "type", "Replace",
                                  "pattern", "String", " ", "content", "▁");
  json_t *model = json_pack("{s:s,s:s,s:b,s:b,s:O,s:o}", "type", "BPE", "unk_token", "<unk>", "fuse_unk", 1,
                            "byte_fallback", 1, "vocab", v->ids, "merges", merges_of_scores(v));
  write_json("tokenizer.json", json_pack("{s:o,s:{s:s,s:o},s:o}", "added_tokens", added_tokens(v), "normalizer", "type",
                                         "Sequence", "normalizers", normalizers, "model", model));
}

/* ---- golden encodings -------------------------------------------------------------------------------------------- */

static void check_golden(const otr_tokenizer *t, const char *name, const char *text, size_t n_bytes, const char *want) {
  int32_t ids[2048], n;
  char list[16384] = "";
  size_t length = 0;
  ck_assert_int_eq(otr_tokenizer_encode(t, text, n_bytes, 0, ids, 2048, &n), OTR_STATUS_OK);
  for (int32_t i = 0; i < n; ++i) length += (size_t)snprintf(list + length, sizeof list - length, " %d", ids[i]);
  size_t n_want = strlen(want);
  while (n_want > 0 && want[n_want - 1] == ' ') --n_want;
  bool same = n_want + (n_want > 0 && want[0] != ' ') == length &&
              memcmp(list + (n_want > 0 && want[0] != ' '), want, n_want) == 0;
  ck_assert_msg(same, "%s: \"%.*s\" gives%s instead of %s", name, (int)n_bytes, text, list, want);
}

static void check_all(const char *data, const char *name, const char *folder) {
  static const char separator[] = "\n__ggml_vocab_test__\n";
  char file[256];
  snprintf(file, sizeof file, "tokenizers/ggml-vocab-%s.gguf.inp", name);
  char *inputs = fixture_read(data, file, NULL);
  snprintf(file, sizeof file, "tokenizers/ggml-vocab-%s.gguf.out", name);
  char *outputs = fixture_read(data, file, NULL), *lines = outputs;
  ck_assert(inputs != NULL && outputs != NULL);
  otr_tokenizer *t = folder_tokenizer(folder, 0);
  int n = 0;
  for (char *at = inputs, *end; (end = strstr(at, separator)) != NULL; at = end + sizeof separator - 1, ++n)
    check_golden(t, name, at, (size_t)(end - at), fixture_line(&lines));
  ck_assert_int_eq(n, 46);
  otr_tokenizer_destroy(t);
  free(inputs);
  free(outputs);
}

static void write_gpt2(const vocabulary *v) {
  write_byte_level(v, false);
}
static void write_digits(const vocabulary *v) {
  write_byte_level(v, true);
}

static const struct form {
  const char *vocabulary;
  void (*write)(const vocabulary *v);
} forms[] = {{"gpt-2", write_gpt2},
             {"gpt-2", write_two_files},
             {"refact", write_digits},
             {"llama-spm", write_sentencepiece},
             {"llama-spm", write_metaspace}};

START_TEST(golden_encodings) {
  const char *data = suite_data("golden encodings of imported tokenizers");
  if (data == NULL) return;
  const char *folder = folder_make();
  vocabulary v = open_vocabulary(data, forms[_i].vocabulary);
  forms[_i].write(&v);
  close_vocabulary(&v);
  check_all(data, forms[_i].vocabulary, folder);
  folder_remove();
}
END_TEST

static void add(TCase *tests) {
  tcase_add_loop_test(tests, golden_encodings, 0, sizeof forms / sizeof *forms);
}

int main(void) {
  return suite_run("import_golden", add);
}
