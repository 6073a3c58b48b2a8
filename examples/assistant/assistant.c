// SPDX-License-Identifier: Apache-2.0
/* assistant: a service that answers questions on a Unix socket. README.md says how it is talked to and installed. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "engine.h"
#include "server.h"

typedef struct arguments {
  engine_options engine;
  const char *socket;
  int32_t grace;
} arguments;

static const char usage[] =
    "usage: assistant --model FILE --socket PATH [option...]\n"
    "  --clients N      served at once (default 4, at most 64)\n"
    "  --ctx N          positions of a question and its answer (default 2048)\n"
    "  --max-tokens N   most tokens of an answer (default 512)\n"
    "  --threads N      default: one for each core\n"
    "  --device NAME    default: the fastest that passes its check\n"
    "  --system TEXT    system message\n"
    "  --template NAME  chat template, for a model file without one\n"
    "  --grace SECONDS  for answers that run when SIGTERM comes (default 5)\n";

static const struct option options[] = {{"model", required_argument, NULL, 'm'},
                                        {"socket", required_argument, NULL, 's'},
                                        {"clients", required_argument, NULL, 'c'},
                                        {"ctx", required_argument, NULL, 'x'},
                                        {"max-tokens", required_argument, NULL, 'n'},
                                        {"threads", required_argument, NULL, 't'},
                                        {"device", required_argument, NULL, 'd'},
                                        {"system", required_argument, NULL, 'S'},
                                        {"template", required_argument, NULL, 'T'},
                                        {"grace", required_argument, NULL, 'g'},
                                        {NULL, 0, NULL, 0}};

static bool number(const char *text, long least, long most, int32_t *out) {
  char *end;
  long value = strtol(text, &end, 10);
  *out = (int32_t)value;
  return end != text && *end == 0 && value >= least && value <= most;
}

static bool take_option(arguments *a, int key, const char *value) {
  switch (key) {
    case 'm':
      a->engine.model = value;
      return true;
    case 's':
      a->socket = value;
      return true;
    case 'c':
      return number(value, 1, 64, &a->engine.n_slots);
    case 'x':
      return number(value, 16, 1 << 17, &a->engine.n_ctx);
    case 'n':
      return number(value, 1, 1 << 17, &a->engine.max_tokens);
    case 't':
      return number(value, 1, 1024, &a->engine.n_threads);
    case 'd':
      a->engine.device = value;
      return true;
    case 'S':
      a->engine.system = value;
      return true;
    case 'T':
      a->engine.template_name = value;
      return true;
    case 'g':
      return number(value, 0, 3600, &a->grace);
    default:
      return false;
  }
}

static bool parse(int argc, char **argv, arguments *a) {
  *a = (arguments){.engine = {.n_slots = 4, .n_ctx = 2048, .max_tokens = 512, .most_bytes = SERVER_MOST_QUESTION},
                   .grace = 5};
  for (int key; (key = getopt_long(argc, argv, "", options, NULL)) != -1;)
    if (!take_option(a, key, optarg)) return false;
  return a->engine.model && a->socket && optind == argc;
}

/* SIGTERM and SIGINT as something to read. Before any thread is made: all of them inherit the mask. */
static int open_signals(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  return sigprocmask(SIG_BLOCK, &set, NULL) == 0 ? signalfd(-1, &set, SFD_CLOEXEC) : -1;
}

int main(int argc, char **argv) {
  arguments a;
  if (!parse(argc, argv, &a)) {
    fputs(usage, stderr);
    return 2;
  }
  int stop_fd = open_signals();
  if (stop_fd < 0) {
    perror("assistant: signalfd");
    return 1;
  }
  engine *e = engine_open(&a.engine);
  server *s = e ? server_open(a.socket, e, a.engine.n_slots) : NULL;
  bool good = false;
  if (s) {
    fprintf(stderr, "assistant: listening on %s\n", a.socket);
    good = server_run(s, stop_fd, a.grace);
  }
  server_close(s);
  engine_close(e);
  close(stop_fd);
  return good ? 0 : 1;
}
