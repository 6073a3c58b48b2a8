// SPDX-License-Identifier: Apache-2.0
/* Real models against hashes that an independent implementation of the contract gave (OUTRIDER_TEST_DATA: folder
 * goldens), operation by operation where it has them. argv: the program make_stories; "large": the larger model alone,
 * in one pass. That is the GGUF file that OUTRIDER_TEST_MODEL names. */
#include <string.h>

#include "conversion.h"
#include "model.h"
#include "model_kit.h"
#include "session.h"

#define MAX_IDS 64

static const char *data, *make_stories;
static bool large_alone;
static char *stories;
static int32_t ids[MAX_IDS], n_ids;

static FILE *open_golden(const char *name) {
  char path[4096];
  snprintf(path, sizeof path, "%s/goldens/%s", data, name);
  FILE *file = fopen(path, "r");
  ck_assert_msg(file != NULL, "%s cannot be opened", path);
  return file;
}

/* The ids of a file whose lines may begin with #. */
static void read_ids(const char *name) {
  FILE *file = open_golden(name);
  int c;
  n_ids = 0;
  while ((c = fgetc(file)) == '#')
    while ((c = fgetc(file)) != '\n' && c != EOF) {
    }
  ungetc(c, file);
  while (n_ids < MAX_IDS && fscanf(file, "%d", &ids[n_ids]) == 1) n_ids++;
  fclose(file);
}

static void set_up(void) {
  char command[8192];
  stories = kit_new_file("stories");
  snprintf(command, sizeof command, "'%s' '%s/models/stories260K.bin' '%s/models/tok512.bin' %s", make_stories, data,
           data, stories);
  ck_assert_int_eq(system(command), 0);
}

static void tear_down(void) {
  kit_remove(stories);
}

/* The hash whose line ends with `what`. */
static void find_hash(char hash[65], const char *what) {
  char line[512];
  FILE *file = open_golden("contract_sha256.txt");
  hash[0] = 0;
  while (hash[0] == 0 && fgets(line, sizeof line, file) != NULL) {
    line[strcspn(line, "\r\n")] = 0;
    if (strlen(line) > 66 && strcmp(line + 66, what) == 0) snprintf(hash, 65, "%.64s", line);
  }
  fclose(file);
  ck_assert_msg(hash[0] != 0, "there is no hash of \"%s\"", what);
}

static void check_hash(otr_model *model, int32_t split, const char *want, const char *what) {
  char hash[65];
  float *logits = kit_logits(model, ids, n_ids, split);
  kit_hash(hash, logits, (size_t)n_ids * (size_t)kit_vocab(model));
  free(logits);
  ck_assert_msg(strcmp(hash, want) == 0, "%s, split %d: %s, not %s", what, split, hash, want);
}

static const char *const embedding[] = {"token_embd.weight"}, *const all_weights[] = {"*"};
static const struct line {
  const char *what;
  otr_outliers outliers;
  const char *const *keep_f16;
} lines[] = {
    {"stories260K golden tokens, relative 4", {OTR_OUTLIERS_RELATIVE, 4}, NULL},
    {"stories260K golden tokens, absolute 6", {OTR_OUTLIERS_ABSOLUTE, 6}, NULL},
    {"stories260K golden tokens, off", {OTR_OUTLIERS_OFF, 0}, NULL},
    {"stories260K golden tokens, relative 4, f16 embedding and head", {OTR_OUTLIERS_RELATIVE, 4}, embedding},
    {"stories260K golden tokens, every linear f16", {OTR_OUTLIERS_DEFAULT, 0}, all_weights},
};

START_TEST(stories_hashes) {
  static const int32_t splits[] = {512, 1, 7};
  read_ids("stories260K_logits.f32.tokens.txt");
  ck_assert_int_eq(n_ids, 32);
  for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
    char want[65];
    find_hash(want, lines[i].what);
    otr_model_params params = OTR_MODEL_PARAMS_INIT;
    params.outliers = lines[i].outliers;
    params.keep_f16 = lines[i].keep_f16;
    params.n_keep_f16 = lines[i].keep_f16 != NULL;
    for (int32_t threads = 1; threads <= kit_most_threads(kit_device(_i)); threads++) {
      kit k = kit_open(stories, kit_device(_i), threads, &params);
      for (int s = 0; s < 3; s++) check_hash(k.model, splits[s], want, kit_device(_i));
      kit_close(&k);
    }
  }
}
END_TEST

/* ---- Hugging Face directories ------------------------------------------------------------------------------------ */

static const struct hf_line {
  const char *folder, *what;
  otr_outliers outliers;
  int32_t f16_columns_all;
} hf_lines[] = {
    {"llama-tied", "llama-tied, relative 4", {OTR_OUTLIERS_RELATIVE, 4}, 0},
    {"llama-tied", "llama-tied, absolute 6, f16 columns for all", {OTR_OUTLIERS_ABSOLUTE, 6}, 1},
    {"llama-rope3", "llama-rope3, relative 4", {OTR_OUTLIERS_RELATIVE, 4}, 0},
    {"qwen3", "qwen3, relative 4", {OTR_OUTLIERS_RELATIVE, 4}, 0},
};

/* The directory of a line, converted: for kit_remove. */
static char *convert(const struct hf_line *line) {
  char in[4096];
  char *out = kit_new_file("hf");
  otr_runtime *runtime = kit_runtime("cpu", 2);
  conversion_params params;
  conversion_result result;
  memset(&params, 0, sizeof params);
  snprintf(in, sizeof in, "%s/goldens/hf/%s", data, line->folder);
  params.in = in;
  params.out = out;
  params.runtime = runtime;
  params.outliers = line->outliers;
  params.f16_columns_all = line->f16_columns_all;
  ck_ok(conversion_run(&params, &result));
  ck_ok(otr_runtime_destroy(runtime));
  return out;
}

static void read_line_ids(const struct hf_line *line) {
  char name[128];
  snprintf(name, sizeof name, "hf/%s/tokens.txt", line->folder);
  read_ids(name);
  ck_assert_int_eq(n_ids, 40);
}

START_TEST(hf_hashes) {
  static const int32_t splits[] = {512, 1, 7};
  for (size_t i = 0; i < sizeof hf_lines / sizeof hf_lines[0]; i++) {
    char want[65];
    char *path = convert(&hf_lines[i]);
    read_line_ids(&hf_lines[i]);
    find_hash(want, hf_lines[i].what);
    for (int32_t threads = 1; threads <= kit_most_threads(kit_device(_i)); threads++) {
      kit k = kit_open(path, kit_device(_i), threads, NULL);
      for (int s = 0; s < 3; s++) check_hash(k.model, splits[s], want, kit_device(_i));
      kit_close(&k);
    }
    kit_remove(path);
  }
}
END_TEST

/* A model has token scope only; for batch scope, the reference's programs are changed on their way. */
static const otr_device_ops *real_ops;

static otr_status prepare_batch(otr_device *device, const otr_program *program, otr_prepared **out) {
  for (int32_t i = 0; i < program->n_ops; i++)
    if (program->ops[i].code == OTR_OP_QUANTIZE) ((otr_op *)&program->ops[i])->u.quantize.batch = 1;
  return real_ops->prepare(device, program, out);
}

START_TEST(hf_batch_hash) {
  const struct hf_line line = {"llama-tied", "", {OTR_OUTLIERS_ABSOLUTE, 6}, 0};
  char *path = convert(&line), want[65];
  read_line_ids(&line);
  find_hash(want, "llama-tied, absolute 6, batch scope (all 40 rows at once)");
  kit k = kit_open(path, "cpu", 1, NULL);
  real_ops = k.runtime->device->ops;
  otr_device_ops changed = *real_ops;
  changed.prepare = prepare_batch;
  k.runtime->device->ops = &changed;
  check_hash(k.model, 64, want, "batch scope");
  k.runtime->device->ops = real_ops;
  kit_close(&k);
  kit_remove(path);
}
END_TEST

/* The reference needs some seconds for one pass: it does it once. */
START_TEST(smollm2_hash) {
  const char *path = getenv("OUTRIDER_TEST_MODEL");
  if (path == NULL || path[0] == '\0') {
    printf("smollm2_hash: skipped: OUTRIDER_TEST_MODEL names no file\n");
    return;
  }
  char want[65];
  read_ids("smollm2/wiki_tokens.txt");
  ck_assert_int_eq(n_ids, 64);
  find_hash(want, "SmolLM2 window 0, first 64 tokens, relative 4");
  kit k = kit_open(path, kit_device(_i), 2, NULL);
  check_hash(k.model, 512, want, kit_device(_i));
  if (strcmp(kit_device(_i), "cpu") != 0 && !large_alone) check_hash(k.model, 7, want, kit_device(_i));
  kit_close(&k);
}
END_TEST

/* ---- operation by operation -------------------------------------------------------------------------------------- */

#define MAX_TRACED 128

typedef struct traced {
  int layer;
  char name[16], hash[17];
} traced;

typedef struct tracer {
  otr_device *device;
  traced list[MAX_TRACED];
  int n, norms, parts, adds; /* of the layer so far */
} tracer;

static void note(tracer *t, int layer, const char *name, const float *values, int32_t rows, int32_t width) {
  char hex[65];
  if (t->n >= MAX_TRACED) return;
  traced *entry = &t->list[t->n++];
  kit_hash(hex, values, (size_t)rows * (size_t)width);
  entry->layer = layer;
  snprintf(entry->name, sizeof entry->name, "%s", name);
  snprintf(entry->hash, sizeof entry->hash, "%.16s", hex);
}

static void note_f16(tracer *t, int layer, const char *name, const uint16_t *halves, int32_t rows, int32_t width) {
  static float values[MAX_IDS * 1024];
  for (int32_t i = 0; i < rows * width; i++) values[i] = otr_f16_value(halves[i]);
  note(t, layer, name, values, rows, width);
}

static void note_q16(tracer *t, const otr_op *op, int32_t rows) {
  static uint16_t halves[MAX_IDS * 1024];
  int32_t width = op->u.rope_kv.n_heads * op->u.rope_kv.head_dim;
  for (int32_t i = 0; i < rows; i++)
    t->device->ops->q16_read(t->device, op->u.rope_kv.q16, width, i, halves + (size_t)i * (size_t)width);
  note_f16(t, op->layer, "q_rope16", halves, rows, width);
}

static void trace(void *user, const otr_op *op, const char *what, const float *values, int32_t rows, int32_t width) {
  static const char *const parts[] = {"q", "k", "v"};
  tracer *t = user;
  (void)what;
  switch (op->code) {
    case OTR_OP_EMBED:
      note(t, -1, "embed", values, rows, width);
      t->norms = t->parts = t->adds = 0;
      break;
    case OTR_OP_NORM:
      if (op->layer == 5)
        note(t, 5, "norm", values, rows, width);
      else if (t->norms++ == 0)
        note(t, op->layer, "attn_norm", values, rows, width);
      break;
    case OTR_OP_LINEAR:
      if (t->parts < 3) note(t, op->layer, parts[t->parts], values, rows, width);
      t->parts++;
      break;
    case OTR_OP_ROPE_KV:
      note_q16(t, op, rows);
      break;
    case OTR_OP_ATTENTION:
      note(t, op->layer, "attention", values, rows, width);
      break;
    case OTR_OP_GLU:
      note(t, op->layer, "silu_mul", values, rows, width);
      break;
    case OTR_OP_ADD:
      note(t, op->layer, t->adds++ == 0 ? "attn_resid" : "ffn_resid", values, rows, width);
      if (t->adds == 2) t->norms = t->parts = t->adds = 0;
      break;
    default:
      break;
  }
}

static void note_k16(tracer *t, const otr_session *s) {
  static uint16_t k[MAX_IDS * 1024], v[MAX_IDS * 1024];
  otr_kv_shape shape = otr_kv_shape_of(&s->model->config);
  for (int32_t layer = 0; layer < shape.n_layers; layer++) {
    ck_ok(t->device->ops->kv_read(t->device, &shape, s->table[0], layer, 0, n_ids, k, v));
    note_f16(t, layer, "k_rope16", k, n_ids, shape.n_kv_heads * shape.head_dim);
  }
}

static const traced *find(const tracer *t, int layer, const char *name) {
  for (int i = 0; i < t->n; i++)
    if (t->list[i].layer == layer && strcmp(t->list[i].name, name) == 0) return &t->list[i];
  return NULL;
}

START_TEST(stories_operations) {
  static tracer t;
  memset(&t, 0, sizeof t);
  read_ids("stories260K_logits.f32.tokens.txt");
  kit k = kit_open(stories, kit_device(_i), 1, NULL);
  otr_session *s = kit_session(k.model, 512, 64);
  float *logits = malloc((size_t)n_ids * 512 * sizeof *logits);
  t.device = k.runtime->device;
  t.device->trace = trace;
  t.device->trace_user = &t;
  ck_ok(otr_session_eval(s, ids, n_ids, logits));
  t.device->trace = NULL;
  note_k16(&t, s);
  free(logits);
  FILE *file = open_golden("contract_trace_stories260K.txt");
  char line[256], name[32], hash[32];
  int layer, n = 0;
  while (fgets(line, sizeof line, file) != NULL) {
    if (sscanf(line, "trace %d %31s %31s", &layer, name, hash) != 3) continue;
    const traced *got = find(&t, layer, name);
    ck_assert_msg(got != NULL, "block %d: %s is missing", layer, name);
    ck_assert_msg(strcmp(got->hash, hash) == 0, "block %d: %s is %s, not %s", layer, name, got->hash, hash);
    n++;
  }
  fclose(file);
  ck_assert_int_eq(n, 2 + 5 * 10);
  otr_session_destroy(s);
  kit_close(&k);
}
END_TEST

static void add(TCase *tests) {
  int n = kit_n_devices();
  tcase_add_loop_test(tests, smollm2_hash, 0, n);
  if (large_alone) return;
  tcase_add_unchecked_fixture(tests, set_up, tear_down);
  tcase_add_loop_test(tests, stories_operations, 0, n);
  tcase_add_loop_test(tests, stories_hashes, 0, n);
  tcase_add_loop_test(tests, hf_hashes, 0, n);
  tcase_add_test(tests, hf_batch_hash);
}

int main(int argc, char **argv) {
  data = suite_data("test_contract");
  if (data == NULL) return SUITE_SKIPPED;
  if (argc < 2) return EXIT_FAILURE;
  make_stories = argv[1];
  large_alone = argc > 2 && strcmp(argv[2], "large") == 0;
  return suite_run("contract", add);
}
