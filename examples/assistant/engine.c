// SPDX-License-Identifier: Apache-2.0
#include "engine.h"

#include <outrider/text.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Rows of one pass: what a client waits at most while another one's question is read. At least a row for each slot. */
#define ROWS_PER_PASS 64
#define MOST_SLOTS 64

typedef struct slot {
  otr_session *session;
  otr_sampler *sampler;
  otr_decoder *decoder;
  int32_t *ids; /* [n_ctx] the question's */
  int32_t n_ids, n_done;
  int32_t id; /* the answer's latest */
  int32_t n_tokens;
  bool answering;
} slot;

struct engine {
  engine_options options;
  otr_runtime *runtime;
  otr_model *model;
  otr_tokenizer *tokenizer;
  otr_chat_template chat;
  otr_session *opening; /* holds what every question begins with: evaluated once, its pages are shared */
  int32_t *opening_ids; /* [n_opening] */
  int32_t n_opening;
  char *question; /* 0-terminated */
  char *rendered; /* [rendered_bytes] */
  size_t rendered_bytes;
  slot slots[MOST_SLOTS];
};

/* ---- questions
 * ------------------------------------------------------------------------------------------------------- */

/* The ids of e->question in the model's template. @return false: they do not fit, or the template refuses. */
static bool encode_question(engine *e, int32_t *ids, int32_t *n) {
  const char *text = e->question;
  size_t n_bytes = strlen(text);
  uint32_t flags = OTR_ENCODE_ADD_SPECIAL;
  if (e->chat != OTR_CHAT_NONE) {
    const otr_chat_message messages[2] = {{"system", e->options.system}, {"user", e->question}};
    int first = e->options.system ? 0 : 1;
    if (otr_chat_apply(e->chat, messages + first, 2 - first, 1, NULL, e->rendered, e->rendered_bytes, &n_bytes) !=
        OTR_STATUS_OK)
      return false;
    text = e->rendered;
    flags = OTR_ENCODE_PARSE_SPECIAL;
  }
  return otr_tokenizer_encode(e->tokenizer, text, n_bytes, flags, ids, e->options.n_ctx - 1, n) == OTR_STATUS_OK;
}

/* A template's control tokens in a question would end the user's turn: nothing a client may write. `ids` is scratch. */
static bool has_control_tokens(const engine *e, int32_t *ids) {
  int32_t n;
  if (otr_tokenizer_encode(e->tokenizer, e->question, strlen(e->question), OTR_ENCODE_PARSE_SPECIAL, ids,
                           e->options.n_ctx - 1, &n) != OTR_STATUS_OK)
    return false; /* too long: encode_question says so */
  for (int32_t i = 0; i < n; i++)
    if (otr_tokenizer_is_special(e->tokenizer, ids[i])) return true;
  return false;
}

/* Goes on from the common opening where the question has it, else from nothing: the answer is the same. */
static otr_status begin(engine *e, slot *s) {
  s->n_done = 0;
  otr_session_reset(s->session);
  if (e->n_opening == 0 || s->n_ids <= e->n_opening ||
      memcmp(s->ids, e->opening_ids, (size_t)e->n_opening * sizeof *s->ids) != 0)
    return OTR_STATUS_OK;
  s->n_done = e->n_opening;
  return otr_session_copy(s->session, e->opening);
}

const char *engine_ask(engine *e, int index, const char *text, size_t n_bytes) {
  slot *s = &e->slots[index];
  const char *none;
  size_t n_none;
  if (n_bytes == 0 || n_bytes > e->options.most_bytes) return "the question is empty or too long";
  if (memchr(text, 0, n_bytes)) return "a question is text: it holds no zero bytes";
  memcpy(e->question, text, n_bytes);
  e->question[n_bytes] = 0;
  if (has_control_tokens(e, s->ids)) return "the question holds control tokens of the model";
  if (!encode_question(e, s->ids, &s->n_ids) || s->n_ids == 0) return "the question does not fit into the context";
  if (begin(e, s) != OTR_STATUS_OK) return otr_error_detail();
  otr_sampler_reset(s->sampler);
  otr_decoder_finish(s->decoder, &none, &n_none); /* what an answer that was stopped may have left */
  s->n_tokens = 0;
  s->answering = true;
  return NULL;
}

void engine_stop(engine *e, int index) {
  e->slots[index].answering = false;
}

bool engine_is_answering(const engine *e, int index) {
  return e->slots[index].answering;
}

void engine_counts(const engine *e, int index, int32_t *n_prompt, int32_t *n_tokens) {
  *n_prompt = e->slots[index].n_ids;
  *n_tokens = e->slots[index].n_tokens;
}

/* ---- a pass
 * ---------------------------------------------------------------------------------------------------------- */

static void finish(slot *s, int index, const char *reason, const engine_events *events) {
  const char *text;
  size_t n_bytes;
  otr_decoder_finish(s->decoder, &text, &n_bytes);
  if (n_bytes > 0) events->text(events->user, index, text, n_bytes);
  s->answering = false;
  events->done(events->user, index, reason);
}

static void fail(slot *s, int index, const char *message, const engine_events *events) {
  s->answering = false;
  events->failed(events->user, index, message);
}

/* Samples after a pass that evaluated the last id there is. */
static void speak(engine *e, int index, const engine_events *events) {
  slot *s = &e->slots[index];
  const char *text;
  size_t n_bytes;
  if (otr_sampler_sample(s->sampler, otr_session_logits(s->session), otr_tokenizer_vocab(e->tokenizer), &s->id) !=
          OTR_STATUS_OK ||
      otr_sampler_accept(s->sampler, s->id) != OTR_STATUS_OK) {
    fail(s, index, otr_text_error_detail(), events);
    return;
  }
  s->n_tokens++;
  if (otr_tokenizer_is_end_of_generation(e->tokenizer, s->id)) {
    finish(s, index, "end", events);
    return;
  }
  if (otr_decoder_push(s->decoder, s->id, &text, &n_bytes) == OTR_STATUS_OK && n_bytes > 0)
    events->text(events->user, index, text, n_bytes);
  if (s->n_tokens >= e->options.max_tokens)
    finish(s, index, "max_tokens", events);
  else if (otr_session_room(s->session) < 1)
    finish(s, index, "context_full", events);
}

static void took(engine *e, int index, int32_t n, const engine_events *events) {
  slot *s = &e->slots[index];
  if (s->n_done < s->n_ids) s->n_done += n;
  if (s->n_done == s->n_ids) speak(e, index, events);
}

/* Fills one pass: an id for each slot that speaks, and the rest for questions, in equal parts.
 * @param items, slots [MOST_SLOTS]. @return how many */
static int32_t plan_pass(engine *e, const bool *ready, otr_eval_item *items, int *slots) {
  int32_t n = 0, n_reading = 0;
  for (int i = 0; i < e->options.n_slots; i++) {
    if (!ready[i] || !e->slots[i].answering) continue;
    n_reading += e->slots[i].n_done < e->slots[i].n_ids;
    slots[n++] = i;
  }
  int32_t rows = e->options.n_slots > ROWS_PER_PASS ? e->options.n_slots : ROWS_PER_PASS;
  int32_t share = n_reading ? (rows - (n - n_reading)) / n_reading : 0;
  for (int32_t j = 0; j < n; j++) {
    slot *s = &e->slots[slots[j]];
    int32_t left = s->n_ids - s->n_done;
    items[j] = (otr_eval_item){.session = s->session, .tokens = &s->id, .n = 1};
    if (left > 0) {
      items[j].tokens = s->ids + s->n_done;
      items[j].n = left < share ? left : share;
    }
  }
  return n;
}

/* After a pass that failed nobody has moved: each is tried alone, so that one slot's trouble is not the others'. */
static bool step_alone(engine *e, const otr_eval_item *items, const int *slots, int32_t n,
                       const engine_events *events) {
  for (int32_t j = 0; j < n; j++) {
    otr_status status = otr_session_eval(items[j].session, items[j].tokens, items[j].n, NULL);
    if (status == OTR_STATUS_DEVICE_LOST) return false;
    if (status == OTR_STATUS_OK)
      took(e, slots[j], items[j].n, events);
    else
      fail(&e->slots[slots[j]], slots[j], otr_error_detail(), events);
  }
  return true;
}

bool engine_step(engine *e, const bool *ready, const engine_events *events) {
  otr_eval_item items[MOST_SLOTS];
  int slots[MOST_SLOTS];
  int32_t n = plan_pass(e, ready, items, slots);
  if (n == 0) return true;
  otr_status status = otr_eval_together(items, n);
  if (status == OTR_STATUS_DEVICE_LOST) return false;
  if (status != OTR_STATUS_OK) return step_alone(e, items, slots, n, events);
  for (int32_t j = 0; j < n; j++) took(e, slots[j], items[j].n, events);
  return true;
}

/* ---- opening
 * --------------------------------------------------------------------------------------------------------- */

static otr_status open_slot(engine *e, slot *s, const otr_session_params *params) {
  s->ids = calloc((size_t)e->options.n_ctx, sizeof *s->ids);
  if (!s->ids) return OTR_STATUS_NO_MEMORY;
  otr_status status = otr_session_create(e->model, params, &s->session);
  if (status != OTR_STATUS_OK) return status;
  status = otr_sampler_create(otr_tokenizer_vocab(e->tokenizer), NULL, &s->sampler);
  if (status == OTR_STATUS_OK) status = otr_decoder_create(e->tokenizer, 0, &s->decoder);
  return status;
}

static otr_status open_text(engine *e) {
  const otr_metadata *metadata = otr_model_metadata(e->model);
  otr_status status = otr_tokenizer_create(metadata, NULL, &e->tokenizer);
  if (status != OTR_STATUS_OK) return status;
  if (e->options.template_name) return otr_chat_template_by_name(e->options.template_name, &e->chat);
  status = otr_chat_template_of_metadata(metadata, &e->chat);
  if (status == OTR_STATUS_UNSUPPORTED) {
    fprintf(stderr, "assistant: %s; questions are continued as text\n", otr_text_error_detail());
    return OTR_STATUS_OK;
  }
  return status;
}

/* Evaluates what two different questions begin with: the template's opening and the system message. */
static otr_status open_opening(engine *e) {
  int32_t *one = e->slots[0].ids, n_one, n_two;
  int32_t *two = calloc((size_t)e->options.n_ctx, sizeof *two);
  otr_session_params params = {.struct_size = sizeof params, .n_batch = ROWS_PER_PASS};
  if (!two) return OTR_STATUS_NO_MEMORY;
  e->opening_ids = two;
  strcpy(e->question, "A");
  if (!encode_question(e, one, &n_one)) return OTR_STATUS_INVALID_ARGUMENT;
  strcpy(e->question, "b");
  if (!encode_question(e, two, &n_two)) return OTR_STATUS_INVALID_ARGUMENT;
  while (e->n_opening < n_one && e->n_opening < n_two && one[e->n_opening] == two[e->n_opening]) e->n_opening++;
  if (e->n_opening == 0) return OTR_STATUS_OK;
  params.n_ctx = e->n_opening;
  otr_status status = otr_session_create(e->model, &params, &e->opening);
  return status == OTR_STATUS_OK ? otr_session_eval(e->opening, two, e->n_opening, NULL) : status;
}

static otr_status open_all(engine *e) {
  otr_runtime_params runtime = {
      .struct_size = sizeof runtime, .device = e->options.device, .n_threads = e->options.n_threads};
  otr_session_params session = {.struct_size = sizeof session, .n_ctx = e->options.n_ctx};
  otr_status status = otr_runtime_create(&runtime, &e->runtime);
  if (status == OTR_STATUS_OK) status = otr_model_open_file(e->runtime, e->options.model, NULL, &e->model);
  if (status == OTR_STATUS_OK) status = open_text(e);
  e->rendered_bytes = e->options.most_bytes + (e->options.system ? strlen(e->options.system) : 0) + 1024;
  e->rendered = malloc(e->rendered_bytes);
  e->question = malloc(e->options.most_bytes + 1);
  if (status == OTR_STATUS_OK && (!e->rendered || !e->question)) status = OTR_STATUS_NO_MEMORY;
  session.n_batch = e->options.n_slots > ROWS_PER_PASS ? e->options.n_slots : ROWS_PER_PASS;
  for (int i = 0; i < e->options.n_slots && status == OTR_STATUS_OK; i++) status = open_slot(e, &e->slots[i], &session);
  return status == OTR_STATUS_OK ? open_opening(e) : status;
}

engine *engine_open(const engine_options *options) {
  engine *e = calloc(1, sizeof *e);
  otr_device_info device = {.struct_size = sizeof device};
  if (!e) return NULL;
  e->options = *options;
  otr_status status = options->n_slots <= MOST_SLOTS ? open_all(e) : OTR_STATUS_INVALID_ARGUMENT;
  if (status != OTR_STATUS_OK) {
    const char *detail = otr_error_detail()[0] ? otr_error_detail() : otr_text_error_detail();
    fprintf(stderr, "assistant: %s: %s: %s\n", options->model, otr_status_text(status), detail);
    engine_close(e);
    return NULL;
  }
  if (otr_runtime_device(e->runtime, &device) == OTR_STATUS_OK)
    fprintf(stderr, "assistant: %s on %s (%s), %d threads, %d clients\n", options->model, device.name,
            device.description, (int)otr_runtime_threads(e->runtime), (int)options->n_slots);
  return e;
}

void engine_close(engine *e) {
  if (!e) return;
  for (int i = 0; i < MOST_SLOTS; i++) {
    otr_decoder_destroy(e->slots[i].decoder);
    otr_sampler_destroy(e->slots[i].sampler);
    otr_session_destroy(e->slots[i].session);
    free(e->slots[i].ids);
  }
  otr_session_destroy(e->opening);
  otr_tokenizer_destroy(e->tokenizer);
  otr_model_close(e->model);
  otr_runtime_destroy(e->runtime);
  free(e->opening_ids);
  free(e->question);
  free(e->rendered);
  free(e);
}
