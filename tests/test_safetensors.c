// SPDX-License-Identifier: Apache-2.0
/* The header of safetensors files: each file of the fuzzer's corpus (argv) gets the answer that its name begins with,
 * and what is accepted is read as it was written. */
#include <dirent.h>
#include <string.h>

#include "safetensors.h"
#include "suite.h"

static const char *corpus;

typedef struct blob {
  uint8_t *bytes;
  size_t n;
} blob;

static blob load(const char *name) {
  char path[4096];
  blob b = {0};
  snprintf(path, sizeof path, "%s/%s", corpus, name);
  FILE *in = fopen(path, "rb");
  ck_assert_msg(in != NULL, "%s: cannot be opened", path);
  fseek(in, 0, SEEK_END);
  b.n = (size_t)ftell(in);
  rewind(in);
  b.bytes = malloc(b.n + 1);
  ck_assert(b.bytes != NULL && fread(b.bytes, 1, b.n, in) == b.n);
  fclose(in);
  return b;
}

static otr_status parse(const char *name, safetensors *file, otr_memory *memory) {
  blob b = load(name);
  otr_memory_init(memory, NULL);
  otr_status status = safetensors_parse(b.bytes, b.n, b.n, memory, file);
  free(b.bytes);
  return status;
}

START_TEST(every_file_is_answered) {
  DIR *folder = opendir(corpus);
  ck_assert_msg(folder != NULL, "%s cannot be opened", corpus);
  int n = 0;
  for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
    if (entry->d_name[0] == '.') continue;
    otr_status want = strncmp(entry->d_name, "ok-", 3) == 0    ? OTR_STATUS_OK
                      : strncmp(entry->d_name, "bad-", 4) == 0 ? OTR_STATUS_BAD_FORMAT
                                                               : OTR_STATUS_UNSUPPORTED;
    safetensors file;
    otr_memory memory;
    otr_status status = parse(entry->d_name, &file, &memory);
    ck_assert_msg(status == want, "%s: %s: %s", entry->d_name, otr_status_text(status), otr_error_detail());
    if (status != OTR_STATUS_OK) ck_assert(otr_error_detail()[0] != '\0');
    safetensors_destroy(&file);
    ck_assert(memory.now == 0);
    n++;
  }
  closedir(folder);
  ck_assert_int_ge(n, 40);
}
END_TEST

START_TEST(what_is_read) {
  safetensors file;
  otr_memory memory;
  ck_ok(parse("ok-two", &file, &memory));
  ck_assert_int_eq(file.n, 2);
  const safetensor *a = safetensors_find(&file, "a"), *b = safetensors_find(&file, "b");
  ck_assert(a != NULL && b != NULL && safetensors_find(&file, "c") == NULL);
  ck_assert(a->dtype == SAFETENSORS_F32 && a->n_dims == 1 && a->dims[0] == 2 && a->bytes == 8);
  ck_assert(b->dtype == SAFETENSORS_F16 && b->n_dims == 2 && b->dims[0] == 2 && b->dims[1] == 3 && b->bytes == 12);
  ck_assert_uint_eq(b->offset, a->offset + 8);
  safetensors_destroy(&file);
  ck_ok(parse("ok-rank-0", &file, &memory));
  ck_assert(file.tensors[0].n_dims == 0 && file.tensors[0].bytes == 1);
  safetensors_destroy(&file);
}
END_TEST

/* Messages name the tensor that is at fault. */
START_TEST(messages_name_the_tensor) {
  static const char *const faults[][2] = {{"bad-overlap", "tensor b overlaps"},
                                          {"bad-hole", "tensor b has a hole"},
                                          {"bad-hole-at-end", "1 bytes belong to no tensor"},
                                          {"bad-end-beyond", "tensor a lies"},
                                          {"bad-wrapping-to-0", "shape of tensor a is too large"},
                                          {"bad-shape-size", "tensor a has 8 bytes; its shape asks for 12"},
                                          {"bad-duplicate", "duplicate"},
                                          {"bad-length-max", "header of 18446744073709551615 bytes"},
                                          {"unsupported-dtype", "tensor a has dtype F4"}};
  for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
    safetensors file;
    otr_memory memory;
    ck_assert_int_ne(parse(faults[i][0], &file, &memory), OTR_STATUS_OK);
    ck_assert_msg(strstr(otr_error_detail(), faults[i][1]) != NULL, "%s: %s", faults[i][0], otr_error_detail());
  }
}
END_TEST

static void add(TCase *tests) {
  tcase_add_test(tests, every_file_is_answered);
  tcase_add_test(tests, what_is_read);
  tcase_add_test(tests, messages_name_the_tensor);
}

int main(int argc, char **argv) {
  if (argc != 2) return EXIT_FAILURE;
  corpus = argv[1];
  return suite_run("safetensors", add);
}
