// SPDX-License-Identifier: Apache-2.0
/* The convenience loop: prompt, then sample, deliver and evaluate id by id. */
#include <string.h>

#include "sampler.h"
#include "support.h"
#include "tokenizer.h"

typedef struct loop {
  otr_session *session;
  const otr_tokenizer *tokenizer;
  otr_sampler *sampler;
  otr_generate_params params;
  otr_generate_result result;
  otr_decoder *decoder;
  int32_t *ids; /* [ids_room] the prompt's */
  size_t ids_room;
  char *held; /* [held_room] decoded text that is not delivered: it may be the beginning of a stop string */
  size_t n_held, held_room;
  int32_t id; /* the latest */
} loop;

/* ---- prompt --------------------------------------------------------------------------------------------------------
 */

static otr_status check_params(const loop *g) {
  const otr_generate_params *p = &g->params;
  if (p->n_ids < 0 || p->max_tokens < 0 || p->n_stop < 0)
    return otr_text_fail(OTR_STATUS_INVALID_ARGUMENT, "a count is negative");
  if ((p->ids == NULL && p->n_ids > 0) || (p->stop == NULL && p->n_stop > 0))
    return otr_text_fail(OTR_STATUS_INVALID_ARGUMENT, "ids or stop is NULL");
  for (int32_t i = 0; i < p->n_stop; ++i)
    if (p->stop[i] == NULL || p->stop[i][0] == '\0')
      return otr_text_fail(OTR_STATUS_INVALID_ARGUMENT, "stop string %d is empty", i);
  if (otr_sampler_vocab(g->sampler) > otr_session_vocab(g->session))
    return otr_text_fail(OTR_STATUS_INVALID_ARGUMENT, "the sampler is for %d logits, the session has %d",
                         otr_sampler_vocab(g->sampler), otr_session_vocab(g->session));
  if (otr_sampler_vocab(g->sampler) > otr_tokenizer_vocab(g->tokenizer))
    return otr_text_fail(OTR_STATUS_INVALID_ARGUMENT, "the sampler is for %d logits, the tokenizer has %d ids",
                         otr_sampler_vocab(g->sampler), otr_tokenizer_vocab(g->tokenizer));
  return otr_text_check_allocator(&p->allocator);
}

/* Room for the prompt's ids: a few more than it has bytes will do nearly always. */
static otr_status reserve_ids(loop *g, size_t n) {
  void *ids = g->ids;
  bool ok = otr_text_grow(&g->params.allocator, &ids, &g->ids_room, n, sizeof *g->ids);
  g->ids = ids;
  return ok ? OTR_STATUS_OK : OTR_STATUS_NO_MEMORY;
}

/* params.ids, then params.prompt's ids, into g->ids. */
static otr_status make_prompt(loop *g, int32_t *n) {
  const otr_generate_params *p = &g->params;
  size_t first = (size_t)p->n_ids, n_bytes = p->prompt_bytes;
  if (p->prompt == NULL) n_bytes = 0;
  if (p->prompt != NULL && n_bytes == 0) n_bytes = strlen(p->prompt);
  *n = 0;
  if (n_bytes > INT32_MAX / 4 || first > INT32_MAX / 4)
    return otr_text_fail(OTR_STATUS_INVALID_ARGUMENT, "a prompt of %zu ids and %zu bytes", first, n_bytes);
  OTR_TEXT_TRY(reserve_ids(g, first + n_bytes + 4));
  if (first > 0) memcpy(g->ids, p->ids, first * sizeof *g->ids);
  if (p->prompt != NULL) {
    otr_status status = OTR_STATUS_BUFFER_TOO_SMALL;
    for (int round = 0; round < 2 && status == OTR_STATUS_BUFFER_TOO_SMALL; ++round) {
      OTR_TEXT_TRY(reserve_ids(g, first + (size_t)*n));
      status = otr_tokenizer_encode(g->tokenizer, p->prompt, n_bytes, p->encode_flags, g->ids + first,
                                    (int32_t)(g->ids_room - first), n);
    }
    if (status != OTR_STATUS_OK) return status;
  }
  *n += (int32_t)first;
  return OTR_STATUS_OK;
}

static otr_status evaluate(loop *g, const int32_t *ids, int32_t n) {
  otr_status status = otr_session_eval(g->session, ids, n, NULL);
  return status == OTR_STATUS_OK ? status : otr_text_fail_runtime(status);
}

static otr_status evaluate_prompt(loop *g) {
  int32_t n, room = otr_session_room(g->session);
  OTR_TEXT_TRY(make_prompt(g, &n));
  if (n > room)
    return otr_text_fail(OTR_STATUS_CONTEXT_FULL, "the prompt has %d ids, the context has room for %d", n, room);
  if (n > 0) OTR_TEXT_TRY(evaluate(g, g->ids, n));
  g->result.n_prompt = n;
  for (int32_t i = 0; g->params.accept_prompt && i < n; ++i) OTR_TEXT_TRY(otr_sampler_accept(g->sampler, g->ids[i]));
  if (otr_session_logits(g->session) == NULL)
    return otr_text_fail(OTR_STATUS_INVALID_ARGUMENT,
                         "there is no prompt, and the session has no logits to go on from");
  return OTR_STATUS_OK;
}

/* ---- delivery ------------------------------------------------------------------------------------------------------
 */

static bool is_inside_character(char byte) {
  return ((unsigned char)byte & 0xc0) == 0x80;
}

/* The first place in the held text where a stop string begins; there the first of the list. n_held: none. */
static size_t find_stop(const loop *g, int32_t *index) {
  for (size_t at = 0; at < g->n_held; ++at) {
    if (is_inside_character(g->held[at])) continue;
    for (int32_t i = 0; i < g->params.n_stop; ++i) {
      size_t n = strlen(g->params.stop[i]);
      *index = i;
      if (n <= g->n_held - at && memcmp(g->held + at, g->params.stop[i], n) == 0) return at;
    }
  }
  *index = -1;
  return g->n_held;
}

/* The first place in the held text from which on it may become a stop string; n_held: none. */
static size_t find_beginning(const loop *g) {
  for (size_t at = 0; at < g->n_held; ++at) {
    if (is_inside_character(g->held[at])) continue;
    for (int32_t i = 0; i < g->params.n_stop; ++i)
      if (strncmp(g->params.stop[i], g->held + at, g->n_held - at) == 0) return at;
  }
  return g->n_held;
}

/* Delivers the first n held bytes. @return false when on_piece asks to stop. */
static bool deliver(loop *g, size_t n) {
  if (g->params.on_piece != NULL && g->params.on_piece(g->params.user, g->held, n, g->id) != 0) {
    g->result.reason = OTR_GENERATE_CALLBACK;
    return false;
  }
  g->n_held -= n;
  memmove(g->held, g->held + n, g->n_held);
  return true;
}

/* Takes new text; delivers what is certain. @return false when generation ends here. */
static bool take_text(loop *g, const char *text, size_t n_bytes) {
  memcpy(g->held + g->n_held, text, n_bytes);
  g->n_held += n_bytes;
  int32_t index;
  size_t stop = find_stop(g, &index);
  if (index < 0) return deliver(g, find_beginning(g));
  g->result.stop_index = index;
  if (deliver(g, stop)) g->result.reason = OTR_GENERATE_STOP_STRING;
  g->n_held = 0;
  return false;
}

/* The end of the text: what is held can become no stop string any more. */
static void deliver_rest(loop *g) {
  const char *text;
  size_t n_bytes;
  otr_generate_reason reason = g->result.reason;
  if (reason == OTR_GENERATE_STOP_STRING || reason == OTR_GENERATE_CALLBACK) return;
  otr_decoder_finish(g->decoder, &text, &n_bytes);
  if (n_bytes > 0 && !take_text(g, text, n_bytes)) return;
  if (g->n_held > 0) (void)deliver(g, g->n_held);
}

/* ---- the loop ------------------------------------------------------------------------------------------------------
 */

/* Samples one id and delivers its text. *going false: the reason is set. */
static otr_status step(loop *g, bool *going) {
  const char *text;
  size_t n_bytes;
  const float *logits = otr_session_logits(g->session);
  *going = false;
  OTR_TEXT_TRY(otr_sampler_sample(g->sampler, logits, otr_sampler_vocab(g->sampler), &g->id));
  OTR_TEXT_TRY(otr_sampler_accept(g->sampler, g->id));
  g->result.last_id = g->id;
  ++g->result.n_tokens;
  g->result.reason = OTR_GENERATE_END;
  if (!g->params.ignore_end && otr_tokenizer_is_end_of_generation(g->tokenizer, g->id)) return OTR_STATUS_OK;
  OTR_TEXT_TRY(otr_decoder_push(g->decoder, g->id, &text, &n_bytes));
  *going = take_text(g, text, n_bytes);
  return OTR_STATUS_OK;
}

static otr_status run(loop *g) {
  OTR_TEXT_TRY(evaluate_prompt(g));
  for (bool going = true; going;) {
    OTR_TEXT_TRY(step(g, &going));
    if (!going) break;
    if (g->result.n_tokens == g->params.max_tokens) {
      g->result.reason = OTR_GENERATE_MAX_TOKENS;
      break;
    }
    if (otr_session_room(g->session) < 1) {
      g->result.reason = OTR_GENERATE_CONTEXT_FULL;
      break;
    }
    OTR_TEXT_TRY(evaluate(g, &g->id, 1));
  }
  deliver_rest(g);
  return OTR_STATUS_OK;
}

static otr_status prepare(loop *g) {
  size_t longest = 0;
  OTR_TEXT_TRY(check_params(g));
  OTR_TEXT_TRY(otr_decoder_create(g->tokenizer, 0, &g->decoder));
  for (int32_t i = 0; i < g->params.n_stop; ++i) {
    size_t n = strlen(g->params.stop[i]);
    if (n > longest) longest = n;
  }
  g->held_room = longest + otr_decoder_room(g->decoder);
  g->held = otr_text_take(&g->params.allocator, g->held_room, 1);
  return g->held != NULL ? OTR_STATUS_OK : OTR_STATUS_NO_MEMORY;
}

otr_status otr_generate(otr_session *session, const otr_tokenizer *tokenizer, otr_sampler *sampler,
                        const otr_generate_params *params, otr_generate_result *result) {
  loop g = {.session = session, .tokenizer = tokenizer, .sampler = sampler};
  g.result = (otr_generate_result){.reason = OTR_GENERATE_FAILED, .last_id = -1, .stop_index = -1};
  if (session == NULL || tokenizer == NULL || sampler == NULL)
    return otr_text_fail(OTR_STATUS_INVALID_ARGUMENT, "NULL");
  OTR_TEXT_TRY(otr_text_params(&g.params, sizeof g.params, params));
  if (result != NULL) OTR_TEXT_TRY(otr_text_result(result, &g.result, sizeof g.result));
  otr_status status = prepare(&g);
  if (status == OTR_STATUS_OK) status = run(&g);
  if (status != OTR_STATUS_OK) g.result.reason = OTR_GENERATE_FAILED;
  otr_decoder_destroy(g.decoder);
  otr_text_give(&g.params.allocator, g.ids, g.ids_room, sizeof *g.ids);
  otr_text_give(&g.params.allocator, g.held, g.held_room, 1);
  if (result != NULL) (void)otr_text_result(result, &g.result, sizeof g.result);
  return status;
}
