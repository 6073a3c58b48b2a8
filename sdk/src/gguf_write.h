// SPDX-License-Identifier: Apache-2.0
/* Writing GGUF v3 (tools only, not in the runtime library): keys and tensors are declared first, then data goes to its
 * place in any order and from any thread. The file appears under its name only when it is whole: until then it is
 * "<path>.part". The same calls give the same bytes. */
#ifndef OTR_GGUF_WRITE_H
#define OTR_GGUF_WRITE_H

#include <stddef.h>
#include <stdint.h>

#include "gguf.h"
#include "outrider/outrider.h"

typedef struct otr_gguf_writer otr_gguf_writer;

/** @param alignment of tensor data: a power of two >= 8; written as general.alignment
 *  @param[out] out otr_gguf_writer_destroy; NULL on failure */
otr_status otr_gguf_writer_create(const char *path, uint32_t alignment, otr_gguf_writer **out);
/** Removes the unfinished file, where there is one. NULL is allowed. */
void otr_gguf_writer_destroy(otr_gguf_writer *writer);

/* Keys: before otr_gguf_writer_begin. A key given before is an error. A failure is remembered and returned by begin, so
 * that a list of these calls needs no checks. */
void otr_gguf_put_u32(otr_gguf_writer *writer, const char *key, uint32_t value);
void otr_gguf_put_f32(otr_gguf_writer *writer, const char *key, float value);
void otr_gguf_put_bool(otr_gguf_writer *writer, const char *key, int value);
void otr_gguf_put_string(otr_gguf_writer *writer, const char *key, const char *value);
/** `count` elements of a fixed-size type, little-endian. */
void otr_gguf_put_array(otr_gguf_writer *writer, const char *key, otr_metadata_type type, uint64_t count,
                        const void *elements);
/** strings[i] of bytes[i]; bytes NULL: 0-terminated ones. */
void otr_gguf_put_strings(otr_gguf_writer *writer, const char *key, uint64_t count, const char *const *strings,
                          const size_t *bytes);
/** A key of another file as it is. */
void otr_gguf_put_value(otr_gguf_writer *writer, const otr_metadata_value *value);

/** Declares a tensor, before begin; its place follows those declared before.
 *  @param dims [n_dims], the contiguous one first
 *  @return its number, for otr_gguf_writer_data; -1 on failure (remembered as above). */
int32_t otr_gguf_put_tensor(otr_gguf_writer *writer, const char *name, uint32_t ggml_type, int32_t n_dims,
                            const uint64_t *dims);

/** Makes the file with its header; data not written later is zero.
 *  @return OK, IO, or what a put remembered. */
otr_status otr_gguf_writer_begin(otr_gguf_writer *writer);
/** Instead of begin: the header alone, parsed, and no file. Data cannot be written.
 *  @param[out] out the writer's, as long as it lives; NULL on failure. @return OK, or what a put remembered. */
otr_status otr_gguf_writer_header(otr_gguf_writer *writer, const otr_gguf **out);
/** @return size of the whole file, after begin. */
uint64_t otr_gguf_writer_bytes(const otr_gguf_writer *writer);
/** Writes `n_bytes` of a tensor's data at `offset` in it. @threads Any, after begin. */
otr_status otr_gguf_writer_data(otr_gguf_writer *writer, int32_t tensor, uint64_t offset, const void *data,
                                size_t n_bytes);
/** Overwrites a string key's value with one of the same length, after begin. @threads One. */
otr_status otr_gguf_writer_set_string(otr_gguf_writer *writer, const char *key, const char *value);
/** @return the unfinished file's name. */
const char *otr_gguf_writer_part(const otr_gguf_writer *writer);
/** Syncs the file and gives it its name. The writer can then only be destroyed. */
otr_status otr_gguf_writer_finish(otr_gguf_writer *writer);

#endif
