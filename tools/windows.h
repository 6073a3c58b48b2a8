// SPDX-License-Identifier: Apache-2.0
/* Cutting a text into the windows that perplexity scores. */
#ifndef TOOL_WINDOWS_H
#define TOOL_WINDOWS_H

#include "common.h"

typedef struct tool_window_rule {
  int32_t n_ctx;  /**< ids of a window, the begin token too */
  int32_t bos;    /**< 1: every window begins with the model's begin token */
  int32_t pieces; /**< 1: the text is cut at blank lines first and each piece is one window, its rest left out */
  int32_t limit;  /**< windows at most; 0: all */
} tool_window_rule;

/** Windows of a text file, by the tokenizer of `model_path`. A rest shorter than a window is left out, unless it is all
 *  there is. */
otr_status tool_windows_text(const char *model_path, const char *text_path, const tool_window_rule *rule,
                             tool_ids *out);
/** Windows of a file of ids, one a line, as long as they are; with `bos` after the begin token. */
otr_status tool_windows_ids(const char *model_path, const char *ids_path, int32_t vocab, const tool_window_rule *rule,
                            tool_ids *out);

#endif
