// SPDX-License-Identifier: Apache-2.0
/* Times the operations on the shapes of SmolLM2-135M and on 2048 x 2048, beside the machine's limits. Linears run over
 * so many weights that one row's pass comes from memory, as a model's does. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../tools/common.h"
#include "../tools/machine_limits.h"
#include "kernel_check.h"
#include "status.h"

enum { BENCH_THREADS = 2, WEIGHT_BYTES = 96 << 20, MAX_LINEARS = 512, REPEATS = 7 };

typedef struct linear_bench {
  otr_device *device;
  int32_t m, k, n, n_linears;
  otr_buffer *buffer;
  otr_op *ops; /* [1 + n_linears] */
  otr_prepared *prepared;
} linear_bench;

static size_t rounded(size_t bytes) {
  return (bytes + 255) / 256 * 256;
}

/* About one value in 150 is an outlier of the relative rule, as in the model. */
static void fill_activations(float *x, size_t n) {
  uint32_t state = 1;
  otr_data_rows(&state, x, 1, (int32_t)n, OTR_VALUES_PLAIN);
  for (size_t i = 0; i < n; i += 1 + otr_data_next(&state) % 300) x[i] = x[i] < 0.0f ? -9.0f : 9.0f;
}

static otr_status upload(linear_bench *b, size_t x_at, size_t scale_at, size_t weights_at) {
  const otr_device_ops *ops = b->device->ops;
  size_t n_x = (size_t)b->m * (size_t)b->k, one = (size_t)b->n * (size_t)b->k;
  float *x = malloc(n_x * sizeof *x), *scale = malloc((size_t)b->n * sizeof *scale);
  int8_t *w = malloc(one);
  uint32_t state = 1;
  otr_status status = x != NULL && scale != NULL && w != NULL ? OTR_STATUS_OK : OTR_STATUS_NO_MEMORY;
  if (status == OTR_STATUS_OK) {
    fill_activations(x, n_x);
    for (int32_t i = 0; i < b->n; ++i) scale[i] = 0.001f;
    otr_data_int8(&state, w, b->n, b->k, b->k);
    status = ops->buffer_write(b->device, b->buffer, x_at, x, n_x * sizeof *x);
  }
  if (status == OTR_STATUS_OK) {
    status = ops->buffer_write(b->device, b->buffer, scale_at, scale, (size_t)b->n * sizeof *scale);
  }
  for (int32_t i = 0; i < b->n_linears && status == OTR_STATUS_OK; ++i) {
    status = ops->buffer_write(b->device, b->buffer, weights_at + (size_t)i * rounded(one), w, one);
  }
  free(x);
  free(scale);
  free(w);
  return status;
}

static otr_status linear_prepare(linear_bench *b, otr_rule rule) {
  const otr_device_ops *ops = b->device->ops;
  size_t x_at = 0, y_at = x_at + rounded((size_t)b->m * (size_t)b->k * sizeof(float));
  size_t scale_at = y_at + rounded((size_t)b->m * (size_t)b->n * sizeof(float));
  size_t quantized_at = scale_at + rounded((size_t)b->n * sizeof(float));
  size_t weights_at = quantized_at + rounded(ops->quantized_bytes(b->m, b->k));
  size_t one = rounded((size_t)b->n * (size_t)b->k);
  OTR_TRY(ops->buffer_create(b->device, weights_at + (size_t)b->n_linears * one, &b->buffer));
  OTR_TRY(upload(b, x_at, scale_at, weights_at));
  b->ops = calloc((size_t)b->n_linears + 1, sizeof *b->ops);
  if (b->ops == NULL) return OTR_STATUS_NO_MEMORY;
  otr_ref quantized = {b->buffer, quantized_at};
  b->ops[0].code = OTR_OP_QUANTIZE;
  b->ops[0].u.quantize = (otr_op_quantize){.out = quantized, .x = {b->buffer, x_at}, .k = b->k, .rule = rule};
  for (int32_t i = 0; i < b->n_linears; ++i) {
    otr_op_linear *o = &b->ops[i + 1].u.linear;
    b->ops[i + 1].code = OTR_OP_LINEAR;
    *o = (otr_op_linear){.in = quantized, .k = b->k, .n_parts = 1};
    o->part[0].out = (otr_ref){b->buffer, y_at};
    o->part[0].w = (otr_weight){.n = b->n, .k = b->k, .row_stride = b->k, .group = b->k};
    o->part[0].w.data = (otr_ref){b->buffer, weights_at + (size_t)i * one};
    o->part[0].w.scale = (otr_ref){b->buffer, scale_at};
  }
  otr_program program = {.ops = b->ops, .n_ops = b->n_linears + 1, .max_rows = b->m};
  return ops->prepare(b->device, &program, &b->prepared);
}

/* What machine_limits.c takes the time with; the command has it in tools/common.c. */
double tool_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Best time of one linear, in seconds; negative: it failed. */
static double linear_time(otr_device *device, int32_t m, int32_t k, int32_t n, otr_rule rule) {
  int32_t many = WEIGHT_BYTES / (n * k) + 1;
  linear_bench b = {.device = device, .m = m, .k = k, .n = n, .n_linears = m > 4 ? 4 : many};
  if (b.n_linears > MAX_LINEARS) b.n_linears = MAX_LINEARS;
  otr_row *rows = calloc((size_t)m, sizeof *rows);
  otr_step step = {.n_rows = m, .row = rows};
  otr_step_result result;
  otr_status status = rows == NULL ? OTR_STATUS_NO_MEMORY : linear_prepare(&b, rule);
  double best = -1.0;
  for (int i = 0; i < REPEATS && status == OTR_STATUS_OK; ++i) {
    double begin = tool_seconds();
    status = device->ops->submit(device, b.prepared, &step, &result);
    double took = (tool_seconds() - begin) / b.n_linears;
    if (best < 0.0 || took < best) best = took;
  }
  if (b.prepared != NULL) device->ops->prepared_destroy(device, b.prepared);
  device->ops->buffer_destroy(device, b.buffer);
  free(b.ops);
  free(rows);
  return status == OTR_STATUS_OK ? best : -1.0;
}

static void print_rate(const char *what, double seconds, double macs, double bytes, const tool_limits *limits) {
  if (seconds <= 0.0) {
    printf("%s failed: %s\n", what, otr_error_detail());
    return;
  }
  printf("%-58s %10.1f us", what, seconds * 1e6);
  if (macs > 0.0)
    printf("  %7.1f GMAC/s (%3.0f %%)", macs / seconds * 1e-9, 1e-7 * macs / seconds / limits->int8_gmacs);
  printf("  %6.1f GB/s (%3.0f %%)\n", bytes / seconds * 1e-9, 1e-7 * bytes / seconds / limits->read_gbs);
}

static void bench_linears(const subject *s, int t, const tool_limits *limits) {
  static const struct { int32_t n, k; } shapes[] = {{576, 576}, {1536, 576}, {576, 1536}, {49152, 576}, {2048, 2048}};
  static const int32_t rows[] = {1, 4, 16, 128, 512};
  static const otr_rule rules[] = {{OTR_RULE_RELATIVE, 4.0f}, {OTR_RULE_OFF, 0.0f}};
  for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; ++i) {
    for (size_t j = 0; j < sizeof rows / sizeof rows[0]; ++j) {
      if (shapes[i].n > 4096 && rows[j] > 1) continue;
      for (int r = 0; r < 2; ++r) {
        char what[192];
        double macs = (double)shapes[i].n * shapes[i].k;
        snprintf(what, sizeof what, "linear %s %d threads m=%d %dx%d %s", s->info.name, t + 1, rows[j], shapes[i].n,
                 shapes[i].k, r == 0 ? "relative 4" : "off");
        print_rate(what, linear_time(s->device[t], rows[j], shapes[i].k, shapes[i].n, rules[r]), macs * rows[j], macs,
                   limits);
      }
    }
  }
}

/* The other operations on the shapes of SmolLM2-135M: a decoded token, and 128 rows. */
static const otr_case bench_cases[] = {
    {.code = OTR_OP_EMBED, .m = 128, .k = 576, .n = 4096},
    {.code = OTR_OP_POSITION, .m = 128, .k = 576},
    {.code = OTR_OP_NORM, .m = 1, .k = 576, .constant = 1e-5f},
    {.code = OTR_OP_NORM, .m = 128, .k = 576, .constant = 1e-5f},
    {.code = OTR_OP_QUANTIZE, .m = 1, .k = 576, .rule = {OTR_RULE_RELATIVE, 4.0f}},
    {.code = OTR_OP_QUANTIZE, .m = 128, .k = 576, .rule = {OTR_RULE_RELATIVE, 4.0f}},
    {.code = OTR_OP_QUANTIZE, .m = 128, .k = 1536, .rule = {OTR_RULE_RELATIVE, 4.0f}},
    {.code = OTR_OP_ROUND16, .m = 128, .k = 576},
    {.code = OTR_OP_LINEAR16, .m = 1, .k = 576, .n = 1536},
    {.code = OTR_OP_LINEAR16, .m = 128, .k = 576, .n = 1536},
    {.code = OTR_OP_ROPE_KV, .m = 1, .n_heads = 9, .n_kv_heads = 3, .head_dim = 64, .n_rot = 64, .position = 100},
    {.code = OTR_OP_ROPE_KV, .m = 128, .n_heads = 9, .n_kv_heads = 3, .head_dim = 64, .n_rot = 64},
    {.code = OTR_OP_ATTENTION, .m = 1, .n_heads = 9, .n_kv_heads = 3, .head_dim = 64, .n_rot = 64, .position = 511},
    {.code = OTR_OP_ATTENTION, .m = 1, .n_heads = 9, .n_kv_heads = 3, .head_dim = 64, .n_rot = 64, .position = 4095},
    {.code = OTR_OP_ATTENTION, .m = 128, .n_heads = 9, .n_kv_heads = 3, .head_dim = 64, .n_rot = 64},
    {.code = OTR_OP_ATTENTION, .m = 128, .n_heads = 9, .n_kv_heads = 3, .head_dim = 64, .n_rot = 64, .position = 384},
    {.code = OTR_OP_GLU, .m = 1, .k = 1536},
    {.code = OTR_OP_GLU, .m = 128, .k = 1536},
    {.code = OTR_OP_ACT, .m = 128, .k = 1536, .kind = OTR_ACT_GELU_TANH},
    {.code = OTR_OP_ADD, .m = 128, .k = 576},
    {.code = OTR_OP_SELECT, .m = 128, .k = 576},
    {.code = OTR_OP_COPY, .m = 128, .k = 576},
};

/* Multiply-adds, and bytes read, as far as the operation has one obvious figure. */
static double case_macs(const otr_case *c) {
  double visible = c->position + 0.5 * (c->m + 1);
  if (c->code == OTR_OP_ATTENTION) return 2.0 * c->m * visible * c->n_heads * c->head_dim;
  if (c->code == OTR_OP_LINEAR16) return (double)c->m * c->n * c->k;
  return 0.0;
}

static double case_bytes(const otr_case *c) {
  double visible = c->position + c->m;
  if (c->code == OTR_OP_ATTENTION) return 4.0 * visible * c->n_kv_heads * c->head_dim;
  if (c->code == OTR_OP_LINEAR16) return 2.0 * c->n * c->k;
  if (c->code == OTR_OP_ROPE_KV) return 4.0 * c->m * (c->n_heads + 2 * c->n_kv_heads) * c->head_dim;
  return 4.0 * c->m * c->k;
}

static void bench_rest(const subject *s, int t, const char *only_op, const tool_limits *limits) {
  for (size_t i = 0; i < sizeof bench_cases / sizeof bench_cases[0]; ++i) {
    const otr_case *c = &bench_cases[i];
    char what[192];
    double seconds = -1.0;
    if (only_op != NULL && strcmp(only_op, otr_op_name(c->code)) != 0) continue;
    snprintf(what, sizeof what, "%s %s %d threads m=%d %s%d", otr_op_name(c->code), s->info.name, t + 1, c->m,
             c->k != 0 ? "width=" : "position=", c->k != 0 ? c->k : c->position);
    if (otr_case_run(s->device[t], c, NULL, NULL, 20, &seconds) != OTR_STATUS_OK) seconds = -1.0;
    print_rate(what, seconds, case_macs(c), case_bytes(c), limits);
  }
}

int kernel_bench(const char *only_device, const char *only_op) {
  subjects s;
  if (!subjects_open(&s, only_device)) return EXIT_FAILURE;
  for (int t = 0; t < BENCH_THREADS; ++t) {
    tool_limits limits = {0};
    if (tool_limits_measure(t + 1, &limits) != OTR_STATUS_OK) return EXIT_FAILURE;
    printf("%d threads: %.1f GB/s read, %.1f int8 GMAC/s (%s)\n", t + 1, limits.read_gbs, limits.int8_gmacs,
           limits.instruction);
    for (int i = 0; i < s.n; ++i) {
      bool wanted = only_device == NULL || strncmp(s.of[i].info.name, only_device, strlen(only_device)) == 0;
      if (!wanted || (t > 0 && s.of[i].device[t] == s.of[i].device[0])) continue;
      if (only_op == NULL || strcmp(only_op, "linear") == 0) bench_linears(&s.of[i], t, &limits);
      bench_rest(&s.of[i], t, only_op, &limits);
    }
  }
  subjects_close(&s);
  return EXIT_SUCCESS;
}
