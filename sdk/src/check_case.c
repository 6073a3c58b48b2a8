// SPDX-License-Identifier: Apache-2.0
#include "check_bench.h"

#include <string.h>

#include "check_data.h"
#include "numerics.h"
#include "status.h"

enum { GUARD = 64, LAYER = 1 };

/* ---- operands ---------------------------------------------------------------------------------------------------- */

/* `bytes` of the case's buffer, with a gap of at least GUARD bytes before and behind. NULL while measuring. */
static void *take(otr_bench *b, size_t bytes, otr_ref *ref) {
  size_t offset = b->used;
  b->used = (offset + bytes + GUARD + OTR_BENCH_ALIGN - 1) / OTR_BENCH_ALIGN * OTR_BENCH_ALIGN;
  if (ref != NULL) *ref = (otr_ref){b->buffer, offset};
  return b->image == NULL ? NULL : b->image + offset;
}

/* An input: where the caller of the run wants it. */
static void *take_input(otr_bench *b, size_t bytes, otr_ref *ref) {
  void *own = NULL;
  if (b->image != NULL && b->place != NULL) own = b->place->take(b->place->user, b->device, bytes, ref);
  return own != NULL ? own : take(b, bytes, ref);
}

static void *take_output(otr_bench *b, const char *name, otr_place_kind kind, size_t bytes, int32_t rows, int32_t width,
                         otr_ref *ref) {
  if (kind != OTR_FLOATS && bytes == 0)
    b->status = otr_fail(OTR_STATUS_UNSUPPORTED, "%s: the device has no size", name);
  b->out[b->n_out++] = (otr_output){name, kind, b->used, bytes, rows, width};
  return take(b, bytes, ref);
}

static size_t product(int32_t a, int32_t b) {
  return (size_t)a * (size_t)b;
}

static otr_ref floats_in(otr_bench *b, int32_t rows, int32_t width, otr_case_values values) {
  otr_ref ref;
  float *x = take_input(b, product(rows, width) * sizeof(float), &ref);
  if (x != NULL) otr_data_rows(&b->state, x, rows, width, values);
  return ref;
}

static otr_ref floats_out(otr_bench *b, const char *name, int32_t rows, int32_t width) {
  otr_ref ref;
  take_output(b, name, OTR_FLOATS, product(rows, width) * sizeof(float), rows, width, &ref);
  return ref;
}

/* An operand that is read and written. */
static otr_ref floats_both(otr_bench *b, const char *name, int32_t rows, int32_t width) {
  otr_ref ref;
  float *x = take_output(b, name, OTR_FLOATS, product(rows, width) * sizeof(float), rows, width, &ref);
  if (x != NULL) otr_data_rows(&b->state, x, rows, width, b->c->values);
  return ref;
}

/* Static columns: every 5th feature and the last, or all of them. */
static void static_columns(otr_bench *b, otr_weight *w) {
  int32_t n_static = w->n_static;
  uint16_t *columns = take_input(b, product(n_static, w->n) * sizeof(uint16_t), &w->static_cols);
  if (columns != NULL) otr_data_f16(&b->state, columns, n_static, w->n, w->n, OTR_F16_ANY);
  if (n_static == w->k) return;
  int32_t *index = take_input(b, (size_t)n_static * sizeof(int32_t), &w->static_index);
  int32_t *slot = take_input(b, (size_t)w->k * sizeof(int32_t), &w->static_slot);
  if (index == NULL || slot == NULL) return;
  for (int32_t j = 0; j < w->k; ++j) slot[j] = -1;
  for (int32_t i = 0; i < n_static; ++i) {
    index[i] = (int32_t)((int64_t)(i + 1) * w->k / n_static) - 1;
    slot[index[i]] = i;
  }
}

static otr_weight weight(otr_bench *b, otr_weight_type type, int32_t n, int32_t k) {
  const otr_case *c = b->c;
  otr_weight w = {.type = type, .n = n, .k = k, .group = k, .row_stride = (k + 15) / 16 * 16 + c->wide * 16};
  size_t count = (size_t)n * (size_t)w.row_stride;
  void *data = take_input(b, count * (type == OTR_WEIGHT_F16 ? 2 : 1), &w.data);
  if (data != NULL && type == OTR_WEIGHT_F16) otr_data_f16(&b->state, data, n, k, w.row_stride, OTR_F16_ANY);
  if (data != NULL && type == OTR_WEIGHT_INT8) otr_data_int8(&b->state, data, n, k, w.row_stride);
  float *scale = take_input(b, (size_t)n * sizeof(float), &w.scale);
  if (scale != NULL) otr_data_scales(&b->state, scale, n);
  return w;
}

/* A weight of a linear, with bias and static columns. */
static otr_weight linear_weight(otr_bench *b, otr_weight_type type, int32_t n, int32_t k) {
  otr_weight w = weight(b, type, n, k);
  if (b->c->bias) w.bias = floats_in(b, 1, n, OTR_VALUES_PLAIN);
  w.n_static = b->c->n_static < 0 || b->c->n_static > k ? k : b->c->n_static;
  if (w.n_static > 0) static_columns(b, &w);
  return w;
}

/* ---- operations ---------------------------------------------------------------------------------------------------
 */

static void build_embed(otr_bench *b, otr_op *op) {
  const otr_case *c = b->c;
  otr_op_embed *e = &op->u.embed;
  e->width = c->k;
  e->table = weight(b, (otr_weight_type)c->kind, c->n, c->k);
  e->has_scale = c->constant != 0.0f;
  e->scale = c->constant;
  if (c->bias) {
    e->position_offset = 2;
    e->n_positions = c->position + c->m + 37 * c->n_sequences + 2;
    e->position_table = floats_in(b, e->n_positions, c->k, OTR_VALUES_PLAIN);
  }
  e->out = floats_out(b, "out", c->m, c->k);
}

static void build_position(otr_bench *b, otr_op *op) {
  const otr_case *c = b->c;
  otr_op_position *o = &op->u.position;
  o->width = c->k;
  o->position_offset = 2;
  o->n_positions = c->position + c->m + 37 * c->n_sequences + 2;
  o->x = floats_both(b, "x", c->m, c->k);
  o->table = floats_in(b, o->n_positions, c->k, c->values);
}

static void build_norm(otr_bench *b, otr_op *op) {
  const otr_case *c = b->c;
  otr_op_norm *o = &op->u.norm;
  int32_t groups = c->groups > 0 ? c->groups : 1;
  o->kind = (otr_norm_kind)c->kind;
  o->width = c->k;
  o->groups = groups;
  o->eps = c->constant;
  o->group_gains = c->wide;
  o->gain = floats_in(b, c->wide ? groups : 1, c->k, OTR_VALUES_OUTLIERS);
  if (c->bias) o->bias = floats_in(b, 1, c->k, OTR_VALUES_PLAIN);
  if (c->alias) {
    o->out = o->x = floats_both(b, "out", c->m, groups * c->k);
  } else {
    o->x = floats_in(b, c->m, groups * c->k, c->values);
    o->out = floats_out(b, "out", c->m, groups * c->k);
  }
}

static void build_add(otr_bench *b, otr_op *op) {
  const otr_case *c = b->c;
  op->u.add.width = c->k;
  op->u.add.x = floats_both(b, "x", c->m, c->k);
  op->u.add.y = floats_in(b, c->m, c->k, c->values);
}

static void build_glu(otr_bench *b, otr_op *op) {
  const otr_case *c = b->c;
  otr_op_glu *o = &op->u.glu;
  o->width = c->k;
  o->act = (otr_act_kind)c->kind;
  o->gate = c->alias == 1 ? floats_both(b, "out", c->m, c->k) : floats_in(b, c->m, c->k, c->values);
  o->up = c->alias == 2 ? floats_both(b, "out", c->m, c->k) : floats_in(b, c->m, c->k, c->values);
  o->out = c->alias == 1 ? o->gate : c->alias == 2 ? o->up : floats_out(b, "out", c->m, c->k);
}

/* The operations of a sequence before its quantizer, from *op on, which moves there. @return what it reads */
static otr_ref build_before(otr_bench *b, otr_op **op) {
  otr_op *first = *op;
  if (b->c->after == 2) {
    first->code = OTR_OP_GLU;
    build_glu(b, first);
    *op = first + 1;
    return first->u.glu.out;
  }
  first[0].code = OTR_OP_ADD;
  build_add(b, first);
  first[1].code = OTR_OP_NORM;
  build_norm(b, &first[1]);
  first[1].u.norm.x = first[0].u.add.x;
  *op = first + 2;
  return first[1].u.norm.out;
}

static void build_quantize(otr_bench *b, otr_op *op) {
  const otr_case *c = b->c;
  otr_ref x = c->after ? build_before(b, &op) : floats_in(b, c->m, c->k, c->values);
  otr_op_quantize *o = &op->u.quantize;
  op->code = OTR_OP_QUANTIZE;
  size_t bytes = b->device->ops->quantized_bytes(b->program.max_rows, c->k);
  o->k = c->k;
  o->rule = c->rule;
  o->batch = c->batch;
  o->x = x;
  take_output(b, "quantized", OTR_QUANTIZED, bytes, c->m, c->k, &o->out);
}

static void build_round16(otr_bench *b, otr_op *op) {
  const otr_case *c = b->c;
  otr_op_round16 *o = &op->u.round16;
  size_t bytes = b->device->ops->rounded_bytes(b->program.max_rows, c->k);
  o->k = c->k;
  o->x = floats_in(b, c->m, c->k, c->values);
  take_output(b, "rounded", OTR_ROUNDED, bytes, c->m, c->k, &o->out);
}

static void linear_parts(otr_bench *b, otr_op_linear *o, otr_weight_type type, otr_ref in) {
  static const char *const names[OTR_LINEAR_PARTS] = {"y", "y of part 2", "y of part 3"};
  const otr_case *c = b->c;
  o->in = in;
  o->k = c->k;
  o->n_parts = c->n_parts > 0 ? c->n_parts : 1;
  for (int32_t i = 0; i < o->n_parts; ++i) {
    int32_t n = i == 0 ? c->n : c->n_next;
    o->part[i].w = linear_weight(b, type, n, c->k);
    o->part[i].out = floats_out(b, names[i], c->m, n);
  }
}

static void build_linear(otr_bench *b, otr_op *op) {
  build_quantize(b, op);
  op[1].code = OTR_OP_LINEAR;
  linear_parts(b, &op[1].u.linear, OTR_WEIGHT_INT8, op[0].u.quantize.out);
}

static void build_linear16(otr_bench *b, otr_op *op) {
  op[0].code = OTR_OP_ROUND16;
  build_round16(b, op);
  op[1].code = OTR_OP_LINEAR16;
  linear_parts(b, &op[1].u.linear16, OTR_WEIGHT_F16, op[0].u.round16.out);
}

static int32_t case_sequences(const otr_case *c) {
  return c->n_sequences > 0 ? c->n_sequences : 1;
}
/* Rows of sequence s: [first_row(s), first_row(s + 1)). */
static int32_t first_row(const otr_bench *b, int32_t s) {
  return b->step.n_rows * s / case_sequences(b->c);
}
static int32_t first_position(const otr_case *c, int32_t s) {
  return c->position + 37 * s;
}

/* The pages of a sequence; those that `dropped` names and no row is written to stay absent. */
static void sequence_pages(otr_bench *b, int32_t s, otr_page *table, size_t page_bytes) {
  int32_t first = first_position(b->c, s);
  int32_t end = first + first_row(b, s + 1) - first_row(b, s);
  for (int32_t p = 0; p * OTR_CHUNK < end; ++p) {
    bool dropped = p < first / OTR_CHUNK && (b->c->dropped >> p & 1) != 0;
    if (table != NULL) table[p] = (otr_page){NULL, 0};
    if (dropped || b->n_pages == OTR_BENCH_PAGES) continue;
    otr_page *page = &b->page[b->n_pages++];
    void *memory = take(b, page_bytes, page);
    if (memory != NULL) memset(memory, 0, page_bytes);
    if (table != NULL) table[p] = *page;
  }
}

static void take_pages(otr_bench *b) {
  const otr_case *c = b->c;
  int32_t n = case_sequences(c), max_pages = b->program.max_pages;
  size_t page_bytes = b->device->ops->kv_page_bytes(&b->program.kv);
  if (page_bytes == 0) b->status = otr_fail(OTR_STATUS_UNSUPPORTED, "KV page: the device has no size");
  const otr_page **tables = take(b, (size_t)n * sizeof *tables, NULL);
  size_t begin = b->used;
  otr_output *out = &b->out[b->n_out++];
  otr_page *table = NULL;
  for (int32_t s = 0; s < n; ++s) {
    table = take(b, (size_t)max_pages * sizeof *table, NULL);
    if (table != NULL) memset(table, 0, (size_t)max_pages * sizeof *table);
    if (tables != NULL) tables[s] = table;
  }
  begin = b->used;
  for (int32_t s = 0; s < n; ++s)
    sequence_pages(b, s, tables == NULL ? NULL : (otr_page *)(uintptr_t)tables[s], page_bytes);
  *out = (otr_output){"KV pages",
                      OTR_PAGES,
                      begin,
                      page_bytes,
                      b->n_pages * OTR_BENCH_LAYERS,
                      2 * OTR_CHUNK * c->n_kv_heads * c->head_dim};
  b->kv = take(b, product(2 * OTR_CHUNK, c->n_kv_heads * c->head_dim) * sizeof(uint16_t), &b->kv_ref);
  b->step.page_table = tables;
}

static void rotations(otr_bench *b) {
  int32_t half = b->c->n_rot / 2, rows = b->step.n_rows;
  float *cosines = take(b, product(rows, half) * sizeof(float), NULL);
  float *sines = take(b, product(rows, half) * sizeof(float), NULL);
  if (half == 0 || cosines == NULL) return;
  otr_data_rows(&b->state, cosines, rows, half, OTR_VALUES_TIES);
  otr_data_rows(&b->state, sines, rows, half, OTR_VALUES_TIES);
  b->step.rope_cos = cosines;
  b->step.rope_sin = sines;
}

static void build_rope_kv(otr_bench *b, otr_op *op) {
  const otr_case *c = b->c;
  otr_op_rope_kv *o = &op->u.rope_kv;
  int32_t width = c->n_heads * c->head_dim, kv_width = c->n_kv_heads * c->head_dim;
  size_t bytes = b->device->ops->q16_bytes(b->program.max_rows, width);
  take_pages(b);
  rotations(b);
  *o = (otr_op_rope_kv){.n_heads = c->n_heads, .n_kv_heads = c->n_kv_heads, .head_dim = c->head_dim};
  o->n_rot = c->n_rot;
  o->kv_layer = LAYER;
  o->q = floats_in(b, c->m, width, c->values);
  o->k = floats_in(b, c->m, kv_width, c->values);
  o->v = floats_in(b, c->m, kv_width, c->values);
  take_output(b, "q16", OTR_HALVES, bytes, c->m, width, &o->q16);
}

static void build_attention(otr_bench *b, otr_op *op) {
  const otr_case *c = b->c;
  otr_op_attention *o = &op[1].u.attention;
  op[0].code = OTR_OP_ROPE_KV;
  build_rope_kv(b, op);
  op[1].code = OTR_OP_ATTENTION;
  *o = (otr_op_attention){.n_heads = c->n_heads, .n_kv_heads = c->n_kv_heads, .head_dim = c->head_dim};
  o->q16 = op[0].u.rope_kv.q16;
  o->kv_layer = LAYER;
  o->window = c->window;
  o->scale = c->constant != 0.0f ? c->constant : otr_rsqrt((float)c->head_dim);
  if (c->slopes) o->slopes = floats_in(b, 1, c->n_heads, OTR_VALUES_TIES);
  o->out = floats_out(b, "out", c->m, c->n_heads * c->head_dim);
}

static void build_act(otr_bench *b, otr_op *op) {
  const otr_case *c = b->c;
  otr_op_act *o = &op->u.act;
  o->width = c->k;
  o->act = (otr_act_kind)c->kind;
  o->x = c->alias ? floats_both(b, "out", c->m, c->k) : floats_in(b, c->m, c->k, c->values);
  o->out = c->alias ? o->x : floats_out(b, "out", c->m, c->k);
}

static void build_select(otr_bench *b, otr_op *op) {
  op->u.select.width = b->c->k;
  op->u.select.x = floats_in(b, b->step.n_rows, b->c->k, b->c->values);
  op->u.select.out = floats_out(b, "out", b->c->m, b->c->k);
}

static void build_copy(otr_bench *b, otr_op *op) {
  op->u.copy.width = b->c->k;
  op->u.copy.x = floats_in(b, b->c->m, b->c->k, b->c->values);
  op->u.copy.out = floats_out(b, "out", b->c->m, b->c->k);
}

/* ---- the step -----------------------------------------------------------------------------------------------------
 */

static bool on_logits(const otr_case *c) {
  return c->logits != 0 || c->code == OTR_OP_SELECT;
}

static void step_rows(otr_bench *b, otr_row *row, int32_t *token) {
  for (int32_t s = 0; s < case_sequences(b->c); ++s) {
    for (int32_t i = first_row(b, s); i < first_row(b, s + 1); ++i) {
      row[i] = (otr_row){s, first_position(b->c, s) + i - first_row(b, s)};
      token[i] = 0;
      if (b->c->code != OTR_OP_EMBED) continue;
      uint32_t r = otr_data_next(&b->state);
      token[i] = r % 4 == 0 ? -1 : (int32_t)(r % (uint32_t)b->c->n);
    }
  }
}

/* Row counts, rows, tokens. On logits rows the pass has three rows more, which are left out here and there. */
static void build_step(otr_bench *b) {
  const otr_case *c = b->c;
  bool logits = on_logits(c);
  int32_t rows = logits ? c->m + 3 : c->m;
  int32_t last = first_position(c, case_sequences(c) - 1) + rows;
  bool keeps_kv = c->code == OTR_OP_ROPE_KV || c->code == OTR_OP_ATTENTION;
  b->step = (otr_step){.n_rows = rows, .n_logits = logits ? c->m : 0};
  b->program = (otr_program){.ops = b->op, .max_rows = rows + c->extra_rows, .max_pages = last / OTR_CHUNK + 2};
  b->program.max_logits = logits ? b->program.max_rows : 0;
  if (keeps_kv) b->program.kv = (otr_kv_shape){OTR_BENCH_LAYERS, c->n_kv_heads, c->head_dim};
  otr_row *row = take(b, (size_t)rows * sizeof *row, NULL);
  int32_t *token = take(b, (size_t)rows * sizeof *token, NULL);
  int32_t *chosen = take(b, (size_t)rows * sizeof *chosen, NULL);
  float *embedding = c->code == OTR_OP_EMBED ? take(b, product(rows, c->k) * sizeof(float), NULL) : NULL;
  if (row == NULL || token == NULL || chosen == NULL) return;
  step_rows(b, row, token);
  for (int32_t i = 0; i < c->m; ++i) chosen[i] = i + (i > 0) + (i > 4) + (i > 5);
  if (embedding != NULL) otr_data_rows(&b->state, embedding, rows, c->k, c->values);
  b->step.row = row;
  b->step.token = token;
  b->step.logits_row = chosen;
  b->step.embedding = embedding;
}

void otr_bench_build(otr_bench *b) {
  static void (*const builders[OTR_OP_COUNT])(otr_bench *, otr_op *) = {
#define X(CODE, name) [OTR_OP_##CODE] = build_##name,
      OTR_OP_LIST(X)
#undef X
  };
  b->state = b->c->seed;
  b->used = OTR_BENCH_ALIGN;
  b->n_out = 0;
  b->n_pages = 0;
  memset(b->op, 0, sizeof b->op);
  b->op[0].code = b->c->code;
  build_step(b);
  builders[b->c->code](b, b->op);
  for (b->program.n_ops = 1; b->op[b->program.n_ops].code != 0;) b->program.n_ops++;
  for (int32_t i = 0; i < b->program.n_ops; ++i) {
    b->op[i].layer = i + 1;
    b->op[i].rows = on_logits(b->c) ? OTR_ROWS_LOGITS : OTR_ROWS_STEP;
  }
}
