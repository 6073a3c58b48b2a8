// SPDX-License-Identifier: Apache-2.0
/* What generate asks of a sampler beyond the public functions. */
#ifndef OTR_TEXT_SAMPLER_H
#define OTR_TEXT_SAMPLER_H

#include "outrider/text.h"

/** @return the number of logits that the sampler was made for. */
int32_t otr_sampler_vocab(const otr_sampler *sampler);

#endif
