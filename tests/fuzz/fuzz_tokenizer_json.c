// SPDX-License-Identifier: Apache-2.0
/* A tokenizer.json: what the import takes, the text library must take as well. The first byte chooses how many ids the
 * model has. */
#include <stdlib.h>
#include <unistd.h>

#include "import_tokenizer_parts.h"
#include "outrider/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The keys by way of a file without data, as a tokenizer that encodes something. */
static void load(const tokenizer_draft *draft) {
  static char path[64];
  static const char text[] = " a b\xc3\xa9\xff  <s>12 Ga\xcc\x81";
  otr_gguf_writer *writer;
  otr_metadata *metadata;
  otr_tokenizer *tokenizer;
  int32_t ids[64], n;
  snprintf(path, sizeof path, "/tmp/outrider-fuzz-%ld", (long)getpid());
  if (otr_gguf_writer_create(path, 32, &writer) != OTR_STATUS_OK) return;
  if (draft_put(draft, writer) == OTR_STATUS_OK && otr_gguf_writer_begin(writer) == OTR_STATUS_OK) {
    otr_source source = {.kind = OTR_SOURCE_PATH, .path = otr_gguf_writer_part(writer)};
    if (otr_metadata_open(&source, &metadata) != OTR_STATUS_OK) abort();
    if (otr_tokenizer_create(metadata, NULL, &tokenizer) != OTR_STATUS_OK) abort();
    for (uint32_t flags = 0; flags < 4; ++flags)
      (void)otr_tokenizer_encode(tokenizer, text, sizeof text - 1, flags, ids, 64, &n);
    otr_tokenizer_destroy(tokenizer);
    otr_metadata_close(metadata);
  }
  otr_gguf_writer_destroy(writer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  tokenizer_draft draft;
  if (size == 0) return 0;
  draft_begin(&draft, 1 + data[0] * 4);
  otr_status status = parts_tokenizer_text(&draft, (const char *)data + 1, size - 1);
  if (status == OTR_STATUS_OK)
    load(&draft);
  else if (otr_error_detail()[0] == '\0')
    abort();
  draft_end(&draft);
  return 0;
}
