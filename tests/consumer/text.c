/* SPDX-License-Identifier: Apache-2.0 */
/* The text library from an app: a template, a sampler, an error that tells its reason. */
#include <outrider/text.h>
#include <stdio.h>
#include <string.h>

int main(void) {
  const otr_chat_message messages[1] = {{"user", "Hello"}};
  const float logits[3] = {0.5f, 2.0f, 1.0f};
  char text[256];
  size_t n_bytes;
  int32_t id = -1;
  otr_chat_template chat;
  otr_sampler *sampler;
  otr_tokenizer *tokenizer;
  if (otr_chat_template_by_name("chatml", &chat) != OTR_STATUS_OK ||
      otr_chat_apply(chat, messages, 1, 1, NULL, text, sizeof text, &n_bytes) != OTR_STATUS_OK ||
      otr_sampler_create(3, NULL, &sampler) != OTR_STATUS_OK) {
    printf("%s\n", otr_text_error_detail());
    return 1;
  }
  otr_status status = otr_sampler_sample(sampler, logits, 3, &id);
  otr_sampler_destroy(sampler);
  printf("%.*s%d\n", (int)n_bytes, text, (int)id);
  if (otr_tokenizer_create(NULL, NULL, &tokenizer) != OTR_STATUS_INVALID_ARGUMENT || tokenizer) return 1;
  return status == OTR_STATUS_OK && id == 1 && strlen(otr_text_error_detail()) > 0 ? 0 : 1;
}
