// SPDX-License-Identifier: Apache-2.0
/* Sequences of operations that a backend may do in one kernel, against the reference, bit for bit: a residual sum with
 * the norm and the quantizer after it, an activation with its quantizer. Argument: the device (all of the CPU's). */
#include <string.h>

#include "kernel_check.h"
#include "numerics.h"
#include "suite.h"

enum { MAX_ROWS = 20, MAX_WIDTH = 5000, LAYER = 3, SPACE = 256 };

typedef enum sequence { ADD_NORM, NORM_ONLY, GLU_SEQUENCE, ACT_SEQUENCE, N_SEQUENCES } sequence;

typedef struct trial {
  sequence sequence;
  int32_t rows, width, in_place; /* in_place: the norm's output is its input */
  otr_norm_kind kind;
  otr_act_kind act;
  otr_rule rule;
  otr_case_values values;
  uint32_t seed;
} trial;

/* Where operands lie in the trial's one buffer: x, y, gain, bias, out, then the quantizer's. */
enum { X, Y, GAIN, BIAS, OUT, QUANTIZED, N_PLACES };
typedef struct places {
  size_t at[N_PLACES + 1];
} places;

/* What a trial gave: x, out, then the rows of the quantizer in canonical form. */
typedef struct outcome {
  float *x, *out; /* [rows, width] */
  int8_t *q;
  int32_t *outliers, n_outliers[MAX_ROWS];
  uint16_t *x16;
  float scale[MAX_ROWS], pow2e[MAX_ROWS];
  otr_step_result result;
} outcome;

static const char *only;

static places lay_out(otr_device *device, const trial *t) {
  size_t rows = (size_t)t->rows * (size_t)t->width * sizeof(float), row = (size_t)t->width * sizeof(float);
  size_t bytes[N_PLACES] = {rows, rows, row, row, rows, device->ops->quantized_bytes(t->rows, t->width)};
  places p = {{0}};
  for (int i = 0; i < N_PLACES; i++) p.at[i + 1] = (p.at[i] + bytes[i] + SPACE - 1) / SPACE * SPACE;
  return p;
}

static int32_t operations(const trial *t, otr_buffer *buffer, const places *p, otr_op op[3]) {
  otr_ref ref[N_PLACES];
  int32_t n = 0, width = t->width;
  for (int i = 0; i < N_PLACES; i++) ref[i] = (otr_ref){buffer, p->at[i]};
  otr_ref out = t->in_place ? ref[X] : ref[OUT];
  memset(op, 0, 3 * sizeof *op);
  if (t->sequence == ADD_NORM) {
    op[n].code = OTR_OP_ADD;
    op[n++].u.add = (otr_op_add){.x = ref[X], .y = ref[Y], .width = width};
  }
  if (t->sequence == ADD_NORM || t->sequence == NORM_ONLY) {
    op[n].code = OTR_OP_NORM;
    op[n].layer = 1; /* a block's first norm belongs to another layer than the sum before it */
    op[n].u.norm = (otr_op_norm){.kind = t->kind, .out = out, .x = ref[X], .gain = ref[GAIN], .width = width};
    op[n].u.norm.groups = 1;
    op[n].u.norm.eps = 1e-5f;
    if (t->kind == OTR_NORM_LAYER) op[n].u.norm.bias = ref[BIAS];
    n++;
  } else if (t->sequence == GLU_SEQUENCE) {
    op[n].code = OTR_OP_GLU;
    op[n++].u.glu = (otr_op_glu){.out = out, .gate = ref[X], .up = ref[Y], .width = width, .act = t->act};
  } else {
    op[n].code = OTR_OP_ACT;
    op[n++].u.act = (otr_op_act){.out = out, .x = ref[X], .width = width, .act = t->act};
  }
  op[n].code = OTR_OP_QUANTIZE;
  op[n++].u.quantize = (otr_op_quantize){.out = ref[QUANTIZED], .x = out, .k = width, .rule = t->rule};
  for (int32_t i = 0; i < n; i++) op[i].layer += LAYER;
  return n;
}

static void fill(otr_device *device, otr_buffer *buffer, const places *p, const trial *t) {
  static float values[MAX_ROWS * MAX_WIDTH];
  uint32_t state = t->seed;
  for (int i = X; i <= OUT; i++) {
    int32_t rows = i == GAIN || i == BIAS ? 1 : t->rows;
    otr_data_rows(&state, values, rows, t->width, i == GAIN || i == BIAS ? OTR_VALUES_PLAIN : t->values);
    ck_ok(
        device->ops->buffer_write(device, buffer, p->at[i], values, (size_t)rows * (size_t)t->width * sizeof *values));
  }
}

static void read_back(otr_device *device, otr_buffer *buffer, const places *p, const trial *t, outcome *to) {
  size_t count = (size_t)t->rows * (size_t)t->width, bytes = count * sizeof(float);
  otr_ref quantized = {buffer, p->at[QUANTIZED]};
  to->x = malloc(bytes);
  to->out = malloc(bytes);
  to->q = calloc(count, sizeof *to->q);
  to->outliers = calloc(count, sizeof *to->outliers);
  to->x16 = calloc(count, sizeof *to->x16);
  ck_assert(to->x && to->out && to->q && to->outliers && to->x16);
  ck_ok(device->ops->buffer_read(device, buffer, p->at[X], to->x, bytes));
  ck_ok(device->ops->buffer_read(device, buffer, p->at[OUT], to->out, bytes));
  for (int32_t i = 0; i < t->rows; i++) {
    size_t at = (size_t)i * (size_t)t->width;
    ck_ok(device->ops->quantized_read(device, quantized, t->rows, t->width, i, to->q + at, &to->scale[i], &to->pow2e[i],
                                      &to->n_outliers[i], to->outliers + at, to->x16 + at));
  }
}

static void run(otr_device *device, const trial *t, outcome *to) {
  const otr_device_ops *ops = device->ops;
  places p = lay_out(device, t);
  otr_buffer *buffer;
  otr_prepared *prepared;
  otr_op op[3];
  otr_row row[MAX_ROWS];
  int32_t token[MAX_ROWS] = {0};
  for (int32_t i = 0; i < t->rows; i++) row[i] = (otr_row){0, i};
  memset(to, 0, sizeof *to);
  ck_ok(ops->buffer_create(device, p.at[N_PLACES], &buffer));
  fill(device, buffer, &p, t);
  otr_program program = {.ops = op, .n_ops = operations(t, buffer, &p, op), .max_rows = t->rows, .max_pages = 1};
  otr_step step = {.n_rows = t->rows, .token = token, .row = row};
  ck_ok(ops->prepare(device, &program, &prepared));
  ck_ok(ops->submit(device, prepared, &step, &to->result));
  read_back(device, buffer, &p, t, to);
  ops->prepared_destroy(device, prepared);
  ops->buffer_destroy(device, buffer);
}

static void release(outcome *o) {
  free(o->x);
  free(o->out);
  free(o->q);
  free(o->outliers);
  free(o->x16);
}

/* @return NULL, or what differs */
static const char *difference(const trial *t, const outcome *a, const outcome *b) {
  size_t count = (size_t)t->rows * (size_t)t->width, rows = (size_t)t->rows;
  if (a->result.nonfinite_layer != b->result.nonfinite_layer) return "the layer of a NONFINITE value";
  if (a->result.nonfinite_layer != OTR_LAYER_NONE) return NULL; /* the rest is undefined */
  if (a->result.outliers != b->result.outliers) return "the count of outliers";
  if (a->result.activations != b->result.activations) return "the count of activations";
  if (memcmp(a->x, b->x, count * sizeof *a->x) != 0) return "the sum";
  if (memcmp(a->out, b->out, count * sizeof *a->out) != 0) return "the output";
  if (memcmp(a->q, b->q, count) != 0) return "q";
  if (memcmp(a->scale, b->scale, rows * sizeof *a->scale) != 0) return "scale";
  if (memcmp(a->pow2e, b->pow2e, rows * sizeof *a->pow2e) != 0) return "2^e";
  if (memcmp(a->n_outliers, b->n_outliers, rows * sizeof *a->n_outliers) != 0) return "a row's count of outliers";
  if (memcmp(a->outliers, b->outliers, count * sizeof *a->outliers) != 0) return "outliers";
  return memcmp(a->x16, b->x16, count * sizeof *a->x16) != 0 ? "x16" : NULL;
}

static trial make_trial(sequence which, uint32_t seed) {
  static const int32_t widths[] = {1, 63, 64, 65, 128, 320, 1023, 1100, 4100, 5000};
  static const otr_rule rules[] = {{OTR_RULE_RELATIVE, 4.0f}, {OTR_RULE_ABSOLUTE, 1.0f}, {OTR_RULE_OFF, 0.0f}};
  uint32_t state = seed * (uint32_t)N_SEQUENCES + which;
  trial t = {.sequence = which, .seed = seed + 100};
  t.rows = 1 + (int32_t)(otr_data_next(&state) % (seed % 3 == 0 ? 1 : MAX_ROWS));
  t.width = widths[otr_data_next(&state) % (sizeof widths / sizeof *widths)];
  if (t.width > 1100) t.rows = t.rows % 3 + 1;
  t.in_place = (int32_t)(otr_data_next(&state) % 3 == 0);
  t.kind = (otr_norm_kind)(otr_data_next(&state) % 2);
  t.act = (otr_act_kind)(otr_data_next(&state) % 4);
  t.rule = rules[otr_data_next(&state) % 3];
  t.values = seed % 7 == 6 ? OTR_VALUES_HUGE : OTR_VALUES_MIXED;
  return t;
}

START_TEST(sequences_are_the_references) {
  subjects s;
  ck_assert_msg(subjects_open(&s, only), "devices do not open: %s", otr_error_detail());
  for (uint32_t seed = 0; seed < 21; seed++) {
    trial t = make_trial((sequence)_i, seed);
    outcome expected;
    run(s.of[0].device[0], &t, &expected);
    for (int i = 1; i < s.n; i++) {
      outcome got;
      run(s.of[i].device[0], &t, &got);
      const char *wrong = difference(&t, &expected, &got);
      ck_assert_msg(wrong == NULL, "%s, sequence %d, seed %u (%d x %d): %s is another", s.of[i].info.name, _i, seed,
                    t.rows, t.width, wrong);
      release(&got);
    }
    release(&expected);
  }
  subjects_close(&s);
  ck_assert_uint_eq(s.memory.now, 0);
}
END_TEST

static void add_tests(TCase *tests) {
  tcase_set_timeout(tests, 0);
  tcase_add_loop_test(tests, sequences_are_the_references, 0, N_SEQUENCES);
}

int main(int argc, char **argv) {
  only = argc > 1 ? argv[1] : NULL;
  return suite_run("fused", add_tests);
}
