// SPDX-License-Identifier: Apache-2.0
/* The public look at a GGUF file's keys. */
#include <stdlib.h>
#include <string.h>

#include "gguf.h"
#include "status.h"

/* What an otr_metadata without a model stands on: its own memory and the parsed header. */
struct otr_metadata_owner {
  otr_memory memory;
  otr_gguf *gguf;
};

/* The header is copied, so that neither a mapping nor the source has to stay. */
static otr_status read_header(const otr_source *source, struct otr_metadata_owner *owner) {
  otr_file file;
  OTR_TRY(otr_file_open(source, true, &file));
  otr_status status = otr_gguf_read(&file, &owner->memory, &owner->gguf);
  otr_file_close(&file);
  return status;
}

otr_status otr_metadata_open(const otr_source *source, otr_metadata **out) {
  if (out == NULL) return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "otr_metadata_open: out is NULL");
  *out = NULL;
  struct otr_metadata_owner *owner = malloc(sizeof *owner);
  if (owner == NULL) return otr_fail(OTR_STATUS_NO_MEMORY, "otr_metadata_open: no memory");
  otr_memory_init(&owner->memory, NULL);
  otr_status status = read_header(source, owner);
  if (status != OTR_STATUS_OK) {
    free(owner);
    return status;
  }
  owner->gguf->metadata.owner = owner;
  *out = &owner->gguf->metadata;
  return OTR_STATUS_OK;
}

void otr_metadata_close(otr_metadata *metadata) {
  if (metadata == NULL || metadata->owner == NULL) return;
  struct otr_metadata_owner *owner = metadata->owner;
  otr_gguf_destroy(owner->gguf);
  free(owner);
}

int32_t otr_metadata_count(const otr_metadata *metadata) {
  return metadata != NULL ? metadata->n : 0;
}

int32_t otr_metadata_at(const otr_metadata *metadata, int32_t index, otr_metadata_value *value) {
  if (metadata == NULL || value == NULL || index < 0 || index >= metadata->n) return 0;
  *value = metadata->values[index];
  return 1;
}

int32_t otr_metadata_find(const otr_metadata *metadata, const char *key, otr_metadata_value *value) {
  if (value == NULL) return 0;
  memset(value, 0, sizeof *value);
  if (metadata == NULL || key == NULL) return 0;
  size_t key_bytes = strlen(key);
  for (int32_t low = 0, high = metadata->n; low < high;) {
    int32_t middle = low + (high - low) / 2;
    const otr_metadata_value *found = &metadata->values[metadata->order[middle]];
    int order = otr_metadata_compare(found, key, key_bytes);
    if (order == 0) {
      *value = *found;
      return 1;
    }
    if (order < 0) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return 0;
}

/* Element `index` of a fixed-size type into `out`, whose size is that of the element. */
static void load(void *out, const otr_metadata_value *value, uint64_t index, size_t size) {
  memcpy(out, (const uint8_t *)value->data + (size_t)index * size, size);
}

#define LOAD(type, out)                           \
  do {                                            \
    type element;                                 \
    load(&element, value, index, sizeof element); \
    *(out) = element;                             \
  } while (0)

int32_t otr_metadata_int(const otr_metadata_value *value, uint64_t index, int64_t *out) {
  if (value == NULL || out == NULL || index >= value->count) return 0;
  uint64_t large = 0;
  switch (value->type) {
    case OTR_METADATA_U8:
    case OTR_METADATA_BOOL:
      LOAD(uint8_t, out);
      return 1;
    case OTR_METADATA_I8:
      LOAD(int8_t, out);
      return 1;
    case OTR_METADATA_U16:
      LOAD(uint16_t, out);
      return 1;
    case OTR_METADATA_I16:
      LOAD(int16_t, out);
      return 1;
    case OTR_METADATA_U32:
      LOAD(uint32_t, out);
      return 1;
    case OTR_METADATA_I32:
      LOAD(int32_t, out);
      return 1;
    case OTR_METADATA_I64:
      LOAD(int64_t, out);
      return 1;
    case OTR_METADATA_U64:
      LOAD(uint64_t, &large);
      break;
    default:
      return 0;
  }
  if (large > INT64_MAX) return 0;
  *out = (int64_t)large;
  return 1;
}

int32_t otr_metadata_number(const otr_metadata_value *value, uint64_t index, double *out) {
  if (value == NULL || out == NULL || index >= value->count) return 0;
  if (value->type == OTR_METADATA_F64) {
    LOAD(double, out);
    return 1;
  }
  if (value->type == OTR_METADATA_F32) {
    LOAD(float, out);
    return 1;
  }
  int64_t integer;
  if (value->type == OTR_METADATA_BOOL || !otr_metadata_int(value, index, &integer)) return 0;
  *out = (double)integer;
  return 1;
}

int32_t otr_metadata_next_string(const otr_metadata_value *value, size_t *cursor, const char **string, size_t *bytes) {
  if (value == NULL || cursor == NULL || string == NULL || bytes == NULL) return 0;
  if (value->type != OTR_METADATA_STRING || *cursor > value->bytes || value->bytes - *cursor < 8) return 0;
  uint64_t length;
  memcpy(&length, (const uint8_t *)value->data + *cursor, sizeof length);
  if (length > value->bytes - *cursor - 8) return 0;
  *string = (const char *)value->data + *cursor + 8;
  *bytes = (size_t)length;
  *cursor += 8 + (size_t)length;
  return 1;
}
