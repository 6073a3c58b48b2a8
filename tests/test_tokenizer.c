// SPDX-License-Identifier: Apache-2.0
/* Tokenizers: golden encodings, special tokens, buffers, streaming, bad metadata, memory that runs out, time. */
#include <stdbool.h>
#include <string.h>
#include <time.h>

#include "fixture.h"
#include "outrider/text.h"
#include "suite.h"
#include "tokenizer_recipe.h"

#define ck_text_ok(expression) ck_status(expression, OTR_STATUS_OK)
#define ck_status(expression, status)                                                                               \
  do {                                                                                                              \
    otr_status ck_got = (expression);                                                                               \
    ck_assert_msg(ck_got == (status), "%s: %s: %s", #expression, otr_status_text(ck_got), otr_text_error_detail()); \
  } while (0)

#define SPM_WORDS "t1▁\nt1h\nt1e\nt1l\nt1o\nt1he\nt1ll\nt1llo\nt1hello\nt1▁hello\n"
#define SPM "Mllama\nt2<unk>\nt3<s>\nt3</s>\nib1\nie2\niu0\n" SPM_WORDS
#define GPT "Mgpt2\nPsmollm\nt3<|endoftext|>\nt3<|im_start|>\nt3<|im_end|>\nib1\nie2\nL\n"
#define GPT_WORDS "t1he\nt1ll\nt1hell\nt1hello\nt1Ġhello\nmh e\nml l\nmhe ll\nmhell o\nmĠ hello\n"
/* Ids of the recipes above. */
enum { SPM_SPACE = 3, SPM_HELLO = 11, SPM_SPACE_HELLO = 12, SPM_BYTES = 13 };
enum { GPT_LETTERS = 3, GPT_HELLO = 262, GPT_SPACE_HELLO = 263 };

static otr_status create_of(const char *recipe, const otr_tokenizer_params *params, otr_tokenizer **out) {
  otr_metadata *metadata = tokenizer_recipe(recipe, strlen(recipe), NULL, NULL);
  ck_assert_msg(metadata != NULL, "%s", otr_error_detail());
  otr_status status = otr_tokenizer_create(metadata, params, out);
  otr_metadata_close(metadata);
  return status;
}

static otr_tokenizer *make(const char *recipe) {
  otr_tokenizer *tokenizer;
  ck_text_ok(create_of(recipe, NULL, &tokenizer));
  return tokenizer;
}

/* Encodes and compares with the ids behind `n`. */
static void check_ids(const otr_tokenizer *t, const char *text, size_t n_bytes, uint32_t flags, int32_t n,
                      const int32_t *want) {
  int32_t ids[64], got;
  ck_text_ok(otr_tokenizer_encode(t, text, n_bytes, flags, ids, 64, &got));
  bool same = got == n && memcmp(ids, want, (size_t)n * sizeof *ids) == 0;
  char list[512] = "";
  for (int32_t i = 0; i < got && !same; ++i) snprintf(list + strlen(list), sizeof list - strlen(list), " %d", ids[i]);
  ck_assert_msg(same, "\"%.*s\" gives%s", (int)n_bytes, text, list);
}
#define CHECK_IDS(tokenizer, text, flags, ...)                                                         \
  check_ids(tokenizer, text, sizeof(text) - 1, flags, (int32_t)(sizeof((int32_t[]){__VA_ARGS__}) / 4), \
            (int32_t[]){__VA_ARGS__})

/* ---- golden data --------------------------------------------------------------------------------------------------
 */

static otr_tokenizer *open_vocabulary(const char *folder, const char *name) {
  char path[4096];
  otr_metadata *metadata;
  otr_tokenizer *tokenizer;
  snprintf(path, sizeof path, "%s/tokenizers/ggml-vocab-%s.gguf", folder, name);
  otr_source source = {.kind = OTR_SOURCE_PATH, .path = path};
  ck_ok(otr_metadata_open(&source, &metadata));
  ck_text_ok(otr_tokenizer_create(metadata, NULL, &tokenizer));
  otr_metadata_close(metadata);
  return tokenizer;
}

static char *read_pair(const char *folder, const char *name, const char *suffix) {
  char file[256];
  snprintf(file, sizeof file, "tokenizers/ggml-vocab-%s.gguf.%s", name, suffix);
  char *text = fixture_read(folder, file, NULL);
  ck_assert_ptr_nonnull(text);
  return text;
}

static void check_golden(const otr_tokenizer *t, const char *name, int index, const char *text, size_t n_bytes,
                         char *want) {
  int32_t ids[2048], n, n_want = 0;
  ck_text_ok(otr_tokenizer_encode(t, text, n_bytes, 0, ids, 2048, &n));
  for (char *word = want; *(word += strspn(word, " ")) != '\0'; ++n_want) {
    long id = strtol(word, &word, 10);
    ck_assert_msg(n_want < n && ids[n_want] == id, "%s %d: id %d is not %ld", name, index, n_want, id);
  }
  ck_assert_msg(n == n_want, "%s %d: %d ids instead of %d", name, index, n, n_want);
  char back[4096];
  size_t n_back;
  ck_text_ok(otr_tokenizer_decode(t, ids, n, OTR_DECODE_STRIP_PREFIX, back, sizeof back, &n_back));
  ck_assert_msg(n_back == n_bytes && memcmp(back, text, n_bytes) == 0, "%s %d is not decoded", name, index);
}

START_TEST(golden_encodings) {
  static const char *const names[] = {"gpt-2", "refact", "llama-spm"};
  static const char separator[] = "\n__ggml_vocab_test__\n";
  const char *name = names[_i], *folder = suite_data("golden encodings");
  if (folder == NULL) return;
  otr_tokenizer *t = open_vocabulary(folder, name);
  char *inputs = read_pair(folder, name, "inp"), *outputs = read_pair(folder, name, "out"), *lines = outputs;
  int n = 0;
  for (char *at = inputs, *end; (end = strstr(at, separator)) != NULL; at = end + sizeof separator - 1) {
    char *line = fixture_line(&lines);
    ck_assert_ptr_nonnull(line);
    check_golden(t, name, n++, at, (size_t)(end - at), line);
  }
  ck_assert_int_eq(n, 46);
  free(inputs);
  free(outputs);
  otr_tokenizer_destroy(t);
}
END_TEST

/* Of this program alone: the machine may be busy. */
static double seconds(void) {
  return (double)clock() / CLOCKS_PER_SEC;
}

START_TEST(a_megabyte) {
  static const char *const names[] = {"gpt-2", "refact", "llama-spm"};
  enum { BYTES = 1000000 };
  const char *folder = suite_data("a megabyte of text");
  if (folder == NULL) return;
  otr_tokenizer *t = open_vocabulary(folder, names[_i]);
  char *text = fixture_read(folder, "eval/wiki.test.raw", NULL);
  int32_t *ids = malloc(BYTES * sizeof *ids), n;
  ck_assert(text != NULL && ids != NULL);
  double begin = seconds();
  ck_text_ok(otr_tokenizer_encode(t, text, BYTES, 0, ids, BYTES, &n));
  double words = seconds() - begin;
  size_t solid = 0;
  for (const char *c = text; solid < BYTES && *c != '\0'; ++c)
    if (*c >= 'a' && *c <= 'z') text[solid++] = *c;
  begin = seconds();
  ck_text_ok(otr_tokenizer_encode(t, text, solid, 0, ids, BYTES, &n));
  printf("%s: 1 MB of text in %.3f s, %zu bytes without a space in %.3f s\n", names[_i], words, solid,
         seconds() - begin);
#ifdef NDEBUG
  ck_assert_double_le(words, 2.0);
#endif
  free(text);
  free(ids);
  otr_tokenizer_destroy(t);
}
END_TEST

/* ---- special tokens, flags ----------------------------------------------------------------------------------------
 */

START_TEST(spm_encoding) {
  otr_tokenizer *t = make(SPM "B\n");
  CHECK_IDS(t, "hello", 0, SPM_SPACE_HELLO);
  CHECK_IDS(t, "hello hello", OTR_ENCODE_ADD_SPECIAL, 1, SPM_SPACE_HELLO, SPM_SPACE_HELLO);
  CHECK_IDS(t, "hello▁hello", 0, SPM_SPACE_HELLO, SPM_SPACE_HELLO);
  CHECK_IDS(t, "hello</s>hello", OTR_ENCODE_PARSE_SPECIAL, SPM_SPACE_HELLO, 2, SPM_SPACE_HELLO);
  CHECK_IDS(t, "A", 0, SPM_SPACE, SPM_BYTES + 'A');
  CHECK_IDS(t, "\xff\xc3", 0, SPM_SPACE, SPM_BYTES + 0xff, SPM_BYTES + 0xc3);
  CHECK_IDS(t, "é", 0, SPM_SPACE, SPM_BYTES + 0xc3, SPM_BYTES + 0xa9);
  int32_t n;
  ck_text_ok(otr_tokenizer_encode(t, NULL, 0, 0, NULL, 0, &n));
  ck_assert_int_eq(n, 0);
  otr_tokenizer_destroy(t);
  t = make(SPM "fs0\nfe1\nfb0\n");
  CHECK_IDS(t, "hello", OTR_ENCODE_ADD_SPECIAL, SPM_HELLO, 2);
  CHECK_IDS(t, "Ahello", 0, 0, SPM_HELLO); /* no byte tokens: unknown */
  otr_tokenizer_destroy(t);
  t = make(SPM "t4<tag>\nt4<tagged>\nt3<tag\n");
  CHECK_IDS(t, "hello<tagged>hello<tag", 0, SPM_SPACE_HELLO, 14, SPM_HELLO, 0, 0, 0, 0);
  CHECK_IDS(t, "hello<tagged>hello<tag", OTR_ENCODE_PARSE_SPECIAL, SPM_SPACE_HELLO, 14, SPM_HELLO, 15);
  CHECK_IDS(t, "<tag>hello<tagg", 0, 13, SPM_HELLO, 0, 0, 0, 0, 0);
  otr_tokenizer_destroy(t);
}
END_TEST

START_TEST(control_tokens_never_come_from_text) {
  otr_tokenizer *t = make("Mllama\nt3<s>\nt1<\nt1s\nt1>\nt1<s\nt1s>\nib0\nfs0\n");
  CHECK_IDS(t, "<s>", 0, 4, 3);
  CHECK_IDS(t, "<s>", OTR_ENCODE_PARSE_SPECIAL, 0);
  otr_tokenizer_destroy(t);
  /* A file that lists <|im_end|> as a normal token, and merges that make it. */
  t = make(GPT "t1<|\nt1im\nt1<|eom_id|>\nm< |\nmi m\n");
  CHECK_IDS(t, "<|eom_id|>", OTR_ENCODE_PARSE_SPECIAL, 261);
  int32_t ids[16], n;
  ck_text_ok(otr_tokenizer_encode(t, "<|eom_id|>", 10, 0, ids, 16, &n));
  ck_assert_int_gt(n, 1);
  ck_assert(otr_tokenizer_is_special(t, 261) && otr_tokenizer_is_end_of_generation(t, 261));
  otr_tokenizer_destroy(t);
}
END_TEST

START_TEST(gpt2_encoding) {
  otr_tokenizer *t = make(GPT GPT_WORDS);
  CHECK_IDS(t, "hello hello", 0, GPT_HELLO, GPT_SPACE_HELLO);
  CHECK_IDS(t, "hello", OTR_ENCODE_ADD_SPECIAL, GPT_HELLO);
  CHECK_IDS(t, "<|im_start|>hello<|im_end|>", OTR_ENCODE_PARSE_SPECIAL, 1, GPT_HELLO, 2);
  CHECK_IDS(t, "\xff", 0, GPT_LETTERS + 0xff);
  CHECK_IDS(t, "1 2", 0, GPT_LETTERS + '1', GPT_LETTERS + ' ', GPT_LETTERS + '2');
  otr_tokenizer_destroy(t);
  /* A whole piece that no merges lead to: taken by llama-bpe only. */
  t = make("Mgpt2\nPllama-bpe\nt3<s>\nib0\nL\nt1abc\n");
  CHECK_IDS(t, "abc", OTR_ENCODE_ADD_SPECIAL, 0, 257);
  otr_tokenizer_destroy(t);
  t = make("Mgpt2\nPqwen2\nt3<s>\nib0\nL\nt1abc\n");
  CHECK_IDS(t, "abc", OTR_ENCODE_ADD_SPECIAL, 1 + 'a', 1 + 'b', 1 + 'c');
  otr_tokenizer_destroy(t);
  t = make("Mgpt2\nt1a\nt1b\nt1ab\nma b\nt2<unk>\n"); /* bytes without a token */
  CHECK_IDS(t, "cabc", 0, 2);
  otr_tokenizer_destroy(t);
  t = make("Mgpt2\nt1a\nt1b\nt1ab\nma b\nt2<unk>\niu3\n");
  CHECK_IDS(t, "cabc", 0, 3, 2, 3);
  otr_tokenizer_destroy(t);
}
END_TEST

START_TEST(information) {
  otr_tokenizer *t = make(GPT GPT_WORDS "io0\nip2\nt3<|eot_id|>\nt1\\xff\n");
  otr_tokenizer_info info = OTR_TOKENIZER_INFO_INIT;
  ck_text_ok(otr_tokenizer_get_info(t, &info));
  ck_assert_str_eq(info.model, "gpt2");
  ck_assert_str_eq(info.pre, "smollm");
  ck_assert(info.vocab == 266 && otr_tokenizer_vocab(t) == 266);
  ck_assert(info.bos == 1 && info.eos == 2 && info.eot == 0 && info.unk == -1 && info.pad == 2);
  ck_assert(!info.add_bos && !info.add_eos && !info.add_space_prefix);
  for (int32_t id = -1; id <= 266; ++id) {
    ck_assert_int_eq(otr_tokenizer_is_special(t, id), (id >= 0 && id < 3) || id == 264);
    ck_assert_int_eq(otr_tokenizer_is_end_of_generation(t, id), id == 0 || id == 2 || id == 264);
  }
  ck_assert_int_eq(otr_tokenizer_find(t, " hello", 6), GPT_SPACE_HELLO);
  ck_assert_int_eq(otr_tokenizer_find(t, "<|im_end|>", 10), 2);
  ck_assert_int_eq(otr_tokenizer_find(t, "<|im_end", 8), -1);
  ck_assert_int_eq(otr_tokenizer_find(t, "\xff", 1), GPT_LETTERS + 0xff);
  ck_assert_int_eq(otr_tokenizer_find(t, "", 0), -1);
  const char *piece;
  size_t n_bytes;
  ck_text_ok(otr_tokenizer_piece(t, GPT_SPACE_HELLO, &piece, &n_bytes));
  ck_assert(n_bytes == 6 && memcmp(piece, " hello", 6) == 0);
  ck_status(otr_tokenizer_piece(t, 266, &piece, &n_bytes), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert(piece == NULL && n_bytes == 0);
  otr_tokenizer_destroy(t);
}
END_TEST

START_TEST(chat_template_of_metadata) {
  static const struct {
    const char *recipe;
    otr_status status;
    otr_chat_template chat;
  } cases[] = {
      {GPT "c{{'<|im_start|>' + message['role'] + message['content'] + '<|im_end|>'}} add_generation_prompt\n",
       OTR_STATUS_OK, OTR_CHAT_CHATML},
      {GPT "c{{ content }}\n", OTR_STATUS_UNSUPPORTED, OTR_CHAT_NONE},
      {GPT, OTR_STATUS_UNSUPPORTED, OTR_CHAT_NONE},
      {"xc\n" GPT "cx\n", OTR_STATUS_BAD_FORMAT, OTR_CHAT_NONE},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
    otr_chat_template chat = OTR_CHAT_GEMMA;
    otr_metadata *metadata = tokenizer_recipe(cases[i].recipe, strlen(cases[i].recipe), NULL, NULL);
    ck_assert_ptr_nonnull(metadata);
    ck_status(otr_chat_template_of_metadata(metadata, &chat), cases[i].status);
    ck_assert_int_eq(chat, cases[i].chat);
    otr_metadata_close(metadata);
  }
}
END_TEST

/* ---- buffers, decoding ---------------------------------------------------------------------------------------------
 */

START_TEST(buffers) {
  otr_tokenizer *t = make(GPT GPT_WORDS);
  int32_t ids[3] = {-5, -5, -5}, n;
  char text[8] = "#######";
  size_t n_bytes;
  ck_status(otr_tokenizer_encode(t, "hello hello!", 12, 0, ids, 2, &n), OTR_STATUS_BUFFER_TOO_SMALL);
  ck_assert(n == 3 && ids[0] == GPT_HELLO && ids[1] == GPT_SPACE_HELLO && ids[2] == -5);
  ck_text_ok(otr_tokenizer_encode(t, "hello hello!", 12, 0, ids, 3, &n));
  ck_status(otr_tokenizer_decode(t, ids, 3, 0, text, 4, &n_bytes), OTR_STATUS_BUFFER_TOO_SMALL);
  ck_assert(n_bytes == 12 && strcmp(text, "hell###") == 0);
  ck_status(otr_tokenizer_encode(t, "x", (size_t)INT32_MAX + 1, 0, ids, 3, &n), OTR_STATUS_INVALID_ARGUMENT);
  ck_status(otr_tokenizer_encode(t, NULL, 1, 0, ids, 3, &n), OTR_STATUS_INVALID_ARGUMENT);
  ck_status(otr_tokenizer_encode(t, "x", 1, 0, NULL, 3, &n), OTR_STATUS_INVALID_ARGUMENT);
  ck_status(otr_tokenizer_encode(t, "x", 1, 0, ids, -1, &n), OTR_STATUS_INVALID_ARGUMENT);
  ck_status(otr_tokenizer_encode(t, "x", 1, 4, ids, 3, &n), OTR_STATUS_INVALID_ARGUMENT);
  ck_status(otr_tokenizer_encode(t, "x", 1, 0, ids, 3, NULL), OTR_STATUS_INVALID_ARGUMENT);
  ck_status(otr_tokenizer_encode(NULL, "x", 1, 0, ids, 3, &n), OTR_STATUS_INVALID_ARGUMENT);
  ids[1] = 100000;
  ck_status(otr_tokenizer_decode(t, ids, 3, 0, text, 4, &n_bytes), OTR_STATUS_INVALID_ARGUMENT);
  ids[1] = -1;
  ck_status(otr_tokenizer_decode(t, ids, 3, 0, text, 4, &n_bytes), OTR_STATUS_INVALID_ARGUMENT);
  ck_status(otr_tokenizer_decode(t, ids, 3, 0, text, 4, NULL), OTR_STATUS_INVALID_ARGUMENT);
  ck_status(otr_tokenizer_decode(t, NULL, 3, 0, text, 4, &n_bytes), OTR_STATUS_INVALID_ARGUMENT);
  ck_status(otr_tokenizer_decode(t, ids, -3, 0, text, 4, &n_bytes), OTR_STATUS_INVALID_ARGUMENT);
  otr_tokenizer_info info = {0};
  ck_status(otr_tokenizer_get_info(t, &info), OTR_STATUS_INVALID_ARGUMENT);
  ck_status(otr_tokenizer_get_info(t, NULL), OTR_STATUS_INVALID_ARGUMENT);
  otr_tokenizer_destroy(t);
  otr_tokenizer_destroy(NULL);
}
END_TEST

/* What the decoder gives for the ids, pieces parted by '|'. */
static void check_stream(const otr_tokenizer *t, uint32_t flags, const int32_t *ids, int32_t n, const char *want) {
  otr_decoder *decoder;
  char all[256] = "";
  const char *text;
  size_t n_bytes;
  ck_text_ok(otr_decoder_create(t, flags, &decoder));
  for (int round = 0; round < 2; ++round) { /* as new after finish */
    all[0] = '\0';
    for (int32_t i = 0; i < n; ++i) {
      ck_text_ok(otr_decoder_push(decoder, ids[i], &text, &n_bytes));
      snprintf(all + strlen(all), sizeof all - strlen(all), "%.*s|", (int)n_bytes, text);
    }
    otr_decoder_finish(decoder, &text, &n_bytes);
    snprintf(all + strlen(all), sizeof all - strlen(all), "%.*s", (int)n_bytes, text);
    ck_assert_str_eq(all, want);
  }
  ck_status(otr_decoder_push(decoder, -1, &text, &n_bytes), OTR_STATUS_INVALID_ARGUMENT);
  ck_status(otr_decoder_push(decoder, 0, NULL, &n_bytes), OTR_STATUS_INVALID_ARGUMENT);
  otr_decoder_finish(NULL, &text, &n_bytes);
  otr_decoder_destroy(decoder);
}
#define CHECK_STREAM(tokenizer, flags, want, ...) \
  check_stream(tokenizer, flags, (int32_t[]){__VA_ARGS__}, (int32_t)(sizeof((int32_t[]){__VA_ARGS__}) / 4), want)

START_TEST(streaming) {
  otr_tokenizer *t = make(SPM "B\n");
  const int32_t b = SPM_BYTES;
  CHECK_STREAM(t, 0, " hello||||🦙|hello|", SPM_SPACE_HELLO, b + 0xf0, b + 0x9f, b + 0xa6, b + 0x99, SPM_HELLO);
  CHECK_STREAM(t, 0, "|\xef\xbf\xbdhello|", b + 0xc3, SPM_HELLO);       /* cut off inside */
  CHECK_STREAM(t, 0, "||\xef\xbf\xbd", b + 0xe2, b + 0x82);             /* cut off at the end */
  CHECK_STREAM(t, 0, "\xef\xbf\xbd||é|", b + 0xff, b + 0xc3, b + 0xa9); /* stray */
  CHECK_STREAM(t, 0, "|\xef\xbf\xbd|é|", b + 0xc3, b + 0xc3, b + 0xa9); /* begun anew */
  CHECK_STREAM(t, OTR_DECODE_STRIP_PREFIX, "|hello| hello|", 1, SPM_SPACE_HELLO, SPM_SPACE_HELLO);
  CHECK_STREAM(t, OTR_DECODE_SPECIAL, "<s>| hello|</s>|", 1, SPM_SPACE_HELLO, 2);
  CHECK_STREAM(t, 0, "| hello||", 1, SPM_SPACE_HELLO, 2);
  otr_decoder *decoder;
  ck_status(otr_decoder_create(t, 4, &decoder), OTR_STATUS_INVALID_ARGUMENT);
  ck_status(otr_decoder_create(NULL, 0, &decoder), OTR_STATUS_INVALID_ARGUMENT);
  ck_status(otr_decoder_create(t, 0, NULL), OTR_STATUS_INVALID_ARGUMENT);
  otr_decoder_destroy(NULL);
  otr_tokenizer_destroy(t);
}
END_TEST

/* ---- what a file can have wrong -------------------------------------------------------------------------------------
 */

START_TEST(bad_metadata) {
  static const struct {
    const char *recipe, *detail;
    otr_status status;
  } cases[] = {
      {"xk\n" SPM, "tokenizer.ggml.model is missing", OTR_STATUS_BAD_FORMAT},
      {"Mbert\nt1a\n", "\"bert\"", OTR_STATUS_UNSUPPORTED},
      {"Mgpt2\nPtekken\nt1a\n", "\"tekken\"", OTR_STATUS_UNSUPPORTED},
      {"xp\nMgpt2\nPtekken\nt1a\n", "not a string", OTR_STATUS_BAD_FORMAT},
      {"xt\n" SPM, "tokens is missing", OTR_STATUS_BAD_FORMAT},
      {"xT\n" SPM, "wrong type", OTR_STATUS_BAD_FORMAT},
      {"Mllama\n", "vocabulary of 0", OTR_STATUS_BAD_FORMAT},
      {"xY\n" SPM, "wrong type", OTR_STATUS_BAD_FORMAT},
      {"xw\n" SPM, "12 token types for 13", OTR_STATUS_BAD_FORMAT},
      {SPM "t7x\n", "token 13 is of type 7", OTR_STATUS_BAD_FORMAT},
      {SPM "t/x\n", "token 13 is of type", OTR_STATUS_BAD_FORMAT},
      {SPM "t6<0x-1>\n", "token 13 is of type byte", OTR_STATUS_BAD_FORMAT},
      {SPM "t6<0x1>\n", "token 13 is of type byte", OTR_STATUS_BAD_FORMAT},
      {GPT "t6<0x41>\n", "of type byte", OTR_STATUS_BAD_FORMAT},
      {"xs\n" SPM, "scores is missing", OTR_STATUS_BAD_FORMAT},
      {"xS\n" SPM, "scores is of the wrong type", OTR_STATUS_BAD_FORMAT},
      {"xz\n" SPM, "12 scores for 13", OTR_STATUS_BAD_FORMAT},
      {SPM "t1x\nsnan\n", "score of token 13", OTR_STATUS_BAD_FORMAT},
      {SPM "ip-1\n", "padding_token_id is -1", OTR_STATUS_BAD_FORMAT},
      {SPM "ip13\n", "padding_token_id is 13", OTR_STATUS_BAD_FORMAT},
      {SPM "io4294967296\n", "eot_token_id", OTR_STATUS_BAD_FORMAT},
      {"xi\n" SPM, "bos_token_id is not an integer", OTR_STATUS_BAD_FORMAT},
      {"xf\n" SPM "fb1\n", "add_bos_token is not a flag", OTR_STATUS_BAD_FORMAT},
      {"xm\n" GPT, "merges is missing", OTR_STATUS_BAD_FORMAT},
      {"xM\n" GPT, "merges is of the wrong type", OTR_STATUS_BAD_FORMAT},
      {GPT "mhe\n", "merge 0, \"he\"", OTR_STATUS_BAD_FORMAT},
      {GPT "m\n", "merge 0", OTR_STATUS_BAD_FORMAT},
      {GPT "m e\n", "merge 0", OTR_STATUS_BAD_FORMAT},
      {GPT "mh \n", "merge 0", OTR_STATUS_BAD_FORMAT},
      {GPT "mh e\n", "not in the vocabulary", OTR_STATUS_BAD_FORMAT},
      {GPT GPT_WORDS "mhe x\n", "merge 5, \"he x\"", OTR_STATUS_BAD_FORMAT},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
    otr_tokenizer *tokenizer = (otr_tokenizer *)&i;
    otr_status status = create_of(cases[i].recipe, NULL, &tokenizer);
    ck_assert_msg(status == cases[i].status && tokenizer == NULL, "case %zu: %s", i, otr_status_text(status));
    ck_assert_msg(strstr(otr_text_error_detail(), cases[i].detail) != NULL, "case %zu: %s", i, otr_text_error_detail());
  }
  otr_tokenizer *tokenizer;
  ck_status(otr_tokenizer_create(NULL, NULL, &tokenizer), OTR_STATUS_INVALID_ARGUMENT);
  ck_status(otr_tokenizer_create(NULL, NULL, NULL), OTR_STATUS_INVALID_ARGUMENT);
}
END_TEST

START_TEST(odd_metadata_that_is_fine) {
  static const char *const recipes[] = {
      SPM "t1\nt3\nt4\n" SPM_WORDS "B\nB\n", /* empty and equal tokens */
      "xy\n" SPM "t1<0x41>\n",               /* no types */
      SPM "t1inf\nsinf\nt1x\ns-inf\nt1y\ns-0\n",
      "Mgpt2\nPgpt-2\nt1a\nt1aa\nt1aaa\nma a\nmaa a\nma aa\n", /* two ways to one token */
      "Mgpt2\nPgpt-2\nt1a\nt1b\nt1ab\nt1ba\nt1aba\nma b\nmb a\nmab a\nma ba\n",
      GPT GPT_WORDS GPT_WORDS,                                                  /* merges twice */
      GPT "t1\\xff\\xfe\nt1\\xe2\\x96\nt1a raw space\nt3\\xf0\\x9f\nt4\\x80\n", /* not UTF-8 */
      "Mgpt2\nt1a\n",                                                           /* no merges, no pre */
  };
  for (size_t i = 0; i < sizeof recipes / sizeof *recipes; ++i) {
    otr_tokenizer *t = make(recipes[i]);
    int32_t ids[64], n;
    ck_text_ok(otr_tokenizer_encode(t, "aabaaab\xff\xfe\x80 hello", 16, 3, ids, 64, &n));
    otr_tokenizer_destroy(t);
  }
  otr_tokenizer *t = make("Mgpt2\nPgpt-2\nt1a\nt1aa\nt1aaa\nma a\nmaa a\n");
  CHECK_IDS(t, "aaaaa", 0, 1, 2); /* aa aa a, then the leftmost aa + a that is there */
  otr_tokenizer_destroy(t);
}
END_TEST

START_TEST(a_million_merges) {
  enum { MERGES = 1000000, LINE = 6 };
  const char *head = "Mgpt2\nPgpt-2\nt1a\nt1b\nt1ab\n";
  size_t n_head = strlen(head);
  char *recipe = malloc(n_head + (size_t)MERGES * LINE + 1);
  ck_assert_ptr_nonnull(recipe);
  strcpy(recipe, head);
  for (size_t i = 0; i < MERGES; ++i) memcpy(recipe + n_head + i * 5, "ma b\n", 5);
  recipe[n_head + (size_t)MERGES * 5] = '\0';
  otr_tokenizer *t = make(recipe);
  CHECK_IDS(t, "abab", 0, 2, 2);
  otr_tokenizer_destroy(t);
  free(recipe);
}
END_TEST

START_TEST(a_token_of_megabytes) {
  enum { BYTES = 8 << 20 };
  const char *head = GPT "t3";
  size_t n_head = strlen(head);
  char *recipe = malloc(n_head + BYTES + 2);
  ck_assert_ptr_nonnull(recipe);
  memcpy(recipe, head, n_head);
  memset(recipe + n_head, 'x', BYTES);
  strcpy(recipe + n_head + BYTES, "\n");
  otr_tokenizer *t = make(recipe);
  check_ids(t, recipe + n_head, BYTES, OTR_ENCODE_PARSE_SPECIAL, 1, (int32_t[]){259});
  otr_tokenizer_destroy(t);
  free(recipe);
}
END_TEST

/* ---- memory that runs out -------------------------------------------------------------------------------------------
 */

typedef struct meter {
  int left, held; /* allocations that succeed from now on; blocks in use */
} meter;

static void *meter_allocate(void *user, size_t bytes, size_t alignment) {
  meter *m = user;
  (void)alignment;
  if (m->left-- <= 0) return NULL;
  ++m->held;
  return malloc(bytes);
}

static void meter_release(void *user, void *memory, size_t bytes) {
  (void)bytes;
  --((meter *)user)->held;
  free(memory);
}

/* Creates, encodes and decodes with `left` allocations. */
static otr_status use(const char *recipe, meter *m) {
  otr_tokenizer_params params = {sizeof params, {m, meter_allocate, meter_release}};
  otr_tokenizer *t;
  otr_decoder *decoder = NULL;
  int32_t ids[64], n;
  otr_status status = create_of(recipe, &params, &t);
  if (status == OTR_STATUS_OK) status = otr_tokenizer_encode(t, "hello helloA<|im_end|>", 22, 3, ids, 64, &n);
  if (status == OTR_STATUS_OK) status = otr_decoder_create(t, 0, &decoder);
  otr_decoder_destroy(decoder);
  otr_tokenizer_destroy(t);
  return status;
}

START_TEST(every_allocation_failing) {
  static const char *const recipes[] = {SPM "B\n", GPT GPT_WORDS};
  for (size_t r = 0; r < 2; ++r) {
    int n = 0;
    for (otr_status status = OTR_STATUS_NO_MEMORY; status != OTR_STATUS_OK; ++n) {
      meter m = {n, 0};
      status = use(recipes[r], &m);
      ck_assert_msg(status == OTR_STATUS_OK || status == OTR_STATUS_NO_MEMORY, "%s", otr_text_error_detail());
      ck_assert_int_eq(m.held, 0);
    }
    ck_assert_int_gt(n, 10);
  }
  meter m = {100, 0};
  otr_tokenizer *t;
  otr_tokenizer_params half = {sizeof half, {&m, meter_allocate, NULL}};
  ck_status(create_of(SPM, &half, &t), OTR_STATUS_INVALID_ARGUMENT);
}
END_TEST

static void add(TCase *tests) {
  tcase_add_loop_test(tests, golden_encodings, 0, 3);
  tcase_add_loop_test(tests, a_megabyte, 0, 3);
  tcase_add_test(tests, spm_encoding);
  tcase_add_test(tests, control_tokens_never_come_from_text);
  tcase_add_test(tests, gpt2_encoding);
  tcase_add_test(tests, information);
  tcase_add_test(tests, chat_template_of_metadata);
  tcase_add_test(tests, buffers);
  tcase_add_test(tests, streaming);
  tcase_add_test(tests, bad_metadata);
  tcase_add_test(tests, odd_metadata_that_is_fine);
  tcase_add_test(tests, a_million_merges);
  tcase_add_test(tests, a_token_of_megabytes);
  tcase_add_test(tests, every_allocation_failing);
}

int main(void) {
  return suite_run("tokenizer", add);
}
