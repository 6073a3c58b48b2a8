// SPDX-License-Identifier: Apache-2.0
/* Hugging Face directories against logits and hidden states that transformers computed in float64: converted, each
 * comes as near as its scheme allows, and gives one hash on every device. argv: tests/fixtures/hf; the folder
 * goldens/hf of OUTRIDER_TEST_DATA is run, too, where it is given. tests/fixtures/hf/README.md has the files and the
 * limits' reasons. */
#include <dirent.h>
#include <math.h>
#include <string.h>

#include "conversion.h"
#include "model.h"
#include "model_kit.h"
#include "runtime.h"
#include "source.h"

#define MAX_MODELS 64
#define MAX_IDS 64
#define NEAR_EXACT \
  { OTR_OUTLIERS_ABSOLUTE, 1e-30f }
#define PAPER \
  { OTR_OUTLIERS_ABSOLUTE, 6.0f }

static char *folders[MAX_MODELS];
static int32_t n_folders;

/* One directory and what it should give. */
typedef struct golden {
  const char *name;
  int32_t ids[MAX_IDS], n;
  float *logits; /* [n, vocab] */
  float *hidden; /* [n_layers + 1, n, dim] as of otr_session_hidden; NULL: none */
  size_t n_logits, n_hidden;
  bool is_int8; /* a bitsandbytes checkpoint */
} golden;

/* How a directory is converted, and how far it may then be off (relative L2; 0: no limit of its own). */
typedef struct form {
  const char *what;
  otr_outliers outliers;
  bool all_columns, keep_ends; /* f16 columns; embedding and output layer in f16 */
  double limit;
  bool check_hidden;
} form;

enum { FORM_NEAR, FORM_INT8_ENDS, FORM_F16_COLUMNS, FORM_INT8_COLUMNS, FORM_OFF, N_FORMS };
static const form forms[N_FORMS] = {
    {"near-exact", NEAR_EXACT, true, true, 0.005, true},
    {"near-exact, int8 embedding", NEAR_EXACT, true, false, 0.03, true},
    {"absolute 6, f16 columns", PAPER, true, false, 0.07, false},
    {"absolute 6, int8 columns", PAPER, false, false, 0.20, false},
    {"off", {OTR_OUTLIERS_OFF, 0}, true, false, 0, false},
};
static const form taken_over = {"bitsandbytes", {OTR_OUTLIERS_DEFAULT, 0}, false, false, 0.05, false};

/* ---- reading ----------------------------------------------------------------------------------------------------- */

static float *read_floats(const char *folder, const char *name, size_t *n) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "rb");
  *n = 0;
  if (file == NULL) return NULL;
  ck_assert(fseek(file, 0, SEEK_END) == 0);
  *n = (size_t)ftell(file) / sizeof(float);
  rewind(file);
  float *values = malloc(*n * sizeof *values);
  ck_assert_ptr_nonnull(values);
  ck_assert_uint_eq(fread(values, sizeof *values, *n, file), *n);
  fclose(file);
  return values;
}

/* A checkpoint's ids are those of the directory it was made of. */
static void read_ids(golden *g, const char *folder) {
  char path[4096];
  const char *prefix = g->is_int8 ? "../" : "", *origin = g->is_int8 ? g->name + strlen("bnb-") : "";
  snprintf(path, sizeof path, "%s/%s%s/tokens.txt", folder, prefix, origin);
  FILE *file = fopen(path, "r");
  ck_assert_msg(file != NULL, "%s cannot be opened", path);
  while (g->n < MAX_IDS && fscanf(file, "%d", &g->ids[g->n]) == 1) g->n++;
  fclose(file);
  ck_assert_int_ge(g->n, 8);
}

static golden read_golden(const char *folder) {
  golden g;
  memset(&g, 0, sizeof g);
  g.name = strrchr(folder, '/') + 1;
  g.logits = read_floats(folder, "logits.f32", &g.n_logits);
  g.is_int8 = g.logits == NULL;
  if (g.is_int8) g.logits = read_floats(folder, "logits_row.f32", &g.n_logits);
  g.hidden = read_floats(folder, "hidden.f32", &g.n_hidden);
  ck_assert_msg(g.logits != NULL, "%s: no logits", folder);
  read_ids(&g, folder);
  return g;
}

static void free_golden(golden *g) {
  free(g->logits);
  free(g->hidden);
}

/* ---- activations --------------------------------------------------------------------------------------------------
 */

/* Which form of gelu a model has does not show in its logits (a relative L2 of 0.0002). */
static otr_act_kind activation_of(const char *name) {
  static const struct {
    const char *begin;
    otr_act_kind act;
  } known[] = {{"gpt2", OTR_ACT_GELU_TANH},  {"bnb-gpt2", OTR_ACT_GELU_TANH}, {"bloom", OTR_ACT_GELU_TANH},
               {"gemma", OTR_ACT_GELU_TANH}, {"gpt_neox", OTR_ACT_GELU_ERF},  {"falcon", OTR_ACT_GELU_ERF},
               {"opt", OTR_ACT_RELU},        {"bnb-opt", OTR_ACT_RELU}};
  for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
    if (strncmp(name, known[i].begin, strlen(known[i].begin)) == 0) return known[i].act;
  return OTR_ACT_SILU;
}

/* ---- comparing --------------------------------------------------------------------------------------------------- */

static double relative_l2(const float *a, const float *b, size_t n) {
  double error = 0, size = 0;
  for (size_t i = 0; i < n; i++) {
    error += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    size += (double)b[i] * (double)b[i];
  }
  return sqrt(error / size);
}

static bool is_tied(const char *path) {
  kit k = kit_open(path, "cpu", 1, NULL);
  otr_model_info info = {.struct_size = sizeof info};
  ck_ok(otr_model_get_info(k.model, &info));
  kit_close(&k);
  return info.tied_head != 0;
}

/* @return the converted file, for kit_remove. */
static char *convert(const char *folder, const form *f, bool tied) {
  static const char *const ends[] = {"token_embd.weight", "output.weight"};
  char *out = kit_new_file("hf");
  otr_runtime *runtime = kit_runtime("cpu", 1);
  conversion_params params;
  conversion_result result;
  source *from;
  memset(&params, 0, sizeof params);
  ck_ok(source_open(folder, &runtime->memory, &from));
  params.source = from;
  params.out = out;
  params.keep_f16 = ends;
  params.n_keep_f16 = !f->keep_ends ? 0 : tied ? 1 : 2;
  params.f16_columns_all = f->all_columns;
  params.outliers = f->outliers;
  params.runtime = runtime;
  otr_status status = conversion_run(&params, &result);
  ck_assert_msg(status == OTR_STATUS_OK, "%s, %s: %s", folder, f->what, otr_error_detail());
  source_close(from);
  ck_ok(otr_runtime_destroy(runtime));
  return out;
}

/* Each state on its own: an error in the first block must not hide behind the outliers of the last. */
static void check_hidden(const golden *g, const form *f, const otr_model_info *info, const float *hidden) {
  size_t n = (size_t)g->n, dim = (size_t)info->dim, layers = (size_t)info->n_layers;
  ck_assert_uint_eq(g->n_hidden, (layers + 1) * n * dim);
  for (size_t i = 0; i <= layers; i++) {
    double error = relative_l2(hidden + i * n * dim, g->hidden + i * n * dim, n * dim);
    ck_assert_msg(error <= f->limit, "%s, %s: hidden state %zu is off by %.5f", g->name, f->what, i, error);
  }
}

/* @return the logits' error. */
static double measure(const golden *g, const form *f, const char *path) {
  kit k = kit_open(path, "cpu", 1, NULL);
  otr_model_info info = {.struct_size = sizeof info};
  ck_ok(otr_model_get_info(k.model, &info));
  ck_assert_uint_eq(g->n_logits, (size_t)g->n * (size_t)info.vocab);
  ck_assert_msg(k.model->config.act == activation_of(g->name), "%s has another activation", g->name);
  otr_session_params params = OTR_SESSION_PARAMS_INIT;
  otr_session *session;
  params.n_ctx = params.n_batch = g->n;
  params.keep_hidden = 1;
  float *logits = malloc(g->n_logits * sizeof *logits);
  ck_assert_ptr_nonnull(logits);
  ck_ok(otr_session_create(k.model, &params, &session));
  ck_ok(otr_session_eval(session, g->ids, g->n, logits));
  int32_t n_rows = 0;
  const float *hidden = otr_session_hidden(session, &n_rows);
  ck_assert_int_eq(n_rows, g->n);
  if (f->check_hidden && g->hidden != NULL) check_hidden(g, f, &info, hidden);
  double error = relative_l2(logits, g->logits, g->n_logits);
  ck_assert_msg(f->limit == 0 || error <= f->limit, "%s, %s: the logits are off by %.5f", g->name, f->what, error);
  free(logits);
  otr_session_destroy(session);
  kit_close(&k);
  return error;
}

/* ---- tests ------------------------------------------------------------------------------------------------------- */

START_TEST(comes_near) {
  golden g = read_golden(folders[_i]);
  double errors[N_FORMS];
  char *plain = convert(folders[_i], &taken_over, true);
  if (g.is_int8) {
    printf("%-18s %.5f\n", g.name, measure(&g, &taken_over, plain));
  } else {
    bool tied = is_tied(plain);
    for (int i = 0; i < N_FORMS; i++) {
      char *path = convert(folders[_i], &forms[i], tied);
      errors[i] = measure(&g, &forms[i], path);
      kit_remove(path);
    }
    printf("%-18s near %.5f, int8 ends %.5f, f16 columns %.5f, int8 columns %.5f, off %.5f\n", g.name, errors[0],
           errors[1], errors[2], errors[3], errors[4]);
    ck_assert_msg(errors[FORM_OFF] > 3 * errors[FORM_F16_COLUMNS], "%s: off is hardly worse than f16 columns", g.name);
    ck_assert_msg(errors[FORM_OFF] > 1.4 * errors[FORM_INT8_COLUMNS], "%s: off is hardly worse than 6", g.name);
  }
  kit_remove(plain);
  free_golden(&g);
}
END_TEST

static void hash_of(char hash[65], const golden *g, const char *path, const char *device, int32_t threads,
                    int32_t split) {
  kit k = kit_open(path, device, threads, NULL);
  float *logits = kit_logits(k.model, g->ids, g->n, split);
  kit_hash(hash, logits, g->n_logits);
  free(logits);
  kit_close(&k);
}

/* One hash whatever the device, the threads and the cut of the prompt. */
START_TEST(gives_one_hash) {
  static const int32_t splits[] = {7, 1, MAX_IDS};
  golden g = read_golden(folders[_i]);
  const form *const used[] = {&taken_over, &forms[FORM_F16_COLUMNS]};
  for (int i = 0; i < (g.is_int8 ? 1 : 2); i++) {
    char *path = convert(folders[_i], used[i], true), want[65], got[65];
    hash_of(want, &g, path, "cpu", 1, MAX_IDS);
    for (int32_t d = 0; d < kit_n_devices(); d++)
      for (int32_t threads = 1; threads <= 3; threads++) {
        hash_of(got, &g, path, kit_device(d), threads, splits[threads - 1]);
        ck_assert_msg(strcmp(got, want) == 0, "%s, %s, %d threads: %s, not %s", g.name, kit_device(d), (int)threads,
                      got, want);
      }
    kit_remove(path);
  }
  free_golden(&g);
}
END_TEST

/* ---- which directories ------------------------------------------------------------------------------------------- */

static int is_model(const struct dirent *entry) {
  return entry->d_name[0] != '.' && strchr(entry->d_name, '.') == NULL;
}

static bool list_folders(const char *root) {
  struct dirent **entries;
  int n = scandir(root, &entries, is_model, alphasort);
  for (int i = 0; i < n; i++) {
    size_t bytes = strlen(root) + strlen(entries[i]->d_name) + 2;
    char *folder = n_folders < MAX_MODELS ? malloc(bytes) : NULL;
    if (folder != NULL) {
      snprintf(folder, bytes, "%s/%s", root, entries[i]->d_name);
      folders[n_folders++] = folder;
    }
    free(entries[i]);
  }
  if (n >= 0) free(entries);
  return n > 0;
}

static void add(TCase *tests) {
  tcase_add_loop_test(tests, comes_near, 0, n_folders);
  tcase_add_loop_test(tests, gives_one_hash, 0, n_folders);
}

int main(int argc, char **argv) {
  char goldens[4096];
  if (argc != 2 || !list_folders(argv[1])) return EXIT_FAILURE;
  const char *data = suite_data("the larger models of goldens/hf");
  snprintf(goldens, sizeof goldens, "%s/goldens/hf", data != NULL ? data : "");
  if (data != NULL && !list_folders(goldens)) return EXIT_FAILURE;
  int result = suite_run("hf_models", add);
  while (n_folders > 0) free(folders[--n_folders]);
  return result;
}
