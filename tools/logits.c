// SPDX-License-Identifier: Apache-2.0
/* outrider logits: the SHA-256 of a model's logits over a sequence of ids, however the ids are fed. */
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "common.h"
#include "sha256.h"
#include "status.h"

typedef struct arguments {
  tool_options options;
  tool_subject subject;
  const char *tokens, *out, *hidden_out;
  int32_t window, n, split, round_trip, beside;
} arguments;

enum { KEY_TOKENS = TOOL_KEY_OWN, KEY_WINDOW, KEY_N, KEY_OUT, KEY_HIDDEN, KEY_SPLIT, KEY_ROUND_TRIP, KEY_BESIDE };
static const struct argp_option rows[] = {
    {"tokens", KEY_TOKENS, "FILE", 0, "token ids, one window a line (- for standard input)", 0},
    {"window", KEY_WINDOW, "K", 0, "which line (default 0, the first)", 0},
    {"n", KEY_N, "N", 0, "only its first N ids", 0},
    {"split", KEY_SPLIT, "N", 0, "feed N ids at a time (default 512): no bit changes", 0},
    {"state-roundtrip", KEY_ROUND_TRIP, NULL, 0, "save the state halfway and go on in a new session: no bit changes",
     0},
    {"beside", KEY_BESIDE, NULL, 0, "evaluate a second session's other ids in the same passes: no bit changes", 0},
    {"out", KEY_OUT, "FILE", 0, "write the logits, little-endian f32 [n, vocab]", 0},
    {"hidden-out", KEY_HIDDEN, "FILE", 0,
     "write the hidden states, f32 [layers + 1, n, dim]: each block's input, then what the output layer reads", 0},
    {0}};
static const struct argp_child children[] = {{&tool_options_argp, 0, NULL, 0}, {&tool_model_argp, 0, NULL, 0}, {0}};

static error_t parse(int key, char *arg, struct argp_state *state) {
  arguments *a = state->input;
  switch (key) {
    case ARGP_KEY_INIT:
      state->child_inputs[0] = &a->options;
      state->child_inputs[1] = &a->subject;
      return 0;
    case KEY_TOKENS:
      a->tokens = arg;
      return 0;
    case KEY_WINDOW:
      a->window = (int32_t)tool_integer(state, "--window", arg, 0, INT32_MAX);
      return 0;
    case KEY_N:
      a->n = (int32_t)tool_integer(state, "--n", arg, 1, 1 << 20);
      return 0;
    case KEY_SPLIT:
      a->split = (int32_t)tool_integer(state, "--split", arg, 1, 8192);
      return 0;
    case KEY_ROUND_TRIP:
      a->round_trip = 1;
      return 0;
    case KEY_BESIDE:
      a->beside = 1;
      return 0;
    case KEY_OUT:
      a->out = arg;
      return 0;
    case KEY_HIDDEN:
      a->hidden_out = arg;
      return 0;
    case ARGP_KEY_END:
      if (!a->tokens) argp_error(state, "--tokens is missing");
      if (a->beside && a->hidden_out) argp_error(state, "--hidden-out has no place with --beside");
      return 0;
    default:
      return ARGP_ERR_UNKNOWN;
  }
}

static const struct argp argp = {
    .options = rows,
    .parser = parse,
    .args_doc = "MODEL",
    .doc =
        "Prints the SHA-256 of the logits of every position, as little-endian f32 [n, vocab]. It is one value for "
        "every device, thread count and way of feeding the ids." TOOL_EXIT_DOC,
    .children = children,
};

typedef struct work {
  const arguments *a;
  const tool_model *model;
  const int32_t *ids;  // [n]
  int32_t n;
  otr_session *session, *other;  // other: NULL without --beside
  int32_t *other_ids;            // [split]
  float *logits;                 // [split, vocab]
  float *hidden;                 // [n_layers + 1, n, dim] or NULL
  FILE *out;
  otr_sha256 sha;
} work;

/* ---- one piece -------------------------------------------------------------------------------------------------- */

static otr_status eval_beside(work *w, const int32_t *ids, int32_t n) {
  if (otr_session_room(w->other) < n) otr_session_reset(w->other);
  for (int32_t i = 0; i < n; i++) w->other_ids[i] = ids[n - 1 - i];
  const otr_eval_item items[] = {{w->other, w->other_ids, NULL, n, NULL}, {w->session, ids, NULL, n, w->logits}};
  return otr_eval_together(items, 2);
}

/* Hidden states of the pass just made: positions at … at + n − 1. */
static otr_status take_hidden(work *w, int32_t at, int32_t n) {
  int32_t n_rows = 0;
  const float *from = otr_session_hidden(w->session, &n_rows);
  if (!from || n_rows != n)
    return otr_fail(OTR_STATUS_INTERNAL, "hidden states of %d rows, not %d", (int)n_rows, (int)n);
  const size_t dim = (size_t)w->model->info.dim;
  for (int32_t layer = 0; layer <= w->model->info.n_layers; layer++) {
    float *to = w->hidden + ((size_t)layer * (size_t)w->n + (size_t)at) * dim;
    memcpy(to, from + (size_t)layer * (size_t)n * dim, (size_t)n * dim * sizeof *to);
  }
  return OTR_STATUS_OK;
}

static otr_status eval_piece(work *w, int32_t at, int32_t n) {
  const size_t values = (size_t)n * (size_t)w->model->info.vocab;
  OTR_TRY(w->other ? eval_beside(w, w->ids + at, n) : otr_session_eval(w->session, w->ids + at, n, w->logits));
  otr_sha256_add_f32(&w->sha, w->logits, values);
  OTR_TRY(tool_write_words(w->out, w->logits, values));
  return w->hidden ? take_hidden(w, at, n) : OTR_STATUS_OK;
}

/* ---- a saved and reloaded state --------------------------------------------------------------------------------- */

typedef struct blob {
  char *bytes;
  size_t n, capacity;
} blob;

static int32_t write_blob(void *user, const void *bytes, size_t n) {
  blob *b = user;
  if (n > b->capacity - b->n) return 1;
  memcpy(b->bytes + b->n, bytes, n);
  b->n += n;
  return 0;
}

static otr_status new_session(const work *w, otr_session **out) {
  return tool_session(w->model, w->n, w->a->split, w->hidden != NULL, out);
}

static otr_status round_trip(work *w) {
  blob b = {.capacity = (size_t)otr_session_state_bytes(w->session)};
  OTR_TRY(tool_allocate(b.capacity, 1, (void **)&b.bytes));
  otr_status status = otr_session_save(w->session, write_blob, &b);
  if (status == OTR_STATUS_OK) {
    otr_session_destroy(w->session);
    status = new_session(w, &w->session);
  }
  if (status == OTR_STATUS_OK) status = otr_session_load(w->session, b.bytes, b.n);
  free(b.bytes);
  return status;
}

static otr_status eval_all(work *w) {
  const int32_t half = w->a->round_trip ? w->n / 2 : 0;
  for (int32_t at = 0, next; at < w->n; at = next) {
    next = w->n - at < w->a->split ? w->n : at + w->a->split;
    if (at < half && next > half) next = half;
    OTR_TRY(eval_piece(w, at, next - at));
    if (next == half) OTR_TRY(round_trip(w));
  }
  return OTR_STATUS_OK;
}

/* ---- the part --------------------------------------------------------------------------------------------------- */

static otr_status prepare(work *w) {
  const otr_model_info *info = &w->model->info;
  const size_t split = (size_t)(w->a->split < w->n ? w->a->split : w->n);
  OTR_TRY(tool_allocate(split * (size_t)info->vocab, sizeof *w->logits, (void **)&w->logits));
  OTR_TRY(tool_allocate(split, sizeof *w->other_ids, (void **)&w->other_ids));
  if (w->a->hidden_out) {
    size_t values = (size_t)(info->n_layers + 1) * (size_t)w->n * (size_t)info->dim;
    OTR_TRY(tool_allocate(values, sizeof *w->hidden, (void **)&w->hidden));
  }
  OTR_TRY(new_session(w, &w->session));
  return w->a->beside ? new_session(w, &w->other) : OTR_STATUS_OK;
}

static otr_status write_hidden(const work *w) {
  FILE *file;
  const otr_model_info *info = &w->model->info;
  if (!w->hidden) return OTR_STATUS_OK;
  OTR_TRY(tool_create(w->a->hidden_out, &file));
  otr_status status =
      tool_write_words(file, w->hidden, (size_t)(info->n_layers + 1) * (size_t)w->n * (size_t)info->dim);
  return tool_finish(file, w->a->hidden_out, status);
}

static otr_status print_hash(work *w) {
  uint8_t digest[32];
  char hex[65];
  otr_sha256_end(&w->sha, digest);
  for (int i = 0; i < 32; i++) snprintf(hex + 2 * i, 3, "%02x", (unsigned)digest[i]);
  if (w->a->subject.json) {
    otr_device_info device = {.struct_size = sizeof device};
    otr_stats stats = {.struct_size = sizeof stats};
    OTR_TRY(otr_runtime_device(w->model->runtime, &device));
    OTR_TRY(otr_session_stats(w->session, &stats));
    return tool_print_json(json_pack("{s:s, s:i, s:i, s:s, s:I, s:I, s:I}", "sha256", hex, "n", (int)w->n, "vocab",
                                     (int)w->model->info.vocab, "device", device.name, "n_passes",
                                     (json_int_t)stats.n_passes, "n_submissions", (json_int_t)stats.n_submissions,
                                     "n_dispatches", (json_int_t)stats.n_dispatches));
  }
  printf("%s\n", hex);
  return OTR_STATUS_OK;
}

static otr_status run_window(work *w) {
  otr_sha256_start(&w->sha);
  OTR_TRY(tool_create(w->a->out, &w->out));
  otr_status status = prepare(w);
  if (status == OTR_STATUS_OK) status = eval_all(w);
  status = tool_finish(w->out, w->a->out, status);
  if (status == OTR_STATUS_OK) status = write_hidden(w);
  if (status == OTR_STATUS_OK) status = print_hash(w);
  otr_session_destroy(w->session);
  otr_session_destroy(w->other);
  free(w->logits);
  free(w->hidden);
  free(w->other_ids);
  return status;
}

static otr_status with_model(const arguments *a, const tool_model *model) {
  tool_ids ids;
  OTR_TRY(tool_ids_read(a->tokens, model->info.vocab, &ids));
  otr_status status;
  if ((size_t)a->window >= ids.n) {
    status = otr_fail(OTR_STATUS_INVALID_ARGUMENT, "%s has no window %d", a->tokens, (int)a->window);
  } else {
    work w = {.a = a, .model = model, .ids = ids.ids + ids.start[a->window]};
    size_t n = tool_ids_length(&ids, (size_t)a->window);
    w.n = a->n && (size_t)a->n < n ? a->n : (int32_t)n;
    status = run_window(&w);
  }
  tool_ids_free(&ids);
  return status;
}

int tool_logits(int argc, char **argv) {
  arguments a = {.split = 512};
  tool_parse(&argp, argc, argv, &a);
  tool_model model;
  otr_status status = tool_open(&a.options, a.subject.model, &model);
  if (status == OTR_STATUS_OK) {
    status = with_model(&a, &model);
    tool_close(&model);
  }
  return tool_report(status);
}
