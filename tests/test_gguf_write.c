// SPDX-License-Identifier: Apache-2.0
/* The writer: what is put is read back; the same calls give the same bytes; unfinished files leave nothing behind. */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gguf.h"
#include "gguf_write.h"
#include "suite.h"
#include "tiny_model.h"

static char folder[] = "test_gguf_write_XXXXXX";
static char path[64], other[64];

static void set_up(void) {
  strcpy(folder, "test_gguf_write_XXXXXX");
  ck_assert(mkdtemp(folder) != NULL);
  snprintf(path, sizeof path, "%s/a.gguf", folder);
  snprintf(other, sizeof other, "%s/b.gguf", folder);
}

static void tear_down(void) {
  unlink(path);
  unlink(other);
  ck_assert_int_eq(rmdir(folder), 0);
}

static bool exists(const char *name) {
  struct stat info;
  return stat(name, &info) == 0;
}

static otr_source at(const char *name) {
  otr_source source;
  memset(&source, 0, sizeof source);
  source.path = name;
  return source;
}

static bool same_bytes(const char *a, const char *b) {
  otr_file files[2];
  otr_source sources[2] = {at(a), at(b)};
  for (int i = 0; i < 2; ++i) ck_ok(otr_file_open(&sources[i], false, &files[i]));
  bool same = files[0].bytes == files[1].bytes &&
              memcmp(otr_file_address(&files[0]), otr_file_address(&files[1]), (size_t)files[0].bytes) == 0;
  for (int i = 0; i < 2; ++i) otr_file_close(&files[i]);
  return same;
}

static const char *const names[3] = {"one", "", "three"};
static const float numbers[3] = {1, -2, 0.5f};
static const uint64_t dims[2] = {5, 3};

static otr_gguf_writer *start(const char *name) {
  otr_gguf_writer *writer;
  ck_ok(otr_gguf_writer_create(name, 256, &writer));
  otr_gguf_put_string(writer, "string", "text");
  otr_gguf_put_u32(writer, "u32", 7);
  otr_gguf_put_f32(writer, "f32", 0.5f);
  otr_gguf_put_bool(writer, "bool", 5);
  otr_gguf_put_strings(writer, "strings", 3, names, NULL);
  otr_gguf_put_array(writer, "numbers", OTR_METADATA_F32, 3, numbers);
  ck_assert_int_eq(otr_gguf_put_tensor(writer, "a", OTR_GGML_I8, 2, dims), 0);
  ck_assert_int_eq(otr_gguf_put_tensor(writer, "b", OTR_GGML_F32, 1, dims), 1);
  ck_ok(otr_gguf_writer_begin(writer));
  ck_ok(otr_gguf_writer_data(writer, 1, 4, numbers, 12));
  ck_ok(otr_gguf_writer_data(writer, 0, 0, "0123456789abcde", 15));
  return writer;
}

static void finish(otr_gguf_writer *writer) {
  ck_assert(exists(otr_gguf_writer_part(writer)));
  ck_ok(otr_gguf_writer_finish(writer));
  ck_assert(!exists(otr_gguf_writer_part(writer)));
  otr_gguf_writer_destroy(writer);
}

START_TEST(read_back) {
  otr_gguf_writer *writer = start(path);
  uint64_t bytes = otr_gguf_writer_bytes(writer);
  ck_assert(!exists(path));
  finish(writer);
  otr_memory memory;
  otr_memory_init(&memory, NULL);
  otr_source source = at(path);
  otr_file file;
  otr_gguf *gguf;
  ck_ok(otr_file_open(&source, false, &file));
  ck_ok(otr_gguf_read(&file, &memory, &gguf));
  ck_assert(file.bytes == bytes && gguf->version == 3 && gguf->metadata.n == 7 && gguf->n_tensors == 2);
  ck_assert_uint_eq(gguf->alignment, 256);
  otr_metadata_value value;
  double number;
  const char *text;
  size_t cursor = 0, n;
  ck_assert(otr_metadata_find(&gguf->metadata, "numbers", &value) && otr_metadata_number(&value, 1, &number));
  ck_assert(number == -2 && value.count == 3);
  ck_assert(otr_metadata_find(&gguf->metadata, "strings", &value) && value.count == 3);
  for (int i = 0; i < 3; ++i) {
    ck_assert(otr_metadata_next_string(&value, &cursor, &text, &n));
    ck_assert(n == strlen(names[i]) && memcmp(text, names[i], n) == 0);
  }
  const uint8_t *data = otr_file_address(&file);
  const otr_gguf_tensor *a = otr_gguf_find(gguf, "a"), *b = otr_gguf_find(gguf, "b");
  ck_assert(a->offset % 256 == 0 && b->offset == a->offset + 256);
  ck_assert(memcmp(data + a->offset, "0123456789abcde", 15) == 0);
  ck_assert(memcmp(data + b->offset, "\0\0\0\0", 4) == 0 && memcmp(data + b->offset + 4, numbers, 12) == 0);
  otr_gguf_destroy(gguf);
  otr_file_close(&file);
}
END_TEST

START_TEST(values_of_another_file) {
  finish(start(path));
  otr_metadata *metadata;
  otr_source source = at(path);
  ck_ok(otr_metadata_open(&source, &metadata));
  otr_gguf_writer *writer;
  ck_ok(otr_gguf_writer_create(other, 256, &writer));
  otr_metadata_value value;
  for (int32_t i = 1; i < otr_metadata_count(metadata); ++i) { /* the first is general.alignment */
    ck_assert(otr_metadata_at(metadata, i, &value));
    otr_gguf_put_value(writer, &value);
  }
  otr_gguf_put_tensor(writer, "a", OTR_GGML_I8, 2, dims);
  otr_gguf_put_tensor(writer, "b", OTR_GGML_F32, 1, dims);
  ck_ok(otr_gguf_writer_begin(writer));
  ck_ok(otr_gguf_writer_data(writer, 0, 0, "0123456789abcde", 15));
  ck_ok(otr_gguf_writer_data(writer, 1, 4, numbers, 12));
  finish(writer);
  otr_metadata_close(metadata);
  ck_assert(same_bytes(path, other));
}
END_TEST

START_TEST(strings_are_changed_in_place) {
  otr_gguf_writer *writer = start(path);
  ck_assert_int_eq(otr_gguf_writer_set_string(writer, "string", "longer"), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_gguf_writer_set_string(writer, "u32", "1234"), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_gguf_writer_set_string(writer, "none", "1234"), OTR_STATUS_INVALID_ARGUMENT);
  ck_ok(otr_gguf_writer_set_string(writer, "string", "TEXT"));
  finish(writer);
  otr_metadata *metadata;
  otr_metadata_value value;
  otr_source source = at(path);
  const char *text;
  size_t cursor = 0, n;
  ck_ok(otr_metadata_open(&source, &metadata));
  ck_assert(otr_metadata_find(metadata, "string", &value) && otr_metadata_next_string(&value, &cursor, &text, &n));
  ck_assert(n == 4 && memcmp(text, "TEXT", 4) == 0);
  otr_metadata_close(metadata);
}
END_TEST

START_TEST(given_up) {
  otr_gguf_writer *writer = start(path);
  otr_gguf_writer_destroy(writer);
  ck_assert(!exists(path));
  otr_gguf_writer_destroy(NULL);
}
END_TEST

START_TEST(what_is_refused) {
  otr_gguf_writer *writer;
  ck_assert_int_eq(otr_gguf_writer_create(path, 24, &writer), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert(writer == NULL);
  ck_ok(otr_gguf_writer_create(path, 32, &writer));
  otr_gguf_put_u32(writer, "k", 1);
  otr_gguf_put_u32(writer, "k", 2);
  ck_assert_int_eq(otr_gguf_writer_begin(writer), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert(strstr(otr_error_detail(), "key k: twice") != NULL);
  ck_assert_int_eq(otr_gguf_writer_data(writer, 0, 0, "", 0), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_gguf_writer_finish(writer), OTR_STATUS_INVALID_ARGUMENT);
  otr_gguf_writer_destroy(writer);
  ck_ok(otr_gguf_writer_create(path, 32, &writer));
  ck_assert_int_eq(otr_gguf_put_tensor(writer, "t", 4, 1, dims), -1);
  ck_assert_int_eq(otr_gguf_writer_begin(writer), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_str_eq(otr_error_detail(), "tensor t: type or dimensions");
  otr_gguf_writer_destroy(writer);
  writer = start(path);
  ck_assert_int_eq(otr_gguf_writer_data(writer, 0, 10, "123456", 6), OTR_STATUS_INVALID_ARGUMENT);
  ck_assert_int_eq(otr_gguf_writer_data(writer, 2, 0, "", 0), OTR_STATUS_INVALID_ARGUMENT);
  otr_gguf_writer_destroy(writer);
  ck_ok(otr_gguf_writer_create("no/such/folder/x.gguf", 32, &writer));
  ck_assert_int_eq(otr_gguf_writer_begin(writer), OTR_STATUS_IO);
  ck_assert(strstr(otr_error_detail(), "no/such/folder/x.gguf.part") != NULL);
  otr_gguf_writer_destroy(writer);
}
END_TEST

START_TEST(tiny_models) {
  llama_shape shape = tiny_model_shape();
  ck_ok(tiny_model_write(path, &shape, 3));
  ck_ok(tiny_model_write(other, &shape, 3));
  ck_assert(same_bytes(path, other));
  ck_ok(tiny_model_write(other, &shape, 4));
  ck_assert(!same_bytes(path, other));
}
END_TEST

static void add(TCase *tests) {
  tcase_add_checked_fixture(tests, set_up, tear_down);
  tcase_add_test(tests, read_back);
  tcase_add_test(tests, values_of_another_file);
  tcase_add_test(tests, strings_are_changed_in_place);
  tcase_add_test(tests, given_up);
  tcase_add_test(tests, what_is_refused);
  tcase_add_test(tests, tiny_models);
}

int main(void) {
  return suite_run("gguf_write", add);
}
