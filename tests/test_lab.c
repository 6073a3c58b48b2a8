// SPDX-License-Identifier: Apache-2.0
/* The lab's schemes against their formulas on small matrices, GPTQ against rounding to nearest, and a whole model
 * against the library. */
#include <math.h>
#include <string.h>

#include "lab.h"
#include "lab_gptq.h"
#include "model_kit.h"

static otr_memory memory;
static otr_parallel *parallel;

static void set_up(void) {
  otr_memory_init(&memory, NULL);
  ck_ok(otr_parallel_create(&memory, 2, NULL, NULL, &parallel));
}

static void tear_down(void) {
  otr_parallel_destroy(parallel);
}

static lab_scheme scheme_of(const char *name) {
  lab_scheme scheme;
  ck_ok(lab_scheme_parse(name, &scheme));
  return scheme;
}

static void near(double actual, double expected, double tolerance) {
  ck_assert_msg(fabs(actual - expected) <= tolerance, "%.9g, not %.9g", actual, expected);
}

/* Rounds w [n, k] as the scheme does its weights. */
static void round_weights(const char *name, float *w, int32_t n, int32_t k) {
  lab_scheme scheme = scheme_of(name);
  lab_rounding rounding;
  ck_ok(lab_rounding_create(&rounding, &scheme, n, k));
  for (int32_t i = 0; lab_rounding_scans(&rounding) && i < n; i++) lab_rounding_scan(&rounding, i, w + i * k);
  if (lab_rounding_scans(&rounding)) lab_rounding_settle(&rounding);
  for (int32_t i = 0; i < n; i++) lab_round_row(&rounding, i, w + i * k);
  lab_rounding_free(&rounding);
}

static lab_count round_inputs(const char *name, float *out, const float *x, int32_t m, int32_t k) {
  lab_scheme scheme = scheme_of(name);
  lab_count count = {0, 0};
  float scratch[256];
  ck_assert_int_le(m + k, 256);
  otr_parallel_begin(parallel);
  lab_round_inputs(&scheme, out, x, m, k, scratch, parallel, &count);
  otr_parallel_end(parallel);
  return count;
}

/* ---- numbers ----------------------------------------------------------------------------------------------------- */

START_TEST(test_f16) {
  ck_assert(lab_f16(1.0f) == 1.0f && lab_f16(0.0f) == 0.0f && lab_f16(-2048.0f) == -2048.0f);
  ck_assert(lab_f16(2049.0f) == 2048.0f && lab_f16(2051.0f) == 2052.0f); /* ties to even */
  ck_assert(lab_f16(0x1p-24f) == 0x1p-24f && lab_f16(0x1.8p-24f) == 0x1p-23f && lab_f16(0x1p-26f) == 0.0f);
  ck_assert(lab_f16(1e6f) == 65504.0f && lab_f16(-1e6f) == -65504.0f);
}
END_TEST

START_TEST(test_e4m3) {
  ck_assert(lab_e4m3(448.0f) == 448.0f && lab_e4m3(1000.0f) == 448.0f && lab_e4m3(-1.0f) == -1.0f);
  ck_assert(lab_e4m3(17.0f) == 16.0f && lab_e4m3(19.0f) == 20.0f); /* ties to even */
  ck_assert(lab_e4m3(0x1p-9f) == 0x1p-9f && lab_e4m3(0x1p-11f) == 0.0f);
}
END_TEST

/* The code book: 16 values, -1, 0 and 1 among them, each the nearest of itself and of what lies close by. */
START_TEST(test_nf4) {
  float last = -2.0f;
  int32_t n = 0;
  for (int32_t i = -4000; i <= 4000; i++) {
    float x = (float)i / 4000.0f, y = lab_nf4(x);
    ck_assert(y >= last && lab_nf4(y) == y);
    if (y > last) n++;
    last = y;
  }
  ck_assert_int_eq(n, 16);
  ck_assert(lab_nf4(-1.0f) == -1.0f && lab_nf4(0.001f) == 0.0f && lab_nf4(0.9f) == 1.0f);
  ck_assert(lab_nf4(0.8f) == 0.7229568362236023f && lab_nf4(-0.1f) == -0.09105003625154495f);
}
END_TEST

/* ---- weights ----------------------------------------------------------------------------------------------------- */

static const float matrix[3][4] = {{0.5f, -2.0f, 1.0f, 0.26f}, {10.0f, 0.04f, -3.0f, 7.0f}, {0.0f, 0.0f, 0.0f, 0.0f}};

static double largest(const float *x, int32_t n) {
  double most = 0.0;
  for (int32_t i = 0; i < n; i++) most = fmax(most, fabs((double)x[i]));
  return most;
}

START_TEST(test_absmax) {
  float rows[3][4], tensor[3][4];
  memcpy(rows, matrix, sizeof rows);
  memcpy(tensor, matrix, sizeof tensor);
  round_weights("absmax-vector", &rows[0][0], 3, 4);
  round_weights("absmax-row", &tensor[0][0], 3, 4);
  for (int32_t i = 0; i < 3; i++) {
    double row = largest(matrix[i], 4) / 127.0, all = 10.0 / 127.0;
    for (int32_t j = 0; j < 4; j++) {
      double w = (double)matrix[i][j];
      near((double)rows[i][j], row > 0.0 ? rint(w / row) * row : 0.0, 1e-6);
      near((double)tensor[i][j], rint(w / all) * all, 1e-6);
    }
  }
}
END_TEST

START_TEST(test_zeropoint) {
  float rows[3][4], tensor[3][4];
  memcpy(rows, matrix, sizeof rows);
  memcpy(tensor, matrix, sizeof tensor);
  round_weights("zeropoint-vector", &rows[0][0], 3, 4);
  round_weights("zeropoint-tensor", &tensor[0][0], 3, 4);
  for (int32_t j = 0; j < 4; j++) {
    double step = (1.0 + 2.0) / 254.0, all = (10.0 + 3.0) / 254.0;
    near((double)rows[0][j], rint((double)matrix[0][j] / step) * step, 1e-6);
    near((double)tensor[1][j], rint((double)matrix[1][j] / all) * all, 1e-6);
    ck_assert(rows[2][j] == 0.0f);
  }
}
END_TEST

START_TEST(test_nf4_blocks) {
  enum { WIDTH = 100 }; /* a block of 64 and one of 36 */
  float w[2 * WIDTH], plain[2 * WIDTH], twice[2 * WIDTH];
  for (int32_t i = 0; i < 2 * WIDTH; i++) w[i] = sinf((float)(i * i)) * (i % WIDTH < 64 ? 1.0f : 8.0f);
  memcpy(plain, w, sizeof w);
  memcpy(twice, w, sizeof w);
  round_weights("nf4", plain, 2, WIDTH);
  round_weights("nf4-dq", twice, 2, WIDTH);
  for (int32_t i = 0; i < 2 * WIDTH; i++) {
    const int32_t row = i - i % WIDTH, first = i % WIDTH < 64 ? row : row + 64, n = i % WIDTH < 64 ? 64 : WIDTH - 64;
    const double absmax = largest(w + first, n);
    near((double)plain[i], (double)lab_nf4((float)((double)w[i] / absmax)) * absmax, 1e-6);
    /* constants of 1 and 8 around their mean, with 4 significant bits */
    near((double)twice[i], (double)plain[i], fabs((double)plain[i]) / absmax * 3.6 / 16.0);
  }
}
END_TEST

/* ---- inputs ------------------------------------------------------------------------------------------------------ */

static const float inputs[2][4] = {{1.0f, -8.0f, 0.5f, 0.3f}, {-2.0f, 1.0f, 0.7f, 6.0f}};

START_TEST(test_outliers_of_tokens) {
  float out[2][4];
  lab_count count = round_inputs("absolute=6", &out[0][0], &inputs[0][0], 2, 4);
  ck_assert_uint_eq(count.outliers, 2);
  ck_assert_uint_eq(count.values, 8);
  ck_assert(out[0][1] == -8.0f && out[1][3] == 6.0f); /* f16 holds them */
  for (int32_t i = 0; i < 2; i++) {
    double step = i == 0 ? 1.0 / 127.0 : 2.0 / 127.0; /* absmax leaves the outliers out */
    for (int32_t j = 0; j < 4; j++)
      if (fabsf(inputs[i][j]) < 6.0f) near((double)out[i][j], rint((double)inputs[i][j] / step) * step, 1e-6);
  }
  count = round_inputs("relative=1.5", &out[0][0], &inputs[0][0], 2, 4); /* rms 4.05 and 3.22 */
  ck_assert_uint_eq(count.outliers, 2);
  count = round_inputs("relative=2", &out[0][0], &inputs[0][0], 2, 4);
  ck_assert_uint_eq(count.outliers, 0);
}
END_TEST

START_TEST(test_outliers_of_batches) {
  float out[2][4];
  lab_count count = round_inputs("absolute-batch", &out[0][0], &inputs[0][0], 2, 4);
  ck_assert_uint_eq(count.outliers, 4); /* columns 1 and 3 of both rows */
  near((double)out[1][1], 1.0, 0.0);
  near((double)out[0][3], (double)inputs[0][3], 1e-4);
}
END_TEST

START_TEST(test_inputs_of_tensors) {
  float out[2][4];
  (void)round_inputs("absmax-tensor", &out[0][0], &inputs[0][0], 2, 4);
  for (int32_t j = 0; j < 4; j++) near((double)out[1][j], rint((double)inputs[1][j] * 127.0 / 8.0) * 8.0 / 127.0, 1e-6);
  (void)round_inputs("zeropoint-row", &out[0][0], &inputs[0][0], 2, 4);
  for (int32_t j = 0; j < 4; j++) near((double)out[0][j], rint((double)inputs[0][j] * 254.0 / 9.0) * 9.0 / 254.0, 1e-6);
  (void)round_inputs("f16", &out[0][0], &inputs[0][0], 2, 4);
  ck_assert(out[0][3] == lab_f16(0.3f));
}
END_TEST

/* ---- GPTQ -------------------------------------------------------------------------------------------------------- */

enum { ROWS = 64, K = 75, N = 18 };

/* Inputs of which neighbours say nearly the same, and weights. */
static void make_problem(float *x, float *w) {
  uint32_t state = 12345;
  for (int32_t i = 0; i < ROWS * K; i++) {
    state = state * 1664525u + 1013904223u;
    float fresh = (float)(state >> 8) * 0x1p-23f - 1.0f;
    x[i] = i % K == 0 ? fresh : 0.9f * x[i - 1] + 0.3f * fresh;
  }
  for (int32_t i = 0; i < N * K; i++) {
    state = state * 1664525u + 1013904223u;
    w[i] = (float)(state >> 8) * 0x1p-23f - 1.0f;
  }
}

/* |x (a - b)ᵀ|² */
static double output_error(const float *x, const float *a, const float *b) {
  double sum = 0.0;
  for (int32_t i = 0; i < ROWS; i++) {
    for (int32_t j = 0; j < N; j++) {
      double y = 0.0;
      for (int32_t l = 0; l < K; l++) y += (double)x[i * K + l] * (double)(a[j * K + l] - b[j * K + l]);
      sum += y * y;
    }
  }
  return sum;
}

START_TEST(test_gptq) {
  static float x[ROWS * K], w[N * K], nearest[N * K], fitted[N * K], hessian[K * K], unit[K * K];
  const int32_t group = _i == 0 ? 0 : 32;
  make_problem(x, w);
  memset(hessian, 0, sizeof hessian);
  otr_parallel_begin(parallel);
  ck_ok(lab_gptq_gather(parallel, hessian, x, ROWS / 2, K));
  ck_ok(lab_gptq_gather(parallel, hessian, x + ROWS / 2 * K, ROWS / 2, K));
  otr_parallel_end(parallel);
  for (int32_t i = 0; i < K; i++) {
    double sum = 0.0;
    for (int32_t r = 0; r < ROWS; r++) sum += (double)x[r * K + i] * (double)x[r * K + i / 2];
    near((double)hessian[i * K + i / 2], sum, 1e-3);
    unit[i * K + i] = 1.0f; /* nothing to spread: rounding to nearest, on the same grid */
  }
  memcpy(nearest, w, sizeof w);
  memcpy(fitted, w, sizeof w);
  ck_ok(lab_gptq_quantize(parallel, nearest, N, K, unit, 4, group));
  ck_ok(lab_gptq_quantize(parallel, fitted, N, K, hessian, 4, group));
  for (int32_t i = 0; i < N * K; i++) near((double)nearest[i], (double)w[i], 0.5 * 2.0 / 15.0 + 1e-6);
  ck_assert_msg(output_error(x, fitted, w) < 0.5 * output_error(x, nearest, w), "%g, nearest %g",
                output_error(x, fitted, w), output_error(x, nearest, w));
}
END_TEST

START_TEST(test_gptq_without_inputs) {
  static float w[N * K], hessian[K * K];
  for (int32_t i = 0; i < N * K; i++) w[i] = (float)(i % 7) - 3.0f;
  ck_ok(lab_gptq_quantize(parallel, w, N, K, hessian, 8, 0)); /* inputs that are always 0 */
  for (int32_t i = 0; i < N * K; i++) near((double)w[i], (double)(i % 7) - 3.0, 0.02);
  for (int32_t i = 0; i < K; i++) hessian[i * K + i] = -1.0f;
  ck_assert_int_eq(lab_gptq_quantize(parallel, w, N, K, hessian, 8, 0), OTR_STATUS_INVALID_ARGUMENT);
}
END_TEST

/* ---- names and sizes --------------------------------------------------------------------------------------------- */

START_TEST(test_names) {
  lab_scheme scheme, *list;
  int32_t n;
  ck_ok(lab_scheme_parse("absolute=3.5", &scheme));
  ck_assert_str_eq(scheme.name, "absolute=3.5");
  ck_assert(scheme.outliers.value == 3.5f && strstr(scheme.title, "3.5") != NULL);
  ck_ok(lab_scheme_parse("off", &scheme));
  ck_assert_str_eq(scheme.name, "absmax-vector");
  static const char *const bad[] = {"", "int9", "f16=2", "absolute=", "absolute=x", "absolute=0", "relative=nan"};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
    ck_assert_int_eq(lab_scheme_parse(bad[i], &scheme), OTR_STATUS_INVALID_ARGUMENT);
  ck_ok(lab_schemes_parse("all", &list, &n));
  ck_assert_int_eq(n, 19);
  free(list);
  ck_assert_int_eq(lab_schemes_parse(",", &list, &n), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(lab_schemes_parse("f32,nothing", &list, &n), OTR_STATUS_INVALID_ARGUMENT);
}
END_TEST

START_TEST(test_bytes) {
  static const struct {
    const char *name;
    uint64_t bytes;
  } of[] = {{"f32", 65536},
            {"f16", 32768},
            {"absmax-tensor", 16388},
            {"absmax-vector", 16896},
            {"weights-int8", 16896},
            {"nf4", 8192 + 1024},
            {"nf4-dq", 8192 + 256 + 8},
            {"gptq-8", 16384 + 384},
            {"gptq-4", 8192 + 256},
            {"gptq-4-g128", 8192 + 256}};
  for (size_t i = 0; i < sizeof of / sizeof of[0]; i++) {
    lab_scheme scheme = scheme_of(of[i].name);
    ck_assert_msg(lab_scheme_bytes(&scheme, 128, 128) == of[i].bytes, "%s: %llu", of[i].name,
                  (unsigned long long)lab_scheme_bytes(&scheme, 128, 128));
  }
}
END_TEST

/* ---- a model ----------------------------------------------------------------------------------------------------- */

enum { IDS = 24, MOST_IDS = 512 };

typedef struct seen {
  int32_t inputs, last_layer, states;
} seen;

static void see_input(void *user, const otr_tensor_rule *rule, int32_t layer, const float *x, int32_t m, int32_t k) {
  seen *s = user;
  ck_assert(rule != NULL && m == IDS && k > 0 && isfinite(x[0]));
  ck_assert_int_ge(layer, s->last_layer);
  s->last_layer = layer;
  s->inputs++;
}

static void see_state(void *user, int32_t layer, size_t window, const float *x, int32_t n, int32_t dim) {
  (void)layer;
  ck_assert(window == 0 && n == IDS && dim == 72 && isfinite(x[0]));
  ((seen *)user)->states++;
}

static void clear_input(void *user, const otr_tensor_rule *rule, int32_t layer, float *x, int32_t m, int32_t k) {
  (void)user;
  (void)rule;
  (void)layer;
  memset(x, 0, (size_t)m * (size_t)k * sizeof *x);
}

/* Logits of all positions; free(). */
static float *logits_of(const char *path, const char *name, int32_t *ids, int32_t n, const lab_watch *watch,
                        int32_t *vocab) {
  lab_model *lab;
  lab_weights *weights;
  lab_scheme scheme = scheme_of(name);
  size_t start[2] = {0, (size_t)n};
  const tool_ids window = {ids, start, 1};
  ck_ok(lab_open(path, 2, &lab));
  ck_ok(lab_weights_create(lab, &scheme, &window, false, &weights));
  *vocab = lab_config(lab)->vocab;
  float *x = calloc((size_t)n * (size_t)lab_head_width(lab), sizeof *x);
  float *logits = calloc((size_t)n * (size_t)*vocab, sizeof *logits);
  ck_ok(lab_run(lab, weights, &window, watch, x));
  ck_ok(lab_logits(lab, weights, x, n, logits));
  free(x);
  lab_weights_free(weights);
  lab_close(lab);
  return logits;
}

static float *lab_all_logits(const char *path, const char *name, int32_t *ids, const lab_watch *watch) {
  int32_t vocab;
  return logits_of(path, name, ids, IDS, watch, &vocab);
}

static double distance(const float *a, const float *b, size_t n) {
  double off = 0.0, all = 0.0;
  for (size_t i = 0; i < n; i++) {
    off += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    all += (double)b[i] * (double)b[i];
  }
  return sqrt(off / all);
}

/* The lab's LLM.int8() is nearly the library's: what is left is f16 in attention and the order of sums. */
START_TEST(test_near_the_library) {
  int32_t ids[IDS];
  char *path = kit_tiny_file(NULL, 5);
  kit k = kit_open(path, "cpu", 1, NULL);
  const size_t values = (size_t)IDS * (size_t)kit_vocab(k.model);
  kit_ids(ids, IDS, kit_vocab(k.model), 3);
  float *library = kit_logits(k.model, ids, IDS, IDS);
  seen s = {0, -1, 0};
  const lab_watch watch = {.user = &s, .input = see_input, .state = see_state};
  float *same = lab_all_logits(path, "relative", ids, &watch), *exact = lab_all_logits(path, "f32", ids, NULL);
  double near_library = distance(same, library, values), near_f32 = distance(exact, library, values);
  ck_assert_msg(near_library < 0.5 * near_f32 && near_f32 < 0.1, "%g, f32 %g", near_library, near_f32);
  ck_assert_int_eq(s.inputs, 3 * 7 + 1);
  ck_assert_int_eq(s.last_layer, 3);
  ck_assert_int_eq(s.states, 3);
  free(same);
  const lab_watch clear = {.edit = clear_input};
  same = lab_all_logits(path, "f32", ids, &clear);
  ck_assert(same[0] == 0.0f && same[values - 1] == 0.0f);
  free(same);
  free(exact);
  free(library);
  kit_close(&k);
  kit_remove(path);
}
END_TEST

START_TEST(test_gptq_model) {
  int32_t ids[IDS];
  char *path = kit_tiny_file(NULL, 5);
  kit_ids(ids, IDS, 320, 3);
  float *exact = lab_all_logits(path, "f32", ids, NULL), *eight = lab_all_logits(path, "gptq-8", ids, NULL);
  float *four = lab_all_logits(path, "gptq-4", ids, NULL);
  const size_t values = IDS * 320;
  double at8 = distance(eight, exact, values), at4 = distance(four, exact, values);
  ck_assert_msg(at8 < 0.02 && at4 < 0.6 && at8 < 0.2 * at4, "%g %g", at8, at4);
  free(exact);
  free(eight);
  free(four);
  kit_remove(path);
}
END_TEST

/* ---- every architecture, against float64 ------------------------------------------------------------------------- */

static int32_t read_ids(const char *folder, int32_t *ids) {
  char path[512];
  int32_t n = 0;
  snprintf(path, sizeof path, "%s/tokens.txt", folder);
  FILE *file = fopen(path, "r");
  ck_assert_msg(file != NULL, "%s", path);
  while (n < MOST_IDS && fscanf(file, "%d", &ids[n]) == 1) n++;
  fclose(file);
  return n;
}

static void check_folder(const char *folder) {
  char path[512];
  int32_t ids[MOST_IDS], vocab, n = read_ids(folder, ids);
  float *logits = logits_of(folder, "f32", ids, n, NULL, &vocab);
  const size_t values = (size_t)n * (size_t)vocab;
  float *wanted = calloc(values, sizeof *wanted);
  snprintf(path, sizeof path, "%s/logits.f32", folder);
  FILE *file = fopen(path, "rb");
  ck_assert_msg(file != NULL && fread(wanted, sizeof *wanted, values, file) == values, "%s", path);
  fclose(file);
  double off = distance(logits, wanted, values);
  ck_assert_msg(off < 1e-5, "%s: relative error %g", folder, off);
  free(wanted);
  free(logits);
}

START_TEST(test_fixtures) {
  static const char *const names[] = {"falcon",          "falcon-grouped",   "falcon-rw",  "gemma",
                                      "llama-linear",    "llama-yarn",       "opt-post",   "phi3",
                                      "phi3-longrope",   "phi3-shortrope",   "qwen2-yarn", "stablelm",
                                      "stablelm-qknorm", "stablelm-parallel"};
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    char folder[512];
    snprintf(folder, sizeof folder, FIXTURES "/hf/%s", names[i]);
    check_folder(folder);
  }
}
END_TEST

START_TEST(test_goldens) {
  static const char *const names[] = {"llama",         "llama-tied", "llama-rope3", "llama-bf16", "mistral",
                                      "mistral-swa16", "qwen2",      "qwen3",       "gpt2",       "gpt2-hub",
                                      "opt",           "bloom",      "gpt_neox"};
  const char *data = suite_data("test_goldens");
  for (size_t i = 0; data && i < sizeof names / sizeof names[0]; i++) {
    char folder[512];
    snprintf(folder, sizeof folder, "%s/goldens/hf/%s", data, names[i]);
    check_folder(folder);
  }
}
END_TEST

static void add(TCase *tests) {
  tcase_add_checked_fixture(tests, set_up, tear_down);
  tcase_add_test(tests, test_f16);
  tcase_add_test(tests, test_e4m3);
  tcase_add_test(tests, test_nf4);
  tcase_add_test(tests, test_absmax);
  tcase_add_test(tests, test_zeropoint);
  tcase_add_test(tests, test_nf4_blocks);
  tcase_add_test(tests, test_outliers_of_tokens);
  tcase_add_test(tests, test_outliers_of_batches);
  tcase_add_test(tests, test_inputs_of_tensors);
  tcase_add_loop_test(tests, test_gptq, 0, 2);
  tcase_add_test(tests, test_gptq_without_inputs);
  tcase_add_test(tests, test_names);
  tcase_add_test(tests, test_bytes);
  tcase_add_test(tests, test_near_the_library);
  tcase_add_test(tests, test_gptq_model);
  tcase_add_test(tests, test_fixtures);
  tcase_add_test(tests, test_goldens);
}

int main(void) {
  return suite_run("lab", add);
}
