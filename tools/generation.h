// SPDX-License-Identifier: Apache-2.0
/* What run and chat share: sampling options, an answer streamed to stdout, the speed line. */
#ifndef TOOL_GENERATION_H
#define TOOL_GENERATION_H

#include "common.h"
#include "language.h"

typedef struct tool_generation {
  int32_t max_tokens; /**< 0: until the model ends or the context is full */
  int32_t n_ctx;      /**< 0: the model's, at most 4096 */
  otr_sampler_params sampler;
  const char *system, *template_name; /**< NULL: none, the file's */
  int32_t stats;                      /**< 1: print the speed line also where stderr is no terminal */
} tool_generation;
#define TOOL_GENERATION_INIT \
  { 512, 0, OTR_SAMPLER_PARAMS_INIT, NULL, NULL, 0 }
/** Child parser; `input` is a tool_generation. */
extern const struct argp tool_generation_argp;

/** Everything an answer is made with. */
typedef struct tool_speaker {
  tool_model model;
  tool_language language;
  otr_sampler *sampler;
  otr_session *session;
} tool_speaker;
/** Opens model, tokenizer, sampler and session. `raw`: chat templates are not looked at. */
otr_status tool_speaker_open(const tool_options *options, const tool_generation *generation, const char *path, bool raw,
                             tool_speaker *out);
void tool_speaker_close(tool_speaker *speaker);

/** A growing text and the ids it came from. */
typedef struct tool_answer {
  char *text;
  size_t n_bytes, capacity;
  int32_t *ids;  // [n_ids]
  size_t n_ids, ids_capacity;
  bool full;                 // out of memory
  double start, first, end;  // seconds: call, first piece, return
  otr_generate_result result;
} tool_answer;
/** Generates to stdout and collects. The answer is appended to; tool_answer_free releases it.
 *  @param ids [n_ids] evaluated first */
otr_status tool_generate(tool_speaker *speaker, const int32_t *ids, int32_t n_ids, int32_t max_tokens,
                         tool_answer *answer);
void tool_answer_free(tool_answer *answer);
/** The speed line on stderr. */
void tool_print_speed(const tool_speaker *speaker, const tool_answer *answer);

#endif
