// SPDX-License-Identifier: Apache-2.0
/* GGUF v2 and v3: a parser that is a pure function over bytes, and the metadata that it finds. Nothing here reads
 * tensor data. After OK everything is checked: counts, lengths, offsets and sizes lie inside the file and overlap
 * nowhere. */
#ifndef OTR_GGUF_H
#define OTR_GGUF_H

#include <stddef.h>
#include <stdint.h>

#include "io.h"
#include "memory.h"
#include "outrider/outrider.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "GGUF and the SDK's files are little-endian and used in place"
#endif

#define OTR_GGUF_MAX_DIMS 4
#define OTR_GGUF_MAX_KEYS 65536 /* more is refused (UNSUPPORTED) */
#define OTR_GGUF_MAX_TENSORS 262144

/** ggml's tensor types, by their numbers in the format; those that this library reads have a name here. */
enum {
  OTR_GGML_F32 = 0,
  OTR_GGML_F16 = 1,
  OTR_GGML_Q4_0 = 2,
  OTR_GGML_Q4_1 = 3,
  OTR_GGML_Q5_0 = 6,
  OTR_GGML_Q5_1 = 7,
  OTR_GGML_Q8_0 = 8,
  OTR_GGML_Q4_K = 12,
  OTR_GGML_Q5_K = 13,
  OTR_GGML_Q6_K = 14,
  OTR_GGML_I8 = 24,
  OTR_GGML_I32 = 26,
  OTR_GGML_BF16 = 30
};

/** A tensor type: `block` values take `block_bytes`. The name stands in the struct: no relocations. */
typedef struct otr_ggml_type {
  char name[8];
  uint16_t block, block_bytes;
} otr_ggml_type;
/** @return NULL for a type this library does not know of (it knows more than it can read). */
const otr_ggml_type *otr_ggml_type_find(uint32_t type);
/** @return the type's name, "unknown" for others. */
const char *otr_ggml_type_name(uint32_t type);

typedef struct otr_gguf_tensor {
  const char *name; /* 0-terminated, without zeros inside, owned by the otr_gguf */
  uint32_t type;    /* known to otr_ggml_type_find */
  int32_t n_dims;
  uint64_t dims[OTR_GGUF_MAX_DIMS]; /* the first is the contiguous one, a multiple of the type's block; all > 0, the
                                       missing ones 1: a weight [n, k] has dims { k, n, 1, 1 } */
  uint64_t offset;                  /* of the data in the file */
  uint64_t bytes;                   /* of the data */
  uint64_t row_bytes;               /* of dims[0] values */
} otr_gguf_tensor;

struct otr_metadata_owner; /* gguf.c: what otr_metadata_open holds */

/** The keys; also a member of every otr_gguf. */
struct otr_metadata {
  otr_metadata_value *values; /* [n] in the file's order; pointers into the header's bytes */
  uint32_t *order;            /* [n] sorted by key */
  int32_t n;
  struct otr_metadata_owner *owner; /* NULL when it is a member of an otr_gguf */
};

/** Bytes of an element of a fixed-size type, 0 for strings, arrays and numbers that are no type. */
uint32_t otr_metadata_element_bytes(otr_metadata_type type);
/** Order of a key against another: < 0, 0, > 0. */
int otr_metadata_compare(const otr_metadata_value *value, const char *key, size_t key_bytes);

typedef struct otr_gguf {
  otr_metadata metadata;
  otr_gguf_tensor *tensors; /* [n_tensors] in the file's order */
  uint32_t *order;          /* [n_tensors] sorted by name */
  int32_t n_tensors;
  uint32_t version;
  uint64_t alignment;
  uint64_t data_offset; /* where tensor data begins */
  otr_memory *memory;
  char *names;
  size_t names_bytes;
  uint8_t *header; /* the header's bytes where otr_gguf_read had to copy them, or NULL */
  size_t header_bytes;
} otr_gguf;

/** Parses the header of a file of `file_bytes`, of which the first `n_bytes` are at `bytes`. Reads nothing else.
 *  @param bytes must stay valid and unchanged as long as *out: metadata points into it
 *  @param[out] out otr_gguf_destroy on OK; NULL otherwise
 *  @return OK, BAD_FORMAT, UNSUPPORTED (version 1, big-endian, nested arrays, an unknown tensor type), NO_MEMORY, or
 *          BUFFER_TOO_SMALL: the header goes on after `n_bytes` (only where n_bytes < file_bytes): try with more. */
otr_status otr_gguf_parse(const uint8_t *bytes, size_t n_bytes, uint64_t file_bytes, otr_memory *memory,
                          otr_gguf **out);
/** The same for an opened file: in place where it has an address, otherwise read in growing pieces. The file must stay
 *  open as long as *out where it has an address. @return also IO. */
otr_status otr_gguf_read(const otr_file *file, otr_memory *memory, otr_gguf **out);
/** NULL is allowed. */
void otr_gguf_destroy(otr_gguf *gguf);

/** @return the tensor with this name, or NULL. */
const otr_gguf_tensor *otr_gguf_find(const otr_gguf *gguf, const char *name);

#endif
