// SPDX-License-Identifier: Apache-2.0
#include "numerics.h"
#include "shaders/row.glsl"
#include "vulkan_layout.h"
#include "vulkan_lowering.h"

/* Threads of the lanes of a GEMV, outputs of a thread and rows done at a time: shaders/linear.glsl. */
enum { LINEAR_THREADS = 64, LINEAR_OUTPUTS = 4, LINEAR_ROWS = 4, MOST_LANES = 32, LEAST_LANES = 4 };
enum { ROW_OUTPUTS_THREADS = 32 }; /* of a workgroup where a thread does LINEAR_OUTPUTS outputs: linear_row.glsl */
enum { TILE = 64, TILE_THREADS = 256, TILE_SHARED_BYTES = 27 * 1024 };
enum { LINEAR16_OUTPUTS = 8, LINEAR16_ROWS = 4 };
enum { ROW_QUANTIZED = 5 }; /* the quantizer's first operand in row.comp */

/* A driver without a GPU may end loops silently that go round more than 65,535 times in all: inputs of a thread that
 * does some rows, that stay below. */
#define CPU_MOST_K 32768

static uint32_t threads_of_row(const lowering *w, int32_t width) {
  const vulkan_caps *caps = w->l->caps;
  return caps->is_cpu || width < 1024 || caps->max_invocations < ROW_THREADS ? ELEMENT_THREADS : ROW_THREADS;
}

static const otr_ref absent;

/* ---- values and rows --------------------------------------------------------------------------------------------- */

/** A thread per value of rows of `width`. */
static vulkan_dispatch begin_values(const lowering *w, vulkan_shader shader, int32_t width) {
  vulkan_dispatch d = begin(w, shader);
  d.constant[0] = ELEMENT_THREADS;
  d.groups[0].per = ceil_div((uint64_t)width, ELEMENT_THREADS);
  d.push[OWN + 2] = (uint32_t)width;
  return d;
}

/** out = a, b: a thread per value of as many rows as the operation's; b may be absent, out may be one of them. */
static otr_status send_values(const lowering *w, vulkan_dispatch *d, int32_t width, otr_ref out, otr_ref a, otr_ref b) {
  uint64_t bytes = floats(max_rows_of(w), width);
  writes(d, out, bytes);
  reads(d, a, bytes);
  if (b.buffer) reads(d, b, bytes);
  return send(w, d);
}

/** An ACT as a GLU without `up`. */
static otr_op_glu glu_of(const otr_op *op) {
  const otr_op_act *o = &op->u.act;
  return op->code == OTR_OP_GLU ? op->u.glu
                                : (otr_op_glu){.out = o->out, .gate = o->x, .width = o->width, .act = o->act};
}

static otr_status lower_glu(const lowering *w) {
  const otr_op_glu o = glu_of(w->op);
  vulkan_dispatch d = begin_values(w, VULKAN_SHADER_glu, o.width);
  d.constant[1] = (uint32_t)o.act;
  d.constant[2] = o.up.buffer != NULL;
  return send_values(w, &d, o.width, o.out, o.gate, o.up);
}

static otr_status lower_act(const lowering *w) {
  return lower_glu(w);
}

static otr_status lower_add(const lowering *w) {
  const otr_op_add *o = &w->op->u.add;
  vulkan_dispatch d = begin_values(w, VULKAN_SHADER_add, o->width);
  return send_values(w, &d, o->width, o->x, o->y, absent);
}

static otr_status lower_copy(const lowering *w) {
  const otr_op_copy *o = &w->op->u.copy;
  vulkan_dispatch d = begin_values(w, VULKAN_SHADER_copy, o->width);
  return send_values(w, &d, o->width, o->out, o->x, absent);
}

static otr_status lower_embed(const lowering *w) {
  const otr_op_embed *o = &w->op->u.embed;
  bool f16 = o->table.type == OTR_WEIGHT_F16;
  uint64_t row_bytes = (uint64_t)o->table.row_stride * (f16 ? 2 : 1);
  uint64_t tokens = w->l->caps->max_operand_bytes / row_bytes;
  vulkan_dispatch d = begin_values(w, VULKAN_SHADER_embed, o->width);
  d.constant[1] = f16;
  d.constant[2] = o->has_scale != 0;
  d.constant[3] = o->position_table.buffer != NULL;
  d.push[OWN + 5] = (uint32_t)(row_bytes / WORD);
  d.push[OWN + 6] = (uint32_t)o->n_positions;
  d.push[OWN + 7] = (uint32_t)o->position_offset;
  d.push[OWN + 8] = OTR_BITS(o->scale);
  for (uint64_t first = 0, n = (uint64_t)o->table.n; first < n; first += tokens) {
    uint64_t end = first + tokens < n ? first + tokens : n;
    d.n_operands = 0;
    writes(&d, o->out, floats(max_rows_of(w), o->width));
    reads(&d, at(o->table.data, first * row_bytes), (end - first) * row_bytes);
    reads(&d, o->table.scale, floats(1, o->table.n));
    reads(&d, o->position_table, floats((uint64_t)o->n_positions, o->width));
    d.push[OWN + 3] = (uint32_t)first;
    d.push[OWN + 4] = (uint32_t)end;
    OTR_TRY(send(w, &d));
  }
  return OTR_STATUS_OK;
}

static otr_status lower_position(const lowering *w) {
  const otr_op_position *o = &w->op->u.position;
  vulkan_dispatch d = begin_values(w, VULKAN_SHADER_position, o->width);
  writes(&d, o->x, floats(max_rows_of(w), o->width));
  reads(&d, o->table, floats((uint64_t)o->n_positions, o->width));
  d.push[OWN + 3] = (uint32_t)o->n_positions;
  d.push[OWN + 4] = (uint32_t)o->position_offset;
  return send(w, &d);
}

/* The shader `row` does a sequence, or a norm or a quantizer alone. Its text writes to x, too, as the sum: validation
 * layers take that for what every pipeline of it does. */

static void row_norm(const lowering *w, vulkan_dispatch *d, const otr_row_sequence *s) {
  const otr_op_norm *o = &s->norm->u.norm;
  uint64_t bytes = floats((uint64_t)max_rows_of(w) * (uint64_t)o->groups, o->width);
  writes(d, o->out, bytes);
  writes(d, o->x, bytes);
  reads(d, o->gain, floats(o->group_gains ? (uint64_t)o->groups : 1, o->width));
  reads(d, o->bias, floats(1, o->width));
  reads(d, s->add ? s->add->u.add.y : absent, bytes);
  d->constant[2] = s->add ? ROW_ADD_NORM : ROW_NORM;
  d->constant[5] = o->kind == OTR_NORM_LAYER;
  d->constant[6] = o->bias.buffer != NULL;
  d->constant[7] = o->group_gains != 0;
  d->groups[0].per = (uint32_t)o->groups;
  d->push[OWN + 2] = (uint32_t)o->width;
  d->push[OWN + 8] = OTR_BITS(o->eps);
  d->push[OWN + 9] = (uint32_t)o->groups;
  d->push[OWN + 10] = (uint32_t)(s->norm->layer + 1);
}

static void row_act(const lowering *w, vulkan_dispatch *d, const otr_row_sequence *s) {
  const otr_op_glu o = glu_of(s->act);
  uint64_t bytes = floats(max_rows_of(w), o.width);
  writes(d, o.out, bytes);
  writes(d, o.gate, bytes);
  reads(d, o.up, bytes);
  d->constant[1] = (uint32_t)o.act;
  d->constant[2] = o.up.buffer ? ROW_GLU : ROW_ACT;
}

static void row_quantize(const lowering *w, vulkan_dispatch *d, const otr_op_quantize *o) {
  vulkan_quantized_places p = vulkan_quantized_layout((int32_t)max_rows_of(w), o->k);
  if (d->n_operands == 0) {
    writes(d, o->x, floats(max_rows_of(w), o->k));
    writes(d, o->x, floats(max_rows_of(w), o->k));
  }
  while (d->n_operands < ROW_QUANTIZED) reads(d, absent, 0);
  writes(d, o->out, p.list);
  writes(d, at(o->out, p.list), p.end - p.list);
  d->constant[3] = 1;
  d->constant[4] = (uint32_t)o->rule.kind;
  d->push[OWN + 2] = (uint32_t)o->k;
  d->push[OWN + 3] = p.row_words;
  d->push[OWN + 4] = (uint32_t)(p.q / WORD);
  d->push[OWN + 5] = p.lane_words;
  d->push[OWN + 6] = OTR_BITS(o->rule.value);
}

static otr_status lower_sequence(const lowering *w, const otr_row_sequence *s) {
  vulkan_dispatch d = begin(w, VULKAN_SHADER_row);
  if (s->norm) row_norm(w, &d, s);
  if (s->act) row_act(w, &d, s);
  if (s->quantize) row_quantize(w, &d, &s->quantize->u.quantize);
  int32_t width = (int32_t)d.push[OWN + 2];
  d.constant[0] = threads_of_row(w, width);
  d.push[OWN + 7] = OTR_BITS(otr_recip((float)width));
  return send(w, &d);
}

static otr_status lower_norm(const lowering *w) {
  return lower_sequence(w, &(otr_row_sequence){.norm = w->op});
}

static otr_status lower_quantize(const lowering *w) {
  if (w->op->u.quantize.batch)
    return otr_fail(OTR_STATUS_UNSUPPORTED, "batch scope is the reference's (device \"cpu\")");
  return lower_sequence(w, &(otr_row_sequence){.quantize = w->op});
}

static otr_status lower_round16(const lowering *w) {
  const otr_op_round16 *o = &w->op->u.round16;
  vulkan_rounded_places p = vulkan_rounded_layout((int32_t)max_rows_of(w), o->k);
  vulkan_dispatch d = begin(w, VULKAN_SHADER_round16);
  writes(&d, o->out, p.end);
  reads(&d, o->x, floats(max_rows_of(w), o->k));
  d.constant[0] = threads_of_row(w, o->k);
  d.push[OWN + 2] = (uint32_t)o->k;
  d.push[OWN + 3] = p.row_words;
  d.push[OWN + 4] = (uint32_t)(p.x16 / WORD);
  return send(w, &d);
}

static otr_status lower_select(const lowering *w) {
  const otr_op_select *o = &w->op->u.select;
  vulkan_dispatch d = begin_values(w, VULKAN_SHADER_select, o->width);
  writes(&d, o->out, floats((uint64_t)w->l->program->max_logits, o->width));
  reads(&d, o->x, floats((uint64_t)w->l->program->max_rows, o->width));
  return send(w, &d);
}

/* ---- linears ----------------------------------------------------------------------------------------------------- */

static bool uses_dot(const vulkan_caps *caps) {
  return caps->int_dot && (caps->demoted >> OTR_OP_LINEAR & 1) == 0;
}

static bool may_fuse(const vulkan_caps *caps) {
  return (caps->demoted >> OTR_OP_QUANTIZE & 1) == 0;
}

bool vulkan_has_fast(const vulkan_caps *caps, otr_op_code code) {
  return (code == OTR_OP_LINEAR && uses_dot(caps)) || (code == OTR_OP_QUANTIZE && may_fuse(caps));
}

/** Outputs [first, first + n) of a weight: what fits an operand. */
typedef struct output_range {
  uint64_t first, n;
} output_range;

static bool next_range(const lowering *w, const otr_weight *weight, uint64_t row_bytes, output_range *r) {
  uint64_t most = w->l->caps->max_operand_bytes / row_bytes;
  r->first += r->n;
  r->n = (uint64_t)weight->n - r->first < most ? (uint64_t)weight->n - r->first : most;
  return r->n > 0;
}

static void linear_operands(const lowering *w, vulkan_dispatch *d, int part, output_range r) {
  const otr_op_linear *o = &w->op->u.linear;
  const otr_weight *weight = &o->part[part].w;
  vulkan_quantized_places p = vulkan_quantized_layout((int32_t)max_rows_of(w), o->k);
  uint64_t stride = (uint64_t)weight->row_stride;
  writes(d, o->part[part].out, floats(max_rows_of(w), weight->n));
  reads(d, o->in, p.list);
  reads(d, at(o->in, p.list), p.end - p.list);
  reads(d, at(weight->data, r.first * stride), r.n * stride);
  reads(d, weight->scale, floats(1, weight->n));
  reads(d, weight->bias, floats(1, weight->n));
  reads(d, weight->static_slot, floats(1, o->k));
  reads(d, weight->static_cols, (uint64_t)weight->n_static * (uint64_t)weight->n * 2);
  d->constant[1] = weight->bias.buffer != NULL;
  d->constant[2] = weight->n_static == 0 ? 0 : weight->n_static == o->k ? 2 : 1;
  d->push[OWN + 2] = (uint32_t)weight->n;
  d->push[OWN + 3] = (uint32_t)r.first;
  d->push[OWN + 4] = (uint32_t)r.n;
  d->push[OWN + 5] = p.row_words / 4;
  d->push[OWN + 6] = (uint32_t)(stride / 16);
  d->push[OWN + 7] = (uint32_t)(p.q / WORD);
  d->push[OWN + 8] = p.lane_words;
}

/** A thread for a few outputs, of one row, or of some where the dot product is there: as such drivers all have it. */
static otr_status lower_linear_row(const lowering *w, int part, output_range r, uint32_t phases) {
  bool dot = uses_dot(w->l->caps), rows = dot && phases == VULKAN_MANY_ROWS && w->op->u.linear.k <= CPU_MOST_K;
  vulkan_dispatch d = begin(w, rows  ? VULKAN_SHADER_linear_rows_dot
                               : dot ? VULKAN_SHADER_linear_row_dot
                                     : VULKAN_SHADER_linear_row);
  linear_operands(w, &d, part, r);
  d.constant[0] = ROW_OUTPUTS_THREADS;
  d.groups[0].per = ceil_div(r.n, ROW_OUTPUTS_THREADS * LINEAR_OUTPUTS);
  d.groups[1].per = rows ? LINEAR_ROWS : 1;
  d.phases = phases;
  return send(w, &d);
}

/** The weights stream: for `phases`. */
static otr_status lower_linear_few(const lowering *w, int part, output_range r, uint32_t phases) {
  uint32_t lanes = MOST_LANES, sixteens = ceil_div((uint64_t)w->op->u.linear.k, 16);
  vulkan_dispatch d = begin(w, uses_dot(w->l->caps) ? VULKAN_SHADER_linear_dot : VULKAN_SHADER_linear);
  while (lanes > LEAST_LANES && lanes / 2 >= sixteens) lanes /= 2;
  linear_operands(w, &d, part, r);
  d.constant[3] = lanes;
  d.groups[0].per = ceil_div(r.n, LINEAR_THREADS / lanes * LINEAR_OUTPUTS);
  d.groups[1].per = LINEAR_ROWS;
  d.phases = phases;
  return send(w, &d);
}

static otr_status lower_linear_tile(const lowering *w, int part, output_range r) {
  vulkan_dispatch d = begin(w, uses_dot(w->l->caps) ? VULKAN_SHADER_linear_tile_dot : VULKAN_SHADER_linear_tile);
  linear_operands(w, &d, part, r);
  d.groups[0].per = ceil_div(r.n, TILE);
  d.groups[1].per = TILE;
  d.phases = VULKAN_MANY_ROWS;
  return send(w, &d);
}

static bool can_tile(const vulkan_caps *caps) {
  return caps->max_invocations >= TILE_THREADS && caps->max_shared_bytes >= TILE_SHARED_BYTES;
}

static otr_status lower_linear(const lowering *w) {
  const otr_op_linear *o = &w->op->u.linear;
  const vulkan_caps *caps = w->l->caps;
  bool tiles = can_tile(caps) && w->op->rows == OTR_ROWS_STEP && w->l->program->max_rows > VULKAN_FEW;
  for (int32_t part = 0; part < o->n_parts; part++) {
    const otr_weight *weight = &o->part[part].w;
    for (output_range r = {0, 0}; next_range(w, weight, (uint64_t)weight->row_stride, &r);) {
      if (caps->is_cpu) {
        OTR_TRY(lower_linear_row(w, part, r, VULKAN_FEW_ROWS));
        OTR_TRY(lower_linear_row(w, part, r, VULKAN_MANY_ROWS));
        continue;
      }
      OTR_TRY(lower_linear_few(w, part, r, tiles ? VULKAN_FEW_ROWS : VULKAN_FEW_ROWS | VULKAN_MANY_ROWS));
      if (tiles) OTR_TRY(lower_linear_tile(w, part, r));
    }
  }
  return OTR_STATUS_OK;
}

static otr_status lower_linear16_range(const lowering *w, int part, output_range r) {
  const otr_op_linear16 *o = &w->op->u.linear16;
  const otr_weight *weight = &o->part[part].w;
  vulkan_rounded_places p = vulkan_rounded_layout((int32_t)max_rows_of(w), o->k);
  uint64_t stride = (uint64_t)weight->row_stride * 2;
  bool is_cpu = w->l->caps->is_cpu;
  vulkan_dispatch d = begin(w, is_cpu ? VULKAN_SHADER_linear16_row : VULKAN_SHADER_linear16);
  writes(&d, o->part[part].out, floats(max_rows_of(w), weight->n));
  reads(&d, o->in, p.end);
  reads(&d, at(weight->data, r.first * stride), r.n * stride);
  reads(&d, weight->scale, floats(1, weight->n));
  reads(&d, weight->bias, floats(1, weight->n));
  d.constant[0] = ELEMENT_THREADS;
  d.constant[1] = weight->bias.buffer != NULL;
  d.groups[0].per = ceil_div(r.n, is_cpu ? ELEMENT_THREADS : LINEAR16_OUTPUTS);
  d.groups[1].per = is_cpu ? 1 : LINEAR16_ROWS;
  d.push[OWN + 2] = (uint32_t)weight->n;
  d.push[OWN + 3] = (uint32_t)r.first;
  d.push[OWN + 4] = (uint32_t)r.n;
  d.push[OWN + 5] = p.row_words / 8;
  d.push[OWN + 6] = (uint32_t)(stride / WORD);
  d.push[OWN + 7] = (uint32_t)(p.x16 / WORD);
  return send(w, &d);
}

static otr_status lower_linear16(const lowering *w) {
  const otr_op_linear16 *o = &w->op->u.linear16;
  for (int32_t part = 0; part < o->n_parts; part++) {
    const otr_weight *weight = &o->part[part].w;
    for (output_range r = {0, 0}; next_range(w, weight, (uint64_t)weight->row_stride * 2, &r);)
      OTR_TRY(lower_linear16_range(w, part, r));
  }
  return OTR_STATUS_OK;
}

static otr_status lower_rope_kv(const lowering *w) {
  return vulkan_lower_rope_kv(w);
}

static otr_status lower_attention(const lowering *w) {
  return vulkan_lower_attention(w);
}

/* ---- all --------------------------------------------------------------------------------------------------------- */

otr_status vulkan_lower(const vulkan_lowering *l, int32_t index, int32_t *n_ops, vulkan_emit emit, void *user) {
  static otr_status (*const lowers[OTR_OP_COUNT])(const lowering *) = {
#define X(CODE, name) [OTR_OP_##CODE] = lower_##name,
      OTR_OP_LIST(X)
#undef X
  };
  lowering w = {l, &l->program->ops[index], emit, user};
  otr_row_sequence sequence;
  *n_ops = l->fuse && may_fuse(l->caps) ? otr_row_sequence_at(w.op, l->program->n_ops - index, &sequence) : 0;
  if (*n_ops > 0) return lower_sequence(&w, &sequence);
  *n_ops = 1;
  return lowers[w.op->code](&w);
}
