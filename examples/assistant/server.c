// SPDX-License-Identifier: Apache-2.0
#include "server.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
  MOST_HEADER = 64,     /* of a command's line */
  OUT_BYTES = 1 << 16,  /* what waits for a client that reads slowly */
  PAUSE_ROOM = 1 << 13, /* with less room than that its answer pauses */
  FLUSH_SECONDS = 1     /* after the last word of a stopping service */
};

typedef struct client {
  int fd;      /* -1: free */
  bool ended;  /* has sent its last byte; may still be reading */
  bool closes; /* is closed when `out` has gone */
  bool gone;   /* is closed now */
  char in[MOST_HEADER + SERVER_MOST_QUESTION];
  size_t n_in;
  char out[OUT_BYTES];
  size_t n_out;
} client;

struct server {
  engine *engine;
  int listener; /* -1: stopping */
  struct sockaddr_un address;
  int n_clients;
  double deadline;      /* stopping: when answers are cut; 0 otherwise */
  client *clients;      /* [n_clients] */
  struct pollfd *polls; /* [n_clients + 2] */
  bool *ready;          /* [n_clients] */
};

static double now_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- what clients are told
 * --------------------------------------------------------------------------------------------- */

static void put(client *c, const char *bytes, size_t n) {
  if (n > sizeof c->out - c->n_out) {
    c->gone = true; /* cannot be, but for a piece of text of kilobytes */
    return;
  }
  memcpy(c->out + c->n_out, bytes, n);
  c->n_out += n;
}

static void put_line(client *c, const char *word, const char *rest) {
  char line[512];
  int n = snprintf(line, sizeof line, "%s %s", word, rest);
  if (n < 0) return;
  size_t length = (size_t)n < sizeof line ? (size_t)n : sizeof line - 1;
  for (size_t i = 0; i < length; i++)
    if (line[i] == '\n') line[i] = ' ';
  put(c, line, length);
  put(c, "\n", 1);
}

static void on_text(void *user, int slot, const char *text, size_t n_bytes) {
  client *c = &((server *)user)->clients[slot];
  char count[32];
  snprintf(count, sizeof count, "%zu", n_bytes);
  put_line(c, "text", count);
  put(c, text, n_bytes);
}

static void on_done(void *user, int slot, const char *reason) {
  server *s = user;
  char line[96];
  int32_t n_prompt, n_tokens;
  engine_counts(s->engine, slot, &n_prompt, &n_tokens);
  snprintf(line, sizeof line, "%s %d %d", reason, (int)n_prompt, (int)n_tokens);
  put_line(&s->clients[slot], "done", line);
}

static void on_failed(void *user, int slot, const char *message) {
  put_line(&((server *)user)->clients[slot], "error", message);
}

/* ---- what clients say
 * -------------------------------------------------------------------------------------------------- */

/* A client that breaks the protocol cannot be understood any further. */
static void refuse(server *s, client *c, const char *message) {
  engine_stop(s->engine, (int)(c - s->clients));
  put_line(c, "error", message);
  c->closes = true;
  c->n_in = 0;
}

static void cancel(server *s, int slot) {
  if (!engine_is_answering(s->engine, slot)) return; /* it ended while the word was on its way */
  engine_stop(s->engine, slot);
  on_done(s, slot, "cancelled");
}

static void ask(server *s, int slot, const char *text, size_t n) {
  client *c = &s->clients[slot];
  const char *wrong = engine_is_answering(s->engine, slot) ? "one question at a time"
                      : s->deadline > 0                    ? "the service is stopping"
                                                           : engine_ask(s->engine, slot, text, n);
  if (wrong) put_line(c, "error", wrong);
}

/* The number after "ask ", up to the line's end. @return 0: none, or too large */
static size_t question_bytes(const char *text, size_t n) {
  size_t value = 0;
  if (n == 0 || n > 6) return 0;
  for (size_t i = 0; i < n; i++) {
    if (text[i] < '0' || text[i] > '9') return 0;
    value = value * 10 + (size_t)(text[i] - '0');
  }
  return value <= SERVER_MOST_QUESTION ? value : 0;
}

/* Takes one whole command from the input. @return false: there is none yet */
static bool take_command(server *s, int slot) {
  client *c = &s->clients[slot];
  const char *end = memchr(c->in, '\n', c->n_in < MOST_HEADER ? c->n_in : MOST_HEADER);
  size_t line = end ? (size_t)(end - c->in) : 0, used = line + 1, n = 0;
  if (!end) {
    if (c->n_in >= MOST_HEADER) refuse(s, c, "a line is too long");
    return false;
  }
  if (line > 4 && memcmp(c->in, "ask ", 4) == 0) {
    n = question_bytes(c->in + 4, line - 4);
    if (n == 0) {
      refuse(s, c, "ask is followed by the question's number of bytes, at most 16384");
      return false;
    }
    if (c->n_in < used + n) return false;
    ask(s, slot, c->in + used, n);
  } else if (line == 6 && memcmp(c->in, "cancel", 6) == 0) {
    cancel(s, slot);
  } else {
    refuse(s, c, "the commands are ask and cancel");
    return false;
  }
  used += n;
  c->n_in -= used;
  memmove(c->in, c->in + used, c->n_in);
  return true;
}

/* ---- connections
 * ------------------------------------------------------------------------------------------------------- */

static void drop(server *s, int slot) {
  client *c = &s->clients[slot];
  engine_stop(s->engine, slot);
  close(c->fd);
  c->fd = -1;
}

static void receive(server *s, int slot) {
  client *c = &s->clients[slot];
  ssize_t n = recv(c->fd, c->in + c->n_in, sizeof c->in - c->n_in, MSG_DONTWAIT);
  if (n > 0) c->n_in += (size_t)n;
  if (n == 0) c->ended = true;
  if (n < 0 && errno != EAGAIN && errno != EINTR) c->gone = true;
}

static void transmit(client *c) {
  ssize_t n = c->n_out ? send(c->fd, c->out, c->n_out, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
  if (n > 0) {
    c->n_out -= (size_t)n;
    memmove(c->out, c->out + n, c->n_out);
  }
  if (n < 0 && errno != EAGAIN && errno != EINTR) c->gone = true;
}

/* Takes a new client into a free slot, or tells it that there is none. */
static void accept_one(server *s) {
  static const char busy[] = "error all places are taken\n";
  int fd = accept(s->listener, NULL, NULL);
  if (fd < 0) return;
  for (int i = 0; i < s->n_clients; i++) {
    client *c = &s->clients[i];
    if (c->fd >= 0) continue;
    c->fd = fd;
    c->ended = c->closes = c->gone = false;
    c->n_in = c->n_out = 0;
    return;
  }
  (void)!send(fd, busy, sizeof busy - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
  close(fd);
}

static void serve_client(server *s, int slot, short events) {
  client *c = &s->clients[slot];
  if (events & (POLLERR | POLLNVAL)) c->gone = true;
  if (events & POLLIN) receive(s, slot);
  if ((events & POLLHUP) && !(events & POLLIN)) c->gone = true;
  while (!c->gone && !c->closes && take_command(s, slot)) {
  }
  transmit(c);
  bool idle = !engine_is_answering(s->engine, slot) && c->n_out == 0;
  if (c->gone || (idle && (c->closes || c->ended || s->deadline > 0))) drop(s, slot);
}

/* ---- stopping
 * ---------------------------------------------------------------------------------------------------------- */

static void begin_stop(server *s, int grace) {
  fprintf(stderr, "assistant: stopping\n");
  close(s->listener);
  unlink(s->address.sun_path);
  s->listener = -1;
  s->deadline = now_seconds() + grace;
}

/* Cuts the answers that take too long. @return true: all clients are gone, or have had their time */
static bool is_stopped(server *s) {
  bool late = s->deadline > 0 && now_seconds() >= s->deadline, any = false;
  for (int i = 0; i < s->n_clients; i++) {
    any = any || s->clients[i].fd >= 0;
    if (!late || s->clients[i].fd < 0 || !engine_is_answering(s->engine, i)) continue;
    engine_stop(s->engine, i);
    on_done(s, i, "stopped");
  }
  return s->deadline > 0 && (!any || now_seconds() >= s->deadline + FLUSH_SECONDS);
}

/* ---- the loop
 * ---------------------------------------------------------------------------------------------------------- */

static int wait_milliseconds(const server *s) {
  for (int i = 0; i < s->n_clients; i++)
    if (s->ready[i]) return 0;
  return s->deadline > 0 ? 50 : -1;
}

/* Waits for sockets; not at all while there is something to compute. @return false: poll failed */
static bool wait_for_events(server *s, int stop_fd) {
  s->polls[0] = (struct pollfd){s->deadline > 0 ? -1 : stop_fd, POLLIN, 0};
  s->polls[1] = (struct pollfd){s->listener, POLLIN, 0};
  for (int i = 0; i < s->n_clients; i++) {
    client *c = &s->clients[i];
    short events = (short)((c->ended || c->closes || c->n_in == sizeof c->in ? 0 : POLLIN) | (c->n_out ? POLLOUT : 0));
    s->ready[i] = c->fd >= 0 && engine_is_answering(s->engine, i) && sizeof c->out - c->n_out >= PAUSE_ROOM;
    s->polls[i + 2] = (struct pollfd){c->fd, events, 0};
  }
  int n = poll(s->polls, (nfds_t)s->n_clients + 2, wait_milliseconds(s));
  if (n < 0 && errno != EINTR) fprintf(stderr, "assistant: poll: %s\n", strerror(errno));
  if (n < 0)
    for (int i = 0; i < s->n_clients + 2; i++) s->polls[i].revents = 0;
  return n >= 0 || errno == EINTR;
}

bool server_run(server *s, int stop_fd, int grace) {
  const engine_events events = {s, on_text, on_done, on_failed};
  while (!is_stopped(s)) {
    if (!wait_for_events(s, stop_fd)) return false;
    if (s->polls[0].revents) begin_stop(s, grace);
    if (!engine_step(s->engine, s->ready, &events)) {
      fprintf(stderr, "assistant: the device is lost\n");
      return false;
    }
    for (int i = 0; i < s->n_clients; i++)
      if (s->clients[i].fd >= 0) serve_client(s, i, s->polls[i + 2].revents);
    /* After those who left: their places are free. */
    if (s->listener >= 0 && s->polls[1].revents) accept_one(s);
  }
  return true;
}

/* ---- opening
 * ----------------------------------------------------------------------------------------------------------- */

/* Nobody answers on a socket that a service which crashed has left. */
static bool is_stale(const struct sockaddr_un *address) {
  struct stat info;
  if (lstat(address->sun_path, &info) != 0 || !S_ISSOCK(info.st_mode)) return false;
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (fd < 0) return false;
  bool stale = connect(fd, (const struct sockaddr *)address, sizeof *address) != 0 && errno == ECONNREFUSED;
  close(fd);
  return stale;
}

static bool listen_on(server *s, const char *path) {
  if (strlen(path) >= sizeof s->address.sun_path) {
    fprintf(stderr, "assistant: %s: a socket's path is shorter than %zu bytes\n", path, sizeof s->address.sun_path);
    return false;
  }
  s->address.sun_family = AF_UNIX;
  strcpy(s->address.sun_path, path);
  if (is_stale(&s->address)) unlink(path);
  s->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (s->listener >= 0 && bind(s->listener, (struct sockaddr *)&s->address, sizeof s->address) == 0) {
    if (chmod(path, 0660) == 0 && listen(s->listener, 16) == 0) return true;
    unlink(path);
  }
  fprintf(stderr, "assistant: %s: %s\n", path, strerror(errno));
  return false;
}

server *server_open(const char *path, engine *e, int n_slots) {
  server *s = calloc(1, sizeof *s);
  if (!s) return NULL;
  s->engine = e;
  s->n_clients = n_slots;
  s->listener = -1;
  s->clients = calloc((size_t)n_slots, sizeof *s->clients);
  s->polls = calloc((size_t)n_slots + 2, sizeof *s->polls);
  s->ready = calloc((size_t)n_slots, sizeof *s->ready);
  for (int i = 0; s->clients && i < n_slots; i++) s->clients[i].fd = -1;
  if (s->clients && s->polls && s->ready && listen_on(s, path)) return s;
  if (s->listener >= 0) close(s->listener);
  s->listener = -1;
  server_close(s);
  return NULL;
}

void server_close(server *s) {
  if (!s) return;
  for (int i = 0; s->clients && i < s->n_clients; i++)
    if (s->clients[i].fd >= 0) drop(s, i);
  if (s->listener >= 0) {
    close(s->listener);
    unlink(s->address.sun_path);
  }
  free(s->clients);
  free(s->polls);
  free(s->ready);
  free(s);
}
