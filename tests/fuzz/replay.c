// SPDX-License-Identifier: Apache-2.0
/* Runs a fuzz target on files and on the files of folders: the corpus as a test where libFuzzer is not at hand. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Every input gets a block of exactly its size, so that a sanitizer sees a read past its end. */
static int replay_file(const char *path) {
  FILE *file = fopen(path, "rb");
  if (file == NULL) return fprintf(stderr, "%s: cannot be opened\n", path), -1;
  int result = -1;
  long size = fseek(file, 0, SEEK_END) == 0 ? ftell(file) : -1;
  if (size >= 0 && fseek(file, 0, SEEK_SET) == 0) {
    uint8_t *data = malloc(size > 0 ? (size_t)size : 1);
    if (data != NULL && fread(data, 1, (size_t)size, file) == (size_t)size) {
      LLVMFuzzerTestOneInput(data, (size_t)size);
      result = 1;
    }
    free(data);
  }
  fclose(file);
  if (result < 0) fprintf(stderr, "%s: cannot be read\n", path);
  return result;
}

/* Number of files replayed under `path`, -1 on failure. */
static int replay(const char *path) {
  struct stat info;
  if (stat(path, &info) != 0) return fprintf(stderr, "%s: not found\n", path), -1;
  if (!S_ISDIR(info.st_mode)) return replay_file(path);
  DIR *folder = opendir(path);
  if (folder == NULL) return fprintf(stderr, "%s: cannot be opened\n", path), -1;
  int n = 0;
  for (struct dirent *entry = readdir(folder); entry != NULL && n >= 0; entry = readdir(folder)) {
    if (entry->d_name[0] == '.') continue;
    char inner[4096];
    int length = snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name);
    int got = length > 0 && (size_t)length < sizeof inner ? replay(inner) : -1;
    n = got < 0 ? -1 : n + got;
  }
  closedir(folder);
  return n;
}

int main(int argc, char **argv) {
  int n = 0;
  for (int i = 1; i < argc; ++i) {
    int got = replay(argv[i]);
    if (got < 0) return EXIT_FAILURE;
    n += got;
  }
  printf("%d inputs replayed\n", n);
  return n > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
