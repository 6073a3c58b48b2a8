// SPDX-License-Identifier: Apache-2.0
/* RoPE in config.json: base, share of a head, scaling. */
#ifndef TOOL_HF_ROPE_H
#define TOOL_HF_ROPE_H

#include "hf_config.h"
#include "hf_values.h"

/** Puts rope.freq_base, rope.dimension_count and rope.scaling.*; takes longrope's factors into `shape`.
 *  @return OK, BAD_FORMAT, UNSUPPORTED (a scaling that is not known, by its name). */
otr_status hf_rope_put(const hf_reader *r, hf_shape *shape);

#endif
