// SPDX-License-Identifier: Apache-2.0
/* From an architecture's block description to a program. One function for every architecture: what differs is data. */
#include "forward.h"

#include <string.h>

#include "float_mode.h"
#include "numerics.h"
#include "status.h"

/* ---- activations ------------------------------------------------------------------------------------------------- */

static int32_t widest_input(const otr_config *c) {
  int32_t k = 0;
  for (int32_t slot = 0; slot < OTR_SLOTS; slot++)
    if (otr_config_slot_width(c, (otr_slot)slot) > k) k = otr_config_slot_width(c, (otr_slot)slot);
  return k;
}

/** Whether some linear is of this type: only then its inputs' layout needs room. */
static bool has_type(const otr_model *m, otr_weight_type type) {
  for (int32_t role = 0; role < OTR_ROLES; role++) {
    if (!otr_config_multiplies(&m->config, (otr_role)role)) continue;
    for (int32_t layer = 0; layer < (role < OTR_LAYER_ROLES ? m->config.n_layers : 1); layer++) {
      const otr_loaded *t = otr_model_role(m, layer, (otr_role)role);
      if (t->w.n > 0 && t->w.type == type) return true;
    }
  }
  return false;
}

/** Lays out all activations in one buffer; with that NULL it only measures. */
static otr_status lay_out(otr_model *m, const otr_forward_params *p, otr_buffer *buffer, otr_forward *f) {
  const otr_config *c = &m->config;
  otr_device *device = m->runtime->device;
  otr_arena *a = &f->activations;
  size_t rows = (size_t)p->max_rows, logits = (size_t)p->max_logits, dim = (size_t)c->dim;
  int32_t widest = widest_input(c);
  *a = otr_arena_in(buffer);
  for (int32_t i = 0; i < OTR_SLOTS; i++)
    f->slot[i] = otr_arena_place(a, rows, (size_t)otr_config_slot_width(c, (otr_slot)i), sizeof(float));
  if (has_type(m, OTR_WEIGHT_INT8))
    f->quantized = otr_arena_place_layout(a, device->ops->quantized_bytes(p->max_rows, widest));
  if (has_type(m, OTR_WEIGHT_F16))
    f->rounded = otr_arena_place_layout(a, device->ops->rounded_bytes(p->max_rows, widest));
  f->q16 = otr_arena_place_layout(a, device->ops->q16_bytes(p->max_rows, otr_config_slot_width(c, OTR_SLOT_Q)));
  f->selected = otr_arena_place(a, logits, dim, sizeof(float));
  f->logits = otr_arena_place(a, logits, (size_t)c->vocab, sizeof(float));
  if (p->keep_hidden) f->hidden = otr_arena_place(a, (size_t)c->n_layers + 1, rows, dim * sizeof(float));
  return otr_arena_check(a, "a session of this size");
}

/* ---- the program ------------------------------------------------------------------------------------------------- */

typedef struct builder {
  const otr_model *model;
  const otr_config *config;
  otr_forward *f;
  int32_t layer;
  otr_rows rows;
  /* What f->quantized and f->rounded hold now: q, k and v share one quantizer run. */
  otr_ref quantized_x, rounded_x;
  otr_rule quantized_rule;
} builder;

static otr_op *append(builder *b, otr_op_code code) {
  otr_op *op = &b->f->ops[b->f->n_ops++];
  memset(op, 0, sizeof *op);
  op->code = code;
  op->rows = b->rows;
  op->layer = b->layer;
  return op;
}

static bool same_ref(otr_ref a, otr_ref b) {
  return a.buffer == b.buffer && a.offset == b.offset && a.buffer;
}

/** `ref` is written anew: what was made of its old content is void. */
static void touch(builder *b, otr_ref ref) {
  if (same_ref(ref, b->quantized_x)) b->quantized_x = (otr_ref){0};
  if (same_ref(ref, b->rounded_x)) b->rounded_x = (otr_ref){0};
}

/** A norm over rows of [dim]; over heads, in place, where the gains are those of heads. */
static void add_norm(builder *b, otr_ref out, otr_ref x, otr_role role, int32_t width, int32_t groups) {
  const otr_loaded *t = otr_model_role(b->model, role < OTR_LAYER_ROLES ? b->layer : 0, role);
  append(b, OTR_OP_NORM)->u.norm = (otr_op_norm){.kind = (otr_norm_kind)b->config->arch->norm,
                                                 .out = out,
                                                 .x = x,
                                                 .gain = t->values,
                                                 .bias = t->bias,
                                                 .width = width,
                                                 .groups = groups,
                                                 .group_gains = t->n_values > width,
                                                 .eps = b->config->eps};
  touch(b, out);
}

/** Whether the file has a role's vector or table. */
static bool has_values(const builder *b, otr_role role) {
  return otr_model_role(b->model, role < OTR_LAYER_ROLES ? b->layer : 0, role)->values.buffer != NULL;
}

static bool same_rule(otr_rule a, otr_rule b) {
  return a.kind == b.kind && a.value == b.value;
}

static void add_quantize(builder *b, otr_ref x, int32_t k, otr_rule rule) {
  if (same_ref(x, b->quantized_x) && same_rule(rule, b->quantized_rule)) return;
  append(b, OTR_OP_QUANTIZE)->u.quantize = (otr_op_quantize){.out = b->f->quantized, .x = x, .k = k, .rule = rule};
  b->quantized_x = x;
  b->quantized_rule = rule;
}

static void add_round16(builder *b, otr_ref x, int32_t k) {
  if (same_ref(x, b->rounded_x)) return;
  append(b, OTR_OP_ROUND16)->u.round16 = (otr_op_round16){.out = b->f->rounded, .x = x, .k = k};
  b->rounded_x = x;
}

/** Linears of one input. Those of one type and rule that follow each other become one operation. */
static void add_linears(builder *b, otr_ref x, const otr_loaded *const *t, const otr_ref *out, int32_t n) {
  for (int32_t i = 0; i < n;) {
    const otr_loaded *first = t[i];
    bool f16 = first->w.type == OTR_WEIGHT_F16;
    if (f16)
      add_round16(b, x, first->w.k);
    else
      add_quantize(b, x, first->w.k, first->rule);
    otr_op *op = append(b, f16 ? OTR_OP_LINEAR16 : OTR_OP_LINEAR);
    otr_op_linear *o = &op->u.linear;
    o->in = f16 ? b->f->rounded : b->f->quantized;
    o->k = first->w.k;
    for (; i < n && t[i]->w.type == first->w.type && same_rule(t[i]->rule, first->rule); i++) {
      o->part[o->n_parts].w = t[i]->w;
      o->part[o->n_parts].out = out[i];
      o->n_parts++;
      touch(b, out[i]);
    }
  }
}

static void add_attention(builder *b, otr_ref out) {
  const otr_config *c = b->config;
  otr_forward *f = b->f;
  append(b, OTR_OP_ROPE_KV)->u.rope_kv = (otr_op_rope_kv){.q16 = f->q16,
                                                          .q = f->slot[OTR_SLOT_Q],
                                                          .k = f->slot[OTR_SLOT_K],
                                                          .v = f->slot[OTR_SLOT_V],
                                                          .n_heads = c->n_heads,
                                                          .n_kv_heads = c->n_kv_heads,
                                                          .head_dim = c->head_dim,
                                                          .n_rot = c->n_rot,
                                                          .kv_layer = b->layer};
  append(b, OTR_OP_ATTENTION)->u.attention = (otr_op_attention){.out = out,
                                                                .q16 = f->q16,
                                                                .slopes = {b->model->slopes, 0},
                                                                .n_heads = c->n_heads,
                                                                .n_kv_heads = c->n_kv_heads,
                                                                .head_dim = c->head_dim,
                                                                .kv_layer = b->layer,
                                                                .window = c->window,
                                                                .scale = otr_recip(otr_sqrt((float)c->head_dim))};
  touch(b, out);
}

static void add_step(builder *b, const otr_block_step *s) {
  const otr_config *c = b->config;
  otr_ref *slot = b->f->slot, in = slot[s->in], out = slot[s->out[0]];
  const otr_loaded *loaded[OTR_LINEAR_PARTS];
  otr_ref outs[OTR_LINEAR_PARTS];
  int32_t width = otr_config_slot_width(c, (otr_slot)s->in);
  switch ((otr_step_kind)s->kind) {
    case OTR_STEP_NORM:
      add_norm(b, out, in, (otr_role)s->role[0], width, 1);
      break;
    case OTR_STEP_HEAD_NORM:
      if (has_values(b, (otr_role)s->role[0]))
        add_norm(b, out, in, (otr_role)s->role[0], c->head_dim, width / c->head_dim);
      break;
    case OTR_STEP_LINEAR:
      for (int32_t i = 0; i < s->n_parts; i++) {
        loaded[i] = otr_model_role(b->model, b->layer, (otr_role)s->role[i]);
        outs[i] = slot[s->out[i]];
      }
      add_linears(b, in, loaded, outs, s->n_parts);
      break;
    case OTR_STEP_ATTENTION:
      add_attention(b, out);
      break;
    case OTR_STEP_GLU:
      append(b, OTR_OP_GLU)->u.glu = (otr_op_glu){.out = out, .gate = out, .up = in, .width = width, .act = c->act};
      touch(b, out);
      break;
    case OTR_STEP_ACT:
      append(b, OTR_OP_ACT)->u.act = (otr_op_act){.out = out, .x = in, .width = width, .act = c->act};
      touch(b, out);
      break;
    case OTR_STEP_ADD:
      append(b, OTR_OP_ADD)->u.add = (otr_op_add){.x = out, .y = in, .width = width};
      touch(b, out);
      break;
    case OTR_STEP_END:
      break;
  }
}

static void add_tap(builder *b, otr_ref x, int32_t index) {
  if (!b->f->keep_hidden) return;
  size_t state = (size_t)b->f->max_rows * (size_t)b->config->dim * sizeof(float);
  otr_ref out = {b->f->hidden.buffer, b->f->hidden.offset + (size_t)index * state};
  append(b, OTR_OP_COPY)->u.copy = (otr_op_copy){.out = out, .x = x, .width = b->config->dim};
}

static void add_linear(builder *b, otr_ref out, otr_ref x, otr_role role) {
  const otr_loaded *t = otr_model_role(b->model, 0, role);
  add_linears(b, x, &t, &out, 1);
}

/** Final norm and output layer, of the selected rows only; a tap of the normed states needs them all. */
static void add_head(builder *b) {
  const otr_config *c = b->config;
  otr_forward *f = b->f;
  otr_ref x = f->slot[OTR_SLOT_X];
  bool normed = !has_values(b, OTR_ROLE_OUTPUT_NORM);
  b->layer = c->n_layers;
  if (f->keep_hidden) {
    if (!normed) add_norm(b, f->slot[OTR_SLOT_Y], x, OTR_ROLE_OUTPUT_NORM, c->dim, 1);
    if (!normed) x = f->slot[OTR_SLOT_Y];
    normed = true;
    add_tap(b, x, c->n_layers);
  }
  f->head_begin = f->n_ops;
  b->rows = OTR_ROWS_LOGITS;
  append(b, OTR_OP_SELECT)->u.select = (otr_op_select){.out = f->selected, .x = x, .width = c->dim};
  if (!normed) add_norm(b, f->selected, f->selected, OTR_ROLE_OUTPUT_NORM, c->dim, 1);
  b->quantized_x = b->rounded_x = (otr_ref){0};
  x = f->selected;
  if (otr_model_role(b->model, 0, OTR_ROLE_PROJECT_OUT)->w.n > 0) {
    x = f->slot[OTR_SLOT_E]; /* what the body had there is used up */
    add_linear(b, x, f->selected, OTR_ROLE_PROJECT_OUT);
  }
  add_linear(b, f->logits, x, c->tied_head ? OTR_ROLE_TOKEN_EMBD : OTR_ROLE_OUTPUT);
}

/** The embedding's row; where it is projected, the position's row comes after that. */
static void add_embedding(builder *b) {
  const otr_config *c = b->config;
  otr_ref *slot = b->f->slot, positions = otr_model_role(b->model, 0, OTR_ROLE_POSITION_EMBD)->values;
  bool projected = otr_model_role(b->model, 0, OTR_ROLE_PROJECT_IN)->w.n > 0;
  append(b, OTR_OP_EMBED)->u.embed = (otr_op_embed){.out = slot[projected ? OTR_SLOT_E : OTR_SLOT_X],
                                                    .table = otr_model_role(b->model, 0, OTR_ROLE_TOKEN_EMBD)->w,
                                                    .width = c->embd_dim,
                                                    .has_scale = c->embd_scale != 0.0f,
                                                    .scale = c->embd_scale,
                                                    .position_table = projected ? (otr_ref){0} : positions,
                                                    .n_positions = c->n_positions};
  if (projected) {
    add_linear(b, slot[OTR_SLOT_X], slot[OTR_SLOT_E], OTR_ROLE_PROJECT_IN);
    append(b, OTR_OP_POSITION)->u.position =
        (otr_op_position){.x = slot[OTR_SLOT_X], .table = positions, .n_positions = c->n_positions, .width = c->dim};
  }
  if (has_values(b, OTR_ROLE_TOKEN_EMBD_NORM))
    add_norm(b, slot[OTR_SLOT_X], slot[OTR_SLOT_X], OTR_ROLE_TOKEN_EMBD_NORM, c->dim, 1);
}

static void build(const otr_model *m, otr_forward *f) {
  builder b = {.model = m, .config = &m->config, .f = f, .layer = -1};
  add_embedding(&b);
  for (b.layer = 0; b.layer < m->config.n_layers; b.layer++) {
    add_tap(&b, f->slot[OTR_SLOT_X], b.layer);
    for (int32_t i = 0; i < m->config.n_steps; i++) add_step(&b, &m->config.block[i]);
  }
  add_head(&b);
}

/** Most operations that build can append: each step at most twice its parts, and what stands around the blocks. */
static int32_t most_ops(const otr_model *m) {
  return 16 + m->config.n_layers * (1 + 2 * OTR_LINEAR_PARTS * m->config.n_steps);
}

static otr_program program_of(const otr_model *m, const otr_forward_params *p, const otr_forward *f, int32_t first) {
  const otr_config *c = &m->config;
  return (otr_program){.ops = f->ops + first,
                       .n_ops = f->n_ops - first,
                       .max_rows = p->max_rows,
                       .max_logits = p->max_logits,
                       .max_pages = p->max_pages,
                       .max_table = p->max_table,
                       .max_sequences = p->max_sequences,
                       .kv = {c->n_layers, c->n_kv_heads, c->head_dim},
                       .result = f->logits,
                       .result_rows = OTR_ROWS_LOGITS,
                       .result_row_bytes = (size_t)c->vocab * sizeof(float)};
}

otr_status otr_forward_create(otr_model *m, const otr_forward_params *p, otr_forward *f) {
  otr_device *device = m->runtime->device;
  *f = (otr_forward){
      .max_rows = p->max_rows, .max_logits = p->max_logits, .keep_hidden = p->keep_hidden, .capacity = most_ops(m)};
  otr_buffer *buffer;
  OTR_TRY(lay_out(m, p, NULL, f));
  OTR_TRY(device->ops->buffer_create(device, f->activations.bytes, &buffer));
  OTR_TRY(lay_out(m, p, buffer, f));
  f->ops = otr_memory_take_array(&m->runtime->memory, (size_t)f->capacity, sizeof *f->ops);
  if (!f->ops) return OTR_STATUS_NO_MEMORY;
  otr_float_mode mode = otr_float_mode_enter();
  build(m, f);
  otr_float_mode_leave(mode);
  otr_program body = program_of(m, p, f, 0), head = program_of(m, p, f, f->head_begin);
  OTR_TRY(device->ops->prepare(device, &body, &f->body));
  return device->ops->prepare(device, &head, &f->head);
}

void otr_forward_destroy(otr_model *m, otr_forward *f) {
  otr_device *device = m->runtime->device;
  if (f->head) device->ops->prepared_destroy(device, f->head);
  if (f->body) device->ops->prepared_destroy(device, f->body);
  if (f->ops) otr_memory_give_array(&m->runtime->memory, f->ops, (size_t)f->capacity, sizeof *f->ops);
  if (f->activations.buffer) device->ops->buffer_destroy(device, f->activations.buffer);
  *f = (otr_forward){0};
}

otr_status otr_forward_bytes(otr_model *m, const otr_forward_params *p, uint64_t *host, uint64_t *device_bytes) {
  otr_device *device = m->runtime->device;
  otr_memory *memory = &m->runtime->memory;
  otr_forward f = {
      .max_rows = p->max_rows, .max_logits = p->max_logits, .keep_hidden = p->keep_hidden, .capacity = most_ops(m)};
  OTR_TRY(lay_out(m, p, NULL, &f));
  f.ops = otr_memory_take_array(memory, (size_t)f.capacity, sizeof *f.ops);
  if (!f.ops) return OTR_STATUS_NO_MEMORY;
  build(m, &f);
  uint64_t parts[4];
  otr_program body = program_of(m, p, &f, 0), head = program_of(m, p, &f, f.head_begin);
  device->ops->prepared_bytes(device, &body, &parts[0], &parts[1]);
  device->ops->prepared_bytes(device, &head, &parts[2], &parts[3]);
  bool separate = otr_device_placement(device, OTR_WEIGHTS_AUTO).separate;
  *host = (separate ? 0 : f.activations.bytes) + (uint64_t)f.capacity * sizeof *f.ops + parts[0] + parts[2];
  *device_bytes = (separate ? f.activations.bytes : 0) + parts[1] + parts[3];
  otr_memory_give_array(memory, f.ops, (size_t)f.capacity, sizeof *f.ops);
  return OTR_STATUS_OK;
}
