// SPDX-License-Identifier: Apache-2.0
/* int8 weights of bitsandbytes as transformers saves them: beside P.weight (I8) stand P.SCB, the rows' absmax, and
 * P.weight_format. */
#ifndef TOOL_HF_BNB_H
#define TOOL_HF_BNB_H

#include "hf_files.h"
#include "origin.h"

/** Takes what stands beside an I8 tensor; nothing for others. @param stem "P"
 *  @return OK, or BAD_FORMAT or UNSUPPORTED: an I8 tensor without a fitting SCB, or of another format. */
otr_status hf_bnb_take(const hf_files *files, const char *stem, const hf_tensor *tensor, origin *o);

#endif
