// SPDX-License-Identifier: Apache-2.0
/* Opening any bytes as a model: configuration, tensors, the SDK's own format; what opens runs a few ids. */
#include <stdlib.h>
#include <string.h>

#include "outrider/outrider.h"

#define MAX_VOCAB_RUN 4096 /* larger models are opened only: a pass would be slow, not wrong */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int condition) {
  if (!condition) abort();
}

static otr_runtime *runtime_of_all(void) {
  static otr_runtime *runtime;
  if (runtime == NULL) {
    otr_runtime_params params = OTR_RUNTIME_PARAMS_INIT;
    params.device = "cpu";
    params.n_threads = 1;
    params.skip_self_check = 1;
    require(otr_runtime_create(&params, &runtime) == OTR_STATUS_OK);
  }
  return runtime;
}

static void run(otr_model *model, int32_t vocab) {
  const int32_t ids[3] = {0, vocab - 1, vocab / 2};
  otr_session *session = NULL;
  otr_session_params params = OTR_SESSION_PARAMS_INIT;
  params.n_ctx = 256;
  params.n_batch = 2;
  if (otr_session_create(model, &params, &session) != OTR_STATUS_OK) return;
  otr_status status = otr_session_eval(session, ids, 3, NULL);
  require(status == OTR_STATUS_OK || status == OTR_STATUS_NONFINITE);
  otr_session_destroy(session);
}

static otr_status open_as(otr_runtime *runtime, const uint8_t *data, size_t size, int32_t copy) {
  otr_source source;
  otr_model_params params = OTR_MODEL_PARAMS_INIT;
  otr_model *model = NULL;
  otr_model_info info;
  memset(&source, 0, sizeof source);
  source.kind = OTR_SOURCE_MEMORY;
  source.memory = size > 0 ? (const void *)data : "";
  source.memory_bytes = size;
  params.copy_weights = copy;
  otr_status status = otr_model_open(runtime, &source, &params, &model);
  require((status == OTR_STATUS_OK) == (model != NULL));
  if (model == NULL) return status;
  memset(&info, 0, sizeof info);
  info.struct_size = sizeof info;
  require(otr_model_get_info(model, &info) == OTR_STATUS_OK && info.vocab > 0);
  if (info.vocab <= MAX_VOCAB_RUN) run(model, info.vocab);
  require(otr_model_close(model) == OTR_STATUS_OK);
  return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  otr_runtime *runtime = runtime_of_all();
  uint64_t before, after;
  otr_runtime_memory(runtime, &before, NULL);
  otr_status status = open_as(runtime, data, size, 0);
  require(open_as(runtime, data, size, 1) == status);
  otr_runtime_memory(runtime, &after, NULL);
  require(before == after);
  return 0;
}
