// SPDX-License-Identifier: Apache-2.0
#include "safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool safetensors_open(safetensors *file, const char *path) {
  memset(file, 0, sizeof *file);
  FILE *in = fopen(path, "rb");
  if (in == NULL) return false;
  long size = fseek(in, 0, SEEK_END) == 0 ? ftell(in) : -1;
  if (size > 8 && fseek(in, 0, SEEK_SET) == 0) file->bytes = malloc((size_t)size);
  file->n = file->bytes != NULL ? fread(file->bytes, 1, (size_t)size, in) : 0;
  fclose(in);
  uint64_t header;
  if (file->bytes != NULL) memcpy(&header, file->bytes, sizeof header);
  bool good = file->bytes != NULL && file->n == (size_t)size && header <= file->n - 8;
  if (!good) safetensors_close(file);
  return good;
}

void safetensors_close(safetensors *file) {
  free(file->bytes);
  memset(file, 0, sizeof *file);
}

/* The numbers of a list "[1,2]" at `text`. @return how many. */
static int read_list(const char *text, int64_t *out, int room) {
  int n = 0;
  text += strcspn(text, "[") + 1;
  while (*text != ']' && *text != '\0' && n < room) {
    char *end;
    out[n++] = strtoll(text, &end, 10);
    text = end + strspn(end, ", ");
  }
  return n;
}

static bool read_entry(const safetensors *file, const char *entry, uint64_t header, safetensor *out) {
  const char *dtype = strstr(entry, "\"dtype\""), *shape = strstr(entry, "\"shape\"");
  const char *place = strstr(entry, "\"data_offsets\"");
  int64_t offsets[2];
  if (dtype == NULL || shape == NULL || place == NULL || read_list(place, offsets, 2) != 2) return false;
  if (sscanf(dtype + 7, " : \"%7[A-Z0-9_]", out->dtype) != 1) return false;
  out->n_dims = read_list(shape, out->dims, 4);
  if (offsets[0] < 0 || offsets[1] < offsets[0] || (uint64_t)offsets[1] > file->n - 8 - header) return false;
  out->data = file->bytes + 8 + header + offsets[0];
  out->bytes = (size_t)(offsets[1] - offsets[0]);
  return true;
}

bool safetensors_find(const safetensors *file, const char *name, safetensor *out) {
  uint64_t header;
  char quoted[128];
  memset(out, 0, sizeof *out);
  memcpy(&header, file->bytes, sizeof header);
  char *text = malloc((size_t)header + 1);
  if (text == NULL) return false;
  memcpy(text, file->bytes + 8, (size_t)header);
  text[header] = '\0';
  snprintf(quoted, sizeof quoted, "\"%s\":", name);
  const char *entry = strstr(text, quoted);
  bool found = entry != NULL && read_entry(file, entry, header, out);
  free(text);
  return found;
}
