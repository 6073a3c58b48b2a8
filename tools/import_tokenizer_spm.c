// SPDX-License-Identifier: Apache-2.0
/* tokenizer.model into a draft. */
#include "import_tokenizer_parts.h"
#include "sentencepiece.h"
#include "status.h"

/* What would give other ids than the text library's encoder. */
static otr_status check(const sentencepiece_model *model) {
  static const char *const kinds[] = {"?", "unigram", "bpe", "word", "char"};
  if (model->kind != SENTENCEPIECE_BPE)
    return otr_fail(OTR_STATUS_UNSUPPORTED, "a SentencePiece model of kind %s: only bpe is supported",
                    kinds[model->kind >= 1 && model->kind <= 4 ? model->kind : 0]);
  if (model->charsmap_bytes > 0)
    return otr_fail(OTR_STATUS_UNSUPPORTED, "SentencePiece's normalizer \"%.*s\" is not supported: only identity is",
                    (int)(model->normalizer_bytes < 64 ? model->normalizer_bytes : 64), model->normalizer);
  if (model->trims || model->keeps_spaces || model->space_behind)
    return otr_fail(OTR_STATUS_UNSUPPORTED, "a SentencePiece model that %s is not supported",
                    model->trims          ? "removes extra white space"
                    : model->keeps_spaces ? "does not escape white space"
                                          : "takes white space as a suffix");
  return OTR_STATUS_OK;
}

/* An id that the model names, −1 where there is no such piece. */
static int32_t named(const tokenizer_draft *draft, int32_t id) {
  return draft_at(draft, id) != NULL ? id : -1;
}

static otr_status fill(tokenizer_draft *draft, const sentencepiece_model *model) {
  OTR_TRY(check(model));
  for (size_t i = 0; i < model->n; ++i) {
    const sentencepiece_piece *piece = &model->pieces[i];
    OTR_TRY(draft_set(draft, (int64_t)i, piece->text, piece->n_bytes, (uint8_t)piece->type));
    draft->tokens[i].score = piece->score;
  }
  draft->is_spm = draft->has_scores = draft->fuse_unknown = true;
  draft->space_prefix = model->prefix ? "" : NULL;
  draft->unk = named(draft, model->unk);
  draft->bos = named(draft, model->bos);
  draft->eos = named(draft, model->eos);
  draft->pad = named(draft, model->pad);
  return OTR_STATUS_OK;
}

otr_status parts_sentencepiece(tokenizer_draft *draft, const void *bytes, size_t n_bytes) {
  sentencepiece_model model;
  otr_status status = sentencepiece_read(bytes, n_bytes, &model);
  if (status == OTR_STATUS_OK) status = fill(draft, &model);
  sentencepiece_free(&model);
  return status;
}
