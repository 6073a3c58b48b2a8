// SPDX-License-Identifier: Apache-2.0
/* An opened otr_source: a path, memory, a descriptor or the caller's reader, behind one small interface. */
#ifndef OTR_IO_H
#define OTR_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "outrider/outrider.h"

#define OTR_FILE_NAME_BYTES 128

/** Fields are io.c's; others use the functions. */
typedef struct otr_file {
  uint64_t bytes;         /* size of the file */
  const uint8_t *address; /* byte 0 in host memory, or NULL */
  void *map_base;         /* what mmap returned, or NULL */
  size_t map_bytes;
  int fd;                         /* own, or -1 */
  uint64_t fd_offset;             /* where byte 0 lies in fd */
  const uint8_t *memory;          /* OTR_SOURCE_MEMORY */
  otr_reader reader;              /* OTR_SOURCE_READER */
  char name[OTR_FILE_NAME_BYTES]; /* how messages call it: the path (its end, where it is long), "memory", ... */
} otr_file;

/** Opens `source` and, unless `copy` is set or it is a reader, makes it addressable: files are mapped read-only, so
 * that processes share one copy. A descriptor is dup'ed.
 *  @param copy true: never mapped nor used in place, otr_file_address is NULL and everything goes through otr_file_read
 *  @param[out] out closed on failure; otr_file_close otherwise. May be moved by assignment.
 *  @return OK, INVALID_ARGUMENT, IO (the detail names the path). */
otr_status otr_file_open(const otr_source *source, bool copy, otr_file *out);
/** Unmaps and closes; a zeroed or closed otr_file is allowed. */
void otr_file_close(otr_file *file);

/** @return the host address of byte 0 of the whole file, or NULL (a reader, copy, an empty file). */
static inline const uint8_t *otr_file_address(const otr_file *file) {
  return file->address;
}
/** @return true when `address` is a mapping of this library (pages shared with the page cache). */
static inline bool otr_file_is_mapped(const otr_file *file) {
  return file->map_base != NULL;
}

/** Reads exactly `n_bytes` at `offset`. Safe from several threads at once.
 *  @return OK, IO (outside the file, or reading failed; the detail names the file). */
otr_status otr_file_read(const otr_file *file, uint64_t offset, void *destination, size_t n_bytes);

#endif
