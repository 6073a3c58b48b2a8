// SPDX-License-Identifier: Apache-2.0
#include "gguf.h"

#include <stdbool.h>
#include <string.h>

#include "status.h"

#define MAX_NAME_BYTES 65535
/* What the smallest key (length, one byte, type, one byte) and tensor (length, one byte, n_dims, one dim, type, offset)
 * take: a count that the file cannot hold is refused before anything is allocated for it. */
#define MIN_KEY_BYTES 14
#define MIN_TENSOR_BYTES 33
#define DEFAULT_ALIGNMENT 32
#define FIRST_PIECE ((size_t)256 << 10) /* of a header that has to be read */

/* ---- tensor types ---- */

static const otr_ggml_type types[] = {
    [OTR_GGML_F32] = {"F32", 1, 4},
    [OTR_GGML_F16] = {"F16", 1, 2},
    [OTR_GGML_Q4_0] = {"Q4_0", 32, 18},
    [OTR_GGML_Q4_1] = {"Q4_1", 32, 20},
    [OTR_GGML_Q5_0] = {"Q5_0", 32, 22},
    [OTR_GGML_Q5_1] = {"Q5_1", 32, 24},
    [OTR_GGML_Q8_0] = {"Q8_0", 32, 34},
    [9] = {"Q8_1", 32, 36},
    [10] = {"Q2_K", 256, 84},
    [11] = {"Q3_K", 256, 110},
    [OTR_GGML_Q4_K] = {"Q4_K", 256, 144},
    [OTR_GGML_Q5_K] = {"Q5_K", 256, 176},
    [OTR_GGML_Q6_K] = {"Q6_K", 256, 210},
    [15] = {"Q8_K", 256, 292},
    [16] = {"IQ2_XXS", 256, 66},
    [17] = {"IQ2_XS", 256, 74},
    [18] = {"IQ3_XXS", 256, 98},
    [19] = {"IQ1_S", 256, 50},
    [20] = {"IQ4_NL", 32, 18},
    [21] = {"IQ3_S", 256, 110},
    [22] = {"IQ2_S", 256, 82},
    [23] = {"IQ4_XS", 256, 136},
    [OTR_GGML_I8] = {"I8", 1, 1},
    [25] = {"I16", 1, 2},
    [OTR_GGML_I32] = {"I32", 1, 4},
    [27] = {"I64", 1, 8},
    [28] = {"F64", 1, 8},
    [29] = {"IQ1_M", 256, 56},
    [OTR_GGML_BF16] = {"BF16", 1, 2},
    [34] = {"TQ1_0", 256, 54},
    [35] = {"TQ2_0", 256, 66},
    [39] = {"MXFP4", 32, 17},
};

const otr_ggml_type *otr_ggml_type_find(uint32_t type) {
  return type < sizeof types / sizeof types[0] && types[type].block > 0 ? &types[type] : NULL;
}

const char *otr_ggml_type_name(uint32_t type) {
  const otr_ggml_type *found = otr_ggml_type_find(type);
  return found != NULL ? found->name : "unknown";
}

/* ---- reading bytes ---- */

typedef struct cursor {
  const uint8_t *bytes;
  uint64_t position, available, file_bytes;
} cursor;

/* The next `n` bytes, or a failure: the file ends, or only what is at hand. */
static otr_status take(cursor *c, uint64_t n, const uint8_t **out) {
  *out = c->bytes + c->position;
  if (n > c->file_bytes - c->position)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "the header at byte %llu needs %llu bytes, the file ends before",
                    (unsigned long long)c->position, (unsigned long long)n);
  if (n > c->available - c->position) return OTR_STATUS_BUFFER_TOO_SMALL;
  c->position += n;
  return OTR_STATUS_OK;
}

static otr_status take_u32(cursor *c, uint32_t *out) {
  const uint8_t *p;
  OTR_TRY(take(c, sizeof *out, &p));
  memcpy(out, p, sizeof *out);
  return OTR_STATUS_OK;
}

static otr_status take_u64(cursor *c, uint64_t *out) {
  const uint8_t *p;
  OTR_TRY(take(c, sizeof *out, &p));
  memcpy(out, p, sizeof *out);
  return OTR_STATUS_OK;
}

/* A key or a tensor's name: short, not empty, without zeros. */
static otr_status take_name(cursor *c, const char *what, const char **out, size_t *n_bytes) {
  uint64_t length;
  const uint8_t *p;
  OTR_TRY(take_u64(c, &length));
  if (length == 0 || length > MAX_NAME_BYTES)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "%s at byte %llu: its name has %llu bytes", what,
                    (unsigned long long)c->position, (unsigned long long)length);
  OTR_TRY(take(c, length, &p));
  if (memchr(p, 0, (size_t)length) != NULL)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "%s at byte %llu: its name holds a zero byte", what,
                    (unsigned long long)c->position);
  *out = (const char *)p;
  *n_bytes = (size_t)length;
  return OTR_STATUS_OK;
}

/* ---- sorting: guaranteed n log n, whatever the names are ---- */

typedef bool (*less_fn)(const otr_gguf *gguf, uint32_t a, uint32_t b);

static void sift(const otr_gguf *gguf, uint32_t *order, uint32_t root, uint32_t n, less_fn less) {
  for (uint32_t child = 2 * root + 1; child < n; child = 2 * root + 1) {
    if (child + 1 < n && less(gguf, order[child], order[child + 1])) ++child;
    if (!less(gguf, order[root], order[child])) return;
    uint32_t moved = order[root];
    order[root] = order[child];
    order[child] = moved;
    root = child;
  }
}

static void sort(const otr_gguf *gguf, uint32_t *order, int32_t count, less_fn less) {
  uint32_t n = (uint32_t)count;
  for (uint32_t i = 0; i < n; ++i) order[i] = i;
  for (uint32_t i = n / 2; i-- > 0;) sift(gguf, order, i, n, less);
  for (uint32_t last = n; last-- > 1;) {
    uint32_t greatest = order[0];
    order[0] = order[last];
    order[last] = greatest;
    sift(gguf, order, 0, last, less);
  }
}

/* ---- keys ---- */

int otr_metadata_compare(const otr_metadata_value *value, const char *key, size_t key_bytes) {
  size_t shorter = value->key_bytes < key_bytes ? value->key_bytes : key_bytes;
  int order = memcmp(value->key, key, shorter);
  if (order != 0) return order;
  return value->key_bytes < key_bytes ? -1 : value->key_bytes > key_bytes;
}

static bool key_less(const otr_gguf *gguf, uint32_t a, uint32_t b) {
  const otr_metadata_value *values = gguf->metadata.values;
  return otr_metadata_compare(&values[a], values[b].key, values[b].key_bytes) < 0;
}

uint32_t otr_metadata_element_bytes(otr_metadata_type type) {
  switch (type) {
    case OTR_METADATA_U8:
    case OTR_METADATA_I8:
    case OTR_METADATA_BOOL:
      return 1;
    case OTR_METADATA_U16:
    case OTR_METADATA_I16:
      return 2;
    case OTR_METADATA_U32:
    case OTR_METADATA_I32:
    case OTR_METADATA_F32:
      return 4;
    case OTR_METADATA_U64:
    case OTR_METADATA_I64:
    case OTR_METADATA_F64:
      return 8;
    default:
      return 0;
  }
}

static otr_status take_strings(cursor *c, uint64_t count) {
  if (count > (c->file_bytes - c->position) / 8)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "%llu strings do not fit in the file", (unsigned long long)count);
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t length;
    const uint8_t *p;
    OTR_TRY(take_u64(c, &length));
    OTR_TRY(take(c, length, &p));
  }
  return OTR_STATUS_OK;
}

static otr_status take_elements(cursor *c, uint32_t type, uint64_t count) {
  if (type == OTR_METADATA_STRING) return take_strings(c, count);
  uint32_t size = otr_metadata_element_bytes((otr_metadata_type)type);
  if (size == 0) return otr_fail(OTR_STATUS_BAD_FORMAT, "value type %u", (unsigned)type);
  if (count > (c->file_bytes - c->position) / size)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "%llu elements do not fit in the file", (unsigned long long)count);
  const uint8_t *p;
  OTR_TRY(take(c, count * size, &p));
  if (type != OTR_METADATA_BOOL) return OTR_STATUS_OK;
  for (uint64_t i = 0; i < count; ++i)
    if (p[i] > 1) return otr_fail(OTR_STATUS_BAD_FORMAT, "a bool of %u", (unsigned)p[i]);
  return OTR_STATUS_OK;
}

static otr_status take_value(cursor *c, otr_metadata_value *value) {
  uint32_t type = 0;
  OTR_TRY(take_u32(c, &type));
  value->count = 1;
  value->is_array = type == OTR_METADATA_ARRAY;
  if (value->is_array) {
    OTR_TRY(take_u32(c, &type));
    if (type == OTR_METADATA_ARRAY) return otr_fail(OTR_STATUS_UNSUPPORTED, "an array of arrays");
    OTR_TRY(take_u64(c, &value->count));
  }
  uint64_t begin = c->position;
  OTR_TRY(take_elements(c, type, value->count));
  value->type = (otr_metadata_type)type;
  value->data = c->bytes + begin;
  value->bytes = (size_t)(c->position - begin);
  return OTR_STATUS_OK;
}

static otr_status take_keys(cursor *c, otr_gguf *gguf) {
  otr_metadata *metadata = &gguf->metadata;
  for (int32_t i = 0; i < metadata->n; ++i) {
    otr_metadata_value *value = &metadata->values[i];
    OTR_TRY(take_name(c, "a key", &value->key, &value->key_bytes));
    otr_status status = take_value(c, value);
    if (status == OTR_STATUS_BUFFER_TOO_SMALL) return status;
    if (status != OTR_STATUS_OK) return otr_fail_in(status, "key %.*s", (int)value->key_bytes, value->key);
  }
  sort(gguf, metadata->order, metadata->n, key_less);
  for (int32_t i = 1; i < metadata->n; ++i) {
    const otr_metadata_value *value = &metadata->values[metadata->order[i]];
    if (!key_less(gguf, metadata->order[i - 1], metadata->order[i]))
      return otr_fail(OTR_STATUS_BAD_FORMAT, "key %.*s: twice in the file", (int)value->key_bytes, value->key);
  }
  return OTR_STATUS_OK;
}

static otr_status set_alignment(otr_gguf *gguf) {
  otr_metadata_value value;
  gguf->alignment = DEFAULT_ALIGNMENT;
  if (!otr_metadata_find(&gguf->metadata, "general.alignment", &value)) return OTR_STATUS_OK;
  if (value.type != OTR_METADATA_U32 || value.is_array)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "general.alignment: not a u32");
  uint32_t alignment;
  memcpy(&alignment, value.data, sizeof alignment);
  if (alignment == 0 || (alignment & (alignment - 1)) != 0)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "general.alignment: %u is not a power of two", (unsigned)alignment);
  gguf->alignment = alignment;
  return OTR_STATUS_OK;
}

/* ---- tensors ---- */

/* *product *= factor; false when it does not fit. */
static bool multiply(uint64_t *product, uint64_t factor) {
  if (factor != 0 && *product > UINT64_MAX / factor) return false;
  *product *= factor;
  return true;
}

static otr_status set_size(otr_gguf_tensor *tensor) {
  const otr_ggml_type *type = otr_ggml_type_find(tensor->type);
  if (tensor->type > INT32_MAX) return otr_fail(OTR_STATUS_BAD_FORMAT, "type %d", (int)(int32_t)tensor->type);
  if (type == NULL) return otr_fail(OTR_STATUS_UNSUPPORTED, "type %u is not known", (unsigned)tensor->type);
  if (tensor->dims[0] % type->block != 0)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "rows of %llu values, type %s has blocks of %u",
                    (unsigned long long)tensor->dims[0], type->name, (unsigned)type->block);
  tensor->row_bytes = tensor->dims[0] / type->block;
  bool fits = multiply(&tensor->row_bytes, type->block_bytes);
  tensor->bytes = tensor->row_bytes;
  for (int i = 1; i < OTR_GGUF_MAX_DIMS; ++i) fits = fits && multiply(&tensor->bytes, tensor->dims[i]);
  return fits ? OTR_STATUS_OK : otr_fail(OTR_STATUS_BAD_FORMAT, "more bytes than 64 bits can count");
}

static otr_status take_tensor_rest(cursor *c, otr_gguf_tensor *tensor) {
  uint32_t n_dims;
  OTR_TRY(take_u32(c, &n_dims));
  if (n_dims < 1 || n_dims > OTR_GGUF_MAX_DIMS)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "%u dimensions", (unsigned)n_dims);
  tensor->n_dims = (int32_t)n_dims;
  for (uint32_t i = 0; i < OTR_GGUF_MAX_DIMS; ++i) {
    tensor->dims[i] = 1;
    if (i < n_dims) OTR_TRY(take_u64(c, &tensor->dims[i]));
    if (tensor->dims[i] == 0) return otr_fail(OTR_STATUS_BAD_FORMAT, "a dimension of 0");
  }
  OTR_TRY(take_u32(c, &tensor->type));
  OTR_TRY(take_u64(c, &tensor->offset));
  return set_size(tensor);
}

/* Fills the table; names still point into the header, the length of each stands in the 8 bytes before it. */
static otr_status take_tensors(cursor *c, otr_gguf *gguf) {
  for (int32_t i = 0; i < gguf->n_tensors; ++i) {
    otr_gguf_tensor *tensor = &gguf->tensors[i];
    size_t name_bytes;
    OTR_TRY(take_name(c, "a tensor", &tensor->name, &name_bytes));
    otr_status status = take_tensor_rest(c, tensor);
    if (status == OTR_STATUS_BUFFER_TOO_SMALL) return status;
    if (status != OTR_STATUS_OK) return otr_fail_in(status, "tensor %.*s", (int)name_bytes, tensor->name);
    gguf->names_bytes += name_bytes + 1;
  }
  return OTR_STATUS_OK;
}

/* Gives every name its own place with a 0 at the end. */
static otr_status keep_names(otr_gguf *gguf) {
  gguf->names = otr_memory_take(gguf->memory, gguf->names_bytes, 1);
  if (gguf->names == NULL) return OTR_STATUS_NO_MEMORY;
  char *place = gguf->names;
  for (int32_t i = 0; i < gguf->n_tensors; ++i) {
    uint64_t length;
    memcpy(&length, gguf->tensors[i].name - sizeof length, sizeof length);
    memcpy(place, gguf->tensors[i].name, (size_t)length);
    gguf->tensors[i].name = place;
    place += length;
    *place++ = '\0';
  }
  return OTR_STATUS_OK;
}

/* Makes offsets absolute and checks that each tensor lies in the file. */
static otr_status place_tensor(const otr_gguf *gguf, otr_gguf_tensor *tensor, uint64_t file_bytes) {
  if (tensor->offset % gguf->alignment != 0)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "tensor %s: offset %llu is not a multiple of %llu", tensor->name,
                    (unsigned long long)tensor->offset, (unsigned long long)gguf->alignment);
  uint64_t room = file_bytes > gguf->data_offset ? file_bytes - gguf->data_offset : 0;
  if (tensor->offset > room || tensor->bytes > room - tensor->offset)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "tensor %s: %llu bytes at offset %llu, the file has data of %llu bytes",
                    tensor->name, (unsigned long long)tensor->bytes, (unsigned long long)tensor->offset,
                    (unsigned long long)room);
  tensor->offset += gguf->data_offset;
  return OTR_STATUS_OK;
}

static bool offset_less(const otr_gguf *gguf, uint32_t a, uint32_t b) {
  return gguf->tensors[a].offset < gguf->tensors[b].offset;
}

static bool name_less(const otr_gguf *gguf, uint32_t a, uint32_t b) {
  return strcmp(gguf->tensors[a].name, gguf->tensors[b].name) < 0;
}

static otr_status check_overlaps(otr_gguf *gguf) {
  sort(gguf, gguf->order, gguf->n_tensors, offset_less);
  for (int32_t i = 1; i < gguf->n_tensors; ++i) {
    const otr_gguf_tensor *before = &gguf->tensors[gguf->order[i - 1]], *after = &gguf->tensors[gguf->order[i]];
    if (before->bytes > after->offset - before->offset)
      return otr_fail(OTR_STATUS_BAD_FORMAT, "tensors %s and %s overlap", before->name, after->name);
  }
  return OTR_STATUS_OK;
}

static otr_status check_names(otr_gguf *gguf) {
  sort(gguf, gguf->order, gguf->n_tensors, name_less);
  for (int32_t i = 1; i < gguf->n_tensors; ++i)
    if (!name_less(gguf, gguf->order[i - 1], gguf->order[i]))
      return otr_fail(OTR_STATUS_BAD_FORMAT, "tensor %s: twice in the file", gguf->tensors[gguf->order[i]].name);
  return OTR_STATUS_OK;
}

static otr_status place_tensors(otr_gguf *gguf, uint64_t header_end, uint64_t file_bytes) {
  uint64_t mask = gguf->alignment - 1;
  if (header_end > UINT64_MAX - mask) return otr_fail(OTR_STATUS_BAD_FORMAT, "general.alignment: too large");
  gguf->data_offset = (header_end + mask) & ~mask;
  for (int32_t i = 0; i < gguf->n_tensors; ++i) OTR_TRY(place_tensor(gguf, &gguf->tensors[i], file_bytes));
  OTR_TRY(check_overlaps(gguf));
  return check_names(gguf);
}

/* ---- the whole header ---- */

static otr_status take_version(cursor *c, otr_gguf *gguf) {
  const uint8_t *magic;
  if (c->file_bytes == 0) return otr_fail(OTR_STATUS_BAD_FORMAT, "the file is empty");
  OTR_TRY(take(c, 4, &magic));
  if (memcmp(magic, "FUGG", 4) == 0) return otr_fail(OTR_STATUS_UNSUPPORTED, "a byte-swapped (big-endian) GGUF file");
  if (memcmp(magic, "GGUF", 4) != 0)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "not a GGUF file (it does not begin with \"GGUF\")");
  OTR_TRY(take_u32(c, &gguf->version));
  if (gguf->version != 0 && (gguf->version & 0xffffu) == 0)
    return otr_fail(OTR_STATUS_UNSUPPORTED, "a byte-swapped (big-endian) GGUF file");
  if (gguf->version == 1)
    return otr_fail(OTR_STATUS_UNSUPPORTED, "GGUF version 1: convert it to version 2 or 3 with the program it is from");
  if (gguf->version != 2 && gguf->version != 3)
    return otr_fail(gguf->version == 0 ? OTR_STATUS_BAD_FORMAT : OTR_STATUS_UNSUPPORTED,
                    "GGUF version %u, versions 2 and 3 are read", (unsigned)gguf->version);
  return OTR_STATUS_OK;
}

static otr_status take_count(cursor *c, const char *what, uint64_t least_bytes, uint64_t most, int32_t *out) {
  uint64_t count;
  OTR_TRY(take_u64(c, &count));
  if (count > (c->file_bytes - c->position) / least_bytes)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "%llu %s do not fit in the file", (unsigned long long)count, what);
  if (count > most)
    return otr_fail(OTR_STATUS_UNSUPPORTED, "%llu %s, at most %llu are read", (unsigned long long)count, what,
                    (unsigned long long)most);
  *out = (int32_t)count;
  return OTR_STATUS_OK;
}

/* Room for what the counts promise; refused above when the file cannot hold it. */
static otr_status make_tables(otr_gguf *gguf) {
  otr_memory *memory = gguf->memory;
  size_t n_keys = (size_t)gguf->metadata.n, n_tensors = (size_t)gguf->n_tensors;
  gguf->metadata.values = otr_memory_take_array(memory, n_keys, sizeof *gguf->metadata.values);
  gguf->metadata.order = otr_memory_take_array(memory, n_keys, sizeof *gguf->metadata.order);
  gguf->tensors = otr_memory_take_array(memory, n_tensors, sizeof *gguf->tensors);
  gguf->order = otr_memory_take_array(memory, n_tensors, sizeof *gguf->order);
  bool ok = gguf->metadata.values != NULL && gguf->metadata.order != NULL && gguf->tensors != NULL;
  return ok && gguf->order != NULL ? OTR_STATUS_OK : OTR_STATUS_NO_MEMORY;
}

static otr_status parse(cursor *c, otr_gguf *gguf) {
  OTR_TRY(take_version(c, gguf));
  OTR_TRY(take_count(c, "tensors", MIN_TENSOR_BYTES, OTR_GGUF_MAX_TENSORS, &gguf->n_tensors));
  OTR_TRY(take_count(c, "keys", MIN_KEY_BYTES, OTR_GGUF_MAX_KEYS, &gguf->metadata.n));
  OTR_TRY(make_tables(gguf));
  OTR_TRY(take_keys(c, gguf));
  OTR_TRY(set_alignment(gguf));
  OTR_TRY(take_tensors(c, gguf));
  OTR_TRY(keep_names(gguf));
  return place_tensors(gguf, c->position, c->file_bytes);
}

otr_status otr_gguf_parse(const uint8_t *bytes, size_t n_bytes, uint64_t file_bytes, otr_memory *memory,
                          otr_gguf **out) {
  *out = NULL;
  otr_gguf *gguf = otr_memory_take_array(memory, 1, sizeof *gguf);
  if (gguf == NULL) return OTR_STATUS_NO_MEMORY;
  gguf->memory = memory;
  cursor c = {bytes, 0, n_bytes < file_bytes ? n_bytes : file_bytes, file_bytes};
  otr_status status = parse(&c, gguf);
  if (status != OTR_STATUS_OK) {
    otr_gguf_destroy(gguf);
    return status;
  }
  *out = gguf;
  return OTR_STATUS_OK;
}

void otr_gguf_destroy(otr_gguf *gguf) {
  if (gguf == NULL) return;
  otr_memory *memory = gguf->memory;
  size_t n_keys = (size_t)gguf->metadata.n, n_tensors = (size_t)gguf->n_tensors;
  otr_memory_give_array(memory, gguf->metadata.values, n_keys, sizeof *gguf->metadata.values);
  otr_memory_give_array(memory, gguf->metadata.order, n_keys, sizeof *gguf->metadata.order);
  otr_memory_give_array(memory, gguf->tensors, n_tensors, sizeof *gguf->tensors);
  otr_memory_give_array(memory, gguf->order, n_tensors, sizeof *gguf->order);
  otr_memory_give(memory, gguf->names, gguf->names_bytes);
  otr_memory_give(memory, gguf->header, gguf->header_bytes);
  otr_memory_give_array(memory, gguf, 1, sizeof *gguf);
}

/* Makes the piece of the header that is at hand longer: *bytes has room for *n_bytes and all of it is read. */
static otr_status grow(const otr_file *file, otr_memory *memory, uint8_t **bytes, size_t *n_bytes) {
  uint64_t wanted = *n_bytes == 0 ? FIRST_PIECE : 2 * (uint64_t)*n_bytes;
  if (wanted > file->bytes) wanted = file->bytes;
  if (wanted > SIZE_MAX) return otr_fail(OTR_STATUS_NO_MEMORY, "the header is too long");
  uint8_t *more = otr_memory_take(memory, (size_t)wanted, 16);
  if (more == NULL) return OTR_STATUS_NO_MEMORY;
  if (*n_bytes > 0) memcpy(more, *bytes, *n_bytes);
  otr_status status = otr_file_read(file, *n_bytes, more + *n_bytes, (size_t)wanted - *n_bytes);
  otr_memory_give(memory, *bytes, *n_bytes);
  *bytes = more;
  *n_bytes = (size_t)wanted;
  return status;
}

static otr_status read_copy(const otr_file *file, otr_memory *memory, otr_gguf **out) {
  uint8_t *bytes = NULL;
  size_t n_bytes = 0;
  otr_status status;
  do {
    status = grow(file, memory, &bytes, &n_bytes);
    if (status == OTR_STATUS_OK) status = otr_gguf_parse(bytes, n_bytes, file->bytes, memory, out);
  } while (status == OTR_STATUS_BUFFER_TOO_SMALL);
  if (status != OTR_STATUS_OK) {
    otr_memory_give(memory, bytes, n_bytes);
    return status;
  }
  (*out)->header = bytes;
  (*out)->header_bytes = n_bytes;
  return OTR_STATUS_OK;
}

otr_status otr_gguf_read(const otr_file *file, otr_memory *memory, otr_gguf **out) {
  *out = NULL;
  const uint8_t *address = otr_file_address(file);
  otr_status status;
  if (address == NULL) {
    status = read_copy(file, memory, out);
  } else {
    size_t n_bytes = file->bytes < SIZE_MAX ? (size_t)file->bytes : SIZE_MAX;
    status = otr_gguf_parse(address, n_bytes, file->bytes, memory, out);
  }
  if (status == OTR_STATUS_OK || status == OTR_STATUS_IO) return status;
  return otr_fail_in(status, "%s", file->name);
}

const otr_gguf_tensor *otr_gguf_find(const otr_gguf *gguf, const char *name) {
  for (int32_t low = 0, high = gguf->n_tensors; low < high;) {
    int32_t middle = low + (high - low) / 2;
    const otr_gguf_tensor *tensor = &gguf->tensors[gguf->order[middle]];
    int order = strcmp(tensor->name, name);
    if (order == 0) return tensor;
    if (order < 0) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return NULL;
}
