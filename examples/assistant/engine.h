// SPDX-License-Identifier: Apache-2.0
/* The model's side of the service: a fixed number of slots, each with a session of its own, and one pass over the
 * weights for all that are answering. What a slot answers does not depend on what the others do: the library gives each
 * session the bits that it would get alone. Used by one thread; nothing is allocated after engine_open. */
#ifndef ENGINE_H
#define ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct engine engine;

typedef struct engine_options {
  const char *model;
  const char *device;        /* NULL: the fastest that passes its check, a GPU where there is one */
  const char *system;        /* NULL: none */
  const char *template_name; /* NULL: the model's own chat template; without one a question is continued as text */
  int32_t n_slots, n_ctx, max_tokens, n_threads;
  size_t most_bytes; /* of a question */
} engine_options;

/* Prints what it found, or the reason of a failure, to stderr. NULL: failed. */
engine *engine_open(const engine_options *options);
void engine_close(engine *e);

/* Begins an answer in a slot that has none. @return NULL, or what is wrong with the question. */
const char *engine_ask(engine *e, int slot, const char *text, size_t n_bytes);
/* Ends a slot's answer without a word. */
void engine_stop(engine *e, int slot);
bool engine_is_answering(const engine *e, int slot);
/* Tokens of the slot's current or last question and answer. */
void engine_counts(const engine *e, int slot, int32_t *n_prompt, int32_t *n_tokens);

/* What a step reports; none of these may call back into the engine. */
typedef struct engine_events {
  void *user;
  void (*text)(void *user, int slot, const char *text, size_t n_bytes); /* whole UTF-8 */
  void (*done)(void *user, int slot, const char *reason);               /* the slot's answer has ended */
  void (*failed)(void *user, int slot, const char *message);            /* so has this one */
} engine_events;

/* One pass for the slots that are answering and `ready` [n_slots]. @return false: the device is lost. */
bool engine_step(engine *e, const bool *ready, const engine_events *events);

#endif
