// SPDX-License-Identifier: Apache-2.0
/* embeddings MODEL [TOKENS]: rows from an app's own encoder stand between two pieces of text, as a picture or a sound
 * does in a multimodal model. The encoder here is a stand-in: frames of a vibration sensor, each projected to one row
 * of the model's width by fixed weights. A real one is trained together with the model. */
#include <math.h>
#include <outrider/text.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FRAMES = 8, FEATURES = 16, MOST_IDS = 128 };

static int failed(const char *detail) {
  fprintf(stderr, "embeddings: %s\n", detail);
  return 1;
}

/* ---- the encoder ------------------------------------------------------------------------------------------------- */

/* One frame of the sensor: a tone that rises. */
static void read_frame(int frame, float features[FEATURES]) {
  for (int i = 0; i < FEATURES; i++) features[i] = sinf(0.3f * (float)(i * (frame + 1)));
}

static float weight(uint32_t row, uint32_t column) {
  uint32_t bits = (row * 2654435761u) ^ (column * 2246822519u);
  bits = (bits ^ (bits >> 15)) * 2654435761u;
  return (float)(int32_t)bits / 2147483648.0f / FEATURES;
}

/* rows: [FRAMES, dim] */
static void encode_frames(float *rows, int32_t dim) {
  float features[FEATURES];
  for (int frame = 0; frame < FRAMES; frame++) {
    read_frame(frame, features);
    for (int32_t i = 0; i < dim; i++) {
      float sum = 0;
      for (int j = 0; j < FEATURES; j++) sum += weight((uint32_t)i, (uint32_t)j) * features[j];
      rows[frame * dim + i] = sum;
    }
  }
}

/* ---- the prompt: text, rows, text ---------------------------------------------------------------------------------
 */

static int eval_text(otr_session *session, const otr_tokenizer *tokenizer, const char *text, uint32_t flags) {
  int32_t ids[MOST_IDS], n;
  if (otr_tokenizer_encode(tokenizer, text, strlen(text), flags, ids, MOST_IDS, &n) != OTR_STATUS_OK)
    return failed(otr_text_error_detail());
  return otr_session_eval(session, ids, n, NULL) == OTR_STATUS_OK ? 0 : failed(otr_error_detail());
}

static int eval_frames(otr_session *session, int32_t dim) {
  float *rows = malloc((size_t)FRAMES * (size_t)dim * sizeof *rows);
  if (!rows) return failed("no memory");
  encode_frames(rows, dim);
  otr_status status = otr_session_eval_embeddings(session, rows, FRAMES, NULL);
  free(rows);
  return status == OTR_STATUS_OK ? 0 : failed(otr_error_detail());
}

static int32_t print_piece(void *user, const char *text, size_t n_bytes, int32_t id) {
  (void)user;
  (void)id;
  return fwrite(text, 1, n_bytes, stdout) == n_bytes ? 0 : 1;
}

static int answer(otr_session *session, const otr_tokenizer *tokenizer, int32_t max_tokens) {
  otr_sampler *sampler;
  otr_generate_params params = OTR_GENERATE_PARAMS_INIT; /* no prompt: it goes on from the session's logits */
  if (otr_sampler_create(otr_tokenizer_vocab(tokenizer), NULL, &sampler) != OTR_STATUS_OK)
    return failed(otr_text_error_detail());
  params.max_tokens = max_tokens;
  params.on_piece = print_piece;
  otr_status status = otr_generate(session, tokenizer, sampler, &params, NULL);
  otr_sampler_destroy(sampler);
  putchar('\n');
  return status == OTR_STATUS_OK ? 0 : failed(otr_text_error_detail());
}

static int describe(otr_model *model, otr_session *session, int32_t max_tokens) {
  otr_tokenizer *tokenizer;
  otr_model_info info = {.struct_size = sizeof info};
  if (otr_model_get_info(model, &info) != OTR_STATUS_OK) return failed(otr_error_detail());
  if (otr_tokenizer_create(otr_model_metadata(model), NULL, &tokenizer) != OTR_STATUS_OK)
    return failed(otr_text_error_detail());
  int code = eval_text(session, tokenizer, "The sensor says: ", OTR_ENCODE_ADD_SPECIAL);
  if (code == 0) code = eval_frames(session, info.dim);
  if (code == 0) code = eval_text(session, tokenizer, "\nThis machine ", 0);
  if (code == 0) code = answer(session, tokenizer, max_tokens);
  otr_tokenizer_destroy(tokenizer);
  return code;
}

int main(int argc, char **argv) {
  otr_runtime *runtime = NULL;
  otr_model *model = NULL;
  otr_session *session = NULL;
  if (argc < 2) {
    fprintf(stderr, "usage: embeddings MODEL [TOKENS]\n");
    return 2;
  }
  otr_status status = otr_runtime_create(NULL, &runtime);
  if (status == OTR_STATUS_OK) status = otr_model_open_file(runtime, argv[1], NULL, &model);
  if (status == OTR_STATUS_OK) status = otr_session_create(model, NULL, &session);
  int code =
      status == OTR_STATUS_OK ? describe(model, session, argc > 2 ? atoi(argv[2]) : 32) : failed(otr_error_detail());
  otr_session_destroy(session);
  otr_model_close(model);
  otr_runtime_destroy(runtime);
  return code;
}
