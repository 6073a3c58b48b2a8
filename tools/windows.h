// SPDX-License-Identifier: Apache-2.0
/* Cutting a text into the windows that perplexity scores. */
#ifndef TOOL_WINDOWS_H
#define TOOL_WINDOWS_H

#include "common.h"

/** Which windows of which file. */
typedef struct tool_window_rule {
  const char *text, *tokens; /**< a text, or ids with one window a line: one of the two, "-" for standard input */
  int32_t n_ctx;  /**< ids of a window, the begin token too */
  int32_t bos;    /**< 1: every window begins with the model's begin token */
  int32_t pieces; /**< 1: the text is cut at blank lines first and each piece is one window, its rest left out */
  int32_t limit;  /**< windows at most; 0: all */
} tool_window_rule;

/** Child parsers; `input` is a tool_window_rule, which holds the defaults (8 windows for the first). The first has --text,
 *  --tokens, --ctx and --windows and sees to it that there is one file; the second is without --text. */
extern const struct argp tool_windows_argp, tool_windows_plain_argp;

/** The windows that `rule` asks for, in the ids of `model_path`. Of a text a rest shorter than a window is left out, unless
 *  it is all there is; lines of ids are as long as they are, with `bos` after the begin token.
 *  @param vocab ids must be below it; not looked at for a text
 *  @param[out] out tool_ids_free */
otr_status tool_windows(const char *model_path, int32_t vocab, const tool_window_rule *rule, tool_ids *out);

#endif
