// SPDX-License-Identifier: Apache-2.0
/* Which template a Jinja text is: by what it must hold and must not hold. A text that does anything else besides is not
 * recognized, since it would render otherwise. */
#include <string.h>

#include "support.h"

static const char own_prompt[] =
    "render the prompt yourself and pass it as raw text, or name a template (otr_chat_template_by_name)";

/* ---- names ---------------------------------------------------------------------------------------------------------
 */

static const struct named {
  otr_chat_template chat;
  const char *name;
} names[] = {
    {OTR_CHAT_CHATML, "chatml"},
    {OTR_CHAT_SMOLLM2, "smollm2"},
    {OTR_CHAT_QWEN15, "qwen1.5"},
    {OTR_CHAT_QWEN2, "qwen2"},
    {OTR_CHAT_QWEN25, "qwen2.5"},
    {OTR_CHAT_LLAMA2, "llama2"},
    {OTR_CHAT_LLAMA3, "llama3"},
    {OTR_CHAT_LLAMA31, "llama3.1"},
    {OTR_CHAT_MISTRAL_V1, "mistral-v1"},
    {OTR_CHAT_MISTRAL_V2, "mistral-v2"},
    {OTR_CHAT_MISTRAL_SYSTEM, "mistral-system"},
    {OTR_CHAT_MISTRAL_V3, "mistral-v3"},
    {OTR_CHAT_GEMMA, "gemma"},
    {OTR_CHAT_PHI3_V1, "phi3-v1"},
    {OTR_CHAT_PHI3, "phi3"},
    {OTR_CHAT_PHI35, "phi3.5"},
    {OTR_CHAT_QWEN3, "qwen3"},
    {OTR_CHAT_GEMMA3, "gemma3"},
    {OTR_CHAT_MISTRAL_NEMO, "mistral-nemo"},
    {OTR_CHAT_ZEPHYR, "zephyr"},
};
#define N_NAMES (sizeof names / sizeof *names)

const char *otr_chat_template_name(otr_chat_template chat) {
  for (size_t i = 0; i < N_NAMES; ++i)
    if (names[i].chat == chat) return names[i].name;
  return "none";
}

otr_status otr_chat_template_by_name(const char *name, otr_chat_template *out) {
  if (name == NULL || out == NULL) return otr_text_fail(OTR_STATUS_INVALID_ARGUMENT, "NULL");
  *out = OTR_CHAT_NONE;
  char list[256] = "";
  for (size_t i = 0; i < N_NAMES; ++i) {
    if (strcmp(names[i].name, name) == 0) {
      *out = names[i].chat;
      return OTR_STATUS_OK;
    }
    strncat(list, i == 0 ? "" : ", ", sizeof list - strlen(list) - 1);
    strncat(list, names[i].name, sizeof list - strlen(list) - 1);
  }
  return otr_text_fail(OTR_STATUS_UNSUPPORTED, "no chat template is called \"%.40s\"; there are: %s", name, list);
}

/* ---- recognition ---------------------------------------------------------------------------------------------------
 */

#define MOST_MARKS 6

typedef struct signature {
  otr_chat_template chat;
  const char *holds[MOST_MARKS];
  const char *lacks[MOST_MARKS];
} signature;

/* No mark holds a line break of a literal: in files they stand as such or as \n. */
static const signature signatures[] = {
    {OTR_CHAT_SMOLLM2,
     {"<|im_start|>", "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>", "loop.first"},
     {"tools", "bos_token", "trim", "strip", "<think>"}},
    {OTR_CHAT_QWEN15,
     {"<|im_start|>", "You are a helpful assistant<|im_end|>", "loop.first"},
     {"tools", "bos_token", "trim", "strip", "<think>"}},
    {OTR_CHAT_QWEN2,
     {"<|im_start|>", "You are a helpful assistant.<|im_end|>", "loop.first"},
     {"tools", "bos_token", "trim", "strip", "<think>"}},
    {OTR_CHAT_QWEN25,
     {"<|im_start|>", "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>",
      "<tool_response>"},
     {"bos_token", "trim", "strip", "<think>"}},
    {OTR_CHAT_CHATML,
     {"<|im_start|>", "<|im_end|>", "role", "content", "add_generation_prompt"},
     {"tools", "bos_token", "trim", "strip", "<think>", "raise_exception"}},
    {OTR_CHAT_QWEN3,
     {"<|im_start|>", "<tool_response>", "loop.index0 > ns.last_query_index",
      "loop.last or (not loop.last and reasoning_content)", "enable_thinking is defined and enable_thinking is false"},
     {"bos_token", "trim", "You are"}},
    {OTR_CHAT_LLAMA31,
     {"<|start_header_id|>", "<|eot_id|>", "Cutting Knowledge Date: December 2023", "Today Date: ", "date_string",
      "|trim"},
     {"You are a helpful assistant"}},
    {OTR_CHAT_LLAMA3,
     {"<|start_header_id|>' + message['role'] + '<|end_header_id|>", "message['content'] | trim + '<|eot_id|>'",
      "loop.index0 == 0", "bos_token + content"},
     {"tools", "Knowledge"}},
    {OTR_CHAT_GEMMA,
     {"<start_of_turn>", "<end_of_turn>", "System role not supported", "bos_token", "message['content'] | trim"},
     {"tools", "first_user_prefix"}},
    {OTR_CHAT_GEMMA3,
     {"<start_of_turn>", "<end_of_turn>", "bos_token", "(first_user_prefix if loop.first else",
      "message['content'] | trim"},
     {"tools", "System role not supported"}},
    {OTR_CHAT_LLAMA2,
     {"bos_token + '[INST] ' + content.strip() + ' [/INST]'", "<<SYS>>", "system_message",
      "' '  + content.strip() + ' ' + eos_token"},
     {"message['role'] == 'system'", "tools", "USE_DEFAULT_PROMPT"}},
    {OTR_CHAT_MISTRAL_V3,
     {"\"[INST] \" + system_message", "loop.last and system_message is defined", "message[\"content\"] + \"[/INST]\"",
      "message[\"content\"]|trim + eos_token", "bos_token"},
     {"[SYSTEM_PROMPT]"}},
    {OTR_CHAT_MISTRAL_NEMO,
     {"\"[INST]\" + system_message", "loop.last and system_message is defined", "message[\"content\"] + \"[/INST]\"",
      "{{- message[\"content\"] + eos_token", "bos_token"},
     {"[SYSTEM_PROMPT]", "|trim"}},
    {OTR_CHAT_MISTRAL_SYSTEM,
     {"\" [INST] \" + system_message", "loop.first and system_message is defined",
      "message[\"content\"] + \" [/INST]\"", "\" \" + message[\"content\"] + eos_token", "bos_token"},
     {"tools", "trim"}},
    {OTR_CHAT_MISTRAL_V1,
     {"bos_token", "'[INST] ' + message['content'] + ' [/INST]'", "message['content'] + eos_token + ' '",
      "Only user and assistant roles are supported!"},
     {"tools", "system"}},
    {OTR_CHAT_MISTRAL_V2,
     {"bos_token", "'[INST] ' + message['content'] + ' [/INST]'", "message['content'] + eos_token}}",
      "Only user and assistant roles are supported!"},
     {"tools", "system"}},
    {OTR_CHAT_PHI35,
     {"message['role'] == 'system' and message['content']", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>",
      "{{ eos_token }}"},
     {"bos_token", "tools"}},
    {OTR_CHAT_PHI3,
     {"message['role'] == 'system'", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "{{ eos_token }}"},
     {"bos_token", "tools"}},
    {OTR_CHAT_ZEPHYR,
     {"'<|user|>", "'<|system|>", "' + message['content'] + eos_token }}\n{% e", "loop.last and add_generation_prompt",
      "{{ '<|assistant|>' }}\n"},
     {"bos_token", "tools", "trim", "strip", "raise_exception"}},
    {OTR_CHAT_PHI3_V1,
     {"{{ bos_token }}", "<|user|>", "<|assistant|>", "<|end|>", "message['content'] + '<|end|>'"},
     {"system", "eos_token", "add_generation_prompt", "tools"}},
};

static const char *find(const char *text, size_t n_bytes, const char *mark) {
  size_t n = strlen(mark);
  for (size_t i = 0; i + n <= n_bytes; ++i)
    if (memcmp(text + i, mark, n) == 0) return text + i;
  return NULL;
}

static bool matches(const signature *s, const char *text, size_t n_bytes) {
  for (int i = 0; i < MOST_MARKS && s->holds[i] != NULL; ++i)
    if (find(text, n_bytes, s->holds[i]) == NULL) return false;
  for (int i = 0; i < MOST_MARKS && s->lacks[i] != NULL; ++i)
    if (find(text, n_bytes, s->lacks[i]) != NULL) return false;
  return true;
}

/* Whether a ChatML text writes a system message of its own: a literal goes on behind the role. */
static bool has_system_message(const char *text, size_t n_bytes) {
  static const char opening[] = "<|im_start|>system";
  const char *at = find(text, n_bytes, opening);
  if (at == NULL) return false;
  at += sizeof opening - 1;
  size_t left = n_bytes - (size_t)(at - text);
  size_t line_break = left >= 1 && at[0] == '\n' ? 1 : left >= 2 && memcmp(at, "\\n", 2) == 0 ? 2 : 0;
  return left > line_break && at[line_break] != '\'' && at[line_break] != '"';
}

/* Whether the literal behind `mark` is two line breaks: there are Gemma 3 templates with one. */
static bool has_two_breaks(const char *text, size_t n_bytes, const char *mark) {
  const char *at = find(text, n_bytes, mark);
  if (at == NULL) return false;
  at += strlen(mark);
  size_t left = n_bytes - (size_t)(at - text);
  return (left >= 3 && memcmp(at, "\n\n'", 3) == 0) || (left >= 5 && memcmp(at, "\\n\\n'", 5) == 0);
}

/* What marks alone cannot tell. */
static bool differs(otr_chat_template chat, const char *text, size_t n_bytes) {
  if (chat == OTR_CHAT_CHATML) return has_system_message(text, n_bytes);
  return chat == OTR_CHAT_GEMMA3 && !has_two_breaks(text, n_bytes, "messages[0]['content'] + '");
}

otr_status otr_chat_template_recognize(const char *text, size_t n_bytes, otr_chat_template *out) {
  if (out == NULL || (text == NULL && n_bytes > 0)) return otr_text_fail(OTR_STATUS_INVALID_ARGUMENT, "NULL");
  *out = OTR_CHAT_NONE;
  for (size_t i = 0; i < sizeof signatures / sizeof *signatures; ++i) {
    const signature *s = &signatures[i];
    if (!matches(s, text, n_bytes) || differs(s->chat, text, n_bytes)) continue;
    *out = s->chat;
    return OTR_STATUS_OK;
  }
  return otr_text_fail(OTR_STATUS_UNSUPPORTED, "the model's chat template is not one of those known: %s", own_prompt);
}

otr_status otr_chat_template_of_metadata(const otr_metadata *metadata, otr_chat_template *out) {
  static const char key[] = "tokenizer.chat_template";
  if (metadata == NULL || out == NULL) return otr_text_fail(OTR_STATUS_INVALID_ARGUMENT, "NULL");
  *out = OTR_CHAT_NONE;
  otr_metadata_value value;
  const char *text;
  size_t cursor = 0, n_bytes;
  if (!otr_metadata_find(metadata, key, &value))
    return otr_text_fail(OTR_STATUS_UNSUPPORTED, "the model has no chat template (%s): %s", key, own_prompt);
  if (value.is_array || !otr_metadata_next_string(&value, &cursor, &text, &n_bytes))
    return otr_text_fail(OTR_STATUS_BAD_FORMAT, "%s is not a string", key);
  return otr_chat_template_recognize(text, n_bytes, out);
}
