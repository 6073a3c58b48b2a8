// SPDX-License-Identifier: Apache-2.0
/* Chat templates against what the models' own Jinja templates render (tests/fixtures/make_chat_fixtures.py). */
#include <string.h>

#include "fixture.h"
#include "outrider/text.h"
#include "suite.h"

#ifndef FIXTURES
#error "FIXTURES is the folder of the fixtures"
#endif

enum { MOST_MESSAGES = 16 };

typedef struct dialogue {
  otr_chat_template chat;
  otr_chat_params params;
  otr_chat_message messages[MOST_MESSAGES];
  int32_t n, open;
} dialogue;

static void check_text(const dialogue *d, const char *want) {
  char text[4096];
  size_t n, needed, size = strlen(want);
  otr_status status = otr_chat_apply(d->chat, d->messages, d->n, d->open, &d->params, text, sizeof text, &n);
  ck_assert_msg(status == OTR_STATUS_OK, "%s", otr_text_error_detail());
  ck_assert_msg(n == size && memcmp(text, want, n) == 0, "%s:\n%.*s\ninstead of\n%s", otr_chat_template_name(d->chat),
                (int)n, text, want);
  if (size == 0) return;
  memset(text, '#', sizeof text);
  status = otr_chat_apply(d->chat, d->messages, d->n, d->open, &d->params, text, size - 1, &needed);
  ck_assert_int_eq(status, OTR_STATUS_BUFFER_TOO_SMALL);
  ck_assert(needed == size && memcmp(text, want, size - 1) == 0 && text[size - 1] == '#');
}

static void check_error(const dialogue *d, const char *want) {
  size_t n;
  ck_assert_int_eq(otr_chat_apply(d->chat, d->messages, d->n, d->open, &d->params, NULL, 0, &n),
                   OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_str_eq(otr_text_error_detail(), want);
}

static void begin_template(dialogue *d, char *line) {
  static char names[3][64];
  for (int i = 0; i < 3; ++i) snprintf(names[i], sizeof names[i], "%s", fixture_word(&line));
  fixture_unescape(names[1]);
  fixture_unescape(names[2]);
  d->params.bos = names[1];
  d->params.eos = names[2];
  ck_assert_int_eq(otr_chat_template_by_name(names[0], &d->chat), OTR_STATUS_OK);
  ck_assert_str_eq(otr_chat_template_name(d->chat), names[0]);
}

static void begin_case(dialogue *d, char *line) {
  d->n = 0;
  d->open = fixture_word(&line)[0] == '1';
  fixture_unescape(line);
  d->params.date = line;
}

static void add_message(dialogue *d, char *line) {
  ck_assert_int_lt(d->n, MOST_MESSAGES);
  char *role = fixture_word(&line);
  fixture_unescape(role);
  fixture_unescape(line);
  d->messages[d->n++] = (otr_chat_message){role, line};
}

START_TEST(golden_dialogues) {
  dialogue d = {.params = OTR_CHAT_PARAMS_INIT};
  int n = 0;
  char *fixtures = fixture_read(FIXTURES, "chat.txt", NULL), *cursor = fixtures;
  ck_assert_ptr_nonnull(fixtures);
  for (char *line = fixture_line(&cursor); line != NULL; line = fixture_line(&cursor)) {
    const char *word = fixture_word(&line);
    if (strcmp(word, "template") == 0) begin_template(&d, line);
    if (strcmp(word, "case") == 0) begin_case(&d, line);
    if (strcmp(word, "message") == 0) add_message(&d, line);
    if (strcmp(word, "jinja") == 0) {
      otr_chat_template chat;
      size_t n_bytes = fixture_unescape(line);
      ck_assert_msg(otr_chat_template_recognize(line, n_bytes, &chat) == OTR_STATUS_OK, "%s is not recognized",
                    otr_chat_template_name(d.chat));
      ck_assert_msg(chat == d.chat, "%s taken for %s", otr_chat_template_name(d.chat), otr_chat_template_name(chat));
    }
    if (strcmp(word, "text") != 0 && strcmp(word, "error") != 0) continue;
    fixture_unescape(line);
    if (word[0] == 't') check_text(&d, line);
    if (word[0] == 'e') check_error(&d, line);
    ++n;
  }
  ck_assert_int_gt(n, 600);
  free(fixtures);
}
END_TEST

START_TEST(own_tokens_by_default) {
  otr_chat_message message = {"user", "x"};
  char text[256];
  size_t n;
  ck_assert_int_eq(otr_chat_apply(OTR_CHAT_LLAMA31, &message, 1, 0, NULL, text, sizeof text, &n), OTR_STATUS_OK);
  text[n] = '\0';
  ck_assert_str_eq(
      text,
      "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
      "Today Date: 26 Jul 2024\n\n<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nx<|eot_id|>");
  ck_assert_int_eq(otr_chat_apply(OTR_CHAT_PHI3, &message, 1, 0, NULL, text, sizeof text, &n), OTR_STATUS_OK);
  text[n] = '\0';
  ck_assert_str_eq(text, "<|user|>\nx<|end|>\n<|endoftext|>");
}
END_TEST

START_TEST(unknown_templates) {
  static const char *const texts[] = {
      "",
      "{{ messages }}",
      "{% for m in messages %}{{ m['content'] }}{% endfor %}",
      /* ChatML with a system message, a begin token, a trim or tools of its own renders otherwise. */
      "{{ '<|im_start|>system\\nI am a parrot.<|im_end|>' + role + content }} add_generation_prompt",
      "{{ bos_token + '<|im_start|>' + message['role'] + message['content'] + '<|im_end|>' }} add_generation_prompt",
      "{{ '<|im_start|>' + message['role'] + message['content'] | trim + '<|im_end|>' }} add_generation_prompt",
      "{% if tools %}{{ '<|im_start|>' + role + content + '<|im_end|>' }}{% endif %} add_generation_prompt",
      "{{ '<|im_start|>system",
      "<start_of_turn> first_user_prefix <end_of_turn> System role not supported",
      "[INST] <<SYS>>",
      /* Gemma 3 with one line break behind the system message; Zephyr without line breaks behind the messages. */
      "bos_token messages[0]['content'] + '\\n' (first_user_prefix if loop.first else '') <start_of_turn> "
      "message['content'] | trim <end_of_turn>",
      "'<|user|>' + message['content'] + eos_token }}{% elif '<|system|>' loop.last and add_generation_prompt "
      "{{ '<|assistant|>' }}",
  };
  for (size_t i = 0; i < sizeof texts / sizeof *texts; ++i) {
    otr_chat_template chat = OTR_CHAT_GEMMA;
    ck_assert_msg(otr_chat_template_recognize(texts[i], strlen(texts[i]), &chat) == OTR_STATUS_UNSUPPORTED, "%s",
                  texts[i]);
    ck_assert_int_eq(chat, OTR_CHAT_NONE);
    ck_assert_ptr_nonnull(strstr(otr_text_error_detail(), "render the prompt yourself"));
  }
  otr_chat_template chat;
  ck_assert_int_eq(otr_chat_template_by_name("parrot", &chat), OTR_STATUS_UNSUPPORTED);
  ck_assert_ptr_nonnull(strstr(otr_text_error_detail(), "phi3.5"));
  ck_assert_str_eq(otr_chat_template_name(OTR_CHAT_NONE), "none");
  ck_assert_str_eq(otr_chat_template_name(1000), "none");
}
END_TEST

START_TEST(bad_arguments) {
  otr_chat_message good = {"user", "x"}, no_role = {NULL, "x"}, no_content = {"user", NULL}, tool = {"tool", "x"};
  size_t n = 7;
  char text[16];
  otr_chat_params params = {0};
  otr_chat_template chat;
  ck_assert_int_eq(otr_chat_apply(OTR_CHAT_NONE, &good, 1, 0, NULL, NULL, 0, &n), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_uint_eq(n, 0);
  ck_assert_int_eq(otr_chat_apply(99, &good, 1, 0, NULL, NULL, 0, &n), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_chat_apply(-1, &good, 1, 0, NULL, NULL, 0, &n), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_chat_apply(OTR_CHAT_GEMMA, &good, 0, 0, NULL, NULL, 0, &n), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_chat_apply(OTR_CHAT_GEMMA, NULL, 1, 0, NULL, NULL, 0, &n), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_chat_apply(OTR_CHAT_GEMMA, &no_role, 1, 0, NULL, NULL, 0, &n), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_chat_apply(OTR_CHAT_GEMMA, &no_content, 1, 0, NULL, NULL, 0, &n), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_chat_apply(OTR_CHAT_GEMMA, &good, 1, 0, NULL, NULL, 5, &n), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_chat_apply(OTR_CHAT_GEMMA, &good, 1, 0, NULL, text, 5, NULL), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_chat_apply(OTR_CHAT_GEMMA, &good, 1, 0, &params, text, 5, &n), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_chat_apply(OTR_CHAT_LLAMA31, &tool, 1, 0, NULL, NULL, 0, &n), OTR_STATUS_UNSUPPORTED);
  ck_assert_int_eq(otr_chat_apply(OTR_CHAT_MISTRAL_V3, &tool, 1, 0, NULL, NULL, 0, &n), OTR_STATUS_UNSUPPORTED);
  ck_assert_int_eq(otr_chat_template_by_name(NULL, &chat), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_chat_template_recognize("x", 1, NULL), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_chat_template_of_metadata(NULL, &chat), OTR_STATUS_INVALID_ARGUMENT);
}
END_TEST

static void add(TCase *tests) {
  tcase_add_test(tests, golden_dialogues);
  tcase_add_test(tests, own_tokens_by_default);
  tcase_add_test(tests, unknown_templates);
  tcase_add_test(tests, bad_arguments);
}

int main(void) {
  return suite_run("chat", add);
}
