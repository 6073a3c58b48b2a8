// SPDX-License-Identifier: Apache-2.0
/* chat MODEL [TEMPLATE]: a dialogue, one line a message. Each turn renders the whole dialogue; what the session already
 * holds of its ids is kept, so that only the new ones are evaluated. Ctrl-C stops an answer, an empty line ends. */
#include <outrider/text.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_MESSAGES = 64, MOST_BYTES = 1 << 16, MOST_IDS = 4096 };

typedef struct dialogue {
  otr_tokenizer *tokenizer;
  otr_sampler *sampler;
  otr_session *session;
  otr_chat_template chat;
  otr_chat_message messages[MOST_MESSAGES];
  int32_t n_messages;
  char texts[MOST_BYTES]; /* contents of the messages, 0-terminated, one after another */
  size_t n_texts;
  char rendered[MOST_BYTES];
  int32_t ids[MOST_IDS]; /* what the session holds; before an answer, what it shall hold */
  int32_t n_ids;
} dialogue;

static otr_session *volatile answering;

static void on_interrupt(int number) {
  (void)number;
  if (answering) otr_session_cancel(answering);
}

static int failed(const char *detail) {
  fprintf(stderr, "chat: %s\n", detail);
  return 1;
}

/* ---- messages ------------------------------------------------------------------------------------------------------
 */

static int add_text(dialogue *d, const char *text, size_t n_bytes) {
  if (d->n_texts + n_bytes + 1 > sizeof d->texts) return 0;
  memcpy(d->texts + d->n_texts, text, n_bytes);
  d->n_texts += n_bytes;
  return 1;
}

/* Ends the text that begins at `start` and makes it a message. */
static int add_message(dialogue *d, const char *role, size_t start) {
  if (d->n_messages == MOST_MESSAGES || !add_text(d, "", 1)) return 0;
  d->messages[d->n_messages++] = (otr_chat_message){role, d->texts + start};
  return 1;
}

/* ---- one turn ------------------------------------------------------------------------------------------------------
 */

/* Makes the session hold the beginning that it shares with the new ids; they are in d->ids from `*shared` on. The last
 * id is never shared: its logits are wanted. */
static otr_status prepare(dialogue *d, int32_t *shared) {
  int32_t *ids = malloc(sizeof d->ids), n, held = otr_session_position(d->session), same = 0;
  size_t n_bytes;
  if (!ids) return OTR_STATUS_NO_MEMORY;
  otr_status status =
      otr_chat_apply(d->chat, d->messages, d->n_messages, 1, NULL, d->rendered, sizeof d->rendered, &n_bytes);
  if (status == OTR_STATUS_OK)
    status = otr_tokenizer_encode(d->tokenizer, d->rendered, n_bytes, OTR_ENCODE_PARSE_SPECIAL, ids, MOST_IDS, &n);
  if (status == OTR_STATUS_OK) {
    while (same < held && same < n - 1 && ids[same] == d->ids[same]) same++;
    memcpy(d->ids, ids, (size_t)n * sizeof *ids);
    d->n_ids = n;
    status = otr_session_truncate(d->session, same);
  }
  free(ids);
  *shared = same;
  return status;
}

static int32_t take_piece(void *user, const char *text, size_t n_bytes, int32_t id) {
  dialogue *d = user;
  if (d->n_ids < MOST_IDS) d->ids[d->n_ids++] = id;
  fwrite(text, 1, n_bytes, stdout);
  fflush(stdout);
  return add_text(d, text, n_bytes) ? 0 : 1;
}

static int answer(dialogue *d) {
  otr_generate_params params = OTR_GENERATE_PARAMS_INIT;
  otr_generate_result result = OTR_GENERATE_RESULT_INIT;
  int32_t shared;
  size_t start = d->n_texts;
  if (prepare(d, &shared) != OTR_STATUS_OK) return failed(otr_text_error_detail());
  params.ids = d->ids + shared;
  params.n_ids = d->n_ids - shared;
  params.max_tokens = 512;
  params.on_piece = take_piece;
  params.user = d;
  answering = d->session;
  otr_status status = otr_generate(d->session, d->tokenizer, d->sampler, &params, &result);
  answering = NULL;
  puts(status == OTR_STATUS_CANCELLED ? " [stopped]" : "");
  if (status != OTR_STATUS_OK && status != OTR_STATUS_CANCELLED) return failed(otr_text_error_detail());
  if (result.reason == OTR_GENERATE_CONTEXT_FULL) return failed("the context is full");
  return add_message(d, "assistant", start) ? 0 : failed("the dialogue is too long");
}

static int talk(dialogue *d) {
  char line[4096];
  for (;;) {
    fputs("> ", stdout);
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin) || line[0] == '\n') return 0;
    size_t start = d->n_texts;
    if (!add_text(d, line, strcspn(line, "\n")) || !add_message(d, "user", start))
      return failed("the dialogue is too long");
    if (answer(d) != 0) return 1;
  }
}

/* ---- opening -------------------------------------------------------------------------------------------------------
 */

static otr_status open_text(dialogue *d, const otr_model *model, const char *template_name) {
  const otr_metadata *metadata = otr_model_metadata(model);
  otr_status status = template_name ? otr_chat_template_by_name(template_name, &d->chat)
                                    : otr_chat_template_of_metadata(metadata, &d->chat);
  if (status == OTR_STATUS_OK) status = otr_tokenizer_create(metadata, NULL, &d->tokenizer);
  if (status == OTR_STATUS_OK) status = otr_sampler_create(otr_tokenizer_vocab(d->tokenizer), NULL, &d->sampler);
  return status;
}

static int run(otr_model *model, const char *template_name) {
  static dialogue d;
  otr_session_params params = {.struct_size = sizeof params, .n_ctx = MOST_IDS};
  int code;
  if (open_text(&d, model, template_name) != OTR_STATUS_OK)
    code = failed(otr_text_error_detail());
  else if (otr_session_create(model, &params, &d.session) != OTR_STATUS_OK)
    code = failed(otr_error_detail());
  else
    code = talk(&d);
  otr_session_destroy(d.session);
  otr_sampler_destroy(d.sampler);
  otr_tokenizer_destroy(d.tokenizer);
  return code;
}

int main(int argc, char **argv) {
  otr_runtime *runtime = NULL;
  otr_model *model = NULL;
  if (argc < 2) {
    fprintf(stderr, "usage: chat MODEL [TEMPLATE]\n");
    return 2;
  }
  signal(SIGINT, on_interrupt);
  otr_status status = otr_runtime_create(NULL, &runtime);
  if (status == OTR_STATUS_OK) status = otr_model_open_file(runtime, argv[1], NULL, &model);
  int code = status == OTR_STATUS_OK ? run(model, argc > 2 ? argv[2] : NULL) : failed(otr_error_detail());
  otr_model_close(model);
  otr_runtime_destroy(runtime);
  return code;
}
