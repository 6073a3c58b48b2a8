// SPDX-License-Identifier: Apache-2.0
/* Entries of config.json, checked, and GGUF keys of the family's architecture. An entry that is null is not there.
 * Names may be alternatives, "n_layer|num_hidden_layers"; NULL is never there. */
#ifndef TOOL_HF_VALUES_H
#define TOOL_HF_VALUES_H

#include <jansson.h>
#include <stdbool.h>

#include "gguf_write.h"
#include "hf_family.h"

typedef struct hf_reader {
  const json_t *config; /* an object */
  otr_gguf_writer *keys;
  const hf_family *family;
} hf_reader;

/** The first of the alternatives that is there, or NULL. @param name [64] how messages call it; NULL: not asked for */
const json_t *hf_find(const hf_reader *r, const char *names, char name[64]);
/** Whether an entry is given as null. */
bool hf_is_null(const hf_reader *r, const char *name);

/* @return OK, or BAD_FORMAT: missing without a fallback, of another type or out of range; the detail names the entry.
 */
otr_status hf_int(const hf_reader *r, const char *names, int64_t low, int64_t high, const int32_t *fallback,
                  int32_t *out);
otr_status hf_number(const hf_reader *r, const char *names, double fallback, double *out);
otr_status hf_bool(const hf_reader *r, const char *names, bool fallback, bool *out);
otr_status hf_string(const hf_reader *r, const char *names, const char *fallback, const char **out);

/* Keys "<architecture>.<key>". */
void hf_put_u32(const hf_reader *r, const char *key, int32_t value);
void hf_put_f32(const hf_reader *r, const char *key, double value);
void hf_put_bool(const hf_reader *r, const char *key, bool value);
void hf_put_string(const hf_reader *r, const char *key, const char *value);

#endif
