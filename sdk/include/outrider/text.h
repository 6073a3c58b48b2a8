// SPDX-License-Identifier: Apache-2.0
/** @file
 * Text for outrider: tokenizer, chat templates, sampler, generate. A library of its own (outrider-text) over the public
 * API of <outrider/outrider.h>; an app with its own text handling needs none of it.
 *
 * ## In short
 *     otr_tokenizer *tok;  otr_sampler *sampler;  otr_generate_result result = OTR_GENERATE_RESULT_INIT;
 *     otr_tokenizer_create(otr_model_metadata(model), NULL, &tok);
 *     otr_sampler_create(otr_tokenizer_vocab(tok), NULL, &sampler);          // greedy; at most otr_session_vocab
 *     otr_generate_params p = OTR_GENERATE_PARAMS_INIT;
 *     p.prompt = "Once upon a time";  p.encode_flags = OTR_ENCODE_ADD_SPECIAL;  p.on_piece = print_piece;
 *     otr_generate(session, tok, sampler, &p, &result);
 *
 * ## Rules
 * The rules of outrider.h hold, with one difference: after a failure of a function of this header the reason is in
 * otr_text_error_detail(). That includes failures of the runtime on the way (otr_generate): their detail is taken over.
 * Texts are bytes with a length, UTF-8 as a rule, and not 0-terminated unless said. Text that is not valid UTF-8 is
 * never an error: each stray byte is a character of its own.
 *
 * ## Threads
 * A tokenizer is immutable: any number of threads may use it. A decoder, a sampler and a generate are used by one thread
 * at a time. Handles are independent of the metadata they were made from: what is needed is copied.
 */
#ifndef OUTRIDER_TEXT_H
#define OUTRIDER_TEXT_H

#include "outrider/outrider.h"

#ifdef __cplusplus
extern "C" {
#endif

/** @return what went wrong in the calling thread's last failed call of this library: one line, never NULL, "" when none
 *  has failed. Valid until the thread's next failing call. @threads Any; each thread has its own. */
OTR_API const char *otr_text_error_detail(void);

/* ---- tokenizer --------------------------------------------------------------------------------------------------- */

typedef struct otr_tokenizer otr_tokenizer;

typedef struct otr_tokenizer_params {
  uint32_t struct_size;
  otr_allocator allocator; /**< all zero: malloc and free. encode takes its working memory there, too */
} otr_tokenizer_params;
#define OTR_TOKENIZER_PARAMS_INIT { sizeof(otr_tokenizer_params), { NULL, NULL, NULL } }

/** Builds a tokenizer from a GGUF's tokenizer.ggml.* keys. Models: "llama" (SentencePiece BPE with scores and byte
 *  fallback) and "gpt2" (byte-level BPE with merges) with tokenizer.ggml.pre among default, gpt-2, llama-bpe (llama3,
 *  llama-v3), qwen2, refact, smollm, starcoder, bloom, falcon, mpt, olmo, stablelm2; a missing one is "default". A
 *  "llama" with merges and without scores joins by merges, as Hugging Face's. Keys tokenizer.outrider.* say what GGUF
 *  has no keys for (docs/format.md).
 *  @param metadata only read during the call
 *  @param params   NULL for defaults; copied
 *  @param[out] out owned by the caller on OK (otr_tokenizer_destroy); NULL otherwise
 *  @return OK, INVALID_ARGUMENT, BAD_FORMAT (keys missing, of a wrong type, or that disagree), UNSUPPORTED (another model
 *  or pre-tokenizer: the detail names it), NO_MEMORY. @threads Any. */
OTR_API otr_status otr_tokenizer_create(const otr_metadata *metadata, const otr_tokenizer_params *params,
                                        otr_tokenizer **out);
/** NULL is allowed. Decoders made from it must be gone. */
OTR_API void otr_tokenizer_destroy(otr_tokenizer *tokenizer);

/** What a tokenizer is. Ids are −1 where the file names none. */
typedef struct otr_tokenizer_info {
  uint32_t struct_size;
  const char *model; /**< "llama" or "gpt2"; constant */
  const char *pre;   /**< name of the pre-tokenizer in use; "" for "llama"; constant */
  int32_t vocab;
  int32_t bos, eos, eot, unk, pad;
  int32_t add_bos, add_eos; /**< 1: OTR_ENCODE_ADD_SPECIAL adds it */
  int32_t add_space_prefix; /**< 1: a space is put before the text ("llama") */
} otr_tokenizer_info;
#define OTR_TOKENIZER_INFO_INIT { sizeof(otr_tokenizer_info), NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
/** @param[out] info struct_size set by the caller. @return OK or INVALID_ARGUMENT. @threads Any. */
OTR_API otr_status otr_tokenizer_get_info(const otr_tokenizer *tokenizer, otr_tokenizer_info *info);
/** @return number of ids: they are 0 … vocab − 1. @threads Any. */
OTR_API int32_t otr_tokenizer_vocab(const otr_tokenizer *tokenizer);

enum {
  OTR_ENCODE_ADD_SPECIAL = 1,  /**< begin-of-sequence and end-of-sequence ids where the model wants them */
  OTR_ENCODE_PARSE_SPECIAL = 2 /**< control tokens written out in the text ("<|im_end|>") become their ids, by longest
                                    match. Without it they are plain text: right for text from outside. Tokens that
                                    the model's maker defined as text ("user defined") are found always */
};
/** Encodes text.
 *  @param text     [n_bytes]; NULL is allowed for 0. At most INT32_MAX bytes
 *  @param flags    OTR_ENCODE_…
 *  @param ids      [capacity]; NULL is allowed for 0
 *  @param[out] n   ids of the whole text, also when they do not fit
 *  @return OK, BUFFER_TOO_SMALL (ids holds the first `capacity`), INVALID_ARGUMENT, NO_MEMORY. @threads Any. */
OTR_API otr_status otr_tokenizer_encode(const otr_tokenizer *tokenizer, const char *text, size_t n_bytes, uint32_t flags,
                                        int32_t *ids, int32_t capacity, int32_t *n);

enum {
  OTR_DECODE_SPECIAL = 1,     /**< write control tokens as their text; without it they give nothing */
  OTR_DECODE_STRIP_PREFIX = 2 /**< the ids are a whole text: leave out the space that encode put before it */
};
/** Decodes ids to the exact bytes they stand for (which may be no UTF-8 where the ids were cut off).
 *  @param text [capacity], not 0-terminated; NULL is allowed for 0
 *  @param[out] n_bytes bytes of the whole text, also when they do not fit
 *  @return OK, BUFFER_TOO_SMALL (text holds the first `capacity`), INVALID_ARGUMENT (an id outside the vocabulary).
 *  Allocates nothing. @threads Any. */
OTR_API otr_status otr_tokenizer_decode(const otr_tokenizer *tokenizer, const int32_t *ids, int32_t n, uint32_t flags,
                                        char *text, size_t capacity, size_t *n_bytes);

/** The bytes of one id, as decode with OTR_DECODE_SPECIAL gives them.
 *  @param[out] piece [n_bytes], owned by the tokenizer. @return OK or INVALID_ARGUMENT. @threads Any. */
OTR_API otr_status otr_tokenizer_piece(const otr_tokenizer *tokenizer, int32_t id, const char **piece, size_t *n_bytes);
/** @return the id whose piece is exactly these bytes (a control token of that text first), −1 when there is none.
 *  @threads Any. */
OTR_API int32_t otr_tokenizer_find(const otr_tokenizer *tokenizer, const char *piece, size_t n_bytes);
/** @return 1 for control tokens, which decode leaves out by default. @threads Any. */
OTR_API int32_t otr_tokenizer_is_special(const otr_tokenizer *tokenizer, int32_t id);
/** @return 1 when a model that gives this id has finished: eos, eot, and the known names of such tokens (<|im_end|>,
 *  <|eot_id|>, <end_of_turn>, <|end|>, <|endoftext|> …). @threads Any. */
OTR_API int32_t otr_tokenizer_is_end_of_generation(const otr_tokenizer *tokenizer, int32_t id);

/* ---- streaming decoder -------------------------------------------------------------------------------------------- */

/** Decodes id by id. What it gives is always whole, valid UTF-8: the bytes of a character are held back until it is
 *  complete, and bytes that cannot become one are replaced by U+FFFD. */
typedef struct otr_decoder otr_decoder;

/** @param flags OTR_DECODE_… @param[out] out owned by the caller on OK (otr_decoder_destroy, before the tokenizer's);
 *  NULL otherwise. Nothing is allocated after that. @return OK, INVALID_ARGUMENT, NO_MEMORY. */
OTR_API otr_status otr_decoder_create(const otr_tokenizer *tokenizer, uint32_t flags, otr_decoder **out);
/** NULL is allowed. */
OTR_API void otr_decoder_destroy(otr_decoder *decoder);
/** Takes one id. @param[out] text [n_bytes] what is complete now (maybe nothing), valid until the decoder's next call.
 *  @return OK or INVALID_ARGUMENT. */
OTR_API otr_status otr_decoder_push(otr_decoder *decoder, int32_t id, const char **text, size_t *n_bytes);
/** Ends the text: an unfinished character that was held back comes out as U+FFFD. The decoder is then as new.
 *  @param[out] text [n_bytes], valid until the decoder's next call */
OTR_API void otr_decoder_finish(otr_decoder *decoder, const char **text, size_t *n_bytes);

/* ---- chat templates ----------------------------------------------------------------------------------------------- */

/** Templates are recognized, not run: each of these renders byte for byte what the published Jinja text does, its
 *  errors included ("roles must alternate"). */
typedef int32_t otr_chat_template;
enum {
  OTR_CHAT_NONE = 0,
  OTR_CHAT_CHATML = 1,          /**< <|im_start|>role … <|im_end|>, no system message of its own */
  OTR_CHAT_SMOLLM2 = 2,         /**< ChatML; adds "You are a helpful AI assistant named SmolLM, trained by Hugging Face" */
  OTR_CHAT_QWEN15 = 3,          /**< ChatML; adds "You are a helpful assistant" */
  OTR_CHAT_QWEN2 = 4,           /**< ChatML; adds "You are a helpful assistant." */
  OTR_CHAT_QWEN25 = 5,          /**< ChatML, without tools; adds "You are Qwen, created by Alibaba Cloud. You are a
                                     helpful assistant." Roles: system, user, assistant, tool */
  OTR_CHAT_LLAMA2 = 6,          /**< [INST] <<SYS>> … */
  OTR_CHAT_LLAMA3 = 7,          /**< <|start_header_id|>role … <|eot_id|> (Llama 3.0) */
  OTR_CHAT_LLAMA31 = 8,         /**< Llama 3.1 and 3.2, without tools: adds knowledge and today's date (params.date) */
  OTR_CHAT_MISTRAL_V1 = 9,      /**< [INST] … [/INST]answer</s>, a space after </s> (7B 0.1); no system role */
  OTR_CHAT_MISTRAL_V2 = 10,     /**< the same without that space (7B 0.2) */
  OTR_CHAT_MISTRAL_SYSTEM = 11, /**< the later template of both: a system message goes before the first user message */
  OTR_CHAT_MISTRAL_V3 = 12,     /**< 7B 0.3, without tools: a system message goes before the last user message */
  OTR_CHAT_GEMMA = 13,          /**< <start_of_turn>role … <end_of_turn> (Gemma 1 and 2); no system role */
  OTR_CHAT_PHI3_V1 = 14,        /**< <|user|> … <|end|>, the first Phi-3 mini: system messages are left out */
  OTR_CHAT_PHI3 = 15,           /**< Phi-3 mini: a system message is rendered */
  OTR_CHAT_PHI35 = 16,          /**< Phi-3.5 mini: unless it is empty */
  OTR_CHAT_QWEN3 = 17,          /**< ChatML, without tools; thinking is on, and that of earlier answers is left out.
                                     Roles: system, user, assistant, tool */
  OTR_CHAT_GEMMA3 = 18,         /**< Gemma 3: a system message goes before the first user message */
  OTR_CHAT_MISTRAL_NEMO = 19,   /**< as MISTRAL_V3, without spaces around [INST] */
  OTR_CHAT_ZEPHYR = 20          /**< <|user|> … </s> (Zephyr, StableLM Zephyr, TinyLlama) */
};

/** Recognizes a template by its Jinja text (the metadata key tokenizer.chat_template).
 *  @return OK, INVALID_ARGUMENT, UNSUPPORTED (*out is OTR_CHAT_NONE; the detail says how to pass one's own prompt).
 *  @threads Any. */
OTR_API otr_status otr_chat_template_recognize(const char *text, size_t n_bytes, otr_chat_template *out);
/** The same for a model's metadata. UNSUPPORTED also when it holds no template. @threads Any. */
OTR_API otr_status otr_chat_template_of_metadata(const otr_metadata *metadata, otr_chat_template *out);
/** The template of a name: "chatml", "smollm2", "qwen1.5", "qwen2", "qwen2.5", "llama2", "llama3", "llama3.1",
 *  "mistral-v1", "mistral-v2", "mistral-system", "mistral-v3", "gemma", "phi3-v1", "phi3", "phi3.5", "qwen3", "gemma3",
 *  "mistral-nemo", "zephyr".
 *  @return OK, INVALID_ARGUMENT, or UNSUPPORTED (the detail lists the names). @threads Any. */
OTR_API otr_status otr_chat_template_by_name(const char *name, otr_chat_template *out);
/** @return the name of a template, constant; "none" for anything else. */
OTR_API const char *otr_chat_template_name(otr_chat_template chat);

typedef struct otr_chat_message {
  const char *role;    /**< "system", "user", "assistant", or what the template makes of another one; 0-terminated */
  const char *content; /**< 0-terminated */
} otr_chat_message;

typedef struct otr_chat_params {
  uint32_t struct_size;
  const char *bos;  /**< text of the begin token; NULL: the family's own, "" for none. 0-terminated */
  const char *eos;  /**< text of the end token; NULL: the family's own. 0-terminated */
  const char *date; /**< Llama 3.1: "Today Date"; NULL: "26 Jul 2024", as the template without a clock */
} otr_chat_params;
#define OTR_CHAT_PARAMS_INIT { sizeof(otr_chat_params), NULL, NULL, NULL }

/** Renders a dialogue. The text holds the template's own begin token: encode it with OTR_ENCODE_PARSE_SPECIAL and
 *  without OTR_ENCODE_ADD_SPECIAL. (Content is not escaped, as in the Jinja templates: control tokens written in a
 *  message become control tokens.)
 *  @param messages [n], n >= 1
 *  @param add_generation_prompt 1: end with the opening of the assistant's turn
 *  @param params   NULL for defaults
 *  @param buffer   [capacity], not 0-terminated; NULL is allowed for 0
 *  @param[out] n_bytes bytes of the whole text, also when they do not fit
 *  @return OK, BUFFER_TOO_SMALL, INVALID_ARGUMENT (also a dialogue that the template refuses: the detail is its own
 *  message), UNSUPPORTED (tool calls and their results). Allocates nothing. @threads Any. */
OTR_API otr_status otr_chat_apply(otr_chat_template chat, const otr_chat_message *messages, int32_t n,
                                  int32_t add_generation_prompt, const otr_chat_params *params, char *buffer,
                                  size_t capacity, size_t *n_bytes);

/* ---- sampler ------------------------------------------------------------------------------------------------------ */

/** Chooses an id from logits. The same seed and logits give the same ids on every machine: only f32 additions,
 *  multiplications and the contract's exp in a fixed order. Steps, in order:
 *  1. logits_fn may change a copy of the logits (grammars: −INFINITY forbids an id);
 *  2. each bias is added to its id's logit;
 *  3. ids among the last repeat_last_n accepted ones: a logit > 0 is multiplied by recip(repeat_penalty), another one by
 *     repeat_penalty;
 *  4. temperature 0: the highest logit wins, the lowest id on a tie. Else
 *  5. the logits are sorted, highest first, the lowest id first on a tie;
 *  6. the first top_k stay;
 *  7. p_i = exp((logit_i − logit_0) · recip(temperature)), S = their sum from the first on; the shortest beginning whose
 *     sum reaches top_p · S stays;
 *  8. those with p_i >= min_p stay (p_0 is 1);
 *  9. R = the sum of what stays, u from the generator: the first id at which the running sum exceeds u · R.
 *  The generator is xoshiro256++, its state four outputs of splitmix64 from the seed; u = (bits >> 40) · 2^-24, one
 *  draw for each sample with temperature > 0. */
typedef struct otr_sampler otr_sampler;

typedef struct otr_logit_bias {
  int32_t id;
  float bias; /**< −INFINITY: never */
} otr_logit_bias;

/** May change logits [vocab] before anything else looks at them. Must not call back into the sampler. */
typedef void (*otr_logits_fn)(void *user, float *logits, int32_t vocab);

typedef struct otr_sampler_params {
  uint32_t struct_size;
  float temperature;     /**< 0: greedy; else 2^-20 … 2^20 */
  int32_t top_k;         /**< 0: all; more than there are: all */
  float top_p;           /**< (0, 1]; 0 counts as 1: off */
  float min_p;           /**< [0, 1]; 0: off */
  float repeat_penalty;  /**< > 0; 0 counts as 1: off */
  int32_t repeat_last_n; /**< window of the penalty in ids, at most 2^20; 0: 64 */
  uint64_t seed;
  const otr_logit_bias *bias; /**< [n_bias]; copied */
  int32_t n_bias;
  otr_logits_fn logits_fn; /**< NULL: none */
  void *logits_user;
  otr_allocator allocator; /**< all zero: malloc and free */
} otr_sampler_params;
#define OTR_SAMPLER_PARAMS_INIT \
  { sizeof(otr_sampler_params), 0.0f, 0, 0.0f, 0.0f, 0.0f, 0, 0, NULL, 0, NULL, NULL, { NULL, NULL, NULL } }

/** @param vocab number of logits, >= 1 @param params NULL for defaults (greedy); copied
 *  @param[out] out owned by the caller on OK (otr_sampler_destroy); NULL otherwise. Nothing is allocated after that.
 *  @return OK, INVALID_ARGUMENT (NaN or negative temperature, negative top_k, a bias for an id outside the vocabulary …),
 *  NO_MEMORY. @threads Any; a sampler is used by one thread at a time. */
OTR_API otr_status otr_sampler_create(int32_t vocab, const otr_sampler_params *params, otr_sampler **out);
/** NULL is allowed. */
OTR_API void otr_sampler_destroy(otr_sampler *sampler);
/** Chooses an id; does not accept it.
 *  @param logits [vocab], unchanged @param vocab as at creation @param[out] id −1 on failure
 *  @return OK, INVALID_ARGUMENT, NONFINITE (a NaN or +INFINITY among the logits, or every id forbidden), BUSY (called
 *  from logits_fn). */
OTR_API otr_status otr_sampler_sample(otr_sampler *sampler, const float *logits, int32_t vocab, int32_t *id);
/** Puts an id into the window of the repetition penalty (ids of the prompt too, where they should count).
 *  @return OK or INVALID_ARGUMENT. */
OTR_API otr_status otr_sampler_accept(otr_sampler *sampler, int32_t id);
/** As new: the window is empty and the generator starts from the seed again. */
OTR_API void otr_sampler_reset(otr_sampler *sampler);

/* ---- generate ----------------------------------------------------------------------------------------------------- */

/** Receives text as it becomes certain: whole UTF-8, nothing of a stop string. `id` is the latest id (text of several
 *  ids may come together; n_bytes is 0 for an id whose text is held back). Text that is still held back at the end comes
 *  with the last id once more: count ids by result.n_tokens, not by calls. @return 0 to go on; anything else stops. */
typedef int32_t (*otr_piece_fn)(void *user, const char *text, size_t n_bytes, int32_t id);

typedef struct otr_generate_params {
  uint32_t struct_size;
  const int32_t *ids;       /**< [n_ids] evaluated first; NULL: none */
  int32_t n_ids;
  const char *prompt;       /**< then this text; NULL: none */
  size_t prompt_bytes;      /**< 0: prompt is 0-terminated */
  uint32_t encode_flags;    /**< OTR_ENCODE_… for prompt */
  int32_t max_tokens;       /**< 0: until the model ends or the context is full */
  const char *const *stop;  /**< [n_stop] 0-terminated, not empty; may span ids; not part of the text */
  int32_t n_stop;
  int32_t ignore_end;       /**< 1: go on past end-of-generation ids */
  int32_t accept_prompt;    /**< 1: the prompt's ids count for the repetition penalty */
  otr_piece_fn on_piece;    /**< NULL: none */
  void *user;
  otr_allocator allocator;  /**< all zero: malloc and free; nothing is allocated after the prompt is encoded */
} otr_generate_params;
#define OTR_GENERATE_PARAMS_INIT \
  { sizeof(otr_generate_params), NULL, 0, NULL, 0, 0, 0, NULL, 0, 0, 0, NULL, NULL, { NULL, NULL, NULL } }

typedef int32_t otr_generate_reason;
enum {
  OTR_GENERATE_END = 0,         /**< the model gave an end-of-generation id */
  OTR_GENERATE_MAX_TOKENS = 1,
  OTR_GENERATE_STOP_STRING = 2,
  OTR_GENERATE_CALLBACK = 3,    /**< on_piece asked for it */
  OTR_GENERATE_CONTEXT_FULL = 4,/**< the last id does not fit any more: slide or stop */
  OTR_GENERATE_FAILED = 5       /**< the status says why (CANCELLED, NONFINITE …) */
};
typedef struct otr_generate_result {
  uint32_t struct_size;
  otr_generate_reason reason;
  int32_t n_prompt;   /**< ids evaluated for ids and prompt */
  int32_t n_tokens;   /**< ids sampled, an end id too */
  int32_t last_id;    /**< the last one sampled, −1 when there is none. It is the only one not yet evaluated: to go on
                           where this call stopped, put it first in the next call's ids */
  int32_t stop_index; /**< STOP_STRING: which one; −1 otherwise */
} otr_generate_result;
#define OTR_GENERATE_RESULT_INIT { sizeof(otr_generate_result), 0, 0, 0, 0, 0 }

/** Evaluates a prompt at the session's position, then samples and evaluates id by id until something ends it. With no
 *  ids and no prompt it goes on from the session's logits. Text that was held back for a stop string or an unfinished
 *  character is delivered before it returns OK.
 *  @param tokenizer, sampler of the session's vocabulary. The sampler is not reset, sampled ids are accepted.
 *  @param[out] result struct_size set by the caller; filled on failure too. NULL is allowed
 *  @return OK (see result.reason), INVALID_ARGUMENT (also: no prompt and no logits), CONTEXT_FULL (the prompt does not
 *  fit: nothing was evaluated), NO_MEMORY, and the errors of encode, eval and sample. An otr_session_cancel from another
 *  thread or from on_piece ends it with CANCELLED. @threads One thread a session and sampler. */
OTR_API otr_status otr_generate(otr_session *session, const otr_tokenizer *tokenizer, otr_sampler *sampler,
                                const otr_generate_params *params, otr_generate_result *result);

#ifdef __cplusplus
}
#endif
#endif
