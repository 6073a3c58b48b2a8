// SPDX-License-Identifier: Apache-2.0
#include "tokenizer_folder.h"

#include <dirent.h>
#include <string.h>
#include <unistd.h>

#include "import_tokenizer.h"
#include "suite.h"

static char folder[256];

const char *folder_make(void) {
  const char *base = getenv("TMPDIR");
  snprintf(folder, sizeof folder, "%s/outrider-tokenizer-XXXXXX", base != NULL ? base : "/tmp");
  ck_assert_ptr_nonnull(mkdtemp(folder));
  return folder;
}

void folder_write(const char *name, const void *text, size_t n_bytes) {
  char path[512];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  unlink(path);
  if (text == NULL) return;
  FILE *file = fopen(path, "wb");
  ck_assert_ptr_nonnull(file);
  ck_assert_uint_eq(fwrite(text, 1, n_bytes, file), n_bytes);
  ck_assert_int_eq(fclose(file), 0);
}

void folder_remove(void) {
  DIR *entries = opendir(folder);
  ck_assert_ptr_nonnull(entries);
  for (struct dirent *entry = readdir(entries); entry != NULL; entry = readdir(entries))
    if (entry->d_name[0] != '.') folder_write(entry->d_name, NULL, 0);
  closedir(entries);
  rmdir(folder);
}

otr_status folder_import(const char *directory, int32_t vocab, int *found, otr_metadata **out) {
  char path[] = "/tmp/outrider-tokenizer-XXXXXX";
  otr_gguf_writer *writer;
  int file = mkstemp(path);
  ck_assert_int_ge(file, 0);
  close(file);
  *out = NULL;
  ck_ok(otr_gguf_writer_create(path, 32, &writer));
  otr_status status = import_tokenizer(directory, vocab, writer, found);
  if (status == OTR_STATUS_OK) {
    otr_source source = {.kind = OTR_SOURCE_PATH, .path = path};
    ck_ok(otr_gguf_writer_begin(writer));
    ck_ok(otr_gguf_writer_finish(writer));
    ck_ok(otr_metadata_open(&source, out));
  }
  otr_gguf_writer_destroy(writer);
  unlink(path);
  return status;
}

otr_tokenizer *folder_tokenizer(const char *directory, int32_t vocab) {
  int found;
  otr_metadata *metadata;
  otr_tokenizer *tokenizer;
  ck_ok(folder_import(directory, vocab, &found, &metadata));
  ck_assert_int_eq(found, 1);
  otr_status status = otr_tokenizer_create(metadata, NULL, &tokenizer);
  ck_assert_msg(status == OTR_STATUS_OK, "%s: %s", directory, otr_text_error_detail());
  otr_metadata_close(metadata);
  return tokenizer;
}
