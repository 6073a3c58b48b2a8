// SPDX-License-Identifier: Apache-2.0
/* What the harness tries: chosen cases, and random ones that lean to block edges and adversarial values. */
#include "kernel_check.h"

const effort effort_quick = {40, 330, 400000};
const effort effort_full = {200, 2100, 6000000};

/* Cases that chance would hardly meet. */
static const otr_case chosen[] = {
    /* the largest sum that int32 must hold */
    {.code = OTR_OP_LINEAR, .values = OTR_VALUES_EXTREME, .m = 2, .k = 131072, .n = 9},
    {.code = OTR_OP_LINEAR, .values = OTR_VALUES_MIXED, .m = 1, .k = 131071, .n = 3, .rule = {OTR_RULE_RELATIVE, 4.0f}},
    {.code = OTR_OP_LINEAR16, .values = OTR_VALUES_OUTLIERS, .m = 1, .k = 131071, .n = 3},
    /* everything an outlier, and values exactly on the threshold */
    {.code = OTR_OP_QUANTIZE, .values = OTR_VALUES_EXTREME, .m = 3, .k = 64, .rule = {OTR_RULE_RELATIVE, 1.0f}},
    {.code = OTR_OP_QUANTIZE, .values = OTR_VALUES_EXTREME, .m = 3, .k = 256, .rule = {OTR_RULE_ABSOLUTE, 1.0f}},
    {.code = OTR_OP_QUANTIZE, .values = OTR_VALUES_EDGES, .m = 9, .k = 300, .rule = {OTR_RULE_ABSOLUTE, 6.0f}},
    {.code = OTR_OP_LINEAR,
     .values = OTR_VALUES_EXTREME,
     .m = 18,
     .k = 320,
     .n = 130,
     .n_static = -1,
     .rule = {OTR_RULE_ABSOLUTE, 1e-30f}},
    {.code = OTR_OP_LINEAR, .values = OTR_VALUES_ZERO, .m = 5, .k = 40, .n = 70, .bias = 1},
    /* the functions over many values, and on every tail */
    {.code = OTR_OP_ACT, .values = OTR_VALUES_ANY, .m = 9, .k = 40003, .kind = OTR_ACT_SILU},
    {.code = OTR_OP_ACT, .values = OTR_VALUES_ANY, .m = 9, .k = 40003, .kind = OTR_ACT_GELU_TANH},
    {.code = OTR_OP_ACT, .values = OTR_VALUES_ANY, .m = 9, .k = 40003, .kind = OTR_ACT_GELU_ERF},
    {.code = OTR_OP_ROUND16, .values = OTR_VALUES_ANY, .m = 9, .k = 40003},
    {.code = OTR_OP_QUANTIZE, .values = OTR_VALUES_ANY, .m = 9, .k = 40003, .rule = {OTR_RULE_OFF, 0.0f}},
    /* logits of no row */
    {.code = OTR_OP_NORM, .values = OTR_VALUES_PLAIN, .m = 0, .k = 64, .logits = 1},
    {.code = OTR_OP_QUANTIZE, .values = OTR_VALUES_PLAIN, .m = 0, .k = 64, .logits = 1},
    {.code = OTR_OP_LINEAR, .values = OTR_VALUES_PLAIN, .m = 0, .k = 64, .n = 65, .logits = 1},
    {.code = OTR_OP_SELECT, .values = OTR_VALUES_PLAIN, .m = 0, .k = 64},
    /* sums and products of 2^48 and more, in the last place of a row */
    {.code = OTR_OP_ADD, .values = OTR_VALUES_HUGE, .m = 5, .k = 77},
    {.code = OTR_OP_GLU, .values = OTR_VALUES_HUGE, .m = 3, .k = 45, .kind = OTR_ACT_RELU},
    {.code = OTR_OP_POSITION, .values = OTR_VALUES_HUGE, .m = 5, .k = 77},
    {.code = OTR_OP_EMBED, .values = OTR_VALUES_NAN, .m = 9, .k = 100, .n = 3},
    /* a middle page dropped, a window that ends on a page, more rows than a window and than a page has */
    {.code = OTR_OP_ATTENTION,
     .values = OTR_VALUES_PLAIN,
     .m = 2,
     .n_heads = 4,
     .n_kv_heads = 2,
     .head_dim = 64,
     .n_rot = 64,
     .position = 1023,
     .dropped = 6},
    {.code = OTR_OP_ATTENTION,
     .values = OTR_VALUES_PLAIN,
     .m = 3,
     .n_heads = 2,
     .n_kv_heads = 2,
     .head_dim = 128,
     .n_rot = 64,
     .position = 767,
     .window = 256,
     .slopes = 1},
    /* rows that go past a page's end by more than the window */
    {.code = OTR_OP_ATTENTION,
     .values = OTR_VALUES_PLAIN,
     .m = 40,
     .n_heads = 4,
     .n_kv_heads = 2,
     .head_dim = 10,
     .n_rot = 10,
     .position = 494,
     .window = 1},
    {.code = OTR_OP_ATTENTION,
     .values = OTR_VALUES_OUTLIERS,
     .m = 270,
     .n_heads = 1,
     .n_kv_heads = 1,
     .head_dim = 8,
     .n_rot = 8,
     .position = 500},
    {.code = OTR_OP_ATTENTION,
     .values = OTR_VALUES_ZERO,
     .m = 6,
     .n_heads = 3,
     .n_kv_heads = 1,
     .head_dim = 16,
     .n_rot = 0,
     .position = 0,
     .n_sequences = 2},
    /* more columns than a tile of the widest vectors, and some left over; two pages */
    {.code = OTR_OP_ATTENTION,
     .values = OTR_VALUES_PLAIN,
     .m = 50,
     .n_heads = 5,
     .n_kv_heads = 1,
     .head_dim = 80,
     .n_rot = 80,
     .position = 200},
    /* as many query rows as are still read from the page, and one more */
    {.code = OTR_OP_ATTENTION,
     .values = OTR_VALUES_PLAIN,
     .m = 1,
     .n_heads = 16,
     .n_kv_heads = 2,
     .head_dim = 64,
     .n_rot = 64,
     .position = 300},
    {.code = OTR_OP_ATTENTION,
     .values = OTR_VALUES_PLAIN,
     .m = 3,
     .n_heads = 3,
     .n_kv_heads = 1,
     .head_dim = 40,
     .n_rot = 40,
     .position = 77,
     .window = 33},
};

int chosen_cases(otr_op_code code) {
  int n = 0;
  for (size_t i = 0; i < sizeof chosen / sizeof chosen[0]; ++i) n += chosen[i].code == code;
  return n;
}

otr_case chosen_case(otr_op_code code, int index) {
  size_t i = 0;
  while (chosen[i].code != code || index-- > 0) ++i;
  otr_case c = chosen[i];
  c.seed = (uint32_t)i + 1;
  return c;
}

static int32_t below(uint32_t *state, int32_t n) {
  return (int32_t)(otr_data_next(state) % (uint32_t)n);
}
static bool chance(uint32_t *state, int32_t one_in) {
  return below(state, one_in) == 0;
}

/* Around the sizes of blocks, more often than not. */
static int32_t dimension(uint32_t *state, int32_t most) {
  static const int16_t blocks[] = {4, 8, 16, 32, 48, 64, 96, 128, 192, 256, 320, 512, 576, 1024, 1536, 2048};
  for (int tries = 0; tries < 4 && !chance(state, 3); ++tries) {
    int32_t d = blocks[below(state, sizeof blocks / sizeof blocks[0])] + below(state, 3) - 1;
    if (d <= most) return d;
  }
  return 1 + below(state, chance(state, 2) ? most : 70 < most ? 70 : most);
}

static int32_t row_count(uint32_t *state, const effort *e) {
  static const int16_t blocks[] = {24, 32, 33, 47, 48, 49, 64, 65, 96, 128, 129};
  if (e->max_dim > 1000 && chance(state, 6)) return blocks[below(state, sizeof blocks / sizeof blocks[0])];
  return chance(state, 4) ? 1 : 1 + below(state, 21);
}

static otr_case_values any_values(uint32_t *state) {
  if (chance(state, 20)) return OTR_VALUES_HUGE;
  if (chance(state, 30)) return OTR_VALUES_NAN;
  return chance(state, 2) ? OTR_VALUES_MIXED : (otr_case_values)below(state, OTR_VALUES_MIXED);
}

static otr_rule any_rule(uint32_t *state) {
  static const float absolute[] = {6.0f, 1.0f, 1e-30f, 100.0f, 0x1p-40f, 1e30f};
  static const float relative[] = {4.0f, 1.0f, 0x1p-8f, 0.5f, 3.5f, 40.0f};
  int32_t i = below(state, 6);
  if (chance(state, 5)) return (otr_rule){OTR_RULE_OFF, 0.0f};
  if (chance(state, 3)) return (otr_rule){OTR_RULE_ABSOLUTE, absolute[i]};
  return (otr_rule){OTR_RULE_RELATIVE, chance(state, 2) ? 4.0f : relative[i]};
}

static void random_embed(uint32_t *state, otr_case *c, const effort *e) {
  c->k = dimension(state, e->max_dim);
  c->n = 1 + below(state, 9);
  c->kind = below(state, 2);
  c->bias = below(state, 2);
  c->constant = chance(state, 2) ? 0.0f : 5.656854f;
}

static void random_position(uint32_t *state, otr_case *c, const effort *e) {
  c->k = dimension(state, e->max_dim);
  c->position = chance(state, 2) ? 0 : below(state, 300);
  c->logits = 0;
}

static void random_norm(uint32_t *state, otr_case *c, const effort *e) {
  static const float eps[] = {1e-5f, 1e-6f, 0.0f, 0x1p-60f};
  c->k = dimension(state, e->max_dim);
  c->groups = chance(state, 3) ? 1 + below(state, 5) : 1;
  c->wide = chance(state, 3);
  c->kind = below(state, 2);
  c->bias = c->kind == OTR_NORM_LAYER && !c->wide && !chance(state, 3);
  c->alias = below(state, 2);
  c->constant = eps[below(state, 4)];
}

static void random_rounding(uint32_t *state, otr_case *c, const effort *e) {
  c->k = dimension(state, e->max_dim);
  c->rule = any_rule(state);
}

static void random_quantize(uint32_t *state, otr_case *c, const effort *e) {
  random_rounding(state, c, e);
  c->after = below(state, 3);
  c->kind = c->after == 1 ? below(state, 2) : below(state, 4);
  c->alias = below(state, 2);
  c->constant = 1e-5f;
}

static void random_round16(uint32_t *state, otr_case *c, const effort *e) {
  c->k = dimension(state, e->max_dim);
}

static void random_linear(uint32_t *state, otr_case *c, const effort *e) {
  random_rounding(state, c, e);
  c->n = chance(state, 3) ? dimension(state, e->max_dim) : 1 + below(state, 130);
  c->n_next = 1 + below(state, 70);
  c->n_parts = chance(state, 3) ? 2 + below(state, 2) : 1;
  c->bias = below(state, 2);
  c->wide = chance(state, 4) ? 1 + below(state, 4) : 0;
  if (chance(state, 2)) c->n_static = chance(state, 3) ? -1 : 1 + below(state, c->k);
  while ((int64_t)c->m * c->k * (c->n + c->n_next) > e->max_work && c->m > 1) c->m /= 2;
}

static void random_linear16(uint32_t *state, otr_case *c, const effort *e) {
  random_linear(state, c, e);
  c->n_static = 0;
}

static void random_rope_kv(uint32_t *state, otr_case *c, const effort *e) {
  static const int16_t dims[] = {8, 10, 12, 16, 20, 24, 32, 36, 40, 48, 64, 72, 80, 96, 100, 112, 128};
  (void)e;
  c->head_dim = dims[below(state, sizeof dims / sizeof dims[0])];
  c->n_kv_heads = 1 + below(state, 3);
  c->n_heads = c->n_kv_heads * (1 + below(state, 4));
  c->n_rot = chance(state, 4) ? 2 * below(state, c->head_dim / 2 + 1) : c->head_dim;
  c->position = chance(state, 3) ? 0 : below(state, 800);
  c->n_sequences = chance(state, 3) ? 1 + below(state, c->m < 3 ? c->m : 3) : 1;
  c->logits = 0;
}

static void random_attention(uint32_t *state, otr_case *c, const effort *e) {
  static const int16_t windows[] = {1, 5, 64, 255, 256, 257, 300, 1000};
  random_rope_kv(state, c, e);
  c->slopes = chance(state, 3);
  if (chance(state, 3)) c->window = windows[below(state, sizeof windows / sizeof windows[0])];
  if (chance(state, 3)) c->dropped = otr_data_next(state);
  if (chance(state, 4)) c->constant = 0.015625f;
}

static void random_glu(uint32_t *state, otr_case *c, const effort *e) {
  c->k = dimension(state, e->max_dim);
  c->kind = below(state, 4);
  c->alias = below(state, 3);
}

static void random_act(uint32_t *state, otr_case *c, const effort *e) {
  random_glu(state, c, e);
  c->alias = below(state, 2);
}

static void random_add(uint32_t *state, otr_case *c, const effort *e) {
  c->k = dimension(state, e->max_dim);
}
static void random_select(uint32_t *state, otr_case *c, const effort *e) {
  c->k = dimension(state, e->max_dim);
}
static void random_copy(uint32_t *state, otr_case *c, const effort *e) {
  c->k = dimension(state, e->max_dim);
}

otr_case random_case(otr_op_code code, uint32_t seed, const effort *e) {
  static void (*const makers[OTR_OP_COUNT])(uint32_t *, otr_case *, const effort *) = {
#define X(CODE, name) [OTR_OP_##CODE] = random_##name,
      OTR_OP_LIST(X)
#undef X
  };
  uint32_t state = seed * 64u + (uint32_t)code;
  otr_case c = {.code = code, .values = any_values(&state), .seed = otr_data_next(&state), .m = row_count(&state, e)};
  c.extra_rows = below(&state, 3);
  c.logits = chance(&state, 6) && code != OTR_OP_EMBED;
  makers[code](&state, &c, e);
  return c;
}

void case_print(FILE *to, const otr_case *c) {
  static const char *const values[] = {"plain", "outliers", "ties",  "edges", "extreme",
                                       "zero",  "any",      "mixed", "huge",  "nan"};
  fprintf(to, "%s %s seed=%u m=%d+%d", otr_op_name(c->code), values[c->values], c->seed, c->m, c->extra_rows);
  if (c->logits) fprintf(to, " logits");
  if (c->k) fprintf(to, " k=%d", c->k);
  if (c->n) fprintf(to, " n=%d parts=%d,%d static=%d", c->n, c->n_parts, c->n_next, c->n_static);
  fprintf(to, " wide=%d kind=%d bias=%d groups=%d alias=%d after=%d rule=%d,%g constant=%g", c->wide, c->kind, c->bias,
          c->groups, c->alias, c->after, (int)c->rule.kind, (double)c->rule.value, (double)c->constant);
  if (c->n_heads) {
    fprintf(to, " heads=%d/%d d=%d rot=%d slopes=%d window=%d position=%d sequences=%d dropped=%x", c->n_heads,
            c->n_kv_heads, c->head_dim, c->n_rot, c->slopes, c->window, c->position, c->n_sequences, c->dropped);
  }
  fprintf(to, "\n");
}
