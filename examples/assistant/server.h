// SPDX-License-Identifier: Apache-2.0
/* The clients' side of the service: a Unix socket, one connection a slot of the engine. README.md has the protocol. */
#ifndef SERVER_H
#define SERVER_H

#include "engine.h"

/* Most bytes of a question. */
#define SERVER_MOST_QUESTION 16384

typedef struct server server;

/* Listens; prints the reason of a failure. A socket that nobody listens on any more is replaced. NULL: failed. */
server *server_open(const char *path, engine *e, int n_slots);
void server_close(server *s);

/* Serves until `stop_fd` has something to read; then answers that run may end within `grace` seconds, and no new
 * question is taken. @return true, or false: the device is lost or poll failed. */
bool server_run(server *s, int stop_fd, int grace);

#endif
