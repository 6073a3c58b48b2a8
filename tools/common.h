// SPDX-License-Identifier: Apache-2.0
/* What the parts of the command share: options, opening, errors, files, JSON, progress. */
#ifndef TOOL_COMMON_H
#define TOOL_COMMON_H

#include <argp.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "outrider/outrider.h"

/** Exit codes of every part. */
enum { TOOL_EXIT_OK = 0, TOOL_EXIT_FAILURE = 1, TOOL_EXIT_USAGE = 2, TOOL_EXIT_MISMATCH = 3 };
/** The same for --help (after argp's \v). */
#define TOOL_EXIT_DOC "\vExit codes: 0 success, 1 failure (the reason is on stderr), 2 usage."

/** Keys of options without a short form. */
enum {
  TOOL_KEY_DEVICE = 0x100,
  TOOL_KEY_THREADS,
  TOOL_KEY_OUTLIERS,
  TOOL_KEY_WEIGHTS,
  TOOL_KEY_NO_CHECK,
  TOOL_KEY_JSON,
  TOOL_KEY_WINDOWS = 0x180, /**< those of windows.h */
  TOOL_KEY_OWN = 0x200      /**< a part's own keys begin here */
};
#define TOOL_JSON_OPTION \
  { "json", TOOL_KEY_JSON, NULL, 0, "print JSON on stdout", 0 }

/* ---- options ---- */

/** --device, --threads, --outliers, --weights, --no-self-check. */
typedef struct tool_options {
  const char *device; /**< NULL: auto */
  int32_t n_threads;  /**< 0: one for each core */
  otr_outliers outliers;
  int32_t skip_self_check;
  otr_weights weights;
} tool_options;
/** Child parsers; `input` is a tool_options. The second is without --outliers and --weights, the third without
 *  --threads. */
extern const struct argp tool_options_argp, tool_device_argp, tool_unthreaded_argp;

/** What a part does, and how it says so: MODEL, and --json. */
typedef struct tool_subject {
  const char *model;
  const char *called; /**< MODEL in messages; NULL: "MODEL" */
  int32_t json;
} tool_subject;
/** Child parsers; `input` is a tool_subject. MODEL must be there, and nothing after it. The first has --json, too. */
extern const struct argp tool_model_argp, tool_plain_model_argp;

/** Parses a part's arguments; a usage error ends the process with TOOL_EXIT_USAGE. */
void tool_parse(const struct argp *argp, int argc, char **argv, void *input);
/** An option's value as an integer or number in [min, max]; anything else is a usage error. */
int64_t tool_integer(const struct argp_state *state, const char *option, const char *arg, int64_t min, int64_t max);
double tool_number(const struct argp_state *state, const char *option, const char *arg, double min, double max);
/** "128,512" into values[capacity]; returns how many. */
int32_t tool_integers(const struct argp_state *state, const char *option, const char *arg, int64_t min, int64_t max,
                      int32_t *values, int32_t capacity);
/** Takes the next argument as the file of a part that has exactly one. */
void tool_take_file(struct argp_state *state, const char **file, char *arg);

/* ---- errors ---- */

/** "outrider: <status text>: <detail>" on stderr. @return the exit code. */
int tool_report(otr_status status);

/* ---- models ---- */

typedef struct tool_model {
  otr_runtime *runtime;
  otr_model *model;
  otr_model_info info;
} tool_model;
bool tool_is_directory(const char *path);
/** The library opens files alone. @return INVALID_ARGUMENT, with advice, where `path` is a directory. */
otr_status tool_check_model_file(const char *path);
/** Creates the runtime and opens the model, with progress on a terminal. @param n_threads 0: as the options say. */
otr_status tool_open(const tool_options *options, const char *path, tool_model *out);
otr_status tool_runtime(const tool_options *options, otr_runtime **out);
void tool_close(tool_model *model);
/** A session for inputs of `n_ctx` positions, in passes of at most n_batch rows (0: the default). */
otr_status tool_session(const tool_model *model, int32_t n_ctx, int32_t n_batch, int32_t keep_hidden,
                        otr_session **out);
/** "relative=4", "off": as --outliers takes it. @param text [32] */
void tool_outliers_text(otr_outliers outliers, char text[32]);

/* ---- memory, files ---- */

/** malloc of n * size zeroed bytes as a status. Release with free. */
otr_status tool_allocate(size_t n, size_t size, void **out);
/** The last part of a path, as a name to show. @param[out] name [size], cut to fit */
void tool_base_name(const char *path, char *name, size_t size);
/** A whole file ("-": stdin), 0-terminated. @param[out] text release with free. */
otr_status tool_read_file(const char *path, char **text, size_t *n_bytes);

/** Sequences of token ids: sequence i is ids[start[i] … start[i + 1] − 1]. */
typedef struct tool_ids {
  int32_t *ids;   // [start[n]]
  size_t *start;  // [n + 1]
  size_t n;
} tool_ids;
/** Reads lines of ids separated by blanks; empty lines and those that begin with # are skipped. Every id must lie in
 * [0, vocab). */
otr_status tool_ids_read(const char *path, int32_t vocab, tool_ids *out);
/** The same of a text. */
otr_status tool_ids_parse(const char *text, int32_t vocab, tool_ids *out);
/** Appends a sequence. */
otr_status tool_ids_append(tool_ids *ids, const int32_t *sequence, size_t n);
void tool_ids_free(tool_ids *ids);
/** Length of sequence i. */
size_t tool_ids_length(const tool_ids *ids, size_t i);

/** Opens a file to write; NULL path gives NULL. */
otr_status tool_create(const char *path, FILE **out);
/** Writes n 4-byte values in little-endian order; NULL file: nothing. */
otr_status tool_write_words(FILE *file, const void *values, size_t n);
/** Closes; a write that failed at the end is an error. `status` wins when it is already one. */
otr_status tool_finish(FILE *file, const char *path, otr_status status);

/* ---- output ---- */

/** A line of progress on stderr, when that is a terminal. */
typedef struct tool_progress {
  const char *label;
  bool shown;
  int32_t percent;
} tool_progress;
void tool_progress_start(tool_progress *progress, const char *label);
void tool_progress_step(tool_progress *progress, uint64_t done, uint64_t total);
/** Removes the line. */
void tool_progress_end(tool_progress *progress);

/** Prints and releases a JSON value. A value that could not be made (NULL) is NO_MEMORY. */
otr_status tool_print_json(json_t *value);

/** Seconds of a monotonic clock. */
double tool_seconds(void);

#endif
