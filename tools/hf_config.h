// SPDX-License-Identifier: Apache-2.0
/* config.json of a Hugging Face directory: checked, and said in GGUF's keys. */
#ifndef TOOL_HF_CONFIG_H
#define TOOL_HF_CONFIG_H

#include <jansson.h>

#include "gguf_write.h"
#include "hf_family.h"

/** What the tensors' names and layouts depend on. All sizes lie in [1, 2^24]. */
typedef struct hf_shape {
  const hf_family *family;
  int32_t n_layers, dim, n_heads, n_kv_heads, head_dim, ffn, vocab;
  int32_t grouped_qkv, tied;
  int32_t is_bnb;                             /* a bitsandbytes checkpoint with int8 weights */
  float bnb_threshold;                        /* of its linears; 0: no outliers */
  const json_t *long_factors, *short_factors; /* longrope's arrays of numbers, or NULL */
} hf_shape;

/** Reads config.json and puts general.architecture and the architecture's keys.
 *  @param[out] shape points into `config`
 *  @return OK, BAD_FORMAT (an entry is missing or impossible: the detail names it), UNSUPPORTED (a family, or something
 *          that a model may ask for). */
otr_status hf_config_read(const json_t *config, otr_gguf_writer *keys, hf_shape *shape);

#endif
