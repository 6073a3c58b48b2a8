// SPDX-License-Identifier: Apache-2.0
/* android_fd CONTAINER OFFSET BYTES [ID...]: a model that is a part of another file, as an asset inside an APK is. In
 * an app the descriptor and the range come from AAsset *asset = AAssetManager_open(manager, "model.int8.gguf",
 * AASSET_MODE_UNKNOWN); off64_t offset, bytes; int fd = AAsset_openFileDescriptor64(asset, &offset, &bytes);   // < 0:
 * the asset is compressed with the asset stored uncompressed (androidResources { noCompress += "gguf" }). Where the
 * range begins matters little: rows that the kernels cannot take in place are copied. This program prints the plan and
 * the next id. */
#define _FILE_OFFSET_BITS 64
#include <fcntl.h>
#include <inttypes.h>
#include <outrider/outrider.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int failed(const char *what) {
  fprintf(stderr, "android_fd: %s\n", what);
  return 1;
}

static int show_plan(otr_runtime *runtime, const otr_source *source) {
  otr_plan_info plan = {.struct_size = sizeof plan};
  if (otr_model_plan(runtime, source, NULL, NULL, &plan) != OTR_STATUS_OK) return failed(otr_error_detail());
  printf("weights in place %" PRIu64 " bytes, copied %" PRIu64 ", KV %" PRIu64 ", scratch %" PRIu64 "\n",
         plan.weights_mapped_bytes, plan.weights_host_bytes, plan.kv_host_bytes, plan.scratch_host_bytes);
  return 0;
}

static int next_id(otr_model *model, const int32_t *ids, int32_t n) {
  otr_session *session;
  if (otr_session_create(model, NULL, &session) != OTR_STATUS_OK) return failed(otr_error_detail());
  int code = otr_session_eval(session, ids, n, NULL) == OTR_STATUS_OK ? 0 : failed(otr_error_detail());
  if (code == 0) {
    const float *logits = otr_session_logits(session);
    int32_t best = 0;
    for (int32_t i = 1; i < otr_session_vocab(session); i++)
      if (logits[i] > logits[best]) best = i;
    printf("next id: %d\n", (int)best);
  }
  otr_session_destroy(session);
  return code;
}

static int use(otr_runtime *runtime, int fd, uint64_t offset, uint64_t bytes, const int32_t *ids, int32_t n) {
  otr_source source = {.kind = OTR_SOURCE_FD, .fd = fd, .fd_offset = offset, .fd_bytes = bytes};
  otr_model *model;
  int code = show_plan(runtime, &source);
  if (code != 0) return code;
  if (otr_model_open(runtime, &source, NULL, &model) != OTR_STATUS_OK) return failed(otr_error_detail());
  close(fd); /* the model has its own */
  code = next_id(model, ids, n);
  otr_model_close(model);
  return code;
}

int main(int argc, char **argv) {
  int32_t ids[64] = {1}, n = 0;
  otr_runtime *runtime;
  if (argc < 4) {
    fprintf(stderr, "usage: android_fd CONTAINER OFFSET BYTES [ID...]\n");
    return 2;
  }
  for (; n < 64 && n + 4 < argc; n++) ids[n] = atoi(argv[n + 4]);
  int fd = open(argv[1], O_RDONLY | O_CLOEXEC);
  if (fd < 0) return failed("the container cannot be opened");
  if (otr_runtime_create(NULL, &runtime) != OTR_STATUS_OK) return failed(otr_error_detail());
  int code = use(runtime, fd, strtoull(argv[2], NULL, 10), strtoull(argv[3], NULL, 10), ids, n > 0 ? n : 1);
  otr_runtime_destroy(runtime);
  return code;
}
