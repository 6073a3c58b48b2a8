// SPDX-License-Identifier: Apache-2.0
/* Converting: the new file gives the bits of the source opened directly, whatever the source and the options; the same
 * input gives the same bytes; failures leave no file. */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conversion.h"
#include "io.h"
#include "suite.h"
#include "tiny_model.h"

#define N_TOKENS 12
#define VOCAB 320

static char folder[] = "test_convert_XXXXXX";
static char source[64], result[64], other[64];

static void set_up(void) {
  strcpy(folder, "test_convert_XXXXXX");
  ck_assert(mkdtemp(folder) != NULL);
  snprintf(source, sizeof source, "%s/source.gguf", folder);
  snprintf(result, sizeof result, "%s/result.gguf", folder);
  snprintf(other, sizeof other, "%s/other.gguf", folder);
}

static void tear_down(void) {
  unlink(source);
  unlink(result);
  unlink(other);
  ck_assert_int_eq(rmdir(folder), 0);
}

static otr_runtime *make_runtime(int32_t n_threads) {
  otr_runtime *runtime;
  otr_runtime_params params = OTR_RUNTIME_PARAMS_INIT;
  params.skip_self_check = 1;
  params.n_threads = n_threads;
  params.device = "cpu";
  ck_ok(otr_runtime_create(&params, &runtime));
  return runtime;
}

static float logits[2][N_TOKENS * VOCAB];

static void eval(otr_runtime *runtime, const char *path, const otr_model_params *params, float *out) {
  otr_model *model;
  otr_session *session;
  otr_session_params session_params = OTR_SESSION_PARAMS_INIT;
  session_params.n_ctx = 256;
  int32_t ids[N_TOKENS];
  for (int32_t i = 0; i < N_TOKENS; ++i) ids[i] = (i * 37 + 1) % VOCAB;
  ck_ok(otr_model_open_file(runtime, path, params, &model));
  ck_ok(otr_session_create(model, &session_params, &session));
  ck_ok(otr_session_eval(session, ids, N_TOKENS, out));
  otr_session_destroy(session);
  ck_ok(otr_model_close(model));
}

static conversion_params defaults(otr_runtime *runtime) {
  conversion_params params;
  memset(&params, 0, sizeof params);
  params.in = source;
  params.out = result;
  params.runtime = runtime;
  return params;
}

static bool same_bytes(const char *a, const char *b) {
  otr_file files[2];
  const otr_source sources[2] = {{.path = a}, {.path = b}};
  for (int i = 0; i < 2; ++i) ck_ok(otr_file_open(&sources[i], false, &files[i]));
  bool same = files[0].bytes == files[1].bytes &&
              memcmp(otr_file_address(&files[0]), otr_file_address(&files[1]), (size_t)files[0].bytes) == 0;
  for (int i = 0; i < 2; ++i) otr_file_close(&files[i]);
  return same;
}

static bool exists(const char *path) {
  struct stat info;
  return stat(path, &info) == 0;
}

/* Nothing but the source is left in the folder. */
static void check_no_result(void) {
  char part[80];
  snprintf(part, sizeof part, "%s.part", result);
  ck_assert(!exists(result) && !exists(part));
}

typedef struct variant {
  bool own_head, bias, rope_freqs, f16, columns;
  int32_t n_keep;
  const char *keep[2];
  otr_outliers outliers;
} variant;

static const variant variants[] = {
    {.keep = {NULL}},
    {.own_head = true, .bias = true, .rope_freqs = true},
    {.f16 = true, .bias = true},
    {.columns = true},
    {.columns = true, .own_head = true},
    {.n_keep = 1, .keep = {"token_embd.weight"}},
    {.n_keep = 2, .keep = {"blk.?.ffn_*", "output.weight"}, .own_head = true, .columns = true},
    {.n_keep = 1, .keep = {"*"}},
    {.outliers = {OTR_OUTLIERS_ABSOLUTE, 0}},
    {.outliers = {OTR_OUTLIERS_OFF, 0}},
    {.outliers = {OTR_OUTLIERS_RELATIVE, 2.5f}, .columns = true},
};
#define N_VARIANTS ((int)(sizeof variants / sizeof variants[0]))

START_TEST(same_bits_as_the_source) {
  const variant *v = &variants[_i];
  llama_shape shape = tiny_model_shape();
  shape.tied = !v->own_head;
  shape.bias = v->bias;
  shape.rope_freqs = v->rope_freqs;
  shape.f16 = v->f16;
  ck_ok(tiny_model_write(source, &shape, 11));
  otr_runtime *runtime = make_runtime(2);
  conversion_params params = defaults(runtime);
  params.keep_f16 = v->keep;
  params.n_keep_f16 = v->n_keep;
  params.f16_columns_all = v->columns;
  params.outliers = v->outliers;
  conversion_result r;
  ck_ok(conversion_run(&params, &r));
  ck_assert_int_eq(r.n_int8 + r.n_f16, 22 + v->own_head);
  ck_assert_uint_eq(strlen(r.sha256), 64);

  otr_model_params open = OTR_MODEL_PARAMS_INIT;
  open.outliers = v->outliers;
  open.f16_columns_all = v->columns;
  open.keep_f16 = v->keep;
  open.n_keep_f16 = v->n_keep;
  eval(runtime, source, &open, logits[0]);
  eval(runtime, result, NULL, logits[1]);
  ck_assert(memcmp(logits[0], logits[1], sizeof logits[0]) == 0);

  otr_model *model;
  otr_model_info info = {.struct_size = sizeof info};
  char expected[65], actual[65];
  ck_ok(otr_model_open_file(runtime, result, NULL, &model));
  ck_ok(otr_model_verify(model, expected, actual));
  ck_assert_str_eq(expected, r.sha256);
  ck_ok(otr_model_get_info(model, &info));
  ck_assert(info.converted && info.outliers.rule == r.outliers.rule && info.outliers.value == r.outliers.value);
  ck_ok(otr_model_close(model));
  ck_ok(otr_runtime_destroy(runtime));
}
END_TEST

/* A file whose hash, or one of whose weights, was changed. */
START_TEST(verify_finds_a_change) {
  static const char key[] = "outrider.verify.sha256";
  llama_shape shape = tiny_model_shape();
  ck_ok(tiny_model_write(source, &shape, 11));
  otr_runtime *runtime = make_runtime(1);
  conversion_params params = defaults(runtime);
  conversion_result r;
  ck_ok(conversion_run(&params, &r));
  static uint8_t bytes[1 << 20];
  FILE *file = fopen(result, "rb");
  size_t n = fread(bytes, 1, sizeof bytes, file), at = 0;
  fclose(file);
  while (at < n && memcmp(bytes + at, key, sizeof key - 1) != 0) at++;
  at += sizeof key - 1 + 4 + 8; /* type, length, then the digits */
  ck_assert_mem_eq(bytes + at, r.sha256, 64);
  for (int i = 0; i < 2; i++) {
    size_t change = i == 0 ? at + 63 : n - 2000; /* a digit; a value of the last tensors */
    otr_source changed = {.kind = OTR_SOURCE_MEMORY, .memory = bytes, .memory_bytes = n};
    otr_model *model;
    char expected[65], actual[65];
    bytes[change] ^= 1;
    ck_ok(otr_model_open(runtime, &changed, NULL, &model));
    ck_assert_int_eq(otr_model_verify(model, expected, actual), OTR_STATUS_MISMATCH);
    ck_assert_int_eq(strcmp(actual, r.sha256) == 0, i == 0);
    ck_assert_str_ne(expected, actual);
    ck_ok(otr_model_close(model));
    bytes[change] ^= 1;
  }
  ck_ok(otr_runtime_destroy(runtime));
}
END_TEST

START_TEST(same_bytes_again) {
  llama_shape shape = tiny_model_shape();
  shape.bias = true;
  ck_ok(tiny_model_write(source, &shape, 5));
  conversion_result r;
  for (int32_t n_threads = 1; n_threads <= 3; n_threads += 2) {
    otr_runtime *runtime = make_runtime(n_threads);
    conversion_params params = defaults(runtime);
    params.out = n_threads == 1 ? result : other;
    params.f16_columns_all = 1;
    ck_ok(conversion_run(&params, &r));
    ck_ok(otr_runtime_destroy(runtime));
  }
  ck_assert(same_bytes(result, other));
}
END_TEST

/* A tensor of several pieces: more rows than one piece takes. */
START_TEST(large_tensors_are_cut) {
  llama_shape shape = tiny_model_shape();
  shape.n_layers = 1;
  shape.ffn = 15000;
  ck_ok(tiny_model_write(source, &shape, 6));
  otr_runtime *runtime = make_runtime(2);
  conversion_params params = defaults(runtime);
  params.f16_columns_all = 1;
  conversion_result r;
  ck_ok(conversion_run(&params, &r));
  otr_model_params open = OTR_MODEL_PARAMS_INIT;
  open.f16_columns_all = 1;
  eval(runtime, source, &open, logits[0]);
  eval(runtime, result, NULL, logits[1]);
  ck_assert(memcmp(logits[0], logits[1], sizeof logits[0]) == 0);
  ck_ok(otr_runtime_destroy(runtime));
}
END_TEST

/* Everything that the source says about itself is kept, but what describes its quantization. */
START_TEST(metadata_is_kept) {
  llama_shape shape = tiny_model_shape();
  ck_ok(tiny_model_write(source, &shape, 8));
  otr_runtime *runtime = make_runtime(1);
  conversion_params params = defaults(runtime);
  conversion_result r;
  ck_ok(conversion_run(&params, &r));
  otr_metadata *before, *after;
  otr_source from = {.path = source}, to = {.path = result};
  ck_ok(otr_metadata_open(&from, &before));
  ck_ok(otr_metadata_open(&to, &after));
  otr_metadata_value a, b;
  for (int32_t i = 0; otr_metadata_at(before, i, &a); ++i) {
    char key[128];
    snprintf(key, sizeof key, "%.*s", (int)a.key_bytes, a.key);
    ck_assert_msg(otr_metadata_find(after, key, &b), "%s", key);
    bool same = a.type == b.type && a.bytes == b.bytes && memcmp(a.data, b.data, a.bytes) == 0;
    bool changes = strcmp(key, "general.alignment") == 0 || strcmp(key, "general.file_type") == 0;
    ck_assert_msg(same != changes, "%s", key);
  }
  ck_assert_int_eq(otr_metadata_count(after), otr_metadata_count(before) + 8);
  otr_metadata_close(before);
  otr_metadata_close(after);
  ck_ok(otr_runtime_destroy(runtime));
}
END_TEST

static void refused(const conversion_params *params, otr_status status, const char *word) {
  conversion_result r;
  ck_assert_int_eq(conversion_run(params, &r), status);
  ck_assert_msg(strstr(otr_error_detail(), word) != NULL, "%s", otr_error_detail());
}

static int32_t cancel(void *user, uint64_t done, uint64_t total) {
  (void)user;
  return done > total / 2;
}

START_TEST(what_is_refused) {
  llama_shape shape = tiny_model_shape();
  ck_ok(tiny_model_write(source, &shape, 8));
  otr_runtime *runtime = make_runtime(1);
  conversion_params params = defaults(runtime);
  static const char *const globs[] = {"token_embd.weight", "blk.*.no_such"};
  params.keep_f16 = globs;
  params.n_keep_f16 = 2;
  refused(&params, OTR_STATUS_INVALID_ARGUMENT, "blk.*.no_such");
  params.n_keep_f16 = 0;
  params.progress = cancel;
  refused(&params, OTR_STATUS_CANCELLED, "cancelled");
  params.progress = NULL;
  params.outliers.rule = OTR_OUTLIERS_RELATIVE;
  params.outliers.value = -1.0f;
  refused(&params, OTR_STATUS_INVALID_ARGUMENT, "relative");
  params = defaults(runtime);
  params.out = "no/such/folder/result.gguf";
  refused(&params, OTR_STATUS_IO, "no/such/folder");
  params = defaults(runtime);
  params.in = "no/such/file.gguf";
  refused(&params, OTR_STATUS_IO, "no/such/file.gguf");
  params = defaults(runtime);
  params.out = source;
  refused(&params, OTR_STATUS_INVALID_ARGUMENT, "same file");
  check_no_result();
  params = defaults(runtime);
  conversion_result r;
  ck_ok(conversion_run(&params, &r));
  params.in = result;
  params.out = other;
  refused(&params, OTR_STATUS_UNSUPPORTED, "converted already");
  ck_assert(!exists(other));
  ck_ok(otr_runtime_destroy(runtime));
}
END_TEST

static const float *bad_values(void *user, llama_role role, int32_t layer, int32_t n, int32_t k) {
  float *data = user;
  for (int64_t i = 0; i < (int64_t)n * k; ++i) data[i] = 0.5f;
  if (role == LLAMA_FFN_UP && layer == 1) data[k + 3] = 1.0f / 0.0f;
  return data;
}

START_TEST(values_that_are_not_finite) {
  llama_shape shape = tiny_model_shape();
  float *data = malloc(sizeof *data * (size_t)shape.vocab * (size_t)shape.dim);
  const char **tokens = calloc((size_t)shape.vocab, sizeof *tokens);
  float *scores = calloc((size_t)shape.vocab, sizeof *scores);
  int32_t *types = calloc((size_t)shape.vocab, sizeof *types);
  for (int i = 0; i < shape.vocab; ++i) tokens[i] = "x";
  const llama_vocab vocab = {tokens, scores, types};
  ck_ok(llama_gguf_write(source, &shape, &vocab, bad_values, data));
  otr_runtime *runtime = make_runtime(2);
  conversion_params params = defaults(runtime);
  refused(&params, OTR_STATUS_BAD_FORMAT, "blk.1.ffn_up.weight: row 1");
  check_no_result();
  ck_ok(otr_runtime_destroy(runtime));
  free(data);
  free(tokens);
  free(scores);
  free(types);
}
END_TEST

static void add(TCase *tests) {
  tcase_add_checked_fixture(tests, set_up, tear_down);
  tcase_add_loop_test(tests, same_bits_as_the_source, 0, N_VARIANTS);
  tcase_add_test(tests, verify_finds_a_change);
  tcase_add_test(tests, same_bytes_again);
  tcase_add_test(tests, large_tensors_are_cut);
  tcase_add_test(tests, metadata_is_kept);
  tcase_add_test(tests, what_is_refused);
  tcase_add_test(tests, values_that_are_not_finite);
}

int main(void) {
  return suite_run("convert", add);
}
