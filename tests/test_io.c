// SPDX-License-Identifier: Apache-2.0
/* Sources: the same bytes from a path, memory, a descriptor and a reader, mapped or copied; and what is refused. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "io.h"
#include "suite.h"

#define SIZE 20000
#define INSIDE 4321 /* where the embedded file begins: not at a page */
#define INSIDE_SIZE 7000

static char path[] = "test_io_XXXXXX";
static uint8_t content[SIZE];
static int fd = -1;

static void set_up(void) {
  for (int i = 0; i < SIZE; ++i) content[i] = (uint8_t)(i * 31 + i / 251);
  strcpy(path, "test_io_XXXXXX");
  fd = mkstemp(path);
  ck_assert(fd >= 0 && write(fd, content, SIZE) == SIZE);
}

static void tear_down(void) {
  close(fd);
  unlink(path);
}

static int32_t read_content(void *user, uint64_t offset, void *destination, size_t n_bytes) {
  memcpy(destination, (const uint8_t *)user + offset, n_bytes);
  return 0;
}

static int32_t read_nothing(void *user, uint64_t offset, void *destination, size_t n_bytes) {
  (void)user;
  (void)offset;
  (void)destination;
  (void)n_bytes;
  return -1;
}

static otr_source make_source(otr_source_kind kind) {
  otr_source source;
  memset(&source, 0, sizeof source);
  source.kind = kind;
  source.path = path;
  source.memory = content;
  source.memory_bytes = SIZE;
  source.fd = fd;
  source.reader.user = content;
  source.reader.bytes = SIZE;
  source.reader.read = read_content;
  return source;
}

static void check_content(const otr_file *file, const uint8_t *want, uint64_t size) {
  static const size_t pieces[] = {0, 1, 17, 4096, 5001};
  uint8_t got[5001];
  ck_assert_uint_eq(file->bytes, size);
  const uint8_t *address = otr_file_address(file);
  if (address != NULL) ck_assert(memcmp(address, want, (size_t)size) == 0);
  for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; ++i) {
    uint64_t offset = size - pieces[i];
    ck_ok(otr_file_read(file, 0, got, pieces[i]));
    ck_assert(memcmp(got, want, pieces[i]) == 0);
    ck_ok(otr_file_read(file, offset, got, pieces[i]));
    ck_assert(memcmp(got, want + offset, pieces[i]) == 0);
  }
  ck_assert_int_eq(otr_file_read(file, size, got, 1), OTR_STATUS_IO);
  ck_assert_int_eq(otr_file_read(file, size + 1, got, 0), OTR_STATUS_IO);
  ck_assert_int_eq(otr_file_read(file, UINT64_MAX, got, 2), OTR_STATUS_IO);
}

START_TEST(every_kind) {
  for (otr_source_kind kind = OTR_SOURCE_PATH; kind <= OTR_SOURCE_READER; ++kind) {
    for (int copy = 0; copy < 2; ++copy) {
      otr_source source = make_source(kind);
      otr_file file;
      ck_ok(otr_file_open(&source, copy, &file));
      ck_assert_int_eq(otr_file_address(&file) != NULL, !copy && kind != OTR_SOURCE_READER);
      ck_assert_int_eq(otr_file_is_mapped(&file), !copy && (kind == OTR_SOURCE_PATH || kind == OTR_SOURCE_FD));
      otr_file moved = file;
      check_content(&moved, content, SIZE);
      otr_file_close(&moved);
      otr_file_close(&moved);
    }
  }
}
END_TEST

START_TEST(part_of_a_descriptor) {
  for (int copy = 0; copy < 2; ++copy) {
    otr_source source = make_source(OTR_SOURCE_FD);
    source.fd_offset = INSIDE;
    source.fd_bytes = INSIDE_SIZE;
    otr_file file;
    ck_ok(otr_file_open(&source, copy, &file));
    check_content(&file, content + INSIDE, INSIDE_SIZE);
    otr_file_close(&file);
    source.fd_bytes = 0;
    ck_ok(otr_file_open(&source, copy, &file));
    check_content(&file, content + INSIDE, SIZE - INSIDE);
    otr_file_close(&file);
  }
}
END_TEST

START_TEST(descriptor_stays_the_callers) {
  otr_source source = make_source(OTR_SOURCE_FD);
  source.fd = dup(fd);
  otr_file file;
  ck_ok(otr_file_open(&source, true, &file));
  close(source.fd);
  check_content(&file, content, SIZE);
  otr_file_close(&file);
  ck_assert_int_ge(fcntl(fd, F_GETFD), 0);
}
END_TEST

START_TEST(outside_a_descriptor) {
  const uint64_t cases[][2] = {{SIZE + 1, 0}, {0, SIZE + 1}, {INSIDE, SIZE}, {UINT64_MAX, 1}, {1, UINT64_MAX}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
    otr_source source = make_source(OTR_SOURCE_FD);
    source.fd_offset = cases[i][0];
    source.fd_bytes = cases[i][1];
    otr_file file;
    ck_assert_int_eq(otr_file_open(&source, false, &file), OTR_STATUS_IO);
  }
}
END_TEST

START_TEST(empty_files) {
  ck_assert_int_eq(ftruncate(fd, 0), 0);
  otr_source source = make_source(OTR_SOURCE_PATH);
  otr_file file;
  uint8_t byte;
  ck_ok(otr_file_open(&source, false, &file));
  ck_assert(file.bytes == 0 && otr_file_address(&file) == NULL);
  ck_ok(otr_file_read(&file, 0, &byte, 0));
  otr_file_close(&file);
}
END_TEST

START_TEST(shortened_while_open) {
  otr_source source = make_source(OTR_SOURCE_PATH);
  otr_file file;
  uint8_t got[64];
  ck_ok(otr_file_open(&source, true, &file));
  ck_assert_int_eq(ftruncate(fd, 100), 0);
  ck_assert_int_eq(otr_file_read(&file, 90, got, sizeof got), OTR_STATUS_IO);
  ck_assert(strstr(otr_error_detail(), path) != NULL);
  otr_file_close(&file);
}
END_TEST

START_TEST(failing_reader) {
  otr_source source = make_source(OTR_SOURCE_READER);
  source.reader.read = read_nothing;
  otr_file file;
  uint8_t byte;
  ck_ok(otr_file_open(&source, false, &file));
  ck_ok(otr_file_read(&file, 0, &byte, 0));
  ck_assert_int_eq(otr_file_read(&file, 0, &byte, 1), OTR_STATUS_IO);
  otr_file_close(&file);
}
END_TEST

static void refused(const otr_source *source, otr_status status, const char *word) {
  otr_file file;
  ck_assert_int_eq(otr_file_open(source, false, &file), status);
  ck_assert_msg(strstr(otr_error_detail(), word) != NULL, "%s", otr_error_detail());
  ck_assert(file.bytes == 0 && file.map_base == NULL && file.fd == -1);
}

START_TEST(what_is_refused) {
  refused(NULL, OTR_STATUS_INVALID_ARGUMENT, "source");
  otr_source source = make_source(OTR_SOURCE_PATH);
  source.path = NULL;
  refused(&source, OTR_STATUS_INVALID_ARGUMENT, "path");
  source.path = "no/such/file.gguf";
  refused(&source, OTR_STATUS_IO, "no/such/file.gguf");
  source.path = "/";
  refused(&source, OTR_STATUS_IO, "not a regular file");
  source.path = "/dev/null";
  refused(&source, OTR_STATUS_IO, "not a regular file");
  source = make_source(OTR_SOURCE_MEMORY);
  source.memory = NULL;
  refused(&source, OTR_STATUS_INVALID_ARGUMENT, "memory");
  source = make_source(OTR_SOURCE_FD);
  source.fd = -1;
  refused(&source, OTR_STATUS_IO, "descriptor -1");
  source = make_source(OTR_SOURCE_READER);
  source.reader.read = NULL;
  refused(&source, OTR_STATUS_INVALID_ARGUMENT, "reader");
  source = make_source(4);
  refused(&source, OTR_STATUS_INVALID_ARGUMENT, "kind 4");
}
END_TEST

START_TEST(long_names_keep_their_end) {
  char name[400];
  memset(name, 'x', sizeof name);
  strcpy(name + sizeof name - 12, "/model.gguf");
  otr_source source = make_source(OTR_SOURCE_PATH);
  source.path = name;
  refused(&source, OTR_STATUS_IO, "xx/model.gguf: cannot be opened");
}
END_TEST

START_TEST(zeroed_file_may_be_closed) {
  otr_file file;
  memset(&file, 0, sizeof file);
  otr_file_close(&file);
  ck_assert(fcntl(0, F_GETFD) >= 0 || errno == EBADF);
}
END_TEST

static void add(TCase *tests) {
  tcase_add_checked_fixture(tests, set_up, tear_down);
  tcase_add_test(tests, every_kind);
  tcase_add_test(tests, part_of_a_descriptor);
  tcase_add_test(tests, descriptor_stays_the_callers);
  tcase_add_test(tests, outside_a_descriptor);
  tcase_add_test(tests, empty_files);
  tcase_add_test(tests, shortened_while_open);
  tcase_add_test(tests, failing_reader);
  tcase_add_test(tests, what_is_refused);
  tcase_add_test(tests, long_names_keep_their_end);
  tcase_add_test(tests, zeroed_file_may_be_closed);
}

int main(void) {
  return suite_run("io", add);
}
