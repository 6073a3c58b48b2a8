// SPDX-License-Identifier: Apache-2.0
#include "shim_spirv.h"

#include <stdlib.h>
#include <string.h>

/* Of the SPIR-V specification. */
enum {
  HEAD_WORDS = 5,
  BOUND = 3, /* word of the head: one more than the largest id */
  OP_NOP = 0,
  OP_TYPE_FLOAT = 22,
  OP_CONSTANT = 43,
  OP_FUNCTION = 54,
  OP_F_ADD = 129,
  OP_F_MUL = 133,
  OP_BITWISE_XOR = 198,
  OP_S_DOT = 4450
};

typedef struct writer {
  uint32_t *words;
  size_t n;
} writer;

static void put(writer *w, uint32_t word) {
  w->words[w->n++] = word;
}

/** A sum into a new id, then the product with `factor` into the sum's own. */
static void put_wrong_sum(writer *w, const uint32_t *sum, uint32_t factor, uint32_t id) {
  put(w, 5u << 16 | OP_F_ADD);
  put(w, sum[1]);
  put(w, id);
  put(w, sum[3]);
  put(w, sum[4]);
  put(w, 5u << 16 | OP_F_MUL);
  put(w, sum[1]);
  put(w, sum[2]);
  put(w, id);
  put(w, factor);
}

static void put_wrong_dot(writer *w, const uint32_t *dot) {
  put(w, 5u << 16 | OP_BITWISE_XOR);
  for (int i = 1; i < 5; i++) put(w, dot[i]);
  put(w, 1u << 16 | OP_NOP);
}

uint32_t *shim_spirv(const uint32_t *code, size_t *bytes, int wrong_dot, int wrong_add) {
  size_t n = *bytes / sizeof *code;
  writer w = {malloc((3 * n + 8) * sizeof *code), 0};
  uint32_t type = 0, factor = 0;
  if (!w.words) return NULL;
  for (; w.n < HEAD_WORDS; w.n++) w.words[w.n] = code[w.n];
  for (size_t at = HEAD_WORDS, length; at < n; at += length) {
    const uint32_t *op = code + at;
    uint32_t code_of = op[0] & 0xffff;
    length = op[0] >> 16;
    if (length == 0 || length > n - at) break;
    if (code_of == OP_TYPE_FLOAT && op[2] == 32) type = op[1];
    if (code_of == OP_FUNCTION && type && !factor && wrong_add) {
      factor = w.words[BOUND]++;
      put(&w, 4u << 16 | OP_CONSTANT);
      put(&w, type);
      put(&w, factor);
      put(&w, 0x3f800001u);
    }
    if (code_of == OP_S_DOT && length == 6 && wrong_dot) {
      put_wrong_dot(&w, op);
    } else if (code_of == OP_F_ADD && factor && op[1] == type) {
      put_wrong_sum(&w, op, factor, w.words[BOUND]++);
    } else {
      memcpy(w.words + w.n, op, length * sizeof *op);
      w.n += length;
    }
  }
  *bytes = w.n * sizeof *code;
  return w.words;
}
