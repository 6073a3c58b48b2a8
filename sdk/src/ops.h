// SPDX-License-Identifier: Apache-2.0
/* The operation list: what a forward pass is made of, and all that a backend implements.
 *
 * A program is an array of otr_op with static shapes, made once (forward.c, linear.c). What changes from pass to pass
 * (row count, token ids, positions, KV pages) sits in the step block, otr_step. Operands are references into a device's
 * buffers, never host pointers, so that a GPU can hold everything and run a token with one submission.
 *
 * Each operation's formula and order of additions: docs/contract.md. lanesum<L> and tidy as there. `m` is the number of
 * rows of the pass: step.n_rows, or step.n_logits for operations with rows == OTR_ROWS_LOGITS. */
#ifndef OTR_OPS_H
#define OTR_OPS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "outrider/outrider.h"

typedef struct otr_buffer otr_buffer; /* device memory, the backend's own */

/** A place in a device buffer; buffer NULL: absent. */
typedef struct otr_ref {
  otr_buffer *buffer;
  size_t offset; /* bytes */
} otr_ref;

/* The one list that feeds the op codes, the executors' tables, the harness and the trace names. */
#define OTR_OP_LIST(X)   \
  X(EMBED, embed)        \
  X(POSITION, position)  \
  X(NORM, norm)          \
  X(QUANTIZE, quantize)  \
  X(ROUND16, round16)    \
  X(LINEAR, linear)      \
  X(LINEAR16, linear16)  \
  X(ROPE_KV, rope_kv)    \
  X(ATTENTION, attention)\
  X(GLU, glu)            \
  X(ACT, act)            \
  X(ADD, add)            \
  X(SELECT, select)      \
  X(COPY, copy)

typedef enum otr_op_code {
#define X(CODE, name) OTR_OP_##CODE,
  OTR_OP_LIST(X)
#undef X
  OTR_OP_COUNT
} otr_op_code;

typedef enum otr_rows { OTR_ROWS_STEP = 0, OTR_ROWS_LOGITS = 1 } otr_rows;
typedef enum otr_weight_type { OTR_WEIGHT_INT8 = 0, OTR_WEIGHT_F16 = 1 } otr_weight_type;
typedef enum otr_norm_kind { OTR_NORM_RMS = 0, OTR_NORM_LAYER = 1 } otr_norm_kind;
typedef enum otr_act_kind { OTR_ACT_SILU = 0, OTR_ACT_GELU_TANH = 1, OTR_ACT_GELU_ERF = 2, OTR_ACT_RELU = 3 } otr_act_kind;
typedef enum otr_rule_kind { OTR_RULE_OFF = 0, OTR_RULE_ABSOLUTE = 1, OTR_RULE_RELATIVE = 2 } otr_rule_kind;

/** A layer's outlier rule (contract, section 2): t of absolute, tau of relative. */
typedef struct otr_rule {
  otr_rule_kind kind;
  float value;
} otr_rule;

/** A linear's weight, [n, k] row-major, used in place wherever it lies. Scales are per row (group == k) and f32 today;
 *  4-bit types and block scales become new types here, not a new file or table.
 *  Guaranteed to kernels: `data` is 16-byte aligned, row_stride is a multiple of 16 elements and >= k, and
 *  what lies between k and row_stride is zero. scale and bias are tidy. static_index is ascending, unique, in [0, k). */
typedef struct otr_weight {
  otr_weight_type type;
  int32_t n, k;
  int64_t row_stride;   /* elements */
  int32_t group;        /* inputs that share a scale: k */
  int32_t n_static;     /* features of the static outlier set; k: all */
  otr_ref data;         /* int8 [n, row_stride] = Wq, or f16 [n, row_stride] = W16 */
  otr_ref scale;        /* f32 [n] = scale_w */
  otr_ref bias;         /* f32 [n] or absent */
  otr_ref static_index; /* int32 [n_static]; absent when n_static is 0 or k */
  otr_ref static_slot;  /* int32 [k]: place of feature k in static_cols, or -1; absent as static_index */
  otr_ref static_cols;  /* f16 [n_static, n] = Wo of those features, feature-major */
} otr_weight;

/** out[i,:] = embedding of step.token[i], or step.embedding[i,:] where token[i] < 0; tidy once.
 *  int8 table: f32(Eq[t,k]) * scale[t]; f16 table: W16[t,k] * scale[t]; then times `scale` (where has_scale), plus
 *  position_table[position + position_offset, :] (where there is one). Given rows are only tidied. */
typedef struct otr_op_embed {
  otr_ref out;      /* f32 [m, width] */
  otr_weight table; /* n = vocab, k = width */
  int32_t width;
  int32_t has_scale;
  float scale;
  otr_ref position_table; /* f32 [n_positions, width] or absent */
  int32_t n_positions, position_offset;
} otr_op_embed;

/** x = tidy(x + table[position + position_offset, :]): for embeddings that are projected before it. */
typedef struct otr_op_position {
  otr_ref x;     /* f32 [m, width] */
  otr_ref table; /* f32 [n_positions, width] */
  int32_t n_positions, position_offset, width;
} otr_op_position;

/** RMSNorm or LayerNorm over each of `groups` groups of `width` values of a row; the same gain and bias in each group,
 *  or with group_gains a gain for each (and no bias). out may be x. */
typedef struct otr_op_norm {
  otr_norm_kind kind;
  otr_ref out, x;     /* f32 [m, groups * width] */
  otr_ref gain, bias; /* f32 [width]; bias absent for RMS and for a LayerNorm without one */
  int32_t width, groups, group_gains; /* group_gains: gain is [groups, width] */
  float eps;
} otr_op_norm;

/** LLM.int8()'s activations (contract, section 2, 1 to 3): out is a backend's own layout of q, scale_i, O_i, x16, 2^e_i,
 *  with room for any number of outliers. Size: device.quantized_bytes(max_rows, k). `batch` takes the union of the
 *  rows' columns (reference only). */
typedef struct otr_op_quantize {
  otr_ref out;
  otr_ref x; /* f32 [m, k] */
  int32_t k;
  otr_rule rule;
  int32_t batch;
} otr_op_quantize;

/** x16 = f16(x * 2^-e_i) with e_i over all k: what LINEAR16 reads. Size: device.rounded_bytes(max_rows, k). */
typedef struct otr_op_round16 {
  otr_ref out;
  otr_ref x; /* f32 [m, k] */
  int32_t k;
} otr_op_round16;

#define OTR_LINEAR_PARTS 3
/** One input, up to three weights (q, k, v or gate, up) of one type: y = x W^T + bias, tidy. LINEAR reads what QUANTIZE
 *  wrote, LINEAR16 what ROUND16 wrote. */
typedef struct otr_op_linear {
  otr_ref in;
  int32_t k, n_parts;
  struct {
    otr_weight w;
    otr_ref out; /* f32 [m, w.n] */
  } part[OTR_LINEAR_PARTS];
} otr_op_linear;
typedef otr_op_linear otr_op_linear16;

/** Rotates q and k by the step's cos and sin (pairs (j, j + n_rot/2), contract section 3; n_rot 0: none), tidies,
 *  rounds to f16: q to q16 (a backend's own f16 [m, n_heads * head_dim]), k and v to the KV pages of each row. */
typedef struct otr_op_rope_kv {
  otr_ref q16;
  otr_ref q, k, v; /* f32 [m, n_heads * d], [m, n_kv_heads * d] twice */
  int32_t n_heads, n_kv_heads, head_dim, n_rot;
  int32_t kv_layer;
} otr_op_rope_kv;

/** Causal attention over the KV pages, by chunks of 256 positions (contract, section 3). window 0: none. */
typedef struct otr_op_attention {
  otr_ref out; /* f32 [m, n_heads * head_dim] */
  otr_ref q16;
  otr_ref slopes; /* f32 [n_heads] ALiBi, or absent */
  int32_t n_heads, n_kv_heads, head_dim;
  int32_t kv_layer, window;
  float scale;
} otr_op_attention;

/** out = tidy(act(gate) * up). out may be gate or up. */
typedef struct otr_op_glu {
  otr_ref out, gate, up; /* f32 [m, width] */
  int32_t width;
  otr_act_kind act;
} otr_op_glu;

/** out = tidy(act(x)). out may be x. */
typedef struct otr_op_act {
  otr_ref out, x; /* f32 [m, width] */
  int32_t width;
  otr_act_kind act;
} otr_op_act;

/** x = tidy(x + y). */
typedef struct otr_op_add {
  otr_ref x, y; /* f32 [m, width] */
  int32_t width;
} otr_op_add;

/** out[i,:] = x[step.logits_row[i],:] for i < step.n_logits. */
typedef struct otr_op_select {
  otr_ref out; /* f32 [n_logits, width] */
  otr_ref x;   /* f32 [n_rows, width] */
  int32_t width;
} otr_op_select;

/** out = x (a tap of the hidden states). */
typedef struct otr_op_copy {
  otr_ref out, x; /* f32 [m, width] */
  int32_t width;
} otr_op_copy;

typedef struct otr_op {
  otr_op_code code;
  otr_rows rows;
  int32_t layer; /* whom NONFINITE names: -1 embedding, 0 ... block, n_layers: final norm and output */
  union {
#define X(CODE, name) otr_op_##name name;
    OTR_OP_LIST(X)
#undef X
  } u;
} otr_op;

/** How keys and values lie: pages of OTR_CHUNK positions holding all layers. */
typedef struct otr_kv_shape {
  int32_t n_layers, n_kv_heads, head_dim;
} otr_kv_shape;

typedef struct otr_program {
  const otr_op *ops; /* [n_ops], kept by the caller until the program is destroyed */
  int32_t n_ops;
  int32_t max_rows, max_logits;
  int32_t max_pages;     /* most pages of a sequence that are there (not dropped) in any step */
  int32_t max_table;     /* entries of a page table; 0: max_pages */
  int32_t max_sequences; /* 0: max_rows */
  otr_kv_shape kv;
  /* What the host reads after each submit: `result_rows` rows of result_row_bytes, one after another, which a device
   * may bring along. buffer NULL: not known. */
  otr_ref result;
  otr_rows result_rows;
  size_t result_row_bytes;
} otr_program;

/** A program with its sizes that are 0 filled in. */
otr_program otr_program_filled(const otr_program *program);

/** Whose row it is. */
typedef struct otr_row {
  int32_t sequence; /* index into step.page_table */
  int32_t position;
} otr_row;

/** A KV page: `buffer` at `offset`, device.kv_page_bytes long. buffer NULL: dropped, its positions are not visible. */
typedef otr_ref otr_page;

/** The step block: what one pass reads. All arrays are the host's and stay unchanged until submit returns. Rows of one
 *  sequence are consecutive and ascending by one position. */
typedef struct otr_step {
  int32_t n_rows;
  const int32_t *token;          /* [n_rows]; < 0: the row comes from `embedding` */
  const float *embedding;        /* [n_rows, width] or NULL */
  const otr_row *row;            /* [n_rows] */
  const otr_page *const *page_table; /* [sequence][position / 256] */
  const float *rope_cos, *rope_sin;  /* [n_rows, n_rot / 2] or NULL */
  int32_t n_logits;
  const int32_t *logits_row;       /* [n_logits] ascending */
  const atomic_int *const *cancel; /* [n_cancel] flags: one that is not 0 ends the pass between two operations */
  int32_t n_cancel;
} otr_step;

#define OTR_LAYER_NONE INT32_MAX
/** What a pass found, and what it took. */
typedef struct otr_step_result {
  int32_t nonfinite_layer; /* the lowest layer with a NONFINITE value; OTR_LAYER_NONE: none */
  uint64_t saturations, outliers, activations;
  uint64_t submissions, dispatches; /* queue submissions or graph launches, and kernels run by them; 0 on CPUs */
} otr_step_result;

/** Name of an operation, as in traces and the harness. */
const char *otr_op_name(otr_op_code code);

/** Rows that an operation, or a result, works on in a pass of so many. */
static inline int32_t otr_rows_of(otr_rows rows, int32_t n_rows, int32_t n_logits) {
  return rows == OTR_ROWS_LOGITS ? n_logits : n_rows;
}

/** Activations that a pass quantizes: for otr_step_result. */
uint64_t otr_step_activations(const otr_program *program, const otr_step *step);

/** [ADD,] NORM, QUANTIZE, or GLU or ACT, QUANTIZE, on the same rows, each over what the one before has written: what a
 *  device may do in one kernel, with every operation's output. NULL: absent. */
typedef struct otr_row_sequence {
  const otr_op *add, *norm, *act, *quantize; /* act: the GLU or ACT */
} otr_row_sequence;

/** @return the number of operations of the sequence that begins at `op`, of n_left; 0: none does. */
int32_t otr_row_sequence_at(const otr_op *op, int32_t n_left, otr_row_sequence *out);

/** CANCELLED once any of the step's flags is set. */
otr_status otr_step_check_cancel(const otr_step *step);

#endif
