// SPDX-License-Identifier: Apache-2.0
/* Rendering of dialogues: one function a family, each the published Jinja template in C. */
#include <string.h>

#include "support.h"
#include "unicode.h"

typedef struct dialogue {
  otr_chat_template chat;
  const otr_chat_message *messages; /* [n] */
  int32_t n;
  bool open; /* add_generation_prompt */
  const char *bos, *eos, *date;
  char *out; /* [capacity] */
  size_t capacity, n_bytes;
} dialogue;

/* ---- pieces ------------------------------------------------------------------------------------------------------ */

static void put_bytes(dialogue *d, const char *text, size_t n) {
  size_t room = d->n_bytes < d->capacity ? d->capacity - d->n_bytes : 0;
  if (room > 0 && n > 0) memcpy(d->out + d->n_bytes, text, n < room ? n : room);
  d->n_bytes += n;
}

static void put(dialogue *d, const char *text) {
  put_bytes(d, text, strlen(text));
}

static void put3(dialogue *d, const char *a, const char *b, const char *c) {
  put(d, a);
  put(d, b);
  put(d, c);
}

/* Python's str.isspace. */
static bool is_blank(int32_t code) {
  return otr_char_classify(code) == OTR_CHAR_SPACE || (code >= 0x1c && code <= 0x1f);
}

/* Without white space at the end, and at the beginning where `left` says so. */
static const char *trimmed(const char *text, bool left, size_t *n_bytes) {
  size_t n = strlen(text), begin = left ? n : 0, end = 0;
  for (size_t at = 0; at < n;) {
    otr_char c = otr_char_at(text + at, n - at);
    bool blank = is_blank(c.code);
    if (!blank && at < begin) begin = at;
    at += c.bytes;
    if (!blank) end = at;
  }
  *n_bytes = end > begin ? end - begin : 0;
  return text + begin;
}

static void put_trimmed(dialogue *d, const char *text) {
  size_t n_bytes;
  const char *begin = trimmed(text, true, &n_bytes);
  put_bytes(d, begin, n_bytes);
}

static bool is(const otr_chat_message *message, const char *role) {
  return strcmp(message->role, role) == 0;
}

static otr_status refuse(const char *message) {
  return otr_text_fail(OTR_STATUS_INVALID_ARGUMENT, "%s", message);
}

static otr_status refuse_tools(const char *role) {
  return otr_text_fail(OTR_STATUS_UNSUPPORTED,
                       "messages of role \"%.32s\" are not supported: render the prompt yourself", role);
}

static const char must_alternate[] = "Conversation roles must alternate user/assistant/user/assistant/...";
static const char must_alternate_after[] =
    "After the optional system message, conversation roles must alternate user/assistant/user/assistant/...";
static const char only_two[] = "Only user and assistant roles are supported!";
static const char only_three[] =
    "Only user and assistant roles are supported, with the exception of an initial optional system message!";

/* users at even places, others at odd ones */
static bool alternates(const otr_chat_message *message, int32_t i) {
  return is(message, "user") == (i % 2 == 0);
}

/* ---- ChatML --------------------------------------------------------------------------------------------------------
 */

static void put_chatml(dialogue *d, const char *role, const char *content) {
  put3(d, "<|im_start|>", role, "\n");
  put3(d, content, "<|im_end|>", "\n");
}

static const char *default_system(otr_chat_template chat) {
  switch (chat) {
    case OTR_CHAT_SMOLLM2:
      return "You are a helpful AI assistant named SmolLM, trained by Hugging Face";
    case OTR_CHAT_QWEN15:
      return "You are a helpful assistant";
    case OTR_CHAT_QWEN2:
      return "You are a helpful assistant.";
    case OTR_CHAT_QWEN25:
      return "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.";
    default:
      return NULL;
  }
}

/* Qwen 2.5 gives a tool's results as a user's message; consecutive ones share it. */
static void put_tool_result(dialogue *d, int32_t i) {
  if (i == 0 || !is(&d->messages[i - 1], "tool")) put(d, "<|im_start|>user");
  put3(d, "\n<tool_response>\n", d->messages[i].content, "\n</tool_response>");
  if (i == d->n - 1 || !is(&d->messages[i + 1], "tool")) put(d, "<|im_end|>\n");
}

static otr_status render_chatml(dialogue *d) {
  const char *system = default_system(d->chat);
  if (system != NULL && !is(&d->messages[0], "system")) put_chatml(d, "system", system);
  for (int32_t i = 0; i < d->n; ++i) {
    const otr_chat_message *m = &d->messages[i];
    bool known = is(m, "system") || is(m, "user") || is(m, "assistant");
    if (d->chat == OTR_CHAT_QWEN25 && is(m, "tool")) put_tool_result(d, i);
    if (d->chat != OTR_CHAT_QWEN25 || known) put_chatml(d, m->role, m->content);
  }
  if (d->open) put(d, "<|im_start|>assistant\n");
  return OTR_STATUS_OK;
}

/* ---- Qwen 3 --------------------------------------------------------------------------------------------------------
 */

/* A part of a message. */
typedef struct part {
  const char *text; /* [n_bytes] */
  size_t n_bytes;
} part;

static part without_breaks(part p, bool left, bool right) {
  while (left && p.n_bytes > 0 && p.text[0] == '\n') p = (part){p.text + 1, p.n_bytes - 1};
  while (right && p.n_bytes > 0 && p.text[p.n_bytes - 1] == '\n') --p.n_bytes;
  return p;
}

/* The last place of `mark` in a part, NULL for none. */
static const char *last_place(part p, const char *mark) {
  size_t n = strlen(mark);
  for (size_t i = p.n_bytes + 1; i-- > 0;)
    if (p.n_bytes - i >= n && memcmp(p.text + i, mark, n) == 0) return p.text + i;
  return NULL;
}

/* Parts an answer into what was thought, where its marks are there, and what was said. */
static part part_thoughts(part *content) {
  static const char opening[] = "<think>", closing[] = "</think>";
  const char *first = strstr(content->text, closing), *last = last_place(*content, closing);
  if (first == NULL || last == NULL) return (part){"", 0};
  part thoughts = without_breaks((part){content->text, (size_t)(first - content->text)}, false, true);
  const char *begin = last_place(thoughts, opening);
  if (begin != NULL) {
    begin += sizeof opening - 1;
    thoughts = (part){begin, thoughts.n_bytes - (size_t)(begin - thoughts.text)};
  }
  last += sizeof closing - 1;
  *content = without_breaks((part){last, content->n_bytes - (size_t)(last - content->text)}, true, false);
  return without_breaks(thoughts, true, true);
}

static void put_qwen3_answer(dialogue *d, int32_t i, int32_t last_query) {
  part content = {d->messages[i].content, strlen(d->messages[i].content)};
  part thoughts = part_thoughts(&content);
  put(d, "<|im_start|>assistant\n");
  if (i > last_query && (i == d->n - 1 || thoughts.n_bytes > 0)) {
    put(d, "<think>\n");
    put_bytes(d, thoughts.text, thoughts.n_bytes);
    put(d, "\n</think>\n\n");
    content = without_breaks(content, true, false);
  }
  put_bytes(d, content.text, content.n_bytes);
  put(d, "<|im_end|>\n");
}

/* A tool's result, given as a user's message by hand. */
static bool is_tool_response(const char *content) {
  static const char opening[] = "<tool_response>", closing[] = "</tool_response>";
  size_t n = strlen(content), n_closing = sizeof closing - 1;
  return strncmp(content, opening, sizeof opening - 1) == 0 && n >= n_closing &&
         strcmp(content + n - n_closing, closing) == 0;
}

static otr_status render_qwen3(dialogue *d) {
  int32_t last_query = d->n - 1;
  for (int32_t i = d->n - 1; i >= 0; --i) {
    if (!is(&d->messages[i], "user") || is_tool_response(d->messages[i].content)) continue;
    last_query = i;
    break;
  }
  for (int32_t i = 0; i < d->n; ++i) {
    const otr_chat_message *m = &d->messages[i];
    if (is(m, "user") || is(m, "system")) put_chatml(d, m->role, m->content);
    if (is(m, "assistant")) put_qwen3_answer(d, i, last_query);
    if (is(m, "tool")) put_tool_result(d, i);
  }
  if (d->open) put(d, "<|im_start|>assistant\n");
  return OTR_STATUS_OK;
}

/* ---- Llama ---------------------------------------------------------------------------------------------------------
 */

/* '<<SYS>>\n' + system + '\n<</SYS>>\n\n' + content, stripped at its end */
static void put_llama2_user(dialogue *d, const char *system, const char *content) {
  size_t n_bytes;
  const char *text = trimmed(content, system == NULL, &n_bytes);
  put3(d, d->bos, "[INST] ", "");
  if (system != NULL) put3(d, "<<SYS>>\n", system, n_bytes > 0 ? "\n<</SYS>>\n\n" : "\n<</SYS>>");
  put_bytes(d, text, n_bytes);
  put(d, " [/INST]");
}

static otr_status render_llama2(dialogue *d) {
  bool has_system = is(&d->messages[0], "system");
  const otr_chat_message *messages = d->messages + has_system;
  for (int32_t i = 0; i < d->n - has_system; ++i) {
    const otr_chat_message *m = &messages[i];
    if (!alternates(m, i)) return refuse(must_alternate);
    if (is(m, "user")) {
      put_llama2_user(d, i == 0 && has_system ? d->messages[0].content : NULL, m->content);
    } else if (is(m, "assistant")) {
      put(d, " ");
      put_trimmed(d, m->content);
      put3(d, " ", d->eos, "");
    }
  }
  return OTR_STATUS_OK;
}

static void put_llama3(dialogue *d, const otr_chat_message *m) {
  put3(d, "<|start_header_id|>", m->role, "<|end_header_id|>\n\n");
  put_trimmed(d, m->content);
  put(d, "<|eot_id|>");
}

static otr_status render_llama3(dialogue *d) {
  int32_t first = 0;
  put(d, d->bos);
  if (d->chat == OTR_CHAT_LLAMA31) {
    put(d, "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: ");
    put3(d, d->date, "\n\n", "");
    first = is(&d->messages[0], "system");
    if (first == 1) put_trimmed(d, d->messages[0].content);
    put(d, "<|eot_id|>");
  }
  for (int32_t i = first; i < d->n; ++i) {
    const otr_chat_message *m = &d->messages[i];
    if (d->chat == OTR_CHAT_LLAMA31 && (is(m, "tool") || is(m, "ipython"))) return refuse_tools(m->role);
    put_llama3(d, m);
  }
  if (d->open) put(d, "<|start_header_id|>assistant<|end_header_id|>\n\n");
  return OTR_STATUS_OK;
}

/* ---- Mistral -------------------------------------------------------------------------------------------------------
 */

static otr_status render_mistral(dialogue *d) {
  put(d, d->bos);
  for (int32_t i = 0; i < d->n; ++i) {
    const otr_chat_message *m = &d->messages[i];
    if (!alternates(m, i)) return refuse(must_alternate);
    if (is(m, "user")) {
      put3(d, "[INST] ", m->content, " [/INST]");
    } else if (is(m, "assistant")) {
      put3(d, m->content, d->eos, d->chat == OTR_CHAT_MISTRAL_V1 ? " " : "");
    } else {
      return refuse(only_two);
    }
  }
  return OTR_STATUS_OK;
}

/* The later templates of 7B 0.1 and 0.2, 0.3's and Nemo's: they differ in spaces and in where the system message goes.
 */
static otr_status render_mistral_system(dialogue *d) {
  bool nemo = d->chat == OTR_CHAT_MISTRAL_NEMO, v3 = nemo || d->chat == OTR_CHAT_MISTRAL_V3;
  bool has_system = is(&d->messages[0], "system");
  const otr_chat_message *messages = d->messages + has_system;
  int32_t n = d->n - has_system;
  for (int32_t i = 0; v3 && i < n; ++i)
    if (is(&messages[i], "tool") || is(&messages[i], "tool_results")) return refuse_tools(messages[i].role);
  put(d, d->bos);
  for (int32_t i = 0; i < n; ++i) {
    const otr_chat_message *m = &messages[i];
    if (!alternates(m, i)) return refuse(must_alternate_after);
    if (is(m, "user")) {
      put(d, nemo ? "[INST]" : v3 ? "[INST] " : " [INST] ");
      if (has_system && i == (v3 ? n - 1 : 0)) put3(d, d->messages[0].content, "\n\n", "");
      put3(d, m->content, v3 ? "[/INST]" : " [/INST]", "");
    } else if (is(m, "assistant")) {
      bool trim = v3 && !nemo;
      put(d, nemo ? "" : " ");
      if (trim) put_trimmed(d, m->content);
      put3(d, trim ? "" : m->content, d->eos, "");
    } else {
      return refuse(only_three);
    }
  }
  return OTR_STATUS_OK;
}

/* ---- Gemma, Phi-3 --------------------------------------------------------------------------------------------------
 */

static otr_status render_gemma(dialogue *d) {
  bool has_system = is(&d->messages[0], "system");
  if (has_system && d->chat == OTR_CHAT_GEMMA) return refuse("System role not supported");
  put(d, d->bos);
  for (int32_t i = 0; i < d->n - has_system; ++i) {
    const otr_chat_message *m = &d->messages[i + has_system];
    if (!alternates(m, i)) return refuse(must_alternate);
    put3(d, "<start_of_turn>", is(m, "assistant") ? "model" : m->role, "\n");
    if (has_system && i == 0) put3(d, d->messages[0].content, "\n\n", "");
    put_trimmed(d, m->content);
    put(d, "<end_of_turn>\n");
  }
  if (d->open) put(d, "<start_of_turn>model\n");
  return OTR_STATUS_OK;
}

static otr_status render_phi3_v1(dialogue *d) {
  put(d, d->bos);
  for (int32_t i = 0; i < d->n; ++i) {
    const otr_chat_message *m = &d->messages[i];
    if (is(m, "user")) put3(d, "<|user|>\n", m->content, "<|end|>\n<|assistant|>\n");
    if (is(m, "assistant")) put3(d, m->content, "<|end|>\n", "");
  }
  return OTR_STATUS_OK;
}

static otr_status render_phi3(dialogue *d) {
  for (int32_t i = 0; i < d->n; ++i) {
    const otr_chat_message *m = &d->messages[i];
    bool system = is(m, "system") && (d->chat == OTR_CHAT_PHI3 || m->content[0] != '\0');
    if (!system && !is(m, "user") && !is(m, "assistant")) continue;
    put3(d, "<|", m->role, "|>\n");
    put3(d, m->content, "<|end|>\n", "");
  }
  put(d, d->open ? "<|assistant|>\n" : d->eos);
  return OTR_STATUS_OK;
}

/* ---- Zephyr --------------------------------------------------------------------------------------------------------
 */

static otr_status render_zephyr(dialogue *d) {
  for (int32_t i = 0; i < d->n; ++i) {
    const otr_chat_message *m = &d->messages[i];
    if (!is(m, "user") && !is(m, "system") && !is(m, "assistant")) continue;
    put3(d, "<|", m->role, "|>\n");
    put3(d, m->content, d->eos, "\n");
  }
  if (d->open) put(d, "<|assistant|>\n");
  return OTR_STATUS_OK;
}

/* ---- table ---------------------------------------------------------------------------------------------------------
 */

typedef struct family {
  otr_status (*render)(dialogue *d);
  const char *bos, *eos;
} family;

static const family families[] = {
    [OTR_CHAT_CHATML] = {render_chatml, "", "<|im_end|>"},
    [OTR_CHAT_SMOLLM2] = {render_chatml, "", "<|im_end|>"},
    [OTR_CHAT_QWEN15] = {render_chatml, "", "<|im_end|>"},
    [OTR_CHAT_QWEN2] = {render_chatml, "", "<|im_end|>"},
    [OTR_CHAT_QWEN25] = {render_chatml, "", "<|im_end|>"},
    [OTR_CHAT_LLAMA2] = {render_llama2, "<s>", "</s>"},
    [OTR_CHAT_LLAMA3] = {render_llama3, "<|begin_of_text|>", "<|eot_id|>"},
    [OTR_CHAT_LLAMA31] = {render_llama3, "<|begin_of_text|>", "<|eot_id|>"},
    [OTR_CHAT_MISTRAL_V1] = {render_mistral, "<s>", "</s>"},
    [OTR_CHAT_MISTRAL_V2] = {render_mistral, "<s>", "</s>"},
    [OTR_CHAT_MISTRAL_SYSTEM] = {render_mistral_system, "<s>", "</s>"},
    [OTR_CHAT_MISTRAL_V3] = {render_mistral_system, "<s>", "</s>"},
    [OTR_CHAT_GEMMA] = {render_gemma, "<bos>", "<eos>"},
    [OTR_CHAT_PHI3_V1] = {render_phi3_v1, "<s>", "<|endoftext|>"},
    [OTR_CHAT_PHI3] = {render_phi3, "<s>", "<|endoftext|>"},
    [OTR_CHAT_PHI35] = {render_phi3, "<s>", "<|endoftext|>"},
    [OTR_CHAT_QWEN3] = {render_qwen3, "", "<|im_end|>"},
    [OTR_CHAT_GEMMA3] = {render_gemma, "<bos>", "<eos>"},
    [OTR_CHAT_MISTRAL_NEMO] = {render_mistral_system, "<s>", "</s>"},
    [OTR_CHAT_ZEPHYR] = {render_zephyr, "<s>", "</s>"},
};

otr_status otr_chat_apply(otr_chat_template chat, const otr_chat_message *messages, int32_t n,
                          int32_t add_generation_prompt, const otr_chat_params *params, char *buffer, size_t capacity,
                          size_t *n_bytes) {
  if (n_bytes == NULL) return refuse("n_bytes is NULL");
  *n_bytes = 0;
  if (chat <= OTR_CHAT_NONE || (size_t)chat >= sizeof families / sizeof *families) return refuse("not a chat template");
  if (messages == NULL || n < 1 || (buffer == NULL && capacity > 0)) return refuse("a NULL, or no messages");
  for (int32_t i = 0; i < n; ++i)
    if (messages[i].role == NULL || messages[i].content == NULL) return refuse("a message without role or content");
  otr_chat_params p;
  OTR_TEXT_TRY(otr_text_params(&p, sizeof p, params));
  const family *f = &families[chat];
  dialogue d = {.chat = chat, .messages = messages, .n = n, .open = add_generation_prompt != 0};
  d.bos = p.bos != NULL ? p.bos : f->bos;
  d.eos = p.eos != NULL ? p.eos : f->eos;
  d.date = p.date != NULL ? p.date : "26 Jul 2024";
  d.out = buffer;
  d.capacity = capacity;
  OTR_TEXT_TRY(f->render(&d));
  *n_bytes = d.n_bytes;
  if (d.n_bytes <= capacity) return OTR_STATUS_OK;
  return otr_text_fail(OTR_STATUS_BUFFER_TOO_SMALL, "the prompt has %zu bytes, the buffer holds %zu", d.n_bytes,
                       capacity);
}
