// SPDX-License-Identifier: Apache-2.0
/* stories260K against what other programs say in f32 (OUTRIDER_TEST_DATA): logits, greedy text, perplexity. argv: the
 * program make_stories. */
#include <math.h>
#include <string.h>

#include "model_kit.h"
#include "outrider/text.h"

#define VOCAB 512
#define MAX_IDS 512

static const char *data, *make_stories;
static char *stories;

static void set_up(void) {
  char command[8192];
  stories = kit_new_file("stories");
  snprintf(command, sizeof command, "'%s' '%s/models/stories260K.bin' '%s/models/tok512.bin' %s", make_stories, data,
           data, stories);
  ck_assert_int_eq(system(command), 0);
}

static void tear_down(void) {
  kit_remove(stories);
}

/* A whole file, 0-terminated. */
static char *read_file(const char *name, size_t *n) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", data, name);
  FILE *file = fopen(path, "rb");
  ck_assert_msg(file != NULL, "%s cannot be opened", path);
  fseek(file, 0, SEEK_END);
  *n = (size_t)ftell(file);
  rewind(file);
  char *text = malloc(*n + 1);
  ck_assert_uint_eq(fread(text, 1, *n, file), *n);
  fclose(file);
  text[*n] = 0;
  return text;
}

/* The least that LLM.int8() loses: every value an outlier, every column f16. */
static kit open_near_exact(bool int8_embedding) {
  static const char *const embedding[] = {"token_embd.weight"};
  otr_model_params params = OTR_MODEL_PARAMS_INIT;
  params.outliers = (otr_outliers){OTR_OUTLIERS_ABSOLUTE, 1e-30f};
  params.f16_columns_all = 1;
  params.keep_f16 = embedding;
  params.n_keep_f16 = int8_embedding ? 0 : 1;
  return kit_open(stories, NULL, 2, &params);
}

START_TEST(logits_of_f32) {
  size_t n;
  char *text = read_file("goldens/stories260K_logits.f32.tokens.txt", &n), *at = text;
  int32_t ids[64], n_ids = 0, used;
  while (*at == '#') at = strchr(at, '\n') + 1;
  while (n_ids < 64 && sscanf(at, "%d%n", &ids[n_ids], &used) == 1) at += used, n_ids++;
  ck_assert_int_eq(n_ids, 32);
  float *want = (float *)(void *)read_file("goldens/stories260K_logits.f32", &n);
  ck_assert_uint_eq(n, 32 * VOCAB * sizeof(float));
  for (int int8_embedding = 0; int8_embedding < 2; int8_embedding++) {
    kit k = open_near_exact(int8_embedding);
    float *got = kit_logits(k.model, ids, n_ids, 32);
    double error = 0, size = 0;
    for (int32_t i = 0; i < n_ids * VOCAB; i++) {
      double d = (double)got[i] - (double)want[i];
      error += d * d;
      size += (double)want[i] * (double)want[i];
    }
    double relative = sqrt(error / size);
    printf("logits, %s embedding: relative L2 %.6f\n", int8_embedding ? "int8" : "f16", relative);
    ck_assert(relative <= (int8_embedding ? 0.03 : 0.005));
    free(got);
    kit_close(&k);
  }
  free(want);
  free(text);
}
END_TEST

START_TEST(greedy_text) {
  size_t n, n_text = 0;
  char *want = read_file("goldens/stories260K_greedy_256.txt", &n), text[4096];
  kit k = open_near_exact(false);
  otr_tokenizer *tokenizer;
  ck_ok(otr_tokenizer_create(otr_model_metadata(k.model), NULL, &tokenizer));
  otr_session *s = kit_session(k.model, 512, 16);
  int32_t ids[257] = {1}, steps = 0;
  while (steps < 256) {
    ck_ok(otr_session_eval(s, &ids[steps], 1, NULL));
    const float *logits = otr_session_logits(s);
    int32_t best = 0;
    for (int32_t i = 1; i < VOCAB; i++)
      if (logits[i] > logits[best]) best = i;
    ids[++steps] = best;
    if (best <= 2) break;
    ck_ok(otr_tokenizer_decode(tokenizer, ids + 1, steps, OTR_DECODE_STRIP_PREFIX, text, sizeof text, &n_text));
    if (n_text > n || memcmp(text, want, n_text) != 0) {
      steps--;
      break;
    }
  }
  printf("greedy text: as the golden one for %d steps, %zu bytes of %zu\n", steps, n_text, n);
  ck_assert(steps >= 200);
  otr_session_destroy(s);
  otr_tokenizer_destroy(tokenizer);
  kit_close(&k);
  free(want);
}
END_TEST

/* Sum of the negative log-likelihoods of ids 1 … n − 1. */
static double surprise(otr_session *s, const int32_t *ids, int32_t n, float *logits) {
  double sum = 0;
  otr_session_reset(s);
  ck_ok(otr_session_eval(s, ids, n, logits));
  for (int32_t i = 0; i + 1 < n; i++) {
    const float *row = logits + (size_t)i * VOCAB;
    double most = -INFINITY, total = 0;
    for (int32_t j = 0; j < VOCAB; j++) most = fmax(most, (double)row[j]);
    for (int32_t j = 0; j < VOCAB; j++) total += exp((double)row[j] - most);
    sum += most + log(total) - (double)row[ids[i + 1]];
  }
  return sum;
}

START_TEST(perplexity_at_the_default_rule) {
  size_t n_bytes;
  char *text = read_file("eval/tinystories_clean.txt", &n_bytes);
  kit k = kit_open(stories, NULL, 2, NULL);
  otr_tokenizer *tokenizer;
  ck_ok(otr_tokenizer_create(otr_model_metadata(k.model), NULL, &tokenizer));
  otr_session *s = kit_session(k.model, 512, 512);
  float *logits = malloc((size_t)MAX_IDS * VOCAB * sizeof *logits);
  static int32_t ids[1 << 16];
  double sum = 0;
  int64_t count = 0;
  for (char *piece = text, *next; piece != NULL && *piece != 0; piece = next) {
    char *end = strstr(piece, "\n\n");
    next = end ? end + strspn(end, "\n") : NULL;
    size_t n_piece = end ? (size_t)(end - piece) : strlen(piece);
    while (n_piece > 0 && piece[n_piece - 1] == '\n') n_piece--;
    int32_t n = 0;
    ids[0] = 1;
    ck_ok(otr_tokenizer_encode(tokenizer, piece, n_piece, 0, ids + 1, (1 << 16) - 1, &n));
    if (++n > MAX_IDS) n = MAX_IDS;
    if (n < 2) continue;
    sum += surprise(s, ids, n, logits);
    count += n - 1;
  }
  double perplexity = exp(sum / (double)count);
  printf("perplexity: %.6f over %lld tokens (f32: 4.310748)\n", perplexity, (long long)count);
  ck_assert_int_eq(count, 57280);
  ck_assert(perplexity <= 1.005 * 4.310748);
  free(logits);
  otr_session_destroy(s);
  otr_tokenizer_destroy(tokenizer);
  kit_close(&k);
  free(text);
}
END_TEST

static void add(TCase *tests) {
  tcase_add_unchecked_fixture(tests, set_up, tear_down);
  tcase_add_test(tests, logits_of_f32);
  tcase_add_test(tests, greedy_text);
  tcase_add_test(tests, perplexity_at_the_default_rule);
}

int main(int argc, char **argv) {
  data = suite_data("test_golden");
  if (data == NULL) return SUITE_SKIPPED;
  if (argc != 2) return EXIT_FAILURE;
  make_stories = argv[1];
  return suite_run("golden", add);
}
