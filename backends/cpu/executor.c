// SPDX-License-Identifier: Apache-2.0
/* submit() walks the operations: a run of row-wise operations (norm, quantizer, activations, residual …) is done row
 * block by row block without a barrier in between; linears are shared out by outputs, attention by row block and KV
 * head. The sharing changes no bit. */
#include <string.h>

#include "cpu_device.h"
#include "float_mode.h"
#include "status.h"

/* ---- submit: row-wise operations --------------------------------------------------------------------------------- */

static bool is_row_wise(const otr_op *op) {
  switch (op->code) {
    case OTR_OP_LINEAR:
    case OTR_OP_LINEAR16:
    case OTR_OP_ATTENTION:
      return false;
    case OTR_OP_QUANTIZE:
      return !op->u.quantize.batch;
    default:
      return true;
  }
}

static int32_t rows_of(const otr_op *op, const otr_step *step) {
  return otr_rows_of(op->rows, step->n_rows, step->n_logits);
}

/** Row `position + offset` of a table of positions; what lies beyond it never comes so far. */
static const float *position_row(const float *table, int32_t position, int32_t n_positions, int32_t width) {
  return table + (size_t)(position < n_positions ? position : n_positions - 1) * (size_t)width;
}

static void embed_rows(const otr_host_op *h, const otr_step *step, otr_found *found, int32_t r0, int32_t r1) {
  const otr_op_embed *o = &h->op->u.embed;
  size_t width = (size_t)o->width;
  for (int32_t i = r0; i < r1; i++) {
    float *out = h->out + (size_t)i * width;
    if (step->token[i] < 0) {
      for (size_t j = 0; j < width; j++) out[j] = otr_tidy_found(step->embedding[(size_t)i * width + j], found);
      continue;
    }
    const float *position = h->y;
    if (position)
      position = position_row(position, step->row[i].position + o->position_offset, o->n_positions, o->width);
    otr_embed_row(found, out, &h->weight[0], step->token[i], o->has_scale, o->scale, position);
  }
}

/** Where row i's position lies: its page, and its place there. */
static void *page_of(const otr_prepared *p, int32_t i, size_t *in_page) {
  const otr_row *row = &p->step->row[i];
  *in_page = (size_t)(row->position % OTR_CHUNK);
  return p->page_base[(size_t)row->sequence * (size_t)p->program.max_table + (size_t)(row->position / OTR_CHUNK)];
}

/** Keys [r1 - r0, n_kv_heads * head_dim] of rows [r0, r1) to their pages: feature by feature, for there the positions
 * lie side by side. */
static void put_keys(const otr_prepared *p, const otr_op_rope_kv *o, const uint16_t *keys, int32_t r0, int32_t r1) {
  size_t d = (size_t)o->head_dim, stride = (size_t)o->n_kv_heads * d;
  for (int32_t head = 0; head < o->n_kv_heads; head++, keys += d) {
    uint16_t *to[OTR_ROW_BLOCK];
    for (int32_t i = 0; i < r1 - r0; i++) {
      size_t in_page;
      void *page = page_of(p, r0 + i, &in_page);
      to[i] = otr_page_k(page, &p->program.kv, o->kv_layer, head) + in_page;
    }
    for (size_t j = 0; j < d; j++)
      for (int32_t i = 0; i < r1 - r0; i++) to[i][j * OTR_CHUNK] = keys[(size_t)i * stride + j];
  }
}

static void rope_kv_rows(const otr_prepared *p, const otr_host_op *h, otr_worker *w, int32_t r0, int32_t r1) {
  const otr_op_rope_kv *o = &h->op->u.rope_kv;
  const otr_step *step = p->step;
  const otr_cpu_kernels *kernels = p->device->kernels;
  size_t q_width = (size_t)o->n_heads * (size_t)o->head_dim, kv_width = (size_t)o->n_kv_heads * (size_t)o->head_dim;
  int32_t d = o->head_dim;
  uint16_t *keys = (uint16_t *)(void *)w->scratch, *values = keys + OTR_ROW_BLOCK * kv_width;
  for (int32_t i = r0; i < r1; i++) {
    const float *cos = step->rope_cos + (o->n_rot ? (size_t)i * (size_t)(o->n_rot / 2) : 0);
    const float *sin = step->rope_sin + (o->n_rot ? (size_t)i * (size_t)(o->n_rot / 2) : 0);
    size_t in_page;
    void *page = page_of(p, i, &in_page);
    kernels->rope(&w->found, h->q16 + (size_t)i * q_width, h->x + (size_t)i * q_width, cos, sin, o->n_heads, d,
                  o->n_rot);
    kernels->rope(&w->found, keys + (size_t)(i - r0) * kv_width, h->y + (size_t)i * kv_width, cos, sin, o->n_kv_heads,
                  d, o->n_rot);
    kernels->rope(&w->found, values, h->gain + (size_t)i * kv_width, cos, sin, o->n_kv_heads, d, 0);
    for (int32_t head = 0; head < o->n_kv_heads; head++)
      memcpy(otr_page_v(page, &p->program.kv, o->kv_layer, head) + in_page * (size_t)d, values + head * d,
             (size_t)d * sizeof *values);
  }
  put_keys(p, o, keys, r0, r1);
}

static void add_positions(const otr_prepared *p, const otr_host_op *h, otr_found *found, int32_t r0, int32_t r1) {
  const otr_op_position *o = &h->op->u.position;
  size_t width = (size_t)o->width;
  for (int32_t i = r0; i < r1; i++) {
    int32_t at = p->step->row[i].position + o->position_offset;
    p->device->kernels->add(found, h->out + (size_t)i * width, position_row(h->y, at, o->n_positions, o->width), width);
  }
}

/** Rows [r0, r1) of a norm; one call, or one a group where each has gains of its own. */
static void norm_rows(const otr_prepared *p, const otr_host_op *h, otr_found *found, int32_t r0, int32_t r1) {
  const otr_op_norm *o = &h->op->u.norm;
  int32_t n = (r1 - r0) * o->groups, step = o->group_gains ? 1 : n;
  size_t at = (size_t)r0 * (size_t)o->groups * (size_t)o->width;
  for (int32_t i = 0; i < n; i += step, at += (size_t)step * (size_t)o->width) {
    const float *gain = h->gain + (size_t)(o->group_gains ? i % o->groups : 0) * (size_t)o->width;
    p->device->kernels->norm(found, h->out + at, h->x + at, gain, h->bias, o->kind, o->eps, o->width, step);
  }
}

/** Rows [r0, r1) of one row-wise operation. */
static void run_rows(const otr_prepared *p, const otr_host_op *h, otr_worker *w, int32_t r0, int32_t r1) {
  const otr_cpu_kernels *k = p->device->kernels;
  const otr_op *op = h->op;
  size_t n = (size_t)(r1 - r0), width, at;
  switch (op->code) {
    case OTR_OP_EMBED:
      embed_rows(h, p->step, &w->found, r0, r1);
      break;
    case OTR_OP_NORM:
      norm_rows(p, h, &w->found, r0, r1);
      break;
    case OTR_OP_POSITION:
      add_positions(p, h, &w->found, r0, r1);
      break;
    case OTR_OP_QUANTIZE:
      k->quantize(&w->found, &h->quantized, h->x, op->u.quantize.rule, r0, r1);
      break;
    case OTR_OP_ROUND16:
      k->round16(&h->rounded, h->x, r0, r1);
      break;
    case OTR_OP_ROPE_KV:
      rope_kv_rows(p, h, w, r0, r1);
      break;
    case OTR_OP_GLU:
      width = (size_t)op->u.glu.width, at = (size_t)r0 * width;
      k->glu(&w->found, h->out + at, h->x + at, h->y + at, n * width, op->u.glu.act);
      break;
    case OTR_OP_ACT:
      width = (size_t)op->u.act.width, at = (size_t)r0 * width;
      k->act(&w->found, h->out + at, h->x + at, n * width, op->u.act.act);
      break;
    case OTR_OP_ADD:
      width = (size_t)op->u.add.width, at = (size_t)r0 * width;
      k->add(&w->found, h->out + at, h->y + at, n * width);
      break;
    case OTR_OP_SELECT:
      width = (size_t)op->u.select.width;
      for (int32_t i = r0; i < r1; i++)
        memcpy(h->out + (size_t)i * width, h->x + (size_t)p->step->logits_row[i] * width, width * sizeof(float));
      break;
    case OTR_OP_COPY:
      width = (size_t)op->u.copy.width, at = (size_t)r0 * width;
      memcpy(h->out + at, h->x + at, n * width * sizeof(float));
      break;
    default:
      break;
  }
}

/** Keeps what the kernels of operation `op` found: the lowest layer with a NONFINITE value. */
static void note_found(otr_worker *w, const otr_op *op) {
  if (w->found.worst >= OTR_BITS_2P48 && op->layer < w->nonfinite_layer) w->nonfinite_layer = op->layer;
  w->found.worst = 0;
}

/** Rows that all operations of the chain take together: what they leave for each other stays in the first cache. Keys
 *  go to their pages by the block. */
static int32_t rows_together(const otr_prepared *p) {
  for (int32_t i = 0; i < p->n_chain; i++)
    if (p->ops[p->at + i].op->code == OTR_OP_ROPE_KV) return OTR_ROW_BLOCK;
  return OTR_ROWS_TOGETHER;
}

static void chain_task(void *context, int32_t index, int32_t worker) {
  otr_prepared *p = context;
  otr_worker *w = &p->workers[worker];
  otr_float_mode mode = otr_float_mode_enter();
  int32_t m = rows_of(p->ops[p->at].op, p->step), step = rows_together(p);
  int32_t r0 = index * OTR_ROW_BLOCK, r1 = r0 + OTR_ROW_BLOCK < m ? r0 + OTR_ROW_BLOCK : m;
  for (; r0 < r1; r0 += step) {
    for (int32_t i = 0; i < p->n_chain; i++) {
      run_rows(p, &p->ops[p->at + i], w, r0, r0 + step < r1 ? r0 + step : r1);
      note_found(w, p->ops[p->at + i].op);
    }
  }
  otr_float_mode_leave(mode);
}

/* ---- submit: linears --------------------------------------------------------------------------------------------- */

/** The rows of a layout from r0 on. */
static otr_quantized quantized_from(const otr_quantized *x, int32_t r0) {
  otr_quantized v = *x;
  size_t rows = (size_t)r0, k = (size_t)x->k;
  v.q += rows * (size_t)x->q_stride;
  v.scale += rows;
  v.pow2e += rows;
  v.sum += rows;
  v.n_out += rows;
  v.out_index += rows * k;
  v.out_value += rows * k;
  v.lanes += rows;
  return v;
}

static otr_rounded rounded_from(const otr_rounded *x, int32_t r0) {
  otr_rounded v = *x;
  v.x16 += (size_t)r0 * (size_t)x->stride;
  v.pow2e += r0;
  return v;
}

/** Outputs [n0, n1) of one weight for rows [r0, r1). */
static void linear_outputs(const otr_prepared *p, const otr_host_op *h, otr_worker *w, int32_t part, int32_t n0,
                           int32_t n1, int32_t r0, int32_t r1) {
  const otr_host_weight *weight = &h->weight[part];
  const otr_cpu_kernels *kernels = p->device->kernels;
  size_t stride = (size_t)weight->n;
  float *y = h->part_out[part] + (size_t)r0 * stride;
  if (h->op->code == OTR_OP_LINEAR) {
    otr_quantized x = quantized_from(&h->quantized, r0);
    x.columns = p->columns;
    kernels->linear(&w->found, y, stride, &x, weight, r1 - r0, n0, n1, w->scratch);
  } else {
    otr_rounded x = rounded_from(&h->rounded, r0);
    kernels->linear16(&w->found, y, stride, &x, weight, r1 - r0, n0, n1, w->scratch);
  }
}

/** Blocks [begin, end) of outputs, counted over all parts. */
static void linear_blocks(const otr_prepared *p, const otr_host_op *h, otr_worker *w, int32_t begin, int32_t end,
                          int32_t r0, int32_t r1) {
  int32_t size = p->share.block;
  for (int32_t part = 0; begin < end; part++) {
    int32_t n = h->weight[part].n, blocks = (n + size - 1) / size;
    int32_t last = end < blocks ? end : blocks;
    if (begin < last) linear_outputs(p, h, w, part, begin * size, last * size < n ? last * size : n, r0, r1);
    begin = begin > blocks ? begin - blocks : 0;
    end -= blocks;
  }
}

static void linear_task(void *context, int32_t index, int32_t worker) {
  otr_prepared *p = context;
  otr_worker *w = &p->workers[worker];
  otr_float_mode mode = otr_float_mode_enter();
  const otr_host_op *h = &p->ops[p->at];
  const otr_linear_share *s = &p->share;
  int32_t m = rows_of(h->op, p->step);
  if (index < s->n_long) {
    linear_blocks(p, h, w, index * s->long_blocks, (index + 1) * s->long_blocks, 0, m);
  } else if (index < s->units) {
    int32_t begin = s->n_long * s->long_blocks + (index - s->n_long) * s->short_blocks;
    linear_blocks(p, h, w, begin, begin + s->short_blocks < s->whole ? begin + s->short_blocks : s->whole, 0, m);
  } else {
    int32_t rest = index - s->units, block = s->whole + rest / s->pieces, piece = rest % s->pieces;
    linear_blocks(p, h, w, block, block + 1, (int32_t)((int64_t)m * piece / s->pieces),
                  (int32_t)((int64_t)m * (piece + 1) / s->pieces));
  }
  note_found(w, h->op);
  otr_float_mode_leave(mode);
}

/** Shares a linear out so that workers end together. Few rows: weights stream, and a stream's beginning costs; each
 * worker has one long task, and an eighth is left to those that are done first. Many rows: a task is one panel; panels
 * left over when each worker has had its share are cut by rows of x. @return tasks. */
static int32_t linear_units(otr_prepared *p, const otr_op_linear *o, int32_t m) {
  int32_t threads = otr_parallel_threads(p->device->base.parallel), blocks = 0;
  bool streams = m < 8;
  otr_linear_share s = {.block = streams ? OTR_STREAM_BLOCK : OTR_OUTPUT_BLOCK, .short_blocks = 1, .pieces = threads};
  for (int32_t i = 0; i < o->n_parts; i++) blocks += (o->part[i].w.n + s.block - 1) / s.block;
  int32_t rest = !streams && threads > 1 && m >= 16 * threads ? blocks % threads : 0;
  s.whole = blocks - rest;
  if (threads == 1 || streams) {
    s.long_blocks = threads == 1 ? s.whole : (int32_t)((int64_t)s.whole * 7 / (8 * threads));
    s.n_long = s.long_blocks > 0 ? threads : 0;
    if (s.whole > 8 * threads) s.short_blocks = s.whole / (8 * threads);
  }
  s.units = s.n_long + (s.whole - s.n_long * s.long_blocks + s.short_blocks - 1) / s.short_blocks;
  p->share = s;
  return s.units + rest * s.pieces;
}

/** While one worker does operation p->at and what goes with it, the others ask for the weights that they will stream
 * when linear `i` comes: their long tasks, which they mostly get in this order. */
static void ask_ahead(otr_prepared *p, int32_t i) {
  const otr_host_op *h = &p->ops[i];
  int32_t streams = p->device->kernels->streams, threads = otr_parallel_threads(p->device->base.parallel);
  if (streams == 0 || threads == 1 || i == p->program.n_ops || h->op->code != OTR_OP_LINEAR) return;
  int32_t m = rows_of(h->op, p->step);
  if (m > OTR_STREAM_ROWS) return;
  linear_units(p, &h->op->u.linear, m);
  int32_t size = p->share.block, blocks = p->share.long_blocks;
  for (int32_t w = 1; w < threads; w++) {
    const void *place[OTR_PLACES] = {NULL};
    int32_t part = 0, begin = w * blocks, n; /* the part that the task begins in, and the block there */
    for (; (n = h->weight[part].n) <= begin * size; part++) begin -= (n + size - 1) / size;
    int32_t n0 = begin * size, n1 = n - n0 < blocks * size ? n : n0 + blocks * size;
    int32_t step = (n1 - n0 + streams * size - 1) / (streams * size) * size;
    for (int32_t s = 0; s < streams && n0 + s * step < n1; s++)
      place[s] = (const char *)h->weight[part].data + (size_t)(n0 + s * step) * (size_t)h->weight[part].row_stride;
    otr_parallel_ahead(p->device->base.parallel, w, place);
  }
}

/* ---- submit: attention ------------------------------------------------------------------------------------------- */

/** Cuts the rows into blocks of one sequence, at most `rows` long. */
static void cut_blocks(otr_prepared *p, int32_t rows) {
  const otr_step *s = p->step;
  p->n_blocks = 0;
  for (int32_t i = 0; i < s->n_rows;) {
    int32_t end = i + 1;
    while (end < s->n_rows && end - i < rows && s->row[end].sequence == s->row[i].sequence) end++;
    p->block_first[p->n_blocks++] = i;
    i = end;
  }
  p->block_first[p->n_blocks] = s->n_rows;
}

static void attention_task(void *context, int32_t index, int32_t worker) {
  otr_prepared *p = context;
  otr_worker *w = &p->workers[worker];
  otr_float_mode mode = otr_float_mode_enter();
  const otr_host_op *h = &p->ops[p->at];
  const otr_op_attention *o = &h->op->u.attention;
  /* The last blocks see the most positions: they are handed out first. */
  int32_t block = p->n_blocks - 1 - index / o->n_kv_heads;
  int32_t first = p->block_first[block];
  size_t stride = (size_t)o->n_heads * (size_t)o->head_dim;
  otr_attend a = {
      .out = h->out + (size_t)first * stride,
      .q16 = h->q16 + (size_t)first * stride,
      .row_stride = (int32_t)stride,
      .n = p->block_first[block + 1] - first,
      .first_position = p->step->row[first].position,
      .kv_head = index % o->n_kv_heads,
      .group = o->n_heads / o->n_kv_heads,
      .head_dim = o->head_dim,
      .window = o->window,
      .scale = o->scale,
      .slopes = h->bias,
      .page_base = p->page_base + (size_t)p->step->row[first].sequence * (size_t)p->program.max_table,
      .kv = p->program.kv,
      .kv_layer = o->kv_layer,
  };
  p->device->kernels->attention(&w->found, &a, w->scratch);
  note_found(w, h->op);
  otr_float_mode_leave(mode);
}

/* ---- submit ------------------------------------------------------------------------------------------------------ */

/** Host addresses of the pages that the rows can see. */
static void resolve_pages(otr_prepared *p) {
  const otr_step *s = p->step;
  if (!s->page_table || !p->attends) return;
  for (int32_t i = 0; i < s->n_rows; i++) {
    if (i + 1 < s->n_rows && s->row[i + 1].sequence == s->row[i].sequence) continue;
    int32_t sequence = s->row[i].sequence, n = s->row[i].position / OTR_CHUNK + 1;
    for (int32_t c = 0; c < n && c < p->program.max_table; c++)
      p->page_base[(size_t)sequence * (size_t)p->program.max_table + (size_t)c] =
          otr_cpu_host(s->page_table[sequence][c]);
  }
}

/** Runs the operations from p->at on that go together; returns how many. */
static int32_t run_some(otr_prepared *p) {
  otr_parallel *parallel = p->device->base.parallel;
  const otr_op *op = p->ops[p->at].op;
  int32_t m = rows_of(op, p->step);
  p->n_chain = 1;
  if (op->code == OTR_OP_LINEAR || op->code == OTR_OP_LINEAR16) {
    if (p->columns && op->code == OTR_OP_LINEAR) otr_quantized_columns(&p->ops[p->at].quantized, m, p->columns);
    if (m > 0) otr_parallel_run(parallel, linear_units(p, &op->u.linear, m), linear_task, p);
  } else if (op->code == OTR_OP_ATTENTION) {
    cut_blocks(p, p->device->kernels->attention_rows);
    otr_parallel_run(parallel, p->n_blocks * op->u.attention.n_kv_heads, attention_task, p);
  } else if (op->code == OTR_OP_QUANTIZE && op->u.quantize.batch) {
    otr_float_mode mode = otr_float_mode_enter();
    otr_quantize_batch(&p->workers[0].found, &p->ops[p->at].quantized, p->ops[p->at].x, op->u.quantize.rule, m);
    otr_float_mode_leave(mode);
  } else {
    while (!p->device->base.trace && p->at + p->n_chain < p->program.n_ops &&
           is_row_wise(p->ops[p->at + p->n_chain].op) && p->ops[p->at + p->n_chain].op->rows == op->rows)
      p->n_chain++;
    ask_ahead(p, p->at + p->n_chain);
    otr_parallel_run(parallel, (m + OTR_ROW_BLOCK - 1) / OTR_ROW_BLOCK, chain_task, p);
  }
  return p->n_chain;
}

otr_status otr_cpu_submit(otr_device *base, otr_prepared *p, const otr_step *step, otr_step_result *result) {
  int32_t threads = otr_parallel_threads(base->parallel);
  OTR_TRY(otr_parallel_begin(base->parallel));
  for (int32_t t = 0; t < threads; t++) {
    p->workers[t].found = (otr_found){0};
    p->workers[t].nonfinite_layer = OTR_LAYER_NONE;
  }
  *result = (otr_step_result){.nonfinite_layer = OTR_LAYER_NONE};
  otr_status status = OTR_STATUS_OK;
  p->step = step;
  resolve_pages(p);
  for (p->at = 0; p->at < p->program.n_ops;) {
    status = otr_step_check_cancel(step);
    if (status != OTR_STATUS_OK) break;
    int32_t done = run_some(p);
    if (base->trace) status = otr_device_trace(base, p->ops[p->at].op, rows_of(p->ops[p->at].op, step));
    if (status != OTR_STATUS_OK) break;
    p->at += done;
  }
  otr_parallel_end(base->parallel);
  for (int32_t t = 0; t < threads; t++) {
    if (p->workers[t].nonfinite_layer < result->nonfinite_layer)
      result->nonfinite_layer = p->workers[t].nonfinite_layer;
    result->saturations += p->workers[t].found.saturations;
    result->outliers += p->workers[t].found.outliers;
  }
  result->activations = otr_step_activations(&p->program, step);
  return status;
}
