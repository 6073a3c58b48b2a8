// SPDX-License-Identifier: Apache-2.0
/* minimal MODEL PROMPT [TOKENS]: opens a model, continues a text, closes. The shortest way from a file to words. */
#include <outrider/text.h>
#include <stdio.h>
#include <stdlib.h>

static int32_t print_piece(void *user, const char *text, size_t n_bytes, int32_t id) {
  (void)user;
  (void)id;
  return fwrite(text, 1, n_bytes, stdout) == n_bytes && fflush(stdout) == 0 ? 0 : 1;
}

/* Each library keeps the reasons of its own functions. */
static int runtime_failed(void) {
  fprintf(stderr, "minimal: %s\n", otr_error_detail());
  return 1;
}

static int text_failed(void) {
  fprintf(stderr, "minimal: %s\n", otr_text_error_detail());
  return 1;
}

static int generate(otr_session *session, const otr_tokenizer *tokenizer, const char *prompt, int32_t max_tokens) {
  otr_sampler *sampler;
  otr_generate_params params = OTR_GENERATE_PARAMS_INIT;
  if (otr_sampler_create(otr_tokenizer_vocab(tokenizer), NULL, &sampler) != OTR_STATUS_OK) return text_failed();
  params.prompt = prompt;
  params.encode_flags = OTR_ENCODE_ADD_SPECIAL;
  params.max_tokens = max_tokens;
  params.on_piece = print_piece;
  otr_status status = otr_generate(session, tokenizer, sampler, &params, NULL);
  putchar('\n');
  otr_sampler_destroy(sampler);
  return status == OTR_STATUS_OK ? 0 : text_failed();
}

static int speak(otr_model *model, const char *prompt, int32_t max_tokens) {
  otr_session *session;
  otr_tokenizer *tokenizer;
  if (otr_session_create(model, NULL, &session) != OTR_STATUS_OK) return runtime_failed();
  int code;
  if (otr_tokenizer_create(otr_model_metadata(model), NULL, &tokenizer) == OTR_STATUS_OK) {
    code = generate(session, tokenizer, prompt, max_tokens);
    otr_tokenizer_destroy(tokenizer);
  } else {
    code = text_failed();
  }
  otr_session_destroy(session);
  return code;
}

int main(int argc, char **argv) {
  otr_runtime *runtime;
  otr_model *model;
  if (argc < 3) {
    fprintf(stderr, "usage: minimal MODEL PROMPT [TOKENS]\n");
    return 2;
  }
  if (otr_runtime_create(NULL, &runtime) != OTR_STATUS_OK) return runtime_failed();
  int code;
  if (otr_model_open_file(runtime, argv[1], NULL, &model) == OTR_STATUS_OK) {
    code = speak(model, argv[2], argc > 3 ? atoi(argv[3]) : 64);
    otr_model_close(model);
  } else {
    code = runtime_failed();
  }
  otr_runtime_destroy(runtime);
  return code;
}
