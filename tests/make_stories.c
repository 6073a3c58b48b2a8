// SPDX-License-Identifier: Apache-2.0
/* make_stories MODEL.bin TOKENIZER.bin OUT.gguf: a llama2.c v0 checkpoint (f32) and its tokenizer as a GGUF file of F32
 * tensors. llama2.c rotates pairs (2j, 2j+1), as GGUF's llama does: rows stay as they are. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "llama_gguf.h"
#include "status.h"

#define HEADER_INTS 7
#define SPACE "\xe2\x96\x81" /* U+2581, SentencePiece's space */

typedef struct blob {
  uint8_t *bytes;
  size_t n, position;
} blob;

typedef struct stories {
  llama_shape shape;
  const float *place[LLAMA_ROLES]; /* all layers of a role lie together */
} stories;

static int read_blob(blob *b, const char *path) {
  memset(b, 0, sizeof *b);
  FILE *file = fopen(path, "rb");
  if (file == NULL) return 0;
  long size = fseek(file, 0, SEEK_END) == 0 ? ftell(file) : -1;
  if (size > 0 && fseek(file, 0, SEEK_SET) == 0) b->bytes = malloc((size_t)size);
  b->n = b->bytes != NULL ? fread(b->bytes, 1, (size_t)size, file) : 0;
  fclose(file);
  return b->bytes != NULL && b->n == (size_t)size;
}

/* The next `n` bytes, or NULL. */
static const uint8_t *take(blob *b, size_t n) {
  if (n > b->n - b->position) return NULL;
  b->position += n;
  return b->bytes + b->position - n;
}

static int read_shape(blob *b, llama_shape *shape) {
  int32_t v[HEADER_INTS];
  const uint8_t *p = take(b, sizeof v);
  if (p == NULL) return 0;
  memcpy(v, p, sizeof v);
  for (int i = 0; i < HEADER_INTS; ++i)
    if (v[i] == 0 || v[i] > 1 << 20 || (i != 5 && v[i] < 0) || v[i] < -(1 << 20)) return 0;
  if (v[0] % v[3] != 0) return 0;
  llama_shape made = {"stories", v[0],     v[1],  v[2],     v[3],  v[4],  v[0] / v[3], abs(v[5]),
                      v[6],      10000.0f, 1e-5f, v[5] > 0, false, false, false};
  *shape = made;
  return 1;
}

/* The order of tensors in the checkpoint; between the last norm and the head lie two tables of cos and sin. */
static int find_tensors(blob *b, stories *s) {
  const llama_shape *h = &s->shape;
  size_t dim = (size_t)h->dim, ffn = (size_t)h->ffn, layers = (size_t)h->n_layers, vocab = (size_t)h->vocab;
  size_t kv = (size_t)(h->n_kv_heads * h->head_dim), table = (size_t)h->n_ctx * (size_t)(h->head_dim / 2);
  const struct {
    llama_role role;
    size_t n;
  } order[] = {{LLAMA_TOKEN_EMBD, vocab * dim},
               {LLAMA_ATTN_NORM, layers * dim},
               {LLAMA_ATTN_Q, layers * dim * dim},
               {LLAMA_ATTN_K, layers * kv * dim},
               {LLAMA_ATTN_V, layers * kv * dim},
               {LLAMA_ATTN_OUTPUT, layers * dim * dim},
               {LLAMA_FFN_NORM, layers * dim},
               {LLAMA_FFN_GATE, layers * ffn * dim},
               {LLAMA_FFN_DOWN, layers * dim * ffn},
               {LLAMA_FFN_UP, layers * ffn * dim},
               {LLAMA_OUTPUT_NORM, dim},
               {LLAMA_ROPE_FREQS, 2 * table},
               {LLAMA_OUTPUT, h->tied ? 0 : vocab * dim}};
  for (size_t i = 0; i < sizeof order / sizeof order[0]; ++i) {
    const uint8_t *p = take(b, order[i].n * sizeof(float));
    if (p == NULL) return 0;
    s->place[order[i].role] = (const float *)(const void *)p;
  }
  return b->position == b->n;
}

static const float *give_values(void *user, llama_role role, int32_t layer, int32_t n, int32_t k) {
  const stories *s = user;
  return s->place[role] + (size_t)layer * (size_t)n * (size_t)k;
}

/* A token's text as GGUF has it: special names, SentencePiece's space. */
static char *token_text(int32_t id, const char *text, size_t n) {
  static const char *const special[3] = {"<unk>", "<s>", "</s>"};
  char *out = calloc(1, 3 * n + 8);
  if (out == NULL) return NULL;
  if (id < 3) return strcpy(out, special[id]);
  size_t length = 0;
  for (size_t i = 0; i < n; ++i) {
    if (text[i] == ' ') {
      memcpy(out + length, SPACE, 3);
      length += 3;
    } else {
      out[length++] = text[i];
    }
  }
  return out;
}

static int32_t token_type(int32_t id, const char *text) {
  unsigned byte;
  if (id < 3) return id == 0 ? 2 : 3;
  return sscanf(text, "<0x%02X>", &byte) == 1 ? 6 : 1;
}

static int read_token(blob *b, int32_t id, char **text, float *score, int32_t *type) {
  int32_t length;
  const uint8_t *p = take(b, 8);
  if (p == NULL) return 0;
  memcpy(score, p, 4);
  memcpy(&length, p + 4, 4);
  if (length < 0 || (p = take(b, (size_t)length)) == NULL) return 0;
  *text = token_text(id, (const char *)p, (size_t)length);
  if (*text == NULL) return 0;
  *type = token_type(id, *text);
  return 1;
}

static otr_status convert(blob *model, blob *tokenizer, const char *out) {
  stories s = {0};
  if (!read_shape(model, &s.shape) || !find_tensors(model, &s))
    return otr_fail(OTR_STATUS_BAD_FORMAT, "not a llama2.c checkpoint");
  size_t n = (size_t)s.shape.vocab;
  char **tokens = calloc(n, sizeof *tokens);
  float *scores = calloc(n, sizeof *scores);
  int32_t *types = calloc(n, sizeof *types);
  bool good = tokens != NULL && scores != NULL && types != NULL && take(tokenizer, 4) != NULL;
  for (size_t i = 0; i < n && good; ++i) good = read_token(tokenizer, (int32_t)i, &tokens[i], &scores[i], &types[i]);
  otr_status status = OTR_STATUS_OK;
  if (good) {
    llama_vocab vocab = {(const char *const *)tokens, scores, types};
    status = llama_gguf_write(out, &s.shape, &vocab, give_values, &s);
  } else {
    status = otr_fail(OTR_STATUS_BAD_FORMAT, "not a llama2.c tokenizer of %zu tokens", n);
  }
  for (size_t i = 0; i < n && tokens != NULL; ++i) free(tokens[i]);
  free(tokens);
  free(scores);
  free(types);
  return status;
}

int main(int argc, char **argv) {
  if (argc != 4) {
    fprintf(stderr, "make_stories MODEL.bin TOKENIZER.bin OUT.gguf\n");
    return 2;
  }
  blob model, tokenizer;
  otr_status status = OTR_STATUS_IO;
  bool good = read_blob(&model, argv[1]);
  good = read_blob(&tokenizer, argv[2]) && good; /* both are read: both are freed below */
  if (!good) {
    fprintf(stderr, "%s or %s: cannot be read\n", argv[1], argv[2]);
  } else {
    status = convert(&model, &tokenizer, argv[3]);
    if (status != OTR_STATUS_OK) fprintf(stderr, "%s\n", otr_error_detail());
  }
  free(model.bytes);
  free(tokenizer.bytes);
  return status == OTR_STATUS_OK ? 0 : 1;
}
