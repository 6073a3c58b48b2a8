// SPDX-License-Identifier: Apache-2.0
/* A Hugging Face directory of 2 GB, most of it a hole: converted within 400 MB; a
 * conversion that is interrupted leaves no file. argv: the command. */
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "conversion.h"
#include "hf_folder.h"
#include "suite.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

#define LAYERS 16
#define PER_LAYER 9
#define MOST_MEMORY (400u << 20)

static char *command, *folder;
static char out[4096], part[4200];
static uint64_t source_bytes;
static hf_item items[LAYERS * PER_LAYER + 2];
static char names[LAYERS * PER_LAYER][64];

static size_t list_items(void) {
  static const struct {
    const char *name;
    int32_t n_dims;
    int64_t dims[2];
  } parts[PER_LAYER] = {{"input_layernorm", 1, {1024, 0}},     {"post_attention_layernorm", 1, {1024, 0}},
                        {"self_attn.q_proj", 2, {1024, 1024}}, {"self_attn.k_proj", 2, {1024, 1024}},
                        {"self_attn.v_proj", 2, {1024, 1024}}, {"self_attn.o_proj", 2, {1024, 1024}},
                        {"mlp.gate_proj", 2, {4096, 1024}},    {"mlp.up_proj", 2, {4096, 1024}},
                        {"mlp.down_proj", 2, {1024, 4096}}};
  size_t n = 0;
  for (int layer = 0; layer < LAYERS; layer++)
    for (int i = 0; i < PER_LAYER; i++, n++) {
      snprintf(names[n], sizeof names[n], "model.layers.%d.%s.weight", layer, parts[i].name);
      items[n] = (hf_item){names[n], "F32", parts[i].n_dims, {parts[i].dims[0], parts[i].dims[1]}, NULL, 0};
    }
  items[n++] = (hf_item){"model.norm.weight", "F32", 1, {1024, 0}, NULL, 0};
  items[n++] = (hf_item){"model.embed_tokens.weight", "F32", 2, {262144, 1024}, NULL, 0}; /* 1 GB */
  return n;
}

/* Values in some rows: every 4 MB a page. */
static void put_values(const char *path) {
  float page[1024];
  for (int i = 0; i < 1024; i++) page[i] = (float)(i % 37 - 18) * 0.01f;
  FILE *file = fopen(path, "r+b");
  ck_assert_ptr_nonnull(file);
  /* Values are whole words, so the file's end is as far from a multiple of four as their beginning. */
  for (uint64_t at = (1 << 20) + source_bytes % 4; at + sizeof page < source_bytes; at += 4 << 20)
    ck_assert(fseeko(file, (off_t)at, SEEK_SET) == 0 && fwrite(page, sizeof page, 1, file) == 1);
  ck_assert_int_eq(fclose(file), 0);
}

static void set_up(void) {
  char path[4096];
  folder = hf_folder_new();
  hf_folder_text(folder, "config.json",
                 "{\"model_type\": \"llama\", \"hidden_size\": 1024, \"intermediate_size\": 4096, "
                 "\"num_hidden_layers\": 16, \"num_attention_heads\": 16, \"num_key_value_heads\": 16, "
                 "\"vocab_size\": 262144, \"max_position_embeddings\": 64, \"tie_word_embeddings\": true}");
  source_bytes = hf_folder_sparse(folder, "model.safetensors", items, list_items());
  ck_assert_uint_ge(source_bytes, 2000000000u);
  snprintf(path, sizeof path, "%s/model.safetensors", folder);
  put_values(path);
  snprintf(out, sizeof out, "%s/out.gguf", folder);
  snprintf(part, sizeof part, "%s.part", out);
}

static void tear_down(void) {
  hf_folder_remove(folder);
}

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Private writable memory is limited, so that what is allocated beyond fails; mapped files do not count. */
START_TEST(little_memory) {
  const struct rlimit limit = {MOST_MEMORY, MOST_MEMORY};
  ck_assert_int_eq(setrlimit(RLIMIT_DATA, &limit), 0);
  otr_runtime *runtime;
  otr_runtime_params runtime_params = OTR_RUNTIME_PARAMS_INIT;
  runtime_params.skip_self_check = 1;
  ck_ok(otr_runtime_create(&runtime_params, &runtime));
  conversion_params params;
  conversion_result result;
  memset(&params, 0, sizeof params);
  params.in = folder;
  params.out = out;
  params.runtime = runtime;
  double start = seconds();
  ck_ok(conversion_run(&params, &result));
  double spent = seconds() - start;
  printf("%.0f MB of source in %.1f s: %.0f MB/s\n", (double)source_bytes * 1e-6, spent,
         (double)source_bytes * 1e-6 / spent);
  ck_assert_int_eq(result.n_int8, LAYERS * 7 + 1);
  ck_ok(otr_runtime_destroy(runtime));
  unlink(out);
}
END_TEST

static bool exists(const char *path) {
  struct stat info;
  return stat(path, &info) == 0;
}

START_TEST(interrupted) {
  static const int signals[] = {SIGINT, SIGTERM};
  const struct timespec nap = {0, 10000000};
  for (int i = 0; i < 2; i++) {
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
      ck_assert_ptr_nonnull(freopen("/dev/null", "w", stderr));
      execl(command, "outrider", "convert", folder, out, "--no-self-check", (char *)NULL);
      _exit(127);
    }
    for (int n = 0; n < 2000 && !exists(part); n++) nanosleep(&nap, NULL);
    ck_assert(exists(part));
    int status;
    ck_assert_int_eq(kill(child, signals[i]), 0);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    ck_assert(!exists(part) && !exists(out));
  }
}
END_TEST

static void add(TCase *tests) {
  tcase_add_unchecked_fixture(tests, set_up, tear_down);
  tcase_add_test(tests, interrupted);
  tcase_add_test(tests, little_memory);
}

int main(int argc, char **argv) {
  if (argc != 2) return EXIT_FAILURE;
  if (SANITIZED)
    return printf("test_large_import: skipped: a sanitizer's memory is not to be limited\n"), SUITE_SKIPPED;
  command = argv[1];
  return suite_run("large_import", add);
}
