// SPDX-License-Identifier: Apache-2.0
/* A SentencePiece model: every text that is read lies within the file. */
#include <stdlib.h>

#include "import_tokenizer_parts.h"
#include "sentencepiece.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(int holds) {
  if (!holds) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  sentencepiece_model model;
  tokenizer_draft draft;
  size_t sum = 0;
  otr_status status = sentencepiece_read(data, size, &model);
  demand(status != OTR_STATUS_OK || model.n > 0);
  for (size_t i = 0; i < model.n; ++i) {
    const char *text = model.pieces[i].text;
    for (size_t j = 0; j < model.pieces[i].n_bytes; ++j) sum += (unsigned char)text[j];
    demand(model.pieces[i].type >= 1 && model.pieces[i].type <= 6);
  }
  for (size_t j = 0; status == OTR_STATUS_OK && j < model.normalizer_bytes; ++j)
    sum += (unsigned char)model.normalizer[j];
  sentencepiece_free(&model);
  draft_begin(&draft, 4096);
  status = parts_sentencepiece(&draft, data, size);
  demand(status == OTR_STATUS_OK ? draft.n > 0 : otr_error_detail()[0] != '\0');
  draft_end(&draft);
  return sum == SIZE_MAX;
}
