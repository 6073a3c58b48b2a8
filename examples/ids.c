// SPDX-License-Identifier: Apache-2.0
/* ids MODEL TOKENS ID...: feeds ids and continues them with the most probable ones, by the runtime library alone: for
 * an app that has its own text handling, or none. It is also what the size figures are measured with. */
#include <outrider/outrider.h>
#include <stdio.h>
#include <stdlib.h>

#define MOST_IDS 256

static int failed(void) {
  fprintf(stderr, "ids: %s\n", otr_error_detail());
  return 1;
}

static int32_t best(const float *logits, int32_t vocab) {
  int32_t id = 0;
  for (int32_t i = 1; i < vocab; i++)
    if (logits[i] > logits[id]) id = i;
  return id;
}

static int go_on(otr_session *session, const int32_t *ids, int32_t n, int32_t n_tokens) {
  if (otr_session_eval(session, ids, n, NULL) != OTR_STATUS_OK) return failed();
  for (int32_t i = 0; i < n_tokens; i++) {
    int32_t id = best(otr_session_logits(session), otr_session_vocab(session));
    printf("%d%c", (int)id, i + 1 < n_tokens ? ' ' : '\n');
    if (i + 1 < n_tokens && otr_session_eval(session, &id, 1, NULL) != OTR_STATUS_OK) return failed();
  }
  return 0;
}

static int open_and_go_on(otr_runtime *runtime, const char *path, const int32_t *ids, int32_t n, int32_t n_tokens) {
  otr_model *model;
  otr_session *session;
  if (otr_model_open_file(runtime, path, NULL, &model) != OTR_STATUS_OK) return failed();
  int code = otr_session_create(model, NULL, &session) == OTR_STATUS_OK ? 0 : failed();
  if (code == 0) {
    code = go_on(session, ids, n, n_tokens);
    otr_session_destroy(session);
  }
  otr_model_close(model);
  return code;
}

int main(int argc, char **argv) {
  otr_runtime *runtime;
  int32_t ids[MOST_IDS], n = 0;
  if (argc < 4) {
    fprintf(stderr, "usage: ids MODEL TOKENS ID...\n");
    return 2;
  }
  for (; n < MOST_IDS && n + 3 < argc; n++) ids[n] = atoi(argv[n + 3]);
  if (otr_runtime_create(NULL, &runtime) != OTR_STATUS_OK) return failed();
  int code = open_and_go_on(runtime, argv[1], ids, n, atoi(argv[2]));
  otr_runtime_destroy(runtime);
  return code;
}
