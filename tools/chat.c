// SPDX-License-Identifier: Apache-2.0
/* outrider chat: a dialogue that keeps its KV state. Each turn renders the whole dialogue, and what the session already
 * holds of its ids is not evaluated again. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <unistd.h>

#include "commands.h"
#include "generation.h"
#include "status.h"

typedef int32_t full_rule;
enum { FULL_ASK, FULL_SLIDE, FULL_STOP };

typedef struct arguments {
  tool_options options;
  tool_generation generation;
  tool_subject subject;
  full_rule full;
} arguments;

enum { KEY_FULL = TOOL_KEY_OWN };
static const struct argp_option rows[] = {
    {"on-full", KEY_FULL, "WHAT", 0,
     "when the context is full: ask (the default; stop where standard input is no "
     "terminal), slide (drop the oldest positions) or stop",
     0},
    {0}};
static const struct argp_child children[] = {
    {&tool_generation_argp, 0, NULL, 0}, {&tool_options_argp, 0, NULL, 0}, {&tool_plain_model_argp, 0, NULL, 0}, {0}};

static full_rule parse_full(const struct argp_state *state, const char *arg) {
  if (strcmp(arg, "slide") == 0) return FULL_SLIDE;
  if (strcmp(arg, "stop") == 0) return FULL_STOP;
  if (strcmp(arg, "ask") != 0) argp_error(state, "--on-full: `%s' is not ask, slide or stop", arg);
  return FULL_ASK;
}

static error_t parse(int key, char *arg, struct argp_state *state) {
  arguments *a = state->input;
  switch (key) {
    case ARGP_KEY_INIT:
      state->child_inputs[0] = &a->generation;
      state->child_inputs[1] = &a->options;
      state->child_inputs[2] = &a->subject;
      return 0;
    case KEY_FULL:
      a->full = parse_full(state, arg);
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
        "Talks with a model that has a chat template. One line is one message (a \\ at its end continues it); /help "
        "lists the commands. Ctrl-C stops an answer." TOOL_EXIT_DOC,
    .children = children,
};

/* ---- Ctrl-C ----------------------------------------------------------------------------------------------------- */

/* The session that an answer runs on, for the handler; NULL while there is none. */
static otr_session *volatile answering;
static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number) {
  (void)signal_number;
  otr_session *session = answering;
  interrupted = 1;
  if (session) otr_session_cancel(session);
}

static void catch_interrupts(void) {
  struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = SA_RESTART};
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, NULL);
}

/* ---- dialogue --------------------------------------------------------------------------------------------------- */

/* Pages of 256: one that is kept and one to drop. */
#define SLIDING_CONTEXT 512

typedef struct dialogue {
  const arguments *a;
  tool_speaker speaker;
  otr_chat_message *messages;  // [n]; content is owned
  int32_t n, capacity;
  int32_t n_ctx;  // positions of the empty session
  int32_t *held;  // [n_held] ids that the session has evaluated, by position
  int32_t n_held;
  full_rule full;  // what the user has said about a full context in this turn
} dialogue;

static otr_status add_message(dialogue *d, const char *role, const char *content) {
  if (d->n == d->capacity) {
    int32_t capacity = d->capacity ? 2 * d->capacity : 16;
    otr_chat_message *more = realloc(d->messages, (size_t)capacity * sizeof *more);
    if (!more) return otr_fail(OTR_STATUS_NO_MEMORY, "a dialogue of %d messages", (int)capacity);
    d->messages = more;
    d->capacity = capacity;
  }
  char *copy = strdup(content);
  if (!copy) return otr_fail(OTR_STATUS_NO_MEMORY, "a message");
  d->messages[d->n++] = (otr_chat_message){role, copy};
  return OTR_STATUS_OK;
}

static void drop_messages(dialogue *d, int32_t from) {
  while (d->n > from) free((char *)(uintptr_t)d->messages[--d->n].content);
}

static otr_status start_over(dialogue *d) {
  drop_messages(d, 0);
  otr_session_reset(d->speaker.session);
  otr_sampler_reset(d->speaker.sampler);
  d->n_held = 0;
  return d->a->generation.system ? add_message(d, "system", d->a->generation.system) : OTR_STATUS_OK;
}

/* What the session holds after an answer: the prompt's ids and the answer's, as far as they were evaluated. */
static otr_status remember(dialogue *d, const int32_t *ids, int32_t n_ids, const tool_answer *answer) {
  int32_t position = otr_session_position(d->speaker.session), known = n_ids + (int32_t)answer->n_ids;
  int32_t *held;
  OTR_TRY(tool_allocate((size_t)known, sizeof *held, (void **)&held));
  memcpy(held, ids, (size_t)n_ids * sizeof *held);
  if (answer->n_ids) memcpy(held + n_ids, answer->ids, answer->n_ids * sizeof *held);
  free(d->held);
  d->held = held;
  d->n_held = position < known ? position : known;
  return OTR_STATUS_OK;
}

/* Forgets what the session holds beyond its common beginning with `ids`; at least one id is left to evaluate.
 * @return the number of ids that are kept. */
static int32_t keep_common(dialogue *d, const int32_t *ids, int32_t n) {
  int32_t common = 0;
  while (common < d->n_held && common < n - 1 && d->held[common] == ids[common]) common++;
  if (otr_session_truncate(d->speaker.session, common) != OTR_STATUS_OK) { /* inside positions that a slide dropped */
    otr_session_reset(d->speaker.session);
    common = 0;
  }
  return d->n_held = common;
}

/* ---- a full context --------------------------------------------------------------------------------------------- */

/* Asks once a turn. */
static bool wants_slide(dialogue *d) {
  if (d->full != FULL_ASK) return d->full == FULL_SLIDE;
  d->full = FULL_STOP;
  if (!isatty(STDIN_FILENO)) return false;
  fprintf(stderr, "\nThe context is full. Slide, dropping the oldest of the dialogue? [y/N] ");
  char reply[16] = "";
  if (fgets(reply, sizeof reply, stdin) && (reply[0] == 'y' || reply[0] == 'Y')) d->full = FULL_SLIDE;
  return d->full == FULL_SLIDE;
}

/* Makes room for `room` positions, or says why not. The first page stays: it holds the system message. */
static otr_status make_room(dialogue *d, int32_t room) {
  if (otr_session_room(d->speaker.session) >= room) return OTR_STATUS_OK;
  if (!wants_slide(d)) return otr_fail(OTR_STATUS_CONTEXT_FULL, "/reset starts over; --ctx N gives more room");
  if (d->n_ctx < SLIDING_CONTEXT)
    return otr_fail(OTR_STATUS_CONTEXT_FULL, "%d positions are too few to slide in: --ctx %d or more", (int)d->n_ctx,
                    SLIDING_CONTEXT);
  return otr_session_slide(d->speaker.session, 1, room);
}

/* Takes the oldest message and its answer out. @return false when only the newest message is left. */
static bool drop_oldest(dialogue *d) {
  const int32_t first = d->n > 0 && strcmp(d->messages[0].role, "system") == 0 ? 1 : 0;
  if (d->n - first < 3) return false;
  free((char *)(uintptr_t)d->messages[first].content);
  free((char *)(uintptr_t)d->messages[first + 1].content);
  d->n -= 2;
  memmove(d->messages + first, d->messages + first + 2, (size_t)(d->n - first) * sizeof *d->messages);
  return true;
}

static otr_status encode_dialogue(const dialogue *d, int32_t **ids, int32_t *n) {
  char *text;
  size_t n_bytes;
  *ids = NULL;
  OTR_TRY(tool_render(&d->speaker.language, d->messages, d->n, &text, &n_bytes));
  otr_status status = tool_encode(&d->speaker.language, text, n_bytes, OTR_ENCODE_PARSE_SPECIAL, ids, n);
  free(text);
  return status;
}

/* The dialogue's ids, of which the session holds the first `kept` and has room for the others. Where pages that slid
 * out would be needed again, whole turns are left out instead. */
static otr_status prepare_ids(dialogue *d, int32_t **ids, int32_t *n, int32_t *kept) {
  for (;;) {
    OTR_TRY(encode_dialogue(d, ids, n));
    *kept = keep_common(d, *ids, *n);
    otr_status status = make_room(d, *n - *kept);
    if (status == OTR_STATUS_OK) return status;
    free(*ids);
    *ids = NULL;
    if (status != OTR_STATUS_CONTEXT_FULL || d->full != FULL_SLIDE || !drop_oldest(d)) return status;
  }
}

/* ---- turns ------------------------------------------------------------------------------------------------------ */

/* Generates from ids [n], going on after slides. */
static otr_status speak(dialogue *d, const int32_t *ids, int32_t n, tool_answer *answer) {
  int32_t left = d->a->generation.max_tokens, next;
  for (;;) {
    OTR_TRY(make_room(d, n));
    OTR_TRY(tool_generate(&d->speaker, ids, n, left, answer));
    if (answer->result.reason != OTR_GENERATE_CONTEXT_FULL) return OTR_STATUS_OK;
    next = answer->result.last_id;
    ids = &next;
    n = 1;
    if (left && (left -= answer->result.n_tokens) <= 0) return OTR_STATUS_OK;
  }
}

/* An interrupt that came too late for the answer before must not stop this one: it is spent and tried again. */
static otr_status speak_once(dialogue *d, const int32_t *ids, int32_t n, tool_answer *answer) {
  interrupted = 0;
  answering = d->speaker.session;
  otr_status status = speak(d, ids, n, answer);
  if (status == OTR_STATUS_CANCELLED && !interrupted && answer->n_ids == 0) {
    int32_t done = otr_session_position(d->speaker.session) - d->n_held;
    status = speak(d, ids + done, n - done, answer);
  }
  answering = NULL;
  return status;
}

static otr_status answer_ids(dialogue *d, const int32_t *ids, int32_t n, int32_t kept, tool_answer *answer) {
  otr_status status = speak_once(d, ids + kept, n - kept, answer);
  if (answer->n_bytes == 0 || answer->text[answer->n_bytes - 1] != '\n') putchar('\n');
  fflush(stdout);
  char detail[OTR_DETAIL_BYTES];
  otr_detail_get(detail);
  OTR_TRY(remember(d, ids, n, answer));
  if (status == OTR_STATUS_CANCELLED) {
    fprintf(stderr, "[stopped]\n");
    return OTR_STATUS_OK;
  }
  if (status == OTR_STATUS_OK && d->a->generation.stats) tool_print_speed(&d->speaker, answer);
  return status == OTR_STATUS_OK ? status : otr_fail(status, "%s", detail);
}

/* The newest message gets its answer, or is taken back. */
static otr_status answer_message(dialogue *d) {
  int32_t *ids, n, kept;
  tool_answer answer = {0};
  otr_status status = prepare_ids(d, &ids, &n, &kept);
  if (status == OTR_STATUS_OK) status = answer_ids(d, ids, n, kept, &answer);
  if (status == OTR_STATUS_OK || answer.n_bytes) {
    otr_status added = add_message(d, "assistant", answer.text ? answer.text : "");
    if (status == OTR_STATUS_OK) status = added;
  } else {
    drop_messages(d, d->n - 1);
  }
  tool_answer_free(&answer);
  free(ids);
  return status;
}

/* One message and its answer. A full context ends the turn, not the program. */
static otr_status turn(dialogue *d, const char *line) {
  d->full = d->a->full;
  OTR_TRY(add_message(d, "user", line));
  otr_status status = answer_message(d);
  if (status != OTR_STATUS_CONTEXT_FULL) return status;
  (void)tool_report(status);
  return OTR_STATUS_OK;
}

/* ---- input ------------------------------------------------------------------------------------------------------ */

static const char help[] =
    "/help   this list\n"
    "/reset  start over\n"
    "/quit   leave (Ctrl-D too)\n"
    "A \\ at the end of a line continues the message. Ctrl-C stops an answer.\n";

/* Waits for a line on a terminal. @return false when Ctrl-C came first. SIGINT is let in only while waiting, so that
 * none is lost just before. */
static bool wait_line(void) {
  sigset_t block, old;
  fd_set set;
  sigemptyset(&block);
  sigaddset(&block, SIGINT);
  sigprocmask(SIG_BLOCK, &block, &old);
  FD_ZERO(&set);
  FD_SET(STDIN_FILENO, &set);
  if (!interrupted) (void)pselect(STDIN_FILENO + 1, &set, NULL, NULL, NULL, &old);
  sigprocmask(SIG_SETMASK, &old, NULL);
  return !interrupted;
}

/** A line as getline takes it. */
typedef struct text_line {
  char *text;
  size_t capacity;
} text_line;

/* Appends a line to the message. @return false without memory. */
static bool append_line(text_line *message, size_t used, const char *line, size_t n) {
  if (used + n + 1 > message->capacity) {
    size_t capacity = 2 * (used + n + 1);
    char *more = realloc(message->text, capacity);
    if (!more) return false;
    *message = (text_line){more, capacity};
  }
  memcpy(message->text + used, line, n);
  message->text[used + n] = 0;
  return true;
}

/* One message: a line and those that a \ at the end joins to it. @return false at the end of input. */
static bool read_message(text_line *message, text_line *line) {
  const bool terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
  for (size_t used = 0;;) {
    interrupted = 0;
    if (terminal) printf("%s", used ? ". " : "> ");
    fflush(stdout);
    if (terminal && !wait_line()) {
      printf("\n(/quit leaves)\n");
      used = 0;
      continue;
    }
    ssize_t n = getline(&line->text, &line->capacity, stdin);
    if (n < 0) return used > 0;
    while (n > 0 && (line->text[n - 1] == '\n' || line->text[n - 1] == '\r')) n--;
    const bool more = n > 0 && line->text[n - 1] == '\\';
    if (more) line->text[n - 1] = '\n';
    if (!append_line(message, used, line->text, (size_t)n)) return false;
    if (!more) return true;
    used += (size_t)n;
  }
}

static otr_status talk(dialogue *d) {
  text_line message = {0}, buffer = {0};
  otr_status status = start_over(d);
  while (status == OTR_STATUS_OK && read_message(&message, &buffer)) {
    const char *line = message.text;
    if (strcmp(line, "/quit") == 0) break;
    if (strcmp(line, "/help") == 0) {
      fputs(help, stdout);
    } else if (strcmp(line, "/reset") == 0) {
      status = start_over(d);
    } else if (line[0] == '/') {
      fprintf(stderr, "outrider: no such command: /help lists them\n");
    } else if (line[strspn(line, " \t\n")]) {
      status = turn(d, line);
    }
  }
  free(message.text);
  free(buffer.text);
  return status;
}

/* The threads that are made meanwhile inherit the mask: signals are then always this thread's. */
static otr_status open_without_interrupts(dialogue *d) {
  sigset_t block, old;
  sigemptyset(&block);
  sigaddset(&block, SIGINT);
  sigprocmask(SIG_BLOCK, &block, &old);
  otr_status status = tool_speaker_open(&d->a->options, &d->a->generation, d->a->subject.model, false, &d->speaker);
  sigprocmask(SIG_SETMASK, &old, NULL);
  if (status == OTR_STATUS_OK) d->n_ctx = otr_session_room(d->speaker.session);
  return status;
}

int tool_chat(int argc, char **argv) {
  arguments a = {.generation = TOOL_GENERATION_INIT};
  tool_parse(&argp, argc, argv, &a);
  dialogue d = {.a = &a};
  otr_status status = open_without_interrupts(&d);
  if (status != OTR_STATUS_OK) return tool_report(status);
  if (d.speaker.language.chat == OTR_CHAT_NONE) {
    status = otr_fail(OTR_STATUS_UNSUPPORTED, "the model has no chat template: name one with --template");
  } else {
    if (isatty(STDIN_FILENO)) fprintf(stderr, "%s: /help lists the commands\n", d.speaker.model.info.name);
    catch_interrupts();
    status = talk(&d);
  }
  int code = tool_report(status);
  drop_messages(&d, 0);
  free(d.messages);
  free(d.held);
  tool_speaker_close(&d.speaker);
  return code;
}
