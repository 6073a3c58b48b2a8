// SPDX-License-Identifier: Apache-2.0
/* Reading the fixtures of tests/fixtures: lines of words with escapes. */
#ifndef FIXTURE_H
#define FIXTURE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/** All of a file and a 0 behind it; NULL when it cannot be read. The caller frees it. */
static inline char *fixture_read(const char *folder, const char *name, size_t *n_bytes) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "rb");
  if (file == NULL) return NULL;
  char *text = NULL;
  size_t n = 0;
  if (fseek(file, 0, SEEK_END) == 0) n = (size_t)ftell(file);
  rewind(file);
  text = malloc(n + 1);
  if (text != NULL && fread(text, 1, n, file) == n) text[n] = '\0';
  fclose(file);
  if (n_bytes != NULL) *n_bytes = n;
  return text;
}

/** Cuts the next line off *cursor; NULL at the end. */
static inline char *fixture_line(char **cursor) {
  char *line = *cursor, *end = strchr(line, '\n');
  if (*line == '\0') return NULL;
  *cursor = end != NULL ? end + 1 : line + strlen(line);
  if (end != NULL) *end = '\0';
  return line;
}

/** Cuts the next word (up to a space) off *cursor. */
static inline char *fixture_word(char **cursor) {
  char *word = *cursor, *end = strchr(word, ' ');
  *cursor = end != NULL ? end + 1 : word + strlen(word);
  if (end != NULL) *end = '\0';
  return word;
}

/** Undoes \n \r \t \s \\ and \xHH in place. @return the length. */
static inline size_t fixture_unescape(char *text) {
  char *to = text;
  for (const char *from = text; *from != '\0'; ++from) {
    if (*from != '\\' || from[1] == '\0') {
      *to++ = *from;
      continue;
    }
    const char *known = "n\nr\rt\ts \\\\", *found = strchr(known, *++from);
    if (*from == 'x' && from[1] != '\0' && from[2] != '\0') {
      char hex[3] = {from[1], from[2], '\0'};
      *to++ = (char)(unsigned char)strtoul(hex, NULL, 16);
      from += 2;
    } else {
      *to++ = found != NULL ? found[1] : *from;
    }
  }
  *to = '\0';
  return (size_t)(to - text);
}

#endif
