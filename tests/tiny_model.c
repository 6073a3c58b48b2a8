// SPDX-License-Identifier: Apache-2.0
#include "tiny_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "status.h"

#define VOCAB 320
#define SPACE "\xe2\x96\x81" /* U+2581, SentencePiece's space */
#define FIRST_WORD 259       /* after the three special and the 256 byte tokens */

typedef struct values {
  uint64_t seed, state;
  float *data;
} values;

/* splitmix64 */
static uint64_t next(uint64_t *state) {
  uint64_t z = *state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

float tiny_model_value(uint64_t *state) {
  int32_t sum = 0;
  uint64_t bits = next(state);
  for (int i = 0; i < 4; ++i) sum += (int32_t)((bits >> (16 * i)) & 0xffff) - 32768;
  return (float)sum * (1.0f / 65536.0f);
}

static float width_of(llama_role role) {
  switch (role) {
    case LLAMA_TOKEN_EMBD:
    case LLAMA_OUTPUT:
      return 0.5f;
    case LLAMA_ATTN_Q_BIAS:
    case LLAMA_ATTN_K_BIAS:
    case LLAMA_ATTN_V_BIAS:
      return 0.125f;
    default:
      return 0.25f;
  }
}

static bool is_norm(llama_role role) {
  return role == LLAMA_ATTN_NORM || role == LLAMA_FFN_NORM || role == LLAMA_OUTPUT_NORM;
}

/* Two systematic features in every norm, and some hidden units that answer strongly: the outliers. */
static void plant(llama_role role, int32_t n, int32_t k, float *data) {
  if (is_norm(role)) {
    for (int32_t i = 0; i < k; ++i) data[i] = 1.0f + 0.25f * data[i];
    data[7 % k] = 9.0f;
    data[41 % k] = -6.0f;
  }
  if (role == LLAMA_FFN_GATE)
    for (int32_t i = 0; i < k; ++i) data[(size_t)(13 % n) * (size_t)k + (size_t)i] *= 8.0f;
  if (role == LLAMA_ROPE_FREQS)
    for (int32_t i = 0; i < k; ++i) data[i] = i < k / 2 ? 1.0f : 4.0f;
}

static const float *make_values(void *user, llama_role role, int32_t layer, int32_t n, int32_t k) {
  values *v = user;
  size_t count = (size_t)n * (size_t)k;
  float *data = realloc(v->data, count * sizeof *data);
  if (data == NULL) return NULL;
  v->data = data;
  v->state = v->seed + (uint64_t)role * 1000003u + (uint64_t)layer * 7919u;
  float width = width_of(role);
  for (size_t i = 0; i < count; ++i) data[i] = width * tiny_model_value(&v->state);
  plant(role, n, k, data);
  return data;
}

static const char *const words[] = {SPACE,       "e",       "t",       "a",        "o",         "i",
                                    "n",         "s",       "h",       "r",        "d",         "l",
                                    "u",         "m",       "c",       "w",        "y",         "f",
                                    "g",         "p",       "b",       "v",        "k",         ".",
                                    ",",         "x",       "j",       "q",        "z",         "T",
                                    "O",         "S",       "he",      "th",       "in",        "an",
                                    "er",        "on",      "re",      "nd",       "the",       "and",
                                    SPACE "t",   SPACE "a", SPACE "s", SPACE "th", SPACE "the", SPACE "an",
                                    SPACE "and", "ing",     SPACE "o", SPACE "w",  "once",      SPACE "b",
                                    SPACE "c",   "ed",      "it",      "is",       "\xc3\xa9",  "\xe2\x82\xac",
                                    "\n"};

llama_shape tiny_model_shape(void) {
  llama_shape shape = {"tiny", 72, 100, 3, 6, 2, 12, VOCAB, 1024, 10000.0f, 1e-5f, true, false, false, false};
  return shape;
}

typedef struct tiny_vocab {
  char bytes[256][8];
  const char *tokens[VOCAB];
  float scores[VOCAB];
  int32_t types[VOCAB];
} tiny_vocab;

static void make_vocab(tiny_vocab *v) {
  static const char *const special[3] = {"<unk>", "<s>", "</s>"};
  for (int i = 0; i < 3; ++i) {
    v->tokens[i] = special[i];
    v->types[i] = i == 0 ? 2 : 3;
  }
  for (int i = 0; i < 256; ++i) {
    snprintf(v->bytes[i], sizeof v->bytes[i], "<0x%02X>", (unsigned)i);
    v->tokens[3 + i] = v->bytes[i];
    v->types[3 + i] = 6;
  }
  for (int i = FIRST_WORD; i < VOCAB; ++i) {
    v->tokens[i] = words[i - FIRST_WORD];
    v->scores[i] = (float)(FIRST_WORD - i);
    v->types[i] = 1;
  }
}

_Static_assert(sizeof words / sizeof words[0] == VOCAB - FIRST_WORD, "the vocabulary is full");

otr_status tiny_model_write(const char *path, const llama_shape *shape, uint64_t seed) {
  if (shape->vocab != VOCAB) return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "tiny model: vocab is %d", VOCAB);
  tiny_vocab *v = calloc(1, sizeof *v);
  if (v == NULL) return otr_fail(OTR_STATUS_NO_MEMORY, "no memory");
  make_vocab(v);
  llama_vocab vocab = {v->tokens, v->scores, v->types};
  values made = {seed, 0, NULL};
  otr_status status = llama_gguf_write(path, shape, &vocab, make_values, &made);
  free(made.data);
  free(v);
  return status;
}
