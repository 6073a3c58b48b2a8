// SPDX-License-Identifier: Apache-2.0
/* The GGUF parser on any bytes: whatever they are, it answers with a status; what it accepts keeps its promises. */
#include <stdlib.h>
#include <string.h>

#include "gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int condition) {
  if (!condition) abort();
}

/* Touches every byte that a value promises. */
static void walk_value(const otr_metadata_value *value) {
  volatile uint8_t sink = 0;
  for (size_t i = 0; i < value->key_bytes; ++i) sink = (uint8_t)(sink ^ (uint8_t)value->key[i]);
  for (size_t i = 0; i < value->bytes; ++i) sink = (uint8_t)(sink ^ ((const uint8_t *)value->data)[i]);
  size_t cursor = 0, n_bytes;
  const char *text;
  uint64_t n_strings = 0;
  while (otr_metadata_next_string(value, &cursor, &text, &n_bytes)) ++n_strings;
  if (value->type == OTR_METADATA_STRING) require(n_strings == value->count && cursor == value->bytes);
  int64_t integer;
  double number;
  for (uint64_t i = 0; i < value->count && i < 1000; ++i) {
    otr_metadata_int(value, i, &integer);
    otr_metadata_number(value, i, &number);
  }
  require(!otr_metadata_int(value, value->count, &integer) && !otr_metadata_number(value, value->count, &number));
}

static void walk(const otr_gguf *gguf, uint64_t file_bytes) {
  otr_metadata_value value, found;
  int32_t n = otr_metadata_count(&gguf->metadata);
  require(n == gguf->metadata.n);
  for (int32_t i = 0; i < n; ++i) {
    require(otr_metadata_at(&gguf->metadata, i, &value));
    walk_value(&value);
    char *key = calloc(1, value.key_bytes + 1);
    if (key == NULL) continue;
    memcpy(key, value.key, value.key_bytes);
    require(otr_metadata_find(&gguf->metadata, key, &found) && found.data == value.data);
    free(key);
  }
  require(!otr_metadata_at(&gguf->metadata, n, &value));
  for (int32_t i = 0; i < gguf->n_tensors; ++i) {
    const otr_gguf_tensor *t = &gguf->tensors[i];
    require(t->bytes > 0 && t->offset <= file_bytes && t->bytes <= file_bytes - t->offset);
    require(t->offset % gguf->alignment == 0 && otr_gguf_find(gguf, t->name) == t);
    require(t->row_bytes * t->dims[1] * t->dims[2] * t->dims[3] == t->bytes);
  }
}

static otr_status parse(const uint8_t *data, size_t size, uint64_t file_bytes) {
  otr_memory memory;
  otr_memory_init(&memory, NULL);
  otr_gguf *gguf = NULL;
  otr_status status = otr_gguf_parse(data, size, file_bytes, &memory, &gguf);
  require((status == OTR_STATUS_OK) == (gguf != NULL));
  if (gguf != NULL) walk(gguf, file_bytes);
  otr_gguf_destroy(gguf);
  require(memory.now == 0);
  return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  otr_status whole = parse(data, size, size);
  require(whole != OTR_STATUS_BUFFER_TOO_SMALL);
  /* Half of the file at hand: the same answer, or "more". */
  otr_status half = parse(data, size / 2, size);
  require(half == whole || half == OTR_STATUS_BUFFER_TOO_SMALL);
  /* The beginning of a larger file, whose tensor data is elsewhere. */
  parse(data, size, (uint64_t)size + ((uint64_t)1 << 40));
  return 0;
}
