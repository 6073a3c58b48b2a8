// SPDX-License-Identifier: Apache-2.0
/* The parts of the `outrider` command: one list that gives the dispatch table, the help and the tests their names. Each
 * part takes the arguments from its own name on and returns the process's exit code. */
#ifndef TOOL_COMMANDS_H
#define TOOL_COMMANDS_H

/** X(name, what it does) in the order of the help. */
#define TOOL_COMMANDS(X)                                                  \
  X(run, "answer a prompt")                                               \
  X(chat, "talk with a model")                                            \
  X(convert, "make an LLM.int8() model file of a published model")        \
  X(verify, "recompute the logits hash that a model file carries")        \
  X(perplexity, "measure how well a model predicts a text")               \
  X(compare, "measure a model under every quantization scheme")           \
  X(logits, "hash or write the logits of token ids")                      \
  X(bench, "tokens per second beside the machine's limits")               \
  X(inspect, "show a model file's metadata, tensors and memory plan")     \
  X(analyze, "find a model's outlier features and what they are for")     \
  X(plan, "estimate a model's memory in every scheme, and where it fits") \
  X(formats, "show a number in every number format")                      \
  X(devices, "list every backend, what it offers or why it is missing")   \
  X(tokenize, "turn text into token ids and back")

#define TOOL_DECLARE(name, summary) int tool_##name(int argc, char **argv);
TOOL_COMMANDS(TOOL_DECLARE)
#undef TOOL_DECLARE

#endif
