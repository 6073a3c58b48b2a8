// SPDX-License-Identifier: Apache-2.0
/* The GGUF parser: every file of the corpus gives the status in its name, however it is opened; what lies in good ones;
 * memory that runs out at every point. Argument: the corpus folder. */
#include <dirent.h>
#include <string.h>
#include <unistd.h>

#include "gguf.h"
#include "suite.h"

static const char *corpus;

typedef struct loaded {
  char name[300];
  uint8_t *bytes;
  size_t n;
} loaded;

static void load_path(loaded *file, const char *path) {
  FILE *in = fopen(path, "rb");
  ck_assert_msg(in != NULL, "%s: cannot be opened", path);
  fseek(in, 0, SEEK_END);
  file->n = (size_t)ftell(in);
  rewind(in);
  file->bytes = malloc(file->n + 1);
  ck_assert(file->bytes != NULL && fread(file->bytes, 1, file->n, in) == file->n);
  fclose(in);
}

static void load(loaded *file, const char *name) {
  char path[4096];
  snprintf(file->name, sizeof file->name, "%s", name);
  snprintf(path, sizeof path, "%s/%s", corpus, name);
  load_path(file, path);
}

static otr_status expected(const char *name) {
  if (strncmp(name, "ok.", 3) == 0) return OTR_STATUS_OK;
  if (strncmp(name, "bad_format.", 11) == 0) return OTR_STATUS_BAD_FORMAT;
  ck_assert_msg(strncmp(name, "unsupported.", 12) == 0, "%s: its name says no status", name);
  return OTR_STATUS_UNSUPPORTED;
}

/* Calls `test` with every file of the corpus. @return how many. */
static int for_each(void (*test)(const loaded *file)) {
  DIR *folder = opendir(corpus);
  ck_assert_msg(folder != NULL, "%s: cannot be opened", corpus);
  int n = 0;
  for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
    if (entry->d_name[0] == '.') continue;
    loaded file;
    load(&file, entry->d_name);
    test(&file);
    free(file.bytes);
    ++n;
  }
  closedir(folder);
  return n;
}

static void check_status(const loaded *file) {
  otr_memory memory;
  otr_memory_init(&memory, NULL);
  otr_gguf *gguf;
  otr_status status = otr_gguf_parse(file->bytes, file->n, file->n, &memory, &gguf);
  ck_assert_msg(status == expected(file->name), "%s: %s: %s", file->name, otr_status_text(status), otr_error_detail());
  ck_assert((gguf != NULL) == (status == OTR_STATUS_OK));
  if (status != OTR_STATUS_OK) ck_assert_msg(otr_error_detail()[0] != '\0', "%s: no detail", file->name);
  otr_gguf_destroy(gguf);
  ck_assert_uint_eq(memory.now, 0);
}

START_TEST(corpus_statuses) {
  ck_assert_int_ge(for_each(check_status), 150);
}
END_TEST

/* Every beginning of a file asks for more, or answers as the whole does. */
static void check_prefixes(const loaded *file) {
  if (file->n > 8192) return;
  otr_memory memory;
  otr_memory_init(&memory, NULL);
  for (size_t n = 0; n < file->n; n += 1 + n / 64) {
    uint8_t *part = malloc(n + 1);
    ck_assert(part != NULL);
    memcpy(part, file->bytes, n);
    otr_gguf *gguf;
    otr_status status = otr_gguf_parse(part, n, file->n, &memory, &gguf);
    ck_assert_msg(status == OTR_STATUS_BUFFER_TOO_SMALL || status == expected(file->name), "%s at %zu: %s", file->name,
                  n, otr_error_detail());
    otr_gguf_destroy(gguf);
    free(part);
  }
  ck_assert_uint_eq(memory.now, 0);
}

START_TEST(corpus_prefixes) {
  for_each(check_prefixes);
}
END_TEST

static int32_t read_loaded(void *user, uint64_t offset, void *destination, size_t n_bytes) {
  const loaded *file = user;
  memcpy(destination, file->bytes + offset, n_bytes);
  return 0;
}

static otr_source source_of(const loaded *file, otr_source_kind kind) {
  otr_source source;
  memset(&source, 0, sizeof source);
  source.kind = kind;
  source.memory = file->bytes;
  source.memory_bytes = file->n;
  source.reader.user = (void *)file;
  source.reader.bytes = file->n;
  source.reader.read = read_loaded;
  return source;
}

static void check_sources(const loaded *file) {
  const otr_source_kind kinds[2] = {OTR_SOURCE_MEMORY, OTR_SOURCE_READER};
  for (int i = 0; i < 2; ++i) {
    otr_source source = source_of(file, kinds[i]);
    otr_metadata *metadata;
    otr_status status = otr_metadata_open(&source, &metadata);
    ck_assert_msg(status == expected(file->name), "%s: %s", file->name, otr_error_detail());
    ck_assert((metadata != NULL) == (status == OTR_STATUS_OK));
    otr_metadata_close(metadata);
  }
}

START_TEST(corpus_through_sources) {
  for_each(check_sources);
}
END_TEST

/* An allocator that fails at the n-th call. */
typedef struct failing {
  int calls, fails_at;
} failing;

static void *failing_allocate(void *user, size_t bytes, size_t alignment) {
  failing *f = user;
  (void)alignment;
  return f->calls++ == f->fails_at ? NULL : malloc(bytes);
}

static void failing_release(void *user, void *memory, size_t bytes) {
  (void)user;
  (void)bytes;
  free(memory);
}

static otr_status read_with(failing *f, const otr_source *source, bool copy) {
  const otr_allocator allocator = {f, failing_allocate, failing_release};
  otr_memory memory;
  otr_memory_init(&memory, &allocator);
  otr_file file;
  otr_gguf *gguf;
  ck_ok(otr_file_open(source, copy, &file));
  otr_status status = otr_gguf_read(&file, &memory, &gguf);
  otr_gguf_destroy(gguf);
  otr_file_close(&file);
  ck_assert_uint_eq(memory.now, 0);
  return status;
}

START_TEST(memory_runs_out) {
  loaded file;
  load(&file, "ok.model.gguf");
  for (int copy = 0; copy < 2; ++copy) {
    otr_source source = source_of(&file, OTR_SOURCE_MEMORY);
    failing f = {0, -1};
    ck_ok(read_with(&f, &source, copy));
    int calls = f.calls;
    ck_assert_int_ge(calls, 5);
    for (int i = 0; i < calls; ++i) {
      failing g = {0, i};
      ck_assert_int_eq(read_with(&g, &source, copy), OTR_STATUS_NO_MEMORY);
    }
  }
  free(file.bytes);
}
END_TEST

/* A header longer than the first piece that is read of it, from a source that can only be read. */
START_TEST(long_headers_are_read_in_pieces) {
  const uint32_t n = 300000;
  loaded file = {"long", NULL, 4 + 4 + 8 + 8 + 8 + 1 + 4 + 4 + 8 + 4 * (size_t)n};
  file.bytes = calloc(1, file.n);
  ck_assert(file.bytes != NULL);
  uint8_t *p = file.bytes;
  const uint32_t words[] = {0x46554747, 3, 0, 0, 1, 0, 1, 0};
  memcpy(p, words, 32);
  p[32] = 'k';
  const uint32_t kind[] = {OTR_METADATA_ARRAY, OTR_METADATA_U32, n, 0};
  memcpy(p + 33, kind, sizeof kind);
  p[file.n - 1] = 0x7f;
  otr_source source = source_of(&file, OTR_SOURCE_READER);
  otr_metadata *metadata;
  ck_ok(otr_metadata_open(&source, &metadata));
  otr_metadata_value value;
  int64_t last;
  ck_assert(otr_metadata_find(metadata, "k", &value) && value.count == n);
  ck_assert(otr_metadata_int(&value, n - 1, &last) && last == 0x7f000000);
  otr_metadata_close(metadata);
  free(file.bytes);
}
END_TEST

static otr_metadata *open_every(loaded *file) {
  load(file, "ok.every-value-type.gguf");
  otr_source source = source_of(file, OTR_SOURCE_MEMORY);
  otr_metadata *metadata;
  ck_ok(otr_metadata_open(&source, &metadata));
  return metadata;
}

START_TEST(values_of_every_type) {
  loaded file;
  otr_metadata *metadata = open_every(&file);
  for (int type = 0; type <= OTR_METADATA_F64; ++type) {
    if (type == OTR_METADATA_STRING || type == OTR_METADATA_ARRAY) continue;
    bool is_float = type == OTR_METADATA_F32 || type == OTR_METADATA_F64;
    for (int array = 0; array < 2; ++array) {
      char key[32];
      otr_metadata_value value;
      int64_t integer = -1;
      double number = -1;
      snprintf(key, sizeof key, array ? "array.%d" : "key.%d", type);
      ck_assert_msg(otr_metadata_find(metadata, key, &value), "%s", key);
      ck_assert_int_eq(value.type, type);
      ck_assert_int_eq(value.is_array, array);
      ck_assert_uint_eq(value.count, array ? 3 : 1);
      ck_assert_int_eq(otr_metadata_int(&value, value.count - 1, &integer), !is_float);
      ck_assert_int_eq(otr_metadata_number(&value, value.count - 1, &number), type != OTR_METADATA_BOOL);
      ck_assert_int_eq(integer, is_float ? -1 : 1);
      ck_assert_double_eq(number, type == OTR_METADATA_BOOL ? -1 : 1);
      ck_assert(!otr_metadata_int(&value, value.count, &integer) && !otr_metadata_number(&value, value.count, &number));
    }
  }
  otr_metadata_close(metadata);
  free(file.bytes);
}
END_TEST

START_TEST(strings) {
  loaded file;
  otr_metadata *metadata = open_every(&file);
  otr_metadata_value value;
  const char *text;
  size_t cursor = 0, n;
  ck_assert(otr_metadata_find(metadata, "texts", &value));
  ck_assert(otr_metadata_next_string(&value, &cursor, &text, &n) && n == 0);
  ck_assert(otr_metadata_next_string(&value, &cursor, &text, &n) && n == 1 && text[0] == 'a');
  ck_assert(otr_metadata_next_string(&value, &cursor, &text, &n) && n == 2 && memcmp(text, "bc", 2) == 0);
  ck_assert(!otr_metadata_next_string(&value, &cursor, &text, &n));
  cursor = 0;
  ck_assert(otr_metadata_find(metadata, "text", &value));
  ck_assert(otr_metadata_next_string(&value, &cursor, &text, &n) && n == 6 && memcmp(text, "h\xc3\xa9llo", 6) == 0);
  cursor = 0;
  ck_assert(otr_metadata_find(metadata, "none", &value) && value.count == 0 && value.is_array);
  ck_assert(!otr_metadata_next_string(&value, &cursor, &text, &n));
  ck_assert(otr_metadata_find(metadata, "key.4", &value));
  ck_assert(!otr_metadata_next_string(&value, &cursor, &text, &n));
  otr_metadata_close(metadata);
  free(file.bytes);
}
END_TEST

/* A caller's own value that promises more than it has. */
START_TEST(broken_values) {
  uint8_t bytes[12] = {5, 0, 0, 0, 0, 0, 0, 0, 'a', 'b', 'c', 'd'};
  otr_metadata_value value = {"k", 1, OTR_METADATA_STRING, 0, 1, bytes, sizeof bytes};
  const char *text;
  size_t cursor = 0, n;
  ck_assert(!otr_metadata_next_string(&value, &cursor, &text, &n));
  cursor = 99;
  ck_assert(!otr_metadata_next_string(&value, &cursor, &text, &n));
  ck_assert(!otr_metadata_next_string(NULL, &cursor, &text, &n));
  int64_t integer;
  double number;
  ck_assert(!otr_metadata_int(&value, 0, &integer) && !otr_metadata_number(&value, 0, &number));
  ck_assert(!otr_metadata_int(NULL, 0, &integer) && !otr_metadata_number(NULL, 0, &number));
  memset(bytes, 0xff, sizeof bytes);
  value.type = OTR_METADATA_U64;
  ck_assert(!otr_metadata_int(&value, 0, &integer));
}
END_TEST

START_TEST(keys_that_are_not_there) {
  loaded file;
  otr_metadata *metadata = open_every(&file);
  otr_metadata_value value = {"x", 1, 0, 0, 0, NULL, 0};
  ck_assert(!otr_metadata_find(metadata, "no.such.key", &value));
  ck_assert(value.key == NULL && value.count == 0);
  ck_assert(!otr_metadata_find(metadata, "key", &value) && !otr_metadata_find(metadata, "", &value));
  ck_assert(!otr_metadata_find(NULL, "key", &value) && !otr_metadata_find(metadata, NULL, &value));
  ck_assert(!otr_metadata_find(metadata, "key.0", NULL));
  ck_assert(!otr_metadata_at(metadata, -1, &value) && !otr_metadata_at(metadata, 1000, &value));
  ck_assert(!otr_metadata_at(NULL, 0, &value) && otr_metadata_count(NULL) == 0);
  otr_metadata_close(metadata);
  free(file.bytes);
}
END_TEST

START_TEST(wrong_arguments) {
  otr_metadata *metadata;
  otr_source source;
  memset(&source, 0, sizeof source);
  ck_assert_int_eq(otr_metadata_open(NULL, &metadata), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert(metadata == NULL);
  ck_assert_int_eq(otr_metadata_open(&source, NULL), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_metadata_open(&source, &metadata), OTR_STATUS_INVALID_ARGUMENT);
  source.path = "/no such file";
  ck_assert_int_eq(otr_metadata_open(&source, &metadata), OTR_STATUS_IO);
  ck_assert(strstr(otr_error_detail(), "/no such file") != NULL);
  otr_metadata_close(NULL);
  otr_gguf_destroy(NULL);
}
END_TEST

START_TEST(tensors) {
  loaded file;
  load(&file, "ok.model.gguf");
  otr_memory memory;
  otr_memory_init(&memory, NULL);
  otr_gguf *gguf;
  ck_ok(otr_gguf_parse(file.bytes, file.n, file.n, &memory, &gguf));
  ck_assert_int_eq(gguf->n_tensors, 11);
  const otr_gguf_tensor *k = otr_gguf_find(gguf, "blk.0.attn_k.weight");
  ck_assert(k != NULL && k->type == OTR_GGML_F32 && k->n_dims == 2);
  ck_assert(k->dims[0] == 8 && k->dims[1] == 4 && k->dims[2] == 1 && k->dims[3] == 1);
  ck_assert(k->row_bytes == 32 && k->bytes == 128 && k->offset % 32 == 0);
  float first;
  memcpy(&first, file.bytes + k->offset, sizeof first);
  ck_assert_float_eq(first, 0.125f);
  ck_assert(otr_gguf_find(gguf, "blk.0.attn_k") == NULL && otr_gguf_find(gguf, "") == NULL);
  otr_gguf_destroy(gguf);
  free(file.bytes);
}
END_TEST

START_TEST(type_names) {
  ck_assert_str_eq(otr_ggml_type_name(OTR_GGML_Q4_K), "Q4_K");
  ck_assert_str_eq(otr_ggml_type_name(23), "IQ4_XS");
  ck_assert_str_eq(otr_ggml_type_name(4), "unknown");
  ck_assert_str_eq(otr_ggml_type_name(UINT32_MAX), "unknown");
  ck_assert_uint_eq(otr_ggml_type_find(OTR_GGML_Q6_K)->block_bytes, 210);
}
END_TEST

/* The message names the tensor and what is wrong. */
START_TEST(messages) {
  loaded file;
  load(&file, "bad_format.data-overlaps.gguf");
  otr_source source = source_of(&file, OTR_SOURCE_MEMORY);
  otr_metadata *metadata;
  ck_assert_int_eq(otr_metadata_open(&source, &metadata), OTR_STATUS_BAD_FORMAT);
  ck_assert_str_eq(otr_error_detail(), "memory: tensors a and b overlap");
  free(file.bytes);
}
END_TEST

static void add(TCase *tests) {
  tcase_add_test(tests, corpus_statuses);
  tcase_add_test(tests, corpus_prefixes);
  tcase_add_test(tests, corpus_through_sources);
  tcase_add_test(tests, memory_runs_out);
  tcase_add_test(tests, long_headers_are_read_in_pieces);
  tcase_add_test(tests, values_of_every_type);
  tcase_add_test(tests, strings);
  tcase_add_test(tests, broken_values);
  tcase_add_test(tests, keys_that_are_not_there);
  tcase_add_test(tests, wrong_arguments);
  tcase_add_test(tests, tensors);
  tcase_add_test(tests, type_names);
  tcase_add_test(tests, messages);
}

int main(int argc, char **argv) {
  if (argc != 2) return fprintf(stderr, "test_gguf CORPUS\n"), EXIT_FAILURE;
  corpus = argv[1];
  return suite_run("gguf", add);
}
