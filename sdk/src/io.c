// SPDX-License-Identifier: Apache-2.0
#include "io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include "status.h"

/* Bytes that one pread is asked for at most: some systems refuse more than an int holds. */
#define READ_PIECE ((size_t)1 << 30)

/* Long paths keep their end: that is where they differ. */
static void set_name(otr_file *file, const char *name) {
  size_t length = strlen(name);
  if (length < sizeof file->name) {
    memcpy(file->name, name, length + 1);
    return;
  }
  size_t kept = sizeof file->name - 4;
  memcpy(file->name, "...", 3);
  memcpy(file->name + 3, name + length - kept, kept + 1);
}

static otr_status open_path(otr_file *file, const char *path) {
  if (path == NULL) return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "source: path is NULL");
  set_name(file, path);
  file->fd = open(path, O_RDONLY | O_CLOEXEC);
  if (file->fd < 0) return otr_fail(OTR_STATUS_IO, "%s: cannot be opened: %s", file->name, strerror(errno));
  return OTR_STATUS_OK;
}

static otr_status open_fd(otr_file *file, const otr_source *source) {
  snprintf(file->name, sizeof file->name, "descriptor %d", (int)source->fd);
  file->fd = fcntl(source->fd, F_DUPFD_CLOEXEC, 0);
  if (file->fd < 0) return otr_fail(OTR_STATUS_IO, "%s: cannot be duplicated: %s", file->name, strerror(errno));
  file->fd_offset = source->fd_offset;
  return OTR_STATUS_OK;
}

/* Sets file->bytes: `wanted` of them from fd_offset on, 0 for all there are. */
static otr_status measure(otr_file *file, uint64_t wanted) {
  struct stat info;
  if (fstat(file->fd, &info) != 0) return otr_fail(OTR_STATUS_IO, "%s: %s", file->name, strerror(errno));
  if (!S_ISREG(info.st_mode)) return otr_fail(OTR_STATUS_IO, "%s: not a regular file", file->name);
  uint64_t size = (uint64_t)info.st_size;
  if (file->fd_offset > size || wanted > size - file->fd_offset)
    return otr_fail(OTR_STATUS_IO, "%s: %llu bytes at %llu are not in its %llu bytes", file->name,
                    (unsigned long long)wanted, (unsigned long long)file->fd_offset, (unsigned long long)size);
  file->bytes = wanted != 0 ? wanted : size - file->fd_offset;
  return OTR_STATUS_OK;
}

/* Maps the whole file; the mapping begins at a page, byte 0 where it may. */
static otr_status map(otr_file *file) {
  if (file->bytes == 0) return OTR_STATUS_OK;
  uint64_t inside = file->fd_offset % (uint64_t)sysconf(_SC_PAGESIZE);
  if (file->bytes > SIZE_MAX - inside) return otr_fail(OTR_STATUS_IO, "%s: too large to map", file->name);
  size_t bytes = (size_t)(file->bytes + inside);
  void *base = mmap(NULL, bytes, PROT_READ, MAP_SHARED, file->fd, (off_t)(file->fd_offset - inside));
  if (base == MAP_FAILED) return otr_fail(OTR_STATUS_IO, "%s: cannot be mapped: %s", file->name, strerror(errno));
  file->map_base = base;
  file->map_bytes = bytes;
  file->address = (const uint8_t *)base + inside;
  return OTR_STATUS_OK;
}

static otr_status open_descriptor(otr_file *file, const otr_source *source, bool copy) {
  bool is_fd = source->kind == OTR_SOURCE_FD;
  OTR_TRY(is_fd ? open_fd(file, source) : open_path(file, source->path));
  OTR_TRY(measure(file, is_fd ? source->fd_bytes : 0));
  return copy ? OTR_STATUS_OK : map(file);
}

static otr_status open_memory(otr_file *file, const otr_source *source, bool copy) {
  set_name(file, "memory");
  if (source->memory == NULL) return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "source: memory is NULL");
  file->memory = source->memory;
  file->bytes = source->memory_bytes;
  file->address = copy || file->bytes == 0 ? NULL : file->memory;
  return OTR_STATUS_OK;
}

static otr_status open_reader(otr_file *file, const otr_source *source) {
  set_name(file, "reader");
  if (source->reader.read == NULL) return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "source: reader.read is NULL");
  file->reader = source->reader;
  file->bytes = source->reader.bytes;
  return OTR_STATUS_OK;
}

static otr_status open_kind(otr_file *file, const otr_source *source, bool copy) {
  switch (source->kind) {
    case OTR_SOURCE_PATH:
    case OTR_SOURCE_FD:
      return open_descriptor(file, source, copy);
    case OTR_SOURCE_MEMORY:
      return open_memory(file, source, copy);
    case OTR_SOURCE_READER:
      return open_reader(file, source);
    default:
      return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "source: kind %d", (int)source->kind);
  }
}

otr_status otr_file_open(const otr_source *source, bool copy, otr_file *out) {
  memset(out, 0, sizeof *out);
  out->fd = -1;
  if (source == NULL) return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "source is NULL");
  otr_status status = open_kind(out, source, copy);
  if (status != OTR_STATUS_OK) otr_file_close(out);
  return status;
}

void otr_file_close(otr_file *file) {
  if (file->map_base != NULL) munmap(file->map_base, file->map_bytes);
  /* A zeroed otr_file was never opened: it has no name, and its fd 0 is not its own. */
  if (file->name[0] != '\0' && file->fd >= 0) close(file->fd);
  memset(file, 0, sizeof *file);
  file->fd = -1;
}

static otr_status read_descriptor(const otr_file *file, uint64_t offset, uint8_t *destination, size_t n_bytes) {
  while (n_bytes > 0) {
    size_t piece = n_bytes < READ_PIECE ? n_bytes : READ_PIECE;
    ssize_t got = pread(file->fd, destination, piece, (off_t)(file->fd_offset + offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return otr_fail(OTR_STATUS_IO, "%s: cannot be read: %s", file->name, strerror(errno));
    if (got == 0) return otr_fail(OTR_STATUS_IO, "%s: shorter than it was when opened", file->name);
    destination += got;
    offset += (uint64_t)got;
    n_bytes -= (size_t)got;
  }
  return OTR_STATUS_OK;
}

otr_status otr_file_read(const otr_file *file, uint64_t offset, void *destination, size_t n_bytes) {
  if (offset > file->bytes || n_bytes > file->bytes - offset)
    return otr_fail(OTR_STATUS_IO, "%s: %llu bytes at %llu are not in its %llu bytes", file->name,
                    (unsigned long long)n_bytes, (unsigned long long)offset, (unsigned long long)file->bytes);
  if (n_bytes == 0) return OTR_STATUS_OK;
  const uint8_t *place = file->memory != NULL ? file->memory : file->address;
  if (place != NULL) {
    memcpy(destination, place + offset, n_bytes);
    return OTR_STATUS_OK;
  }
  if (file->reader.read == NULL) return read_descriptor(file, offset, destination, n_bytes);
  if (file->reader.read(file->reader.user, offset, destination, n_bytes) != 0)
    return otr_fail(OTR_STATUS_IO, "%s: reading %llu bytes at %llu failed", file->name, (unsigned long long)n_bytes,
                    (unsigned long long)offset);
  return OTR_STATUS_OK;
}
