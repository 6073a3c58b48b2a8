// SPDX-License-Identifier: Apache-2.0
/* embedded_memory MODEL KIB [ID...]: a model from memory within a fixed budget. All that the library takes comes from
 * one block of KIB kilobytes by this program's own allocator; the longest context that fits is found with the plan,
 * before anything is opened. On a device the model would be in flash or linked into the program (.incbin, aligned to
 * 256 bytes); here a file is read. */
#include <inttypes.h>
#include <outrider/outrider.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static int failed(const char *what) {
  fprintf(stderr, "embedded_memory: %s\n", what);
  return 1;
}

/* ---- a first-fit allocator over one block --------------------------------------------------------------------------
 */

enum { ALIGNMENT = 64, MOST_PIECES = 512 };

/* Pieces that are in use, by address. A table of its own keeps the block whole: a piece costs no header in it. */
typedef struct arena {
  pthread_mutex_t lock;
  char *block;
  size_t bytes;
  struct {
    size_t start, end;
  } pieces[MOST_PIECES];
  int n;
  size_t highest; /* end of what was ever in use */
} arena;

/* Finds the first gap; on success `*at` is the new piece's index and `*start` where it begins. */
static int find_gap(const arena *a, size_t bytes, size_t alignment, int *at, size_t *start) {
  for (int i = 0; i <= a->n; i++) {
    size_t from = i == 0 ? 0 : a->pieces[i - 1].end, to = i == a->n ? a->bytes : a->pieces[i].start;
    size_t padding = (size_t)(-(uintptr_t)(a->block + from)) & (alignment - 1);
    if (to - from < padding || to - from - padding < bytes) continue;
    *at = i;
    *start = from + padding;
    return 1;
  }
  return 0;
}

static void *arena_allocate(void *user, size_t bytes, size_t alignment) {
  arena *a = user;
  void *memory = NULL;
  int at;
  size_t start;
  if (alignment < ALIGNMENT) alignment = ALIGNMENT;
  pthread_mutex_lock(&a->lock);
  if (a->n < MOST_PIECES && find_gap(a, bytes, alignment, &at, &start)) {
    for (int i = a->n; i > at; i--) a->pieces[i] = a->pieces[i - 1];
    a->n++;
    a->pieces[at].start = start;
    a->pieces[at].end = start + bytes;
    if (start + bytes > a->highest) a->highest = start + bytes;
    memory = a->block + start;
  }
  pthread_mutex_unlock(&a->lock);
  return memory;
}

static void arena_release(void *user, void *memory, size_t bytes) {
  arena *a = user;
  size_t start = (size_t)((char *)memory - a->block);
  (void)bytes;
  pthread_mutex_lock(&a->lock);
  for (int i = 0; i < a->n; i++) {
    if (a->pieces[i].start != start) continue;
    for (a->n--; i < a->n; i++) a->pieces[i] = a->pieces[i + 1];
  }
  pthread_mutex_unlock(&a->lock);
}

/* ---- the budget
 * ------------------------------------------------------------------------------------------------------ */

/* What opening takes beside the plan's figures (tables, names) and what is lost between pieces. */
#define RESERVE (64 * 1024)

/* The longest context, in pages of 256 positions, whose plan fits into what is left; 0: none does. */
static int32_t longest_context(otr_runtime *runtime, const otr_source *source, size_t bytes) {
  uint64_t now;
  int32_t found = 0;
  otr_runtime_memory(runtime, &now, NULL);
  for (int32_t n_ctx = 256; n_ctx <= 4096; n_ctx += 256) {
    otr_session_params params = {.struct_size = sizeof params, .n_ctx = n_ctx, .n_batch = 32};
    otr_plan_info plan = {.struct_size = sizeof plan};
    if (otr_model_plan(runtime, source, NULL, &params, &plan) != OTR_STATUS_OK) return 0;
    uint64_t needed = now + plan.weights_host_bytes + plan.kv_host_bytes + plan.scratch_host_bytes + RESERVE;
    if (needed > bytes) break;
    found = n_ctx;
  }
  return found;
}

static int evaluate(otr_model *model, int32_t n_ctx, const int32_t *ids, int32_t n) {
  otr_session *session;
  otr_session_params params = {.struct_size = sizeof params, .n_ctx = n_ctx, .n_batch = 32};
  if (otr_session_create(model, &params, &session) != OTR_STATUS_OK) return failed(otr_error_detail());
  otr_status status = otr_session_eval(session, ids, n, NULL);
  if (status == OTR_STATUS_OK) printf("first logit: %.6f\n", (double)otr_session_logits(session)[0]);
  otr_session_destroy(session);
  return status == OTR_STATUS_OK ? 0 : failed(otr_error_detail());
}

static int run(otr_runtime *runtime, const arena *a, const otr_source *source, const int32_t *ids, int32_t n) {
  otr_model *model;
  int32_t n_ctx = longest_context(runtime, source, a->bytes);
  if (n_ctx == 0) return failed("no context fits into the budget, or the model cannot be planned");
  if (otr_model_open(runtime, source, NULL, &model) != OTR_STATUS_OK) return failed(otr_error_detail());
  int code = evaluate(model, n_ctx, ids, n);
  otr_model_close(model);
  printf("context %d; %zu of %zu bytes were in use\n", (int)n_ctx, a->highest, a->bytes);
  return code;
}

/* ---- the model
 * --------------------------------------------------------------------------------------------------------- */

/* A whole file at an address that a linked-in model would have. */
static void *read_model(const char *path, size_t *bytes) {
  FILE *file = fopen(path, "rb");
  void *memory = NULL;
  if (!file) return NULL;
  if (fseek(file, 0, SEEK_END) == 0 && ftell(file) > 0) {
    *bytes = (size_t)ftell(file);
    rewind(file);
    if (posix_memalign(&memory, 256, *bytes) != 0) memory = NULL; /* Android has aligned_alloc from 9 on */
    if (memory && fread(memory, 1, *bytes, file) != *bytes) {
      free(memory);
      memory = NULL;
    }
  }
  fclose(file);
  return memory;
}

int main(int argc, char **argv) {
  static arena a = {.lock = PTHREAD_MUTEX_INITIALIZER};
  int32_t ids[64] = {1}, n = 0;
  size_t model_bytes = 0;
  if (argc < 3) {
    fprintf(stderr, "usage: embedded_memory MODEL KIB [ID...]\n");
    return 2;
  }
  for (; n < 64 && n + 3 < argc; n++) ids[n] = atoi(argv[n + 3]);
  a.bytes = (size_t)strtoull(argv[2], NULL, 10) * 1024;
  a.block = malloc(a.bytes);
  void *memory = read_model(argv[1], &model_bytes);
  otr_source source = {.kind = OTR_SOURCE_MEMORY, .memory = memory, .memory_bytes = model_bytes};
  otr_runtime_params params = OTR_RUNTIME_PARAMS_INIT;
  params.allocator = (otr_allocator){&a, arena_allocate, arena_release};
  params.n_threads = 1;
  params.skip_self_check = 1; /* it takes some megabytes for a moment: the product's tests have run it */
  otr_runtime *runtime = NULL;
  int code;
  if (!a.block || !memory)
    code = failed("the block or the model cannot be had");
  else if (otr_runtime_create(&params, &runtime) != OTR_STATUS_OK)
    code = failed(otr_error_detail());
  else
    code = run(runtime, &a, &source, ids, n > 0 ? n : 1);
  otr_runtime_destroy(runtime);
  free(memory);
  free(a.block);
  return code;
}
