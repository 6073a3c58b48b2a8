// SPDX-License-Identifier: Apache-2.0
/* For tests: small Hugging Face directories, right or wrong in one place. */
#ifndef HF_FOLDER_H
#define HF_FOLDER_H

#include <stddef.h>
#include <stdint.h>

/** A tensor of a safetensors file. */
typedef struct hf_item {
  const char *name, *dtype;
  int32_t n_dims;
  int64_t dims[2];
  const void *data; /* NULL: 0.5 where it is F32, zeros otherwise */
  size_t bytes;     /* of data; with NULL of the shape */
} hf_item;

/** A folder of its own in the current one, for hf_folder_remove. */
char *hf_folder_new(void);
/** With everything in it. */
void hf_folder_remove(char *folder);
void hf_folder_write(const char *folder, const char *name, const void *bytes, size_t n_bytes);
void hf_folder_text(const char *folder, const char *name, const char *text);
void hf_folder_safetensors(const char *folder, const char *name, const hf_item *items, size_t n);

/** The same with a hole for data: all zeros, and no disk taken. @return bytes of the file. */
uint64_t hf_folder_sparse(const char *folder, const char *name, const hf_item *items, size_t n);

/** The config of a llama of one layer, dim 8 in 2 heads (one KV head), ffn 12, vocab 16, untied; `key` (NULL: none) has
 *  the JSON `value` instead (NULL: it is missing). */
void hf_folder_config(const char *folder, const char *key, const char *value);
/** Its tensors. @param[out] items [HF_LLAMA_ITEMS] */
#define HF_LLAMA_ITEMS 12
void hf_llama_items(hf_item *items);

#endif
