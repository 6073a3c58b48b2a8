// SPDX-License-Identifier: Apache-2.0
#include "gguf_write.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "memory.h"
#include "status.h"

#define FIXED_BYTES 24 /* magic, version, both counts */

typedef struct buffer {
  uint8_t *bytes;
  size_t n, room;
} buffer;

struct otr_gguf_writer {
  char *path, *part, *folder;
  int fd; /* -1 before begin and after finish */
  uint64_t alignment;
  buffer keys, tensors;
  uint64_t n_keys, data_bytes;
  int32_t n_tensors;
  otr_status status; /* what a put remembered */
  char detail[OTR_DETAIL_BYTES];
  otr_memory memory;
  uint8_t *header; /* [header_bytes] after begin, parsed: where everything lies */
  size_t header_bytes;
  otr_gguf *gguf;
};

/* ---- what goes into the header ---- */

static void remember(otr_gguf_writer *writer, otr_status status) {
  if (writer->status != OTR_STATUS_OK) return;
  writer->status = status;
  otr_detail_get(writer->detail);
}

static bool reserve(otr_gguf_writer *writer, buffer *b, size_t more) {
  if (more <= b->room - b->n) return true;
  size_t room = b->room < 4096 ? 4096 : b->room;
  while (room - b->n < more && room <= SIZE_MAX / 2) room *= 2;
  uint8_t *bytes = room - b->n >= more ? realloc(b->bytes, room) : NULL;
  if (bytes == NULL) {
    remember(writer, otr_fail(OTR_STATUS_NO_MEMORY, "%s: no memory for the header", writer->path));
    return false;
  }
  b->bytes = bytes;
  b->room = room;
  return true;
}

static void append(otr_gguf_writer *writer, buffer *b, const void *bytes, size_t n) {
  if (n == 0 || writer->status != OTR_STATUS_OK || !reserve(writer, b, n)) return;
  memcpy(b->bytes + b->n, bytes, n);
  b->n += n;
}

static void append_u32(otr_gguf_writer *writer, buffer *b, uint32_t v) {
  append(writer, b, &v, sizeof v);
}
static void append_u64(otr_gguf_writer *writer, buffer *b, uint64_t v) {
  append(writer, b, &v, sizeof v);
}
static void append_string(otr_gguf_writer *writer, buffer *b, const char *string, size_t bytes) {
  append_u64(writer, b, bytes);
  append(writer, b, string, bytes);
}

static void append_key(otr_gguf_writer *writer, const char *key, size_t key_bytes, otr_metadata_type type) {
  append_string(writer, &writer->keys, key, key_bytes);
  append_u32(writer, &writer->keys, (uint32_t)type);
  ++writer->n_keys;
}

static void put_scalar(otr_gguf_writer *writer, const char *key, otr_metadata_type type, const void *value, size_t n) {
  append_key(writer, key, strlen(key), type);
  append(writer, &writer->keys, value, n);
}

void otr_gguf_put_u32(otr_gguf_writer *writer, const char *key, uint32_t value) {
  put_scalar(writer, key, OTR_METADATA_U32, &value, sizeof value);
}

void otr_gguf_put_f32(otr_gguf_writer *writer, const char *key, float value) {
  put_scalar(writer, key, OTR_METADATA_F32, &value, sizeof value);
}

void otr_gguf_put_bool(otr_gguf_writer *writer, const char *key, int value) {
  uint8_t byte = value != 0;
  put_scalar(writer, key, OTR_METADATA_BOOL, &byte, sizeof byte);
}

void otr_gguf_put_string(otr_gguf_writer *writer, const char *key, const char *value) {
  append_key(writer, key, strlen(key), OTR_METADATA_STRING);
  append_string(writer, &writer->keys, value, strlen(value));
}

static void append_array(otr_gguf_writer *writer, otr_metadata_type type, uint64_t count) {
  append_u32(writer, &writer->keys, (uint32_t)type);
  append_u64(writer, &writer->keys, count);
}

void otr_gguf_put_array(otr_gguf_writer *writer, const char *key, otr_metadata_type type, uint64_t count,
                        const void *elements) {
  append_key(writer, key, strlen(key), OTR_METADATA_ARRAY);
  append_array(writer, type, count);
  append(writer, &writer->keys, elements, (size_t)count * otr_metadata_element_bytes(type));
}

void otr_gguf_put_strings(otr_gguf_writer *writer, const char *key, uint64_t count, const char *const *strings,
                          const size_t *bytes) {
  append_key(writer, key, strlen(key), OTR_METADATA_ARRAY);
  append_array(writer, OTR_METADATA_STRING, count);
  for (uint64_t i = 0; i < count; ++i)
    append_string(writer, &writer->keys, strings[i], bytes != NULL ? bytes[i] : strlen(strings[i]));
}

void otr_gguf_put_value(otr_gguf_writer *writer, const otr_metadata_value *value) {
  append_key(writer, value->key, value->key_bytes, value->is_array ? OTR_METADATA_ARRAY : value->type);
  if (value->is_array) append_array(writer, value->type, value->count);
  append(writer, &writer->keys, value->data, value->bytes);
}

static uint64_t aligned(const otr_gguf_writer *writer, uint64_t n) {
  return (n + writer->alignment - 1) & ~(writer->alignment - 1);
}

int32_t otr_gguf_put_tensor(otr_gguf_writer *writer, const char *name, uint32_t ggml_type, int32_t n_dims,
                            const uint64_t *dims) {
  const otr_ggml_type *type = otr_ggml_type_find(ggml_type);
  if (type == NULL || n_dims < 1 || n_dims > OTR_GGUF_MAX_DIMS) {
    remember(writer, otr_fail(OTR_STATUS_INVALID_ARGUMENT, "tensor %s: type or dimensions", name));
    return -1;
  }
  append_string(writer, &writer->tensors, name, strlen(name));
  append_u32(writer, &writer->tensors, (uint32_t)n_dims);
  uint64_t bytes = dims[0] / type->block * type->block_bytes;
  for (int32_t i = 0; i < n_dims; ++i) {
    append_u64(writer, &writer->tensors, dims[i]);
    if (i > 0) bytes *= dims[i];
  }
  append_u32(writer, &writer->tensors, ggml_type);
  append_u64(writer, &writer->tensors, writer->data_bytes);
  writer->data_bytes += aligned(writer, bytes);
  return writer->status == OTR_STATUS_OK ? writer->n_tensors++ : -1;
}

/* ---- the file ---- */

static char *joined(const char *a, const char *b) {
  size_t n = strlen(a);
  char *out = malloc(n + strlen(b) + 1);
  if (out == NULL) return NULL;
  memcpy(out, a, n);
  strcpy(out + n, b);
  return out;
}

static char *folder_of(const char *path) {
  const char *slash = strrchr(path, '/');
  if (slash == NULL) return joined(".", "");
  char *out = joined(path, "");
  if (out != NULL) out[slash == path ? 1 : slash - path] = '\0';
  return out;
}

otr_status otr_gguf_writer_create(const char *path, uint32_t alignment, otr_gguf_writer **out) {
  *out = NULL;
  if (alignment < 8 || (alignment & (alignment - 1)) != 0)
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "alignment %u", (unsigned)alignment);
  otr_gguf_writer *writer = calloc(1, sizeof *writer);
  if (writer == NULL) return otr_fail(OTR_STATUS_NO_MEMORY, "%s: no memory", path);
  writer->fd = -1;
  writer->alignment = alignment;
  otr_memory_init(&writer->memory, NULL);
  writer->path = joined(path, "");
  writer->part = joined(path, ".part");
  writer->folder = folder_of(path);
  if (writer->path == NULL || writer->part == NULL || writer->folder == NULL) {
    otr_gguf_writer_destroy(writer);
    return otr_fail(OTR_STATUS_NO_MEMORY, "%s: no memory", path);
  }
  otr_gguf_put_u32(writer, "general.alignment", alignment);
  *out = writer;
  return OTR_STATUS_OK;
}

void otr_gguf_writer_destroy(otr_gguf_writer *writer) {
  if (writer == NULL) return;
  if (writer->fd >= 0) {
    close(writer->fd);
    unlink(writer->part);
  }
  otr_gguf_destroy(writer->gguf);
  free(writer->header);
  free(writer->keys.bytes);
  free(writer->tensors.bytes);
  free(writer->path);
  free(writer->part);
  free(writer->folder);
  free(writer);
}

static otr_status io_failure(const otr_gguf_writer *writer, const char *what) {
  return otr_fail(OTR_STATUS_IO, "%s: %s: %s", writer->part, what, strerror(errno));
}

static otr_status write_at(const otr_gguf_writer *writer, uint64_t offset, const void *data, size_t n_bytes) {
  const uint8_t *bytes = data;
  while (n_bytes > 0) {
    ssize_t done = pwrite(writer->fd, bytes, n_bytes < (1u << 30) ? n_bytes : 1u << 30, (off_t)offset);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return io_failure(writer, "cannot be written");
    bytes += done;
    offset += (uint64_t)done;
    n_bytes -= (size_t)done;
  }
  return OTR_STATUS_OK;
}

/* The header's bytes; reading them back checks them (keys or names twice, sizes) and finds every place. */
static otr_status make_header(otr_gguf_writer *writer) {
  if (writer->status != OTR_STATUS_OK) {
    otr_detail_set(writer->detail);
    return writer->status;
  }
  if (writer->header != NULL) return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "%s: its header is made", writer->path);
  size_t n = FIXED_BYTES + writer->keys.n + writer->tensors.n;
  writer->header = malloc(n);
  if (writer->header == NULL) return otr_fail(OTR_STATUS_NO_MEMORY, "%s: no memory for the header", writer->path);
  writer->header_bytes = n;
  uint32_t version = 3;
  uint64_t n_tensors = (uint64_t)writer->n_tensors;
  uint8_t *p = writer->header;
  memcpy(p, "GGUF", 4);
  memcpy(p + 4, &version, sizeof version);
  memcpy(p + 8, &n_tensors, sizeof n_tensors);
  memcpy(p + 16, &writer->n_keys, sizeof writer->n_keys);
  memcpy(p + FIXED_BYTES, writer->keys.bytes, writer->keys.n);
  if (writer->tensors.n > 0) memcpy(p + FIXED_BYTES + writer->keys.n, writer->tensors.bytes, writer->tensors.n);
  otr_status status = otr_gguf_parse(p, n, otr_gguf_writer_bytes(writer), &writer->memory, &writer->gguf);
  if (status == OTR_STATUS_BAD_FORMAT) status = OTR_STATUS_INVALID_ARGUMENT; /* what was put is the caller's */
  return status == OTR_STATUS_OK ? status : otr_fail_in(status, "%s", writer->path);
}

otr_status otr_gguf_writer_header(otr_gguf_writer *writer, const otr_gguf **out) {
  otr_status status = make_header(writer);
  *out = status == OTR_STATUS_OK ? writer->gguf : NULL;
  return status;
}

otr_status otr_gguf_writer_begin(otr_gguf_writer *writer) {
  OTR_TRY(make_header(writer));
  writer->fd = open(writer->part, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (writer->fd < 0) return io_failure(writer, "cannot be made");
  if (ftruncate(writer->fd, (off_t)otr_gguf_writer_bytes(writer)) != 0) return io_failure(writer, "cannot be made");
  return write_at(writer, 0, writer->header, writer->header_bytes);
}

uint64_t otr_gguf_writer_bytes(const otr_gguf_writer *writer) {
  return aligned(writer, FIXED_BYTES + writer->keys.n + writer->tensors.n) + writer->data_bytes;
}

otr_status otr_gguf_writer_data(otr_gguf_writer *writer, int32_t tensor, uint64_t offset, const void *data,
                                size_t n_bytes) {
  if (writer->fd < 0 || tensor < 0 || tensor >= writer->n_tensors)
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "%s: no tensor %d", writer->path, (int)tensor);
  const otr_gguf_tensor *t = &writer->gguf->tensors[tensor];
  if (offset > t->bytes || n_bytes > t->bytes - offset)
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "%s: tensor %s ends before", writer->path, t->name);
  return write_at(writer, t->offset + offset, data, n_bytes);
}

otr_status otr_gguf_writer_set_string(otr_gguf_writer *writer, const char *key, const char *value) {
  otr_metadata_value found;
  size_t n = strlen(value);
  if (writer->fd < 0 || !otr_metadata_find(&writer->gguf->metadata, key, &found) || found.type != OTR_METADATA_STRING ||
      found.is_array || found.bytes != n + 8)
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "%s: key %s is no string of this length", writer->path, key);
  size_t offset = (size_t)((const uint8_t *)found.data - writer->header) + 8;
  return write_at(writer, offset, value, n);
}

const char *otr_gguf_writer_part(const otr_gguf_writer *writer) {
  return writer->part;
}

/* The name is safe on disk only when its folder is. A file system that cannot sync folders is left alone. */
static void sync_folder(const otr_gguf_writer *writer) {
  int fd = open(writer->folder, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  fsync(fd);
  close(fd);
}

otr_status otr_gguf_writer_finish(otr_gguf_writer *writer) {
  if (writer->fd < 0) return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "%s: not begun", writer->path);
  if (fsync(writer->fd) != 0) return io_failure(writer, "cannot be written");
  if (rename(writer->part, writer->path) != 0) return io_failure(writer, "cannot be renamed");
  int closed = close(writer->fd);
  writer->fd = -1;
  sync_folder(writer);
  return closed == 0 ? OTR_STATUS_OK : io_failure(writer, "cannot be closed");
}
