// SPDX-License-Identifier: Apache-2.0
/* Hugging Face directories with one entry of config.json or one tensor changed: whatever the change, they are read, or
 * refused by a message that names the directory; what is read is converted, or refused likewise; nothing is left over.
 * argv: tests/fixtures/hf; the folder goldens/hf of OUTRIDER_TEST_DATA is taken, too, where it is given. */
#include <dirent.h>
#include <jansson.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conversion.h"
#include "hf_folder.h"
#include "model_kit.h"
#include "source.h"

#define MAX_MODELS 64
#define PATH_BYTES 4096
#define COUNT(array) (sizeof(array) / sizeof(array)[0])
/* Each model has an eighth of the changes, its neighbours others: families have several models. */
#define STRIDE 8

static char *models[MAX_MODELS];
static int n_models;

/* A copy of a model in a folder of its own. */
typedef struct subject {
  char *folder;
  json_t *config;   /* as it was */
  otr_config usual; /* what was read of it */
  otr_runtime *runtime;
  int turn, n_read, n_refused, n_converted;
} subject;

/* ---- one directory ----------------------------------------------------------------------------------------------- */

static void check_refusal(const subject *s, const char *what, otr_status status) {
  ck_assert_msg(strstr(otr_error_detail(), s->folder) != NULL, "%s: %s: \"%s\" names no file", what,
                otr_status_text(status), otr_error_detail());
}

static otr_status read_values(const source *from) {
  for (int32_t i = 0; i < source_count(from); i++) {
    const source_tensor *t = source_at(from, i);
    size_t n = (size_t)t->n * (size_t)t->k;
    float *values = malloc(n * sizeof *values);
    ck_assert_ptr_nonnull(values);
    otr_status status = source_rows(from, t, 0, t->n, values);
    free(values);
    if (status != OTR_STATUS_OK) return status;
  }
  return OTR_STATUS_OK;
}

static void convert(subject *s, const source *from, const char *what) {
  char out[PATH_BYTES], part[PATH_BYTES + 8];
  conversion_result result;
  snprintf(out, sizeof out, "%s/out.gguf", s->folder);
  snprintf(part, sizeof part, "%s.part", out);
  const conversion_params params = {.out = out, .source = from, .runtime = s->runtime};
  otr_status status = conversion_run(&params, &result);
  if (status != OTR_STATUS_OK) check_refusal(s, what, status);
  ck_assert_msg((unlink(out) == 0) == (status == OTR_STATUS_OK), "%s: a file that should not be, or none", what);
  ck_assert_msg(access(part, F_OK) != 0, "%s: half a file", what);
  s->n_converted += status == OTR_STATUS_OK;
}

/* What changes nothing of what is known of the model need not be converted again. */
static void try_folder(subject *s, const char *what) {
  otr_memory memory;
  source *from;
  otr_memory_init(&memory, NULL);
  otr_status status = source_open(s->folder, &memory, &from);
  if (status == OTR_STATUS_OK) status = read_values(from);
  if (status == OTR_STATUS_OK) {
    s->n_read++;
    if (memcmp(source_config(from), &s->usual, sizeof s->usual) != 0) convert(s, from, what);
  } else {
    s->n_refused++;
    check_refusal(s, what, status);
  }
  source_close(from);
  ck_assert_msg(memory.now == 0, "%s: %llu bytes are left", what, (unsigned long long)memory.now);
}

/* free() */
static char *read_whole(const char *path, size_t *n) {
  FILE *file = fopen(path, "rb");
  ck_assert_msg(file != NULL, "%s", path);
  ck_assert_int_eq(fseek(file, 0, SEEK_END), 0);
  *n = (size_t)ftell(file);
  rewind(file);
  char *bytes = malloc(*n + 1);
  ck_assert_ptr_nonnull(bytes);
  ck_assert_uint_eq(fread(bytes, 1, *n, file), *n);
  fclose(file);
  return bytes;
}

static void copy_file(const char *from, const char *folder, const char *name) {
  char path[PATH_BYTES];
  size_t n;
  snprintf(path, sizeof path, "%s/%s", from, name);
  char *bytes = read_whole(path, &n);
  hf_folder_write(folder, name, bytes, n);
  free(bytes);
}

static subject begin(int index) {
  const char *model = models[index];
  subject s = {.folder = hf_folder_new(), .runtime = kit_runtime("cpu", 1), .turn = index};
  char path[PATH_BYTES];
  otr_memory memory;
  source *from;
  copy_file(model, s.folder, "config.json");
  copy_file(model, s.folder, "model.safetensors");
  snprintf(path, sizeof path, "%s/config.json", s.folder);
  s.config = json_load_file(path, 0, NULL);
  ck_assert_msg(s.config != NULL, "%s", path);
  ck_assert_ptr_nonnull(freopen("/dev/null", "w", stderr)); /* a warning each time that there is no tokenizer */
  otr_memory_init(&memory, NULL);
  ck_ok(source_open(s.folder, &memory, &from));
  s.usual = *source_config(from);
  source_close(from);
  return s;
}

static void end(subject *s) {
  ck_assert_int_gt(s->n_read, 0);
  ck_assert_int_gt(s->n_refused, 0);
  json_decref(s->config);
  ck_ok(otr_runtime_destroy(s->runtime));
  hf_folder_remove(s->folder);
}

/* ---- config.json ------------------------------------------------------------------------------------------------- */

static const char *const values[] = {
    NULL, /* the entry is not there */
    "null",
    "true",
    "false",
    "0",
    "-1",
    "1",
    "2",
    "3",
    "64",
    "1.0",
    "-0.5",
    "1e30",
    "1e-300",
    "1e300",
    "2147483647",
    "2147483648",
    "9223372036854775807",
    "\"\"",
    "\"x\"",
    "[]",
    "[1]",
    "{}",
};

/* Entries that a model of any family may have, and does not need. */
static const char *const entries[] = {
    "head_dim",
    "num_key_value_heads",
    "n_head_kv",
    "num_kv_heads",
    "rope_theta",
    "rotary_pct",
    "partial_rotary_factor",
    "sliding_window",
    "max_window_layers",
    "use_sliding_window",
    "tie_word_embeddings",
    "quantization_config",
    "rope_scaling",
    "hidden_activation",
    "alibi",
    "parallel_attn",
    "new_decoder_architecture",
    "multi_query",
    "num_ln_in_parallel_attn",
    "use_parallel_residual",
    "do_layer_norm_before",
    "n_inner",
    "original_max_position_embeddings",
};

/* And some whose value is not of the usual few. */
static const char *const others[][2] = {
    {"model_type", "\"llama\""},
    {"model_type", "\"mistral\""},
    {"model_type", "\"qwen2\""},
    {"model_type", "\"qwen3\""},
    {"model_type", "\"phi3\""},
    {"model_type", "\"gemma\""},
    {"model_type", "\"stablelm\""},
    {"model_type", "\"gpt2\""},
    {"model_type", "\"opt\""},
    {"model_type", "\"bloom\""},
    {"model_type", "\"falcon\""},
    {"model_type", "\"gpt_neox\""},
    {"quantization_config", "{\"load_in_8bit\": true}"},
    {"quantization_config", "{\"load_in_8bit\": true, \"llm_int8_threshold\": 0.0}"},
    {"rope_scaling", "{\"type\": \"linear\", \"factor\": 1e300}"},
    {"rope_scaling", "{\"type\": \"yarn\", \"factor\": 4.0, \"mscale\": 1.0, \"mscale_all_dim\": -7.2134752044448}"},
    {"rope_scaling", "{\"type\": \"yarn\", \"factor\": 4.0, \"beta_fast\": 1.0, \"beta_slow\": 32.0}"},
    {"rope_scaling", "{\"type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": 4.0, \"high_freq_factor\": 4.0}"},
    {"rope_scaling", "{\"type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0}"},
    {"rope_scaling", "{\"type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 1e-300, \"high_freq_factor\": 4}"},
    {"rope_scaling", "{\"type\": \"longrope\", \"long_factor\": [], \"short_factor\": []}"},
};

/* One entry of `object`, which is in `config`, has the JSON `value` for once. */
static void try_entry(subject *s, json_t *config, json_t *object, const char *key, const char *value) {
  char path[PATH_BYTES], what[512];
  if (s->turn++ % STRIDE != 0) return;
  json_t *before = json_incref(json_object_get(object, key));
  snprintf(path, sizeof path, "%s/config.json", s->folder);
  snprintf(what, sizeof what, "%s: %s", key, value != NULL ? value : "missing");
  if (value == NULL)
    json_object_del(object, key);
  else
    ck_assert_int_eq(json_object_set_new(object, key, json_loads(value, JSON_DECODE_ANY, NULL)), 0);
  ck_assert_int_eq(json_dump_file(config, path, JSON_INDENT(1)), 0);
  try_folder(s, what);
  if (before != NULL)
    json_object_set_new(object, key, before);
  else
    json_object_del(object, key);
}

static void try_object(subject *s, json_t *config, json_t *object) {
  json_t *names = json_deep_copy(object), *value;
  const char *key;
  ck_assert_ptr_nonnull(names);
  json_object_foreach(names, key, value) {
    for (size_t i = 0; i < COUNT(values); i++) try_entry(s, config, object, key, values[i]);
    if (json_is_object(value)) try_object(s, config, json_object_get(object, key));
  }
  json_decref(names);
}

START_TEST(changed_config) {
  subject s = begin(_i);
  try_object(&s, s.config, s.config);
  for (size_t i = 0; i < COUNT(entries); i++)
    for (size_t j = 0; j < COUNT(values); j++)
      if (json_object_get(s.config, entries[i]) == NULL) try_entry(&s, s.config, s.config, entries[i], values[j]);
  for (size_t i = 0; i < COUNT(others); i++) try_entry(&s, s.config, s.config, others[i][0], others[i][1]);
  end(&s);
}
END_TEST

/* ---- tensors ----------------------------------------------------------------------------------------------------- */

static void write_safetensors(const subject *s, const json_t *header, const char *data, size_t n_data) {
  char path[PATH_BYTES], *text = json_dumps(header, JSON_COMPACT);
  ck_assert_ptr_nonnull(text);
  const uint64_t n = strlen(text);
  snprintf(path, sizeof path, "%s/model.safetensors", s->folder);
  FILE *file = fopen(path, "wb");
  ck_assert_ptr_nonnull(file);
  ck_assert(fwrite(&n, sizeof n, 1, file) == 1 && fwrite(text, 1, n, file) == n &&
            fwrite(data, 1, n_data, file) == n_data);
  ck_assert_int_eq(fclose(file), 0);
  free(text);
}

/* The shape turned round, without its last dimension or with one more: as many values, or fewer and more. */
static void change_shape(json_t *entry, int way) {
  json_t *shape = json_object_get(entry, "shape");
  if (way == 0) json_array_insert(shape, 0, json_array_get(shape, json_array_size(shape) - 1));
  if (way == 0) json_array_remove(shape, json_array_size(shape) - 1);
  if (way == 1) json_array_remove(shape, json_array_size(shape) - 1);
  if (way == 2) json_array_append_new(shape, json_integer(1));
  if (way == 3) json_array_insert_new(shape, 0, json_integer(1));
}

/* Each tensor in turn: of another dtype, of another shape, under another name, and with the next one's place. */
START_TEST(changed_tensors) {
  static const char *const dtypes[] = {"F32", "F16", "BF16", "I16", "F8_E5M2", "I8", "BOOL", "X"};
  char path[PATH_BYTES], *file;
  size_t n_bytes;
  subject s = begin(_i);
  snprintf(path, sizeof path, "%s/model.safetensors", models[_i]);
  file = read_whole(path, &n_bytes);
  uint64_t length;
  memcpy(&length, file, sizeof length);
  const char *data = file + 8 + length, *key, *last = NULL;
  json_t *header = json_loadb(file + 8, length, 0, NULL), *entry;
  ck_assert_ptr_nonnull(header);
  json_object_foreach(header, key, entry) {
    json_t *changed = json_deep_copy(header);
    const size_t turn = (size_t)s.turn++;
    entry = json_object_get(changed, key);
    if (turn % 4 == 0) json_object_set_new(entry, "dtype", json_string(dtypes[turn / 4 % COUNT(dtypes)]));
    if (turn % 4 == 1) change_shape(entry, (int)(turn / 4 % 4));
    if (turn % 4 == 2) json_object_set(changed, "another", entry), json_object_del(changed, key);
    if (turn % 4 == 3 && last != NULL) {
      json_t *other = json_incref(json_object_get(changed, last));
      json_object_set(changed, last, entry);
      json_object_set_new(changed, key, other);
    }
    write_safetensors(&s, changed, data, n_bytes - 8 - length);
    try_folder(&s, key);
    json_decref(changed);
    last = key;
  }
  json_decref(header);
  free(file);
  end(&s);
}
END_TEST

START_TEST(cut_off) {
  char path[PATH_BYTES];
  size_t n_bytes;
  subject s = begin(_i);
  snprintf(path, sizeof path, "%s/model.safetensors", models[_i]);
  char *file = read_whole(path, &n_bytes);
  try_folder(&s, "whole");
  for (size_t n = n_bytes; n-- > 0; n -= n / 8) {
    hf_folder_write(s.folder, "model.safetensors", file, n);
    try_folder(&s, "cut off");
  }
  ck_assert_int_eq(s.n_read, 1);
  free(file);
  end(&s);
}
END_TEST

static int by_name(const void *a, const void *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

static void add_models(const char *folder) {
  DIR *list = opendir(folder);
  for (struct dirent *entry; list != NULL && (entry = readdir(list)) != NULL && n_models < MAX_MODELS;) {
    char path[PATH_BYTES];
    struct stat info;
    snprintf(path, sizeof path, "%s/%s/model.safetensors", folder, entry->d_name);
    if (entry->d_name[0] == '.' || stat(path, &info) != 0) continue;
    *strrchr(path, '/') = '\0';
    models[n_models++] = strdup(path);
  }
  if (list != NULL) closedir(list);
}

static void add(TCase *tests) {
  tcase_add_loop_test(tests, changed_config, 0, n_models);
  tcase_add_loop_test(tests, changed_tensors, 0, n_models);
  tcase_add_loop_test(tests, cut_off, 0, n_models);
}

int main(int argc, char **argv) {
  char folder[PATH_BYTES];
  if (argc != 2) return EXIT_FAILURE;
  add_models(argv[1]);
  const char *data = suite_data("models of goldens/hf");
  if (data != NULL) {
    snprintf(folder, sizeof folder, "%s/goldens/hf", data);
    add_models(folder);
  }
  if (n_models == 0) return fprintf(stderr, "%s holds no models\n", argv[1]), EXIT_FAILURE;
  qsort(models, (size_t)n_models, sizeof *models, by_name);
  int result = suite_run("hf_mutants", add);
  while (n_models > 0) free(models[--n_models]);
  return result;
}
