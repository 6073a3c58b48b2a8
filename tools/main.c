// SPDX-License-Identifier: Apache-2.0
/* outrider COMMAND …: finds the part and runs it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "common.h"

typedef struct command {
  const char *name, *summary;
  int (*run)(int argc, char **argv);
} command;

#define ROW(name, summary) {#name, summary, tool_##name},
static const command commands[] = {TOOL_COMMANDS(ROW)};
#undef ROW
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static const command *find(const char *name) {
  for (int i = 0; i < N_COMMANDS; i++) {
    if (strcmp(commands[i].name, name) == 0) return &commands[i];
  }
  return NULL;
}

static void print_version(FILE *out, struct argp_state *state) {
  (void)state;
  otr_version_info version = otr_version();
  fprintf(out, "outrider %d.%d.%d (numerical contract %d)\n", (int)version.major, (int)version.minor,
          (int)version.patch, (int)version.contract);
}

/* The list of parts, before the exit codes. */
static char *help_filter(int key, const char *text, void *input) {
  (void)input;
  if (key != ARGP_KEY_HELP_POST_DOC) return (char *)(uintptr_t)text;
  char list[2048];
  int n = snprintf(list, sizeof list, "Commands:\n");
  for (int i = 0; i < N_COMMANDS && n < (int)sizeof list; i++) {
    n += snprintf(list + n, sizeof list - (size_t)n, "  %-12s %s\n", commands[i].name, commands[i].summary);
  }
  if (n < (int)sizeof list) snprintf(list + n, sizeof list - (size_t)n, "\n%s", text);
  return strdup(list);
}

static error_t parse(int key, char *arg, struct argp_state *state) {
  int *first = state->input;
  switch (key) {
    case ARGP_KEY_ARG:
      if (!find(arg)) argp_error(state, "`%s' is not a command", arg);
      *first = state->next - 1;
      state->next = state->argc; /* the rest is the part's own */
      return 0;
    case ARGP_KEY_NO_ARGS:
      argp_error(state, "a command is missing");
      return 0;
    default:
      return ARGP_ERR_UNKNOWN;
  }
}

static const struct argp argp = {
    .parser = parse,
    .args_doc = "COMMAND [OPTION...]",
    .doc =
        "Runs language models with LLM.int8(): the same bits on every device."
        "\vEach command has its own --help.\n\n"
        "Exit codes: 0 success, 1 failure (the reason is on stderr), 2 usage, 3 the hash differs (verify).",
    .help_filter = help_filter,
};

int main(int argc, char **argv) {
  int first = 0;
  argp_program_version_hook = print_version;
  argp_err_exit_status = TOOL_EXIT_USAGE;
  if (argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &first) != 0 || first == 0) return TOOL_EXIT_USAGE;
  const command *part = find(argv[first]);
  char name[64];
  snprintf(name, sizeof name, "outrider %s", part->name);
  argv[first] = name; /* what the part's usage lines begin with */
  argp_program_version_hook = NULL;
  int code = part->run(argc - first, argv + first);
  if (code == TOOL_EXIT_OK && (fflush(stdout) != 0 || ferror(stdout))) {
    fputs("outrider: input/output error: standard output could not be written\n", stderr);
    code = TOOL_EXIT_FAILURE;
  }
  return code;
}
