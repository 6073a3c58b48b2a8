// SPDX-License-Identifier: Apache-2.0
/* outrider run: one prompt, one streamed answer. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "generation.h"
#include "status.h"

typedef struct arguments {
  tool_options options;
  tool_generation generation;
  tool_subject subject;
  const char *prompt;
  int32_t raw;
} arguments;

enum { KEY_RAW = TOOL_KEY_OWN };
static const struct argp_option rows[] = {
    {"prompt", 'p', "TEXT", 0, "the prompt; - reads it from standard input", 0},
    {"raw", KEY_RAW, NULL, 0, "the prompt as it is, without the model's chat template", 0},
    {0}};
static const struct argp_child children[] = {
    {&tool_generation_argp, 0, NULL, 0}, {&tool_options_argp, 0, NULL, 0}, {&tool_plain_model_argp, 0, NULL, 0}, {0}};

static error_t parse(int key, char *arg, struct argp_state *state) {
  arguments *a = state->input;
  switch (key) {
    case ARGP_KEY_INIT:
      state->child_inputs[0] = &a->generation;
      state->child_inputs[1] = &a->options;
      state->child_inputs[2] = &a->subject;
      return 0;
    case 'p':
      a->prompt = arg;
      return 0;
    case KEY_RAW:
      a->raw = 1;
      return 0;
    case ARGP_KEY_END:
      if (!a->prompt) argp_error(state, "-p is missing: the prompt, or - for standard input");
      if (a->raw && a->generation.system) argp_error(state, "--system has no place with --raw");
      if (a->raw && a->generation.template_name) argp_error(state, "--template has no place with --raw");
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
        "Answers a prompt, streaming to standard output. A model with a chat template gets the prompt as a user's "
        "message; --raw continues the text itself." TOOL_EXIT_DOC,
    .children = children,
};

static otr_status encode_prompt(const arguments *a, const tool_language *language, int32_t **ids, int32_t *n) {
  char *prompt;
  size_t n_bytes = strlen(a->prompt);
  *ids = NULL;
  if (strcmp(a->prompt, "-") == 0) {
    OTR_TRY(tool_read_file("-", &prompt, &n_bytes));
  } else {
    OTR_TRY(tool_allocate(n_bytes + 1, 1, (void **)&prompt));
    memcpy(prompt, a->prompt, n_bytes);
  }
  otr_status status = tool_encode_prompt(language, a->generation.system, prompt, n_bytes, ids, n);
  free(prompt);
  return status;
}

static otr_status answer(const arguments *a, tool_speaker *speaker) {
  int32_t *ids, n;
  tool_answer answer = {0};
  otr_status status = encode_prompt(a, &speaker->language, &ids, &n);
  if (status == OTR_STATUS_OK) status = tool_generate(speaker, ids, n, a->generation.max_tokens, &answer);
  if (answer.n_bytes && answer.text[answer.n_bytes - 1] != '\n') putchar('\n');
  fflush(stdout);
  if (status == OTR_STATUS_OK && answer.result.reason == OTR_GENERATE_CONTEXT_FULL) {
    fprintf(stderr, "outrider: the context is full: the answer ends here (--ctx)\n");
  }
  if (status == OTR_STATUS_OK && (a->generation.stats || isatty(STDERR_FILENO))) tool_print_speed(speaker, &answer);
  tool_answer_free(&answer);
  free(ids);
  return status;
}

int tool_run(int argc, char **argv) {
  arguments a = {.generation = TOOL_GENERATION_INIT};
  tool_parse(&argp, argc, argv, &a);
  tool_speaker speaker;
  otr_status status = tool_speaker_open(&a.options, &a.generation, a.subject.model, a.raw, &speaker);
  if (status == OTR_STATUS_OK) {
    status = answer(&a, &speaker);
    tool_speaker_close(&speaker);
  }
  return tool_report(status);
}
