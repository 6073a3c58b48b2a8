// SPDX-License-Identifier: Apache-2.0
#include "llama_gguf.h"

#include <stdio.h>
#include <stdlib.h>

#include "gguf.h"
#include "numerics.h"
#include "status.h"

typedef struct tensor {
  llama_role role;
  int32_t layer, n, k; /* n 0: a vector of k */
  int32_t number;      /* in the file */
} tensor;

typedef struct job {
  const llama_shape *shape;
  otr_gguf_writer *writer;
  tensor *tensors;
  int32_t n_tensors;
  llama_values_fn values;
  void *user;
} job;

static const char *const names[LLAMA_ROLES] = {
    [LLAMA_TOKEN_EMBD] = "token_embd.weight",
    [LLAMA_ATTN_NORM] = "blk.%d.attn_norm.weight",
    [LLAMA_ATTN_Q] = "blk.%d.attn_q.weight",
    [LLAMA_ATTN_K] = "blk.%d.attn_k.weight",
    [LLAMA_ATTN_V] = "blk.%d.attn_v.weight",
    [LLAMA_ATTN_OUTPUT] = "blk.%d.attn_output.weight",
    [LLAMA_ATTN_Q_BIAS] = "blk.%d.attn_q.bias",
    [LLAMA_ATTN_K_BIAS] = "blk.%d.attn_k.bias",
    [LLAMA_ATTN_V_BIAS] = "blk.%d.attn_v.bias",
    [LLAMA_FFN_NORM] = "blk.%d.ffn_norm.weight",
    [LLAMA_FFN_GATE] = "blk.%d.ffn_gate.weight",
    [LLAMA_FFN_UP] = "blk.%d.ffn_up.weight",
    [LLAMA_FFN_DOWN] = "blk.%d.ffn_down.weight",
    [LLAMA_OUTPUT_NORM] = "output_norm.weight",
    [LLAMA_OUTPUT] = "output.weight",
    [LLAMA_ROPE_FREQS] = "rope_freqs.weight",
};

/* Sets n and k of a tensor that the shape has; false for one that it has not. */
static bool measure(const llama_shape *s, tensor *t) {
  int32_t q = s->n_heads * s->head_dim, kv = s->n_kv_heads * s->head_dim;
  const struct {
    int32_t n, k;
    bool present;
  } sizes[LLAMA_ROLES] = {
      [LLAMA_TOKEN_EMBD] = {s->vocab, s->dim, true},
      [LLAMA_ATTN_NORM] = {0, s->dim, true},
      [LLAMA_ATTN_Q] = {q, s->dim, true},
      [LLAMA_ATTN_K] = {kv, s->dim, true},
      [LLAMA_ATTN_V] = {kv, s->dim, true},
      [LLAMA_ATTN_OUTPUT] = {s->dim, q, true},
      [LLAMA_ATTN_Q_BIAS] = {0, q, s->bias},
      [LLAMA_ATTN_K_BIAS] = {0, kv, s->bias},
      [LLAMA_ATTN_V_BIAS] = {0, kv, s->bias},
      [LLAMA_FFN_NORM] = {0, s->dim, true},
      [LLAMA_FFN_GATE] = {s->ffn, s->dim, true},
      [LLAMA_FFN_UP] = {s->ffn, s->dim, true},
      [LLAMA_FFN_DOWN] = {s->dim, s->ffn, true},
      [LLAMA_OUTPUT_NORM] = {0, s->dim, true},
      [LLAMA_OUTPUT] = {s->vocab, s->dim, !s->tied},
      [LLAMA_ROPE_FREQS] = {0, s->head_dim / 2, s->rope_freqs},
  };
  t->n = sizes[t->role].n;
  t->k = sizes[t->role].k;
  return sizes[t->role].present;
}

static void put_keys(otr_gguf_writer *w, const llama_shape *s, const llama_vocab *vocab) {
  otr_gguf_put_string(w, "general.architecture", "llama");
  otr_gguf_put_string(w, "general.name", s->name);
  otr_gguf_put_u32(w, "llama.context_length", (uint32_t)s->n_ctx);
  otr_gguf_put_u32(w, "llama.embedding_length", (uint32_t)s->dim);
  otr_gguf_put_u32(w, "llama.block_count", (uint32_t)s->n_layers);
  otr_gguf_put_u32(w, "llama.feed_forward_length", (uint32_t)s->ffn);
  otr_gguf_put_u32(w, "llama.attention.head_count", (uint32_t)s->n_heads);
  otr_gguf_put_u32(w, "llama.attention.head_count_kv", (uint32_t)s->n_kv_heads);
  otr_gguf_put_u32(w, "llama.attention.key_length", (uint32_t)s->head_dim);
  otr_gguf_put_u32(w, "llama.attention.value_length", (uint32_t)s->head_dim);
  otr_gguf_put_u32(w, "llama.rope.dimension_count", (uint32_t)s->head_dim);
  otr_gguf_put_f32(w, "llama.rope.freq_base", s->rope_base);
  otr_gguf_put_f32(w, "llama.attention.layer_norm_rms_epsilon", s->eps);
  otr_gguf_put_u32(w, "llama.vocab_size", (uint32_t)s->vocab);
  otr_gguf_put_u32(w, "general.file_type", s->f16 ? 1 : 0);
  otr_gguf_put_string(w, "tokenizer.ggml.model", "llama");
  otr_gguf_put_string(w, "tokenizer.ggml.pre", "default");
  otr_gguf_put_strings(w, "tokenizer.ggml.tokens", (uint64_t)s->vocab, vocab->tokens, NULL);
  otr_gguf_put_array(w, "tokenizer.ggml.scores", OTR_METADATA_F32, (uint64_t)s->vocab, vocab->scores);
  otr_gguf_put_array(w, "tokenizer.ggml.token_type", OTR_METADATA_I32, (uint64_t)s->vocab, vocab->types);
  otr_gguf_put_u32(w, "tokenizer.ggml.unknown_token_id", 0);
  otr_gguf_put_u32(w, "tokenizer.ggml.bos_token_id", 1);
  otr_gguf_put_u32(w, "tokenizer.ggml.eos_token_id", 2);
}

static void put_tensor(job *j, llama_role role, int32_t layer) {
  tensor *t = &j->tensors[j->n_tensors];
  t->role = role;
  t->layer = layer;
  if (!measure(j->shape, t)) return;
  char name[64];
  snprintf(name, sizeof name, names[role], (int)layer);
  const uint64_t dims[2] = {(uint64_t)t->k, (uint64_t)t->n};
  uint32_t type = t->n > 0 && j->shape->f16 ? OTR_GGML_F16 : OTR_GGML_F32;
  t->number = otr_gguf_put_tensor(j->writer, name, type, t->n > 0 ? 2 : 1, dims);
  ++j->n_tensors;
}

static void put_tensors(job *j) {
  put_tensor(j, LLAMA_TOKEN_EMBD, 0);
  put_tensor(j, LLAMA_ROPE_FREQS, 0);
  for (int32_t layer = 0; layer < j->shape->n_layers; ++layer)
    for (int role = LLAMA_ATTN_NORM; role <= LLAMA_FFN_DOWN; ++role) put_tensor(j, (llama_role)role, layer);
  put_tensor(j, LLAMA_OUTPUT_NORM, 0);
  put_tensor(j, LLAMA_OUTPUT, 0);
}

static otr_status write_f16(job *j, const tensor *t, const float *values, size_t n) {
  uint16_t *rounded = malloc(n * sizeof *rounded);
  if (rounded == NULL) return otr_fail(OTR_STATUS_NO_MEMORY, "no memory");
  for (size_t i = 0; i < n; ++i) rounded[i] = (uint16_t)otr_f16_bits(values[i]);
  otr_status status = otr_gguf_writer_data(j->writer, t->number, 0, rounded, n * sizeof *rounded);
  free(rounded);
  return status;
}

static otr_status write_tensor(job *j, const tensor *t) {
  const float *values = j->values(j->user, t->role, t->layer, t->n > 0 ? t->n : 1, t->k);
  if (values == NULL) return otr_fail(OTR_STATUS_BAD_FORMAT, names[t->role], (int)t->layer);
  size_t n = (size_t)(t->n > 0 ? t->n : 1) * (size_t)t->k;
  if (t->n > 0 && j->shape->f16) return write_f16(j, t, values, n);
  return otr_gguf_writer_data(j->writer, t->number, 0, values, n * sizeof *values);
}

static otr_status write_all(job *j, const llama_vocab *vocab) {
  put_keys(j->writer, j->shape, vocab);
  put_tensors(j);
  OTR_TRY(otr_gguf_writer_begin(j->writer));
  for (int32_t i = 0; i < j->n_tensors; ++i) OTR_TRY(write_tensor(j, &j->tensors[i]));
  return otr_gguf_writer_finish(j->writer);
}

otr_status llama_gguf_write(const char *path, const llama_shape *shape, const llama_vocab *vocab,
                            llama_values_fn values, void *user) {
  job j = {shape, NULL, NULL, 0, values, user};
  j.tensors = calloc((size_t)(shape->n_layers + 1) * LLAMA_ROLES, sizeof *j.tensors);
  if (j.tensors == NULL) return otr_fail(OTR_STATUS_NO_MEMORY, "no memory");
  otr_status status = otr_gguf_writer_create(path, 32, &j.writer);
  if (status == OTR_STATUS_OK) status = write_all(&j, vocab);
  otr_gguf_writer_destroy(j.writer);
  free(j.tensors);
  return status;
}
