// SPDX-License-Identifier: Apache-2.0
/* Whole models of the GGUF corpus, opened from memory: the good one runs and verifies, each one whose configuration or
 * values are bad is refused with a status and a reason; also when memory runs out at any point. Argument: the corpus.
 */
#include <dirent.h>
#include <stdbool.h>
#include <string.h>

#include "suite.h"

static const char *corpus;

typedef struct blob {
  char name[300];
  uint8_t *bytes;
  size_t n;
} blob;

static void load(blob *b, const char *name) {
  char path[4096];
  snprintf(b->name, sizeof b->name, "%s", name);
  snprintf(path, sizeof path, "%s/%s", corpus, name);
  FILE *in = fopen(path, "rb");
  ck_assert_msg(in != NULL, "%s: cannot be opened", path);
  fseek(in, 0, SEEK_END);
  b->n = (size_t)ftell(in);
  rewind(in);
  b->bytes = malloc(b->n + 1);
  ck_assert(b->bytes != NULL && fread(b->bytes, 1, b->n, in) == b->n);
  fclose(in);
}

/* An allocator that counts what is held and fails at call `fails_at` (-1: never). */
typedef struct counting {
  int calls, fails_at, held;
} counting;

static void *allocate(void *user, size_t bytes, size_t alignment) {
  counting *c = user;
  if (c->calls++ == c->fails_at) return NULL;
  void *memory = NULL;
  if (posix_memalign(&memory, alignment < sizeof(void *) ? sizeof(void *) : alignment, bytes) != 0) return NULL;
  ++c->held;
  return memory;
}

static void release(void *user, void *memory, size_t bytes) {
  counting *c = user;
  (void)bytes;
  --c->held;
  free(memory);
}

static otr_status make_runtime(counting *c, otr_runtime **runtime) {
  otr_runtime_params params = OTR_RUNTIME_PARAMS_INIT;
  params.device = "cpu";
  params.n_threads = 1;
  params.skip_self_check = 1;
  params.allocator.user = c;
  params.allocator.allocate = allocate;
  params.allocator.release = release;
  return otr_runtime_create(&params, runtime);
}

static otr_source source_of(const blob *b) {
  otr_source source;
  memset(&source, 0, sizeof source);
  source.kind = OTR_SOURCE_MEMORY;
  source.memory = b->bytes;
  source.memory_bytes = b->n;
  return source;
}

/* Opens and runs five tokens. */
static otr_status try_model(const blob *b, counting *c) {
  otr_runtime *runtime;
  otr_model *model = NULL;
  otr_session *session = NULL;
  const int32_t ids[5] = {1, 4, 5, 6, 7};
  const otr_source source = source_of(b);
  otr_session_params params = OTR_SESSION_PARAMS_INIT;
  params.n_ctx = 256;
  params.n_batch = 8;
  otr_status status = make_runtime(c, &runtime);
  if (status == OTR_STATUS_OK) status = otr_model_open(runtime, &source, NULL, &model);
  if (status == OTR_STATUS_OK) status = otr_session_create(model, &params, &session);
  if (status == OTR_STATUS_OK) status = otr_session_eval(session, ids, 5, NULL);
  otr_session_destroy(session);
  ck_ok(otr_model_close(model));
  if (runtime != NULL) ck_ok(otr_runtime_destroy(runtime));
  ck_assert_msg(c->held == 0, "%s: %d allocations leaked", b->name, c->held);
  return status;
}

START_TEST(statuses) {
  DIR *folder = opendir(corpus);
  ck_assert_msg(folder != NULL, "%s: cannot be opened", corpus);
  int n = 0;
  for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
    if (strncmp(entry->d_name, "ok.config-", 10) != 0) continue;
    blob b;
    counting c = {0, -1, 0};
    load(&b, entry->d_name);
    otr_status status = try_model(&b, &c);
    bool refused = status == OTR_STATUS_BAD_FORMAT || status == OTR_STATUS_UNSUPPORTED;
    ck_assert_msg(refused, "%s: %s: %s", b.name, otr_status_text(status), otr_error_detail());
    ck_assert_msg(otr_error_detail()[0] != '\0', "%s: no detail", b.name);
    free(b.bytes);
    ++n;
  }
  closedir(folder);
  ck_assert_int_ge(n, 50);
}
END_TEST

static const char *const good[] = {"ok.model.gguf",
                                   "ok.model-rope-linear.gguf",
                                   "ok.model-rope-linear-old-key.gguf",
                                   "ok.model-rope-linear-0.gguf",
                                   "ok.model-rope-none.gguf",
                                   "ok.model-rope-llama3.gguf",
                                   "ok.model-rope-freqs.gguf",
                                   "ok.model-heads-array.gguf",
                                   "ok.model-qwen2.gguf",
                                   "ok.model-qwen3.gguf",
                                   "ok.model-gemma.gguf",
                                   "ok.model-phi3.gguf",
                                   "ok.model-stablelm.gguf",
                                   "ok.model-gpt2.gguf",
                                   "ok.model-opt.gguf",
                                   "ok.model-bloom.gguf",
                                   "ok.model-gptneox.gguf",
                                   "ok.model-falcon.gguf",
                                   "ok.model-falcon-two-norms.gguf",
                                   "ok.converted.gguf",
                                   "ok.converted-absolute.gguf",
                                   "ok.converted-off.gguf",
                                   "ok.converted-all-columns.gguf",
                                   "ok.converted-all-columns-with-index.gguf"};
#define N_GOOD ((int)(sizeof good / sizeof good[0]))

/* They run; and a call that fails at any allocation leaks nothing. */
START_TEST(memory_runs_out) {
  blob b;
  counting c = {0, -1, 0};
  load(&b, good[_i]);
  ck_ok(try_model(&b, &c));
  ck_assert_int_ge(c.calls, 10);
  for (int i = 0; i < c.calls; ++i) {
    counting failing = {0, i, 0};
    otr_status status = try_model(&b, &failing);
    ck_assert_msg(status == OTR_STATUS_NO_MEMORY, "allocation %d: %s: %s", i, otr_status_text(status),
                  otr_error_detail());
  }
  free(b.bytes);
}
END_TEST

static void add(TCase *tests) {
  tcase_add_test(tests, statuses);
  tcase_add_loop_test(tests, memory_runs_out, 0, N_GOOD);
}

int main(int argc, char **argv) {
  if (argc != 2) return fprintf(stderr, "test_bad_models CORPUS\n"), EXIT_FAILURE;
  corpus = argv[1];
  return suite_run("bad_models", add);
}
