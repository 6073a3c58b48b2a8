// SPDX-License-Identifier: Apache-2.0
/* Pre-tokenizers against the published regular expressions (tests/fixtures/make_split_fixtures.py), and their time;
 * normalization. */
#include <string.h>
#include <time.h>

#include "fixture.h"
#include "nfc.h"
#include "split.h"
#include "suite.h"
#include "unicode.h"

#ifndef FIXTURES
#error "FIXTURES is the folder of the fixtures"
#endif

static const struct kind {
  const char *name;
  otr_split_kind kind;
} kinds[] = {{"gpt-2", OTR_SPLIT_GPT2},   {"smollm", OTR_SPLIT_DIGITS},   {"llama-bpe", OTR_SPLIT_LLAMA3},
             {"qwen2", OTR_SPLIT_QWEN2},  {"default", OTR_SPLIT_DEFAULT}, {"bloom", OTR_SPLIT_BLOOM},
             {"falcon", OTR_SPLIT_FALCON}};
enum { N_KINDS = 7 };

/* Compares the pieces with a line "name length length …". */
static void check_pieces(char *line, const char *text, size_t n_bytes) {
  otr_split split;
  const char *name = fixture_word(&line);
  int k = 0;
  while (k < N_KINDS && strcmp(kinds[k].name, name) != 0) ++k;
  ck_assert_msg(k < N_KINDS, "unknown pre-tokenizer %s", name);
  otr_split_begin(&split, kinds[k].kind, text, n_bytes);
  for (size_t at = 0; *line != '\0';) {
    size_t want = strtoul(fixture_word(&line), NULL, 10), got = otr_split_next(&split);
    ck_assert_msg(want == got, "%s: a piece of %zu bytes instead of %zu at byte %zu of \"%.*s\"", name, got, want, at,
                  (int)n_bytes, text);
    at += want;
  }
  ck_assert_uint_eq(otr_split_next(&split), 0);
}

static int check_fixtures(char *fixtures, char **texts, size_t n_texts) {
  int n = 0;
  for (char *line = fixture_line(&fixtures); line != NULL; line = fixture_line(&fixtures), ++n) {
    const char *kind = fixture_word(&line);
    char *text = line;
    if (strcmp(kind, "inp") == 0) {
      size_t index = strtoul(line, NULL, 10);
      text = index < n_texts ? texts[index] : NULL;
    }
    size_t n_bytes = text == NULL ? 0 : text == line ? fixture_unescape(text) : strlen(text);
    for (int k = 0; k < N_KINDS; ++k) {
      char *pieces = fixture_line(&fixtures);
      ck_assert_ptr_nonnull(pieces);
      if (text != NULL) check_pieces(pieces, text, n_bytes);
    }
  }
  return n;
}

START_TEST(published_expressions) {
  static char *texts[256];
  size_t n_texts = 0;
  char *fixtures = fixture_read(FIXTURES, "split.txt", NULL), *inputs = NULL;
  ck_assert_ptr_nonnull(fixtures);
  const char *folder = suite_data("splits of the vocabulary tests");
  if (folder != NULL) {
    inputs = fixture_read(folder, "tokenizers/ggml-vocab-llama-bpe.gguf.inp", NULL);
    ck_assert_ptr_nonnull(inputs);
    const char separator[] = "\n__ggml_vocab_test__\n";
    for (char *at = inputs, *end; (end = strstr(at, separator)) != NULL; at = end + sizeof separator - 1) {
      texts[n_texts++] = at;
      *end = '\0';
    }
  }
  ck_assert_int_gt(check_fixtures(fixtures, texts, n_texts), 400);
  free(fixtures);
  free(inputs);
}
END_TEST

/* Far above what work in the order of the length takes, also under an emulator on a busy machine, and far below what
 * the length's square takes. */
#define MOST_SECONDS 5.0

/* A text of n bytes that repeats `unit`: the time may grow with its length only. */
static double seconds_of(otr_split_kind kind, const char *unit, size_t n) {
  char *text = malloc(n);
  ck_assert_ptr_nonnull(text);
  for (size_t i = 0; i < n; ++i) text[i] = unit[i % strlen(unit)];
  otr_split split;
  size_t sum = 0;
  clock_t begin = clock();
  otr_split_begin(&split, kind, text, n);
  for (size_t piece = otr_split_next(&split); piece > 0; piece = otr_split_next(&split)) sum += piece;
  double seconds = (double)(clock() - begin) / CLOCKS_PER_SEC;
  ck_assert_uint_eq(sum, n);
  free(text);
  return seconds;
}

START_TEST(linear_time) {
  static const char *const units[] = {"a",    " ",    "\n",   " \n",      "1",   "12a",   "!",           "! ",
                                      "a 1!", "'s'S", "\xff", "\xc3\xa9", "٣12", "\r\n ", "\xe3\x80\x80"};
  for (int k = 0; k < N_KINDS; ++k)
    for (size_t i = 0; i < sizeof units / sizeof *units; ++i)
      ck_assert_msg(seconds_of(kinds[k].kind, units[i], 400000) < MOST_SECONDS, "%s on repeated \"%s\"", kinds[k].name,
                    units[i]);
}
END_TEST

START_TEST(characters) {
  static const struct {
    const char *text;
    size_t n_bytes;
    int32_t code;
    uint32_t bytes;
    bool beginning;
  } cases[] = {
      {"", 0, -1, 0, true},
      {"A", 1, 'A', 1, false},
      {"\0", 1, 0, 1, false},
      {"\xc3\xa9", 2, 0xe9, 2, false},
      {"\xc3", 1, -1, 1, true},
      {"\xc3(", 2, -1, 1, false},
      {"\xc0\x80", 2, -1, 1, false}, /* overlong */
      {"\xc1\xbf", 2, -1, 1, false},
      {"\xe0\x80\x80", 3, -1, 1, false},
      {"\xe0\xa0\x80", 3, 0x800, 3, false},
      {"\xe0\xa0", 2, -1, 1, true},
      {"\xe0\x80", 2, -1, 1, false},
      {"\xed\xa0\x80", 3, -1, 1, false}, /* surrogate */
      {"\xed\x9f\xbf", 3, 0xd7ff, 3, false},
      {"\xf0\x9f\xa6\x99", 4, 0x1f999, 4, false},
      {"\xf0\x9f\xa6", 3, -1, 1, true},
      {"\xf0\x80\x80\x80", 4, -1, 1, false},
      {"\xf4\x8f\xbf\xbf", 4, 0x10ffff, 4, false},
      {"\xf4\x90\x80\x80", 4, -1, 1, false}, /* beyond U+10FFFF */
      {"\xf5\x80\x80\x80", 4, -1, 1, false},
      {"\x80", 1, -1, 1, false},
      {"\xff", 1, -1, 1, false},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
    otr_char c = otr_char_at(cases[i].text, cases[i].n_bytes);
    ck_assert_msg(c.code == cases[i].code && c.bytes == cases[i].bytes, "case %zu: U+%X of %u bytes", i,
                  (unsigned)c.code, c.bytes);
    if (cases[i].n_bytes < 4)
      ck_assert_msg(otr_char_is_beginning(cases[i].text, cases[i].n_bytes) == cases[i].beginning, "case %zu", i);
  }
}
END_TEST

/* Hard cases are in the fixtures of the tokenizer import; here stray bytes, and marks that are to be put in order. */
START_TEST(normalization) {
  static const otr_allocator standard = {NULL, NULL, NULL};
  static const char *const units[] = {"\xcc\x81\xcc\xa3", "e\xcc\x81", "\xea\xb0\x80\xe1\x86\xa8", "\xff\xcc",
                                      "a\xcc\x81 "};
  enum { BYTES = 400000 };
  static char text[BYTES];
  for (size_t u = 0; u < sizeof units / sizeof *units; ++u) {
    char *out, *again;
    size_t room, n, again_room, n_again;
    for (size_t i = 0; i < BYTES; ++i) text[i] = units[u][i % strlen(units[u])];
    clock_t begin = clock();
    ck_assert_int_eq(otr_nfc(&standard, text, BYTES, &out, &room, &n), OTR_STATUS_OK);
    ck_assert_double_lt((double)(clock() - begin) / CLOCKS_PER_SEC, MOST_SECONDS);
    ck_assert_int_eq(otr_nfc(&standard, out, n, &again, &again_room, &n_again), OTR_STATUS_OK);
    ck_assert(n <= BYTES && n == n_again && memcmp(out, again, n) == 0);
    otr_text_give(&standard, out, room, 1);
    otr_text_give(&standard, again, again_room, 1);
  }
  ck_assert(otr_nfc_is_plain("caf\xc3\xa9", 5) && !otr_nfc_is_plain("e\xcc\x81", 3));
}
END_TEST

static void add(TCase *tests) {
  tcase_add_test(tests, characters);
  tcase_add_test(tests, published_expressions);
  tcase_add_test(tests, linear_time);
  tcase_add_test(tests, normalization);
}

int main(void) {
  return suite_run("split", add);
}
