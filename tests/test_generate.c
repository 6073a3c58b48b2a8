// SPDX-License-Identifier: Apache-2.0
/* The convenience loop on a tiny model: against a loop by hand, stop strings, callbacks, the ends of a context. */
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "outrider/text.h"
#include "suite.h"
#include "tiny_model.h"

#define PROMPT "the cat"

#define ck_status(expression, status)                                                                               \
  do {                                                                                                              \
    otr_status ck_got = (expression);                                                                               \
    ck_assert_msg(ck_got == (status), "%s: %s: %s", #expression, otr_status_text(ck_got), otr_text_error_detail()); \
  } while (0)

static char path[] = "test_generate_XXXXXX";
static otr_runtime *runtime;
static otr_model *model;
static otr_session *session;
static otr_tokenizer *tokenizer;
static otr_sampler *sampler;

static void set_up(void) {
  strcpy(path, "test_generate_XXXXXX");
  int fd = mkstemp(path);
  ck_assert_int_ge(fd, 0);
  close(fd);
  llama_shape shape = tiny_model_shape();
  ck_ok(tiny_model_write(path, &shape, 5));
  otr_runtime_params params = OTR_RUNTIME_PARAMS_INIT;
  params.device = "cpu";
  params.n_threads = 1;
  params.skip_self_check = 1;
  ck_ok(otr_runtime_create(&params, &runtime));
  ck_ok(otr_model_open_file(runtime, path, NULL, &model));
  otr_session_params session_params = {sizeof session_params, 256, 0, 0};
  ck_ok(otr_session_create(model, &session_params, &session));
  ck_status(otr_tokenizer_create(otr_model_metadata(model), NULL, &tokenizer), OTR_STATUS_OK);
  otr_sampler_params warm = OTR_SAMPLER_PARAMS_INIT;
  warm.temperature = 1.5f;
  warm.seed = 3;
  ck_status(otr_sampler_create(otr_tokenizer_vocab(tokenizer), &warm, &sampler), OTR_STATUS_OK);
}

static void tear_down(void) {
  otr_sampler_destroy(sampler);
  otr_tokenizer_destroy(tokenizer);
  otr_session_destroy(session);
  ck_ok(otr_model_close(model));
  ck_ok(otr_runtime_destroy(runtime));
  unlink(path);
}

static void restart(void) {
  otr_session_reset(session);
  otr_sampler_reset(sampler);
}

/* ---- what on_piece got ---------------------------------------------------------------------------------------------
 */

typedef struct heard {
  char text[8192];
  size_t n_bytes;
  int calls, stop_after; /* 0: never */
  int32_t last_id;
  otr_session *cancel;
} heard;

static int32_t hear(void *user, const char *text, size_t n_bytes, int32_t id) {
  heard *h = user;
  ck_assert_uint_lt(h->n_bytes + n_bytes, sizeof h->text);
  memcpy(h->text + h->n_bytes, text, n_bytes);
  h->n_bytes += n_bytes;
  h->text[h->n_bytes] = '\0';
  h->last_id = id;
  if (h->cancel != NULL) otr_session_cancel(h->cancel);
  return ++h->calls == h->stop_after;
}

static otr_generate_params prompt_params(heard *h, int32_t max_tokens) {
  otr_generate_params p = OTR_GENERATE_PARAMS_INIT;
  memset(h, 0, sizeof *h);
  p.prompt = PROMPT;
  p.encode_flags = OTR_ENCODE_ADD_SPECIAL;
  p.max_tokens = max_tokens;
  p.on_piece = hear;
  p.user = h;
  p.ignore_end = 1;
  return p;
}

static otr_generate_result generate(const otr_generate_params *p) {
  otr_generate_result result = OTR_GENERATE_RESULT_INIT;
  ck_status(otr_generate(session, tokenizer, sampler, p, &result), OTR_STATUS_OK);
  return result;
}

/* The same by hand: ids [n] and their text. */
static void by_hand(int32_t n, int32_t *ids, char *text) {
  int32_t prompt[64], n_prompt;
  const char *piece;
  size_t n_bytes, at = 0;
  otr_decoder *decoder;
  restart();
  ck_status(otr_decoder_create(tokenizer, 0, &decoder), OTR_STATUS_OK);
  ck_status(otr_tokenizer_encode(tokenizer, PROMPT, strlen(PROMPT), OTR_ENCODE_ADD_SPECIAL, prompt, 64, &n_prompt),
            OTR_STATUS_OK);
  ck_ok(otr_session_eval(session, prompt, n_prompt, NULL));
  for (int32_t i = 0; i < n; ++i) {
    ck_status(otr_sampler_sample(sampler, otr_session_logits(session), otr_tokenizer_vocab(tokenizer), &ids[i]),
              OTR_STATUS_OK);
    ck_status(otr_sampler_accept(sampler, ids[i]), OTR_STATUS_OK);
    ck_status(otr_decoder_push(decoder, ids[i], &piece, &n_bytes), OTR_STATUS_OK);
    memcpy(text + at, piece, n_bytes);
    at += n_bytes;
    ck_ok(otr_session_eval(session, &ids[i], 1, NULL));
  }
  otr_decoder_finish(decoder, &piece, &n_bytes);
  memcpy(text + at, piece, n_bytes);
  text[at + n_bytes] = '\0';
  otr_decoder_destroy(decoder);
  restart();
}

/* ---- tests ----------------------------------------------------------------------------------------------------------
 */

START_TEST(equals_a_loop_by_hand) {
  enum { N = 60 };
  int32_t ids[N];
  char text[4096];
  heard h;
  by_hand(N, ids, text);
  otr_generate_params p = prompt_params(&h, N);
  otr_generate_result r = generate(&p);
  ck_assert_str_eq(h.text, text);
  ck_assert(r.reason == OTR_GENERATE_MAX_TOKENS && r.n_tokens == N && r.last_id == ids[N - 1] && r.stop_index == -1);
  ck_assert_int_ge(h.calls, N);
  ck_assert_int_eq(otr_session_position(session), r.n_prompt + N - 1);
  /* Whatever the callback and the result are, the session does the same. */
  restart();
  p.on_piece = NULL;
  ck_status(otr_generate(session, tokenizer, sampler, &p, NULL), OTR_STATUS_OK);
  ck_assert_int_eq(otr_session_position(session), r.n_prompt + N - 1);
}
END_TEST

START_TEST(goes_on_where_it_stopped) {
  enum { N = 24, FIRST = 10 };
  int32_t ids[N];
  char text[4096];
  heard h, more;
  by_hand(N, ids, text);
  otr_generate_params p = prompt_params(&h, FIRST);
  otr_generate_result r = generate(&p);
  ck_assert_int_eq(r.last_id, ids[FIRST - 1]);
  p = prompt_params(&more, N - FIRST);
  p.prompt = NULL;
  p.ids = &r.last_id;
  p.n_ids = 1;
  r = generate(&p);
  ck_assert(r.last_id == ids[N - 1] && r.n_prompt == 1);
  /* With nothing at all: from the session's logits. */
  restart();
  p = prompt_params(&h, 1);
  r = generate(&p);
  ck_ok(otr_session_eval(session, &r.last_id, 1, NULL));
  p.prompt = NULL;
  r = generate(&p);
  ck_assert(r.n_prompt == 0 && r.last_id == ids[1]);
}
END_TEST

/* Start of the character that holds byte `at`. */
static size_t character(const char *text, size_t at) {
  while (at > 0 && ((unsigned char)text[at] & 0xc0) == 0x80) --at;
  return at;
}

START_TEST(stop_strings) {
  enum { N = 80 };
  int32_t ids[N];
  char text[4096], stop[64];
  by_hand(N, ids, text);
  size_t length = strlen(text);
  for (size_t from = 0; from + 20 < length; from += 3) {
    heard h;
    size_t begin = character(text, from), end = character(text, from + 1 + from % 17);
    if (end <= begin) continue;
    memcpy(stop, text + begin, end - begin);
    stop[end - begin] = '\0';
    const char *list[3] = {"never to be seen", stop, stop};
    size_t first = (size_t)(strstr(text, stop) - text);
    restart();
    otr_generate_params p = prompt_params(&h, N);
    p.stop = list;
    p.n_stop = 3;
    otr_generate_result r = generate(&p);
    ck_assert_msg(h.n_bytes == first && memcmp(h.text, text, first) == 0, "\"%s\" gives \"%s\" of \"%s\"", stop, h.text,
                  text);
    ck_assert(r.reason == OTR_GENERATE_STOP_STRING && r.stop_index == 1);
  }
}
END_TEST

START_TEST(held_text_is_delivered_at_the_end) {
  enum { N = 30 };
  int32_t ids[N];
  char text[4096], stop[4200];
  heard h;
  by_hand(N, ids, text);
  snprintf(stop, sizeof stop, "%s and more", text); /* all of the text may be its beginning */
  const char *list[1] = {stop};
  otr_generate_params p = prompt_params(&h, N);
  p.stop = list;
  p.n_stop = 1;
  otr_generate_result r = generate(&p);
  ck_assert_int_eq(r.reason, OTR_GENERATE_MAX_TOKENS);
  ck_assert_str_eq(h.text, text);
}
END_TEST

START_TEST(callback_stops_or_cancels) {
  heard h;
  otr_generate_params p = prompt_params(&h, 50);
  h.stop_after = 7;
  otr_generate_result r = generate(&p);
  ck_assert(r.reason == OTR_GENERATE_CALLBACK && r.n_tokens == 7 && h.calls == 7 && h.last_id == r.last_id);
  restart();
  p = prompt_params(&h, 50);
  h.cancel = session;
  ck_status(otr_generate(session, tokenizer, sampler, &p, &r), OTR_STATUS_CANCELLED);
  ck_assert(r.reason == OTR_GENERATE_FAILED && r.n_tokens == 1 && h.calls == 1);
}
END_TEST

START_TEST(end_of_generation) {
  heard h;
  otr_logit_bias bias = {2, 1000.0f}; /* the end token at once */
  otr_sampler_params params = OTR_SAMPLER_PARAMS_INIT;
  otr_sampler *ending;
  params.bias = &bias;
  params.n_bias = 1;
  ck_status(otr_sampler_create(otr_tokenizer_vocab(tokenizer), &params, &ending), OTR_STATUS_OK);
  otr_generate_params p = prompt_params(&h, 5);
  otr_generate_result r = OTR_GENERATE_RESULT_INIT;
  p.ignore_end = 0;
  ck_status(otr_generate(session, tokenizer, ending, &p, &r), OTR_STATUS_OK);
  ck_assert(r.reason == OTR_GENERATE_END && r.n_tokens == 1 && r.last_id == 2 && h.n_bytes == 0);
  otr_session_reset(session);
  p.ignore_end = 1;
  ck_status(otr_generate(session, tokenizer, ending, &p, &r), OTR_STATUS_OK);
  ck_assert(r.reason == OTR_GENERATE_MAX_TOKENS && r.n_tokens == 5);
  otr_sampler_destroy(ending);
}
END_TEST

START_TEST(context_full) {
  heard h;
  otr_generate_params p = prompt_params(&h, 0);
  otr_generate_result r = generate(&p);
  ck_assert_int_eq(r.reason, OTR_GENERATE_CONTEXT_FULL);
  ck_assert_int_eq(otr_session_room(session), 0);
  ck_assert_int_eq(r.n_prompt + r.n_tokens - 1, otr_session_position(session));
  int32_t position = otr_session_position(session);
  ck_status(otr_generate(session, tokenizer, sampler, &p, &r), OTR_STATUS_CONTEXT_FULL);
  ck_assert(r.reason == OTR_GENERATE_FAILED && otr_session_position(session) == position);
}
END_TEST

START_TEST(bad_arguments) {
  heard h;
  otr_generate_result r = OTR_GENERATE_RESULT_INIT, unset = {0};
  otr_generate_params p = prompt_params(&h, 5);
  static const char *const empty[1] = {""};
  const otr_generate_params good = p;
  ck_status(otr_generate(NULL, tokenizer, sampler, &p, &r), OTR_STATUS_INVALID_ARGUMENT);
  ck_status(otr_generate(session, NULL, sampler, &p, &r), OTR_STATUS_INVALID_ARGUMENT);
  ck_status(otr_generate(session, tokenizer, NULL, &p, &r), OTR_STATUS_INVALID_ARGUMENT);
  ck_status(otr_generate(session, tokenizer, sampler, NULL, &r),
            OTR_STATUS_INVALID_ARGUMENT); /* no prompt, no logits */
  ck_status(otr_generate(session, tokenizer, sampler, &p, &unset), OTR_STATUS_INVALID_ARGUMENT);
  p.max_tokens = -1;
  ck_status(otr_generate(session, tokenizer, sampler, &p, &r), OTR_STATUS_INVALID_ARGUMENT);
  p = good, p.n_ids = 1;
  ck_status(otr_generate(session, tokenizer, sampler, &p, &r), OTR_STATUS_INVALID_ARGUMENT);
  p = good, p.stop = empty, p.n_stop = 1;
  ck_status(otr_generate(session, tokenizer, sampler, &p, &r), OTR_STATUS_INVALID_ARGUMENT);
  p = good, p.encode_flags = 64;
  ck_status(otr_generate(session, tokenizer, sampler, &p, &r), OTR_STATUS_INVALID_ARGUMENT);
  p = good, p.ids = (const int32_t[]){-1}, p.n_ids = 1;
  ck_status(otr_generate(session, tokenizer, sampler, &p, &r), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert(strlen(otr_text_error_detail()) > 0 && strcmp(otr_text_error_detail(), otr_error_detail()) == 0);
  p = good, p.prompt_bytes = INT32_MAX;
  ck_status(otr_generate(session, tokenizer, sampler, &p, &r), OTR_STATUS_INVALID_ARGUMENT);
  otr_sampler *larger;
  ck_status(otr_sampler_create(otr_tokenizer_vocab(tokenizer) + 1, NULL, &larger), OTR_STATUS_OK);
  ck_status(otr_generate(session, tokenizer, larger, &good, &r), OTR_STATUS_INVALID_ARGUMENT);
  otr_sampler_destroy(larger);
  ck_assert_int_eq(otr_session_position(session), 0);
}
END_TEST

/* ---- memory ------------------------------------------------------------------------------------------------------ */

START_TEST(every_allocation_failing) {
  int n = 0;
  for (otr_status status = OTR_STATUS_NO_MEMORY; status != OTR_STATUS_OK; ++n) {
    heard h;
    suite_meter m = {n, 0};
    otr_generate_params p = prompt_params(&h, 3);
    p.accept_prompt = 1;
    p.allocator = suite_allocator(&m);
    restart();
    status = otr_generate(session, tokenizer, sampler, &p, NULL);
    ck_assert(status == OTR_STATUS_OK || status == OTR_STATUS_NO_MEMORY);
    ck_assert_int_eq(m.held, 0);
  }
  ck_assert_int_gt(n, 1);
}
END_TEST

static void add(TCase *tests) {
  tcase_add_checked_fixture(tests, set_up, tear_down);
  tcase_add_test(tests, equals_a_loop_by_hand);
  tcase_add_test(tests, goes_on_where_it_stopped);
  tcase_add_test(tests, stop_strings);
  tcase_add_test(tests, held_text_is_delivered_at_the_end);
  tcase_add_test(tests, callback_stops_or_cancels);
  tcase_add_test(tests, end_of_generation);
  tcase_add_test(tests, context_full);
  tcase_add_test(tests, bad_arguments);
  tcase_add_test(tests, every_allocation_failing);
}

int main(void) {
  return suite_run("generate", add);
}
