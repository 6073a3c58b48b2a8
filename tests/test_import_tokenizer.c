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
                      char *want) {
  int32_t ids[512], n, n_want = 0;
  char list[4096] = "";
  ck_assert_int_eq(otr_tokenizer_encode(t, text, n_bytes, family->flags, ids, 512, &n), OTR_STATUS_OK);
  for (int32_t i = 0; i < n; ++i)
    snprintf(list + strlen(list), sizeof list - strlen(list), "%s%d", i ? " " : "", ids[i]);
  for (const char *at = want; *at != '\0'; ++at) n_want += *at == ' ';
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

static void add(TCase *tests) {
  tcase_add_loop_test(tests, family_ids, 0, N_FAMILIES);
}

int main(void) {
  return suite_run("import_tokenizer", add);
}
