// SPDX-License-Identifier: Apache-2.0
/* The sampler against its own definition (outrider/text.h), written down a second time in the plainest way. */
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "numerics.h"
#include "outrider/text.h"
#include "suite.h"

#define ck_status(expression, status)                                                                               \
  do {                                                                                                              \
    otr_status ck_got = (expression);                                                                               \
    ck_assert_msg(ck_got == (status), "%s: %s: %s", #expression, otr_status_text(ck_got), otr_text_error_detail()); \
  } while (0)

static otr_sampler *make(int32_t vocab, otr_sampler_params params) {
  otr_sampler *sampler;
  params.struct_size = sizeof params;
  ck_status(otr_sampler_create(vocab, &params, &sampler), OTR_STATUS_OK);
  return sampler;
}

static int32_t sample(otr_sampler *s, const float *logits, int32_t vocab) {
  int32_t id;
  ck_status(otr_sampler_sample(s, logits, vocab, &id), OTR_STATUS_OK);
  ck_assert(id >= 0 && id < vocab);
  return id;
}

/* ---- the definition, again ------------------------------------------------------------------------------------------
 */

static uint32_t noise(uint32_t *state) {
  *state = *state * 1664525u + 1013904223u;
  return *state >> 8;
}

/* The sampled id when the generator gives u. */
static int32_t reference(const otr_sampler_params *p, const float *logits, int32_t vocab, float u) {
  int32_t *ids = malloc((size_t)vocab * sizeof *ids), n = vocab, kept;
  ck_assert_ptr_nonnull(ids);
  for (int32_t i = 0; i < vocab; ++i) { /* insertion sort: stable */
    int32_t at = i;
    for (; at > 0 && logits[ids[at - 1]] < logits[i]; --at) ids[at] = ids[at - 1];
    ids[at] = i;
  }
  if (p->top_k > 0 && p->top_k < n) n = p->top_k;
  float sum = 0.0f, running = 0.0f, rest = 0.0f, inverse = otr_recip(p->temperature);
#define P(i) otr_exp((logits[ids[i]] - logits[ids[0]]) * inverse)
  for (int32_t i = 0; i < n; ++i) sum += P(i);
  for (kept = 0; kept < n;) {
    running += P(kept++);
    if (running >= (p->top_p > 0.0f ? p->top_p : 1.0f) * sum) break;
  }
  for (n = 0; n < kept && P(n) >= p->min_p; ++n) rest += P(n);
  running = 0.0f;
  int32_t chosen = ids[n - 1];
  for (int32_t i = 0; i < n; ++i) {
    running += P(i);
    if (running > u * rest) {
      chosen = ids[i];
      break;
    }
  }
  free(ids);
  return chosen;
}

typedef struct generator {
  uint64_t s[4];
} generator;

static uint64_t splitmix(uint64_t *x) {
  uint64_t z = (*x += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

static float next_u(generator *g) {
  uint64_t *s = g->s, sum = s[0] + s[3], result = ((sum << 23) | (sum >> 41)) + s[0], t = s[1] << 17;
  s[2] ^= s[0], s[3] ^= s[1], s[1] ^= s[2], s[0] ^= s[3], s[2] ^= t;
  s[3] = (s[3] << 45) | (s[3] >> 19);
  return (float)(result >> 40) / 16777216.0f;
}

START_TEST(equals_the_definition) {
  enum { VOCAB = 700 };
  static float logits[VOCAB];
  uint32_t state = 12345;
  for (int round = 0; round < 400; ++round) {
    static const float scales[] = {0.0f, 0.01f, 1.0f, 4.0f, 100.0f};
    float scale = scales[round % 5];
    for (int i = 0; i < VOCAB; ++i) {
      uint32_t r = noise(&state);
      logits[i] = r % 50 == 0 ? -INFINITY : scale * ((float)(r % 1000) / 500.0f - 1.0f); /* many ties, both zeros */
    }
    otr_sampler_params p = {.temperature = 0.1f + (float)(noise(&state) % 30) / 10.0f, .seed = (uint64_t)round};
    p.top_k = round % 3 == 0 ? 0 : (int32_t)(noise(&state) % (2 * VOCAB));
    p.top_p = round % 4 == 0 ? 0.0f : (float)(noise(&state) % 1001) / 1000.0f;
    p.min_p = round % 5 < 3 ? 0.0f : (float)(noise(&state) % 1001) / 1000.0f;
    int32_t vocab = 1 + (int32_t)(noise(&state) % VOCAB);
    logits[noise(&state) % (uint32_t)vocab] = 0.5f * scale;
    otr_sampler *sampler = make(vocab, p);
    generator g;
    uint64_t seed = p.seed;
    for (int i = 0; i < 4; ++i) g.s[i] = splitmix(&seed);
    for (int i = 0; i < 5; ++i) {
      int32_t want = reference(&p, logits, vocab, next_u(&g)), got = sample(sampler, logits, vocab);
      ck_assert_msg(got == want, "round %d, sample %d: %d instead of %d", round, i, got, want);
    }
    otr_sampler_destroy(sampler);
  }
}
END_TEST

/* Values of an implementation in another language. */
START_TEST(named_generator) {
  static const int32_t want[2][8] = {{1329, 1565, 1472, 46, 2028, 84, 3511, 3463},
                                     {3335, 1305, 4030, 2871, 3250, 2408, 513, 2478}};
  static const uint64_t seeds[2] = {0, 42};
  static float logits[4096];
  for (int s = 0; s < 2; ++s) {
    otr_sampler *sampler = make(4096, (otr_sampler_params){.temperature = 1.0f, .seed = seeds[s]});
    for (int round = 0; round < 2; ++round) {
      for (int i = 0; i < 8; ++i) ck_assert_int_eq(sample(sampler, logits, 4096), want[s][i]);
      otr_sampler_reset(sampler);
    }
    otr_sampler_destroy(sampler);
  }
}
END_TEST

START_TEST(frequencies) {
  static const float logits[4] = {0.0f, 0.6931472f, -INFINITY, 1.3862944f}; /* 1 : 2 : 0 : 4 */
  int counts[4] = {0};
  otr_sampler *sampler = make(4, (otr_sampler_params){.temperature = 1.0f, .seed = 7});
  for (int i = 0; i < 70000; ++i) ++counts[sample(sampler, logits, 4)];
  ck_assert(abs(counts[0] - 10000) < 400 && abs(counts[1] - 20000) < 500 && counts[2] == 0);
  otr_sampler_destroy(sampler);
}
END_TEST

START_TEST(greedy) {
  static const float logits[5] = {-1.0f, 3.0f, 3.0f, -0.0f, 2.0f};
  otr_sampler *sampler;
  ck_status(otr_sampler_create(5, NULL, &sampler), OTR_STATUS_OK);
  for (int i = 0; i < 3; ++i) ck_assert_int_eq(sample(sampler, logits, 5), 1);
  otr_sampler_destroy(sampler);
  sampler = make(5, (otr_sampler_params){.temperature = 1.0f, .top_k = 1});
  for (int i = 0; i < 3; ++i) ck_assert_int_eq(sample(sampler, logits, 5), 1);
  otr_sampler_destroy(sampler);
}
END_TEST

/* ---- bias, penalty, callback
 * ----------------------------------------------------------------------------------------- */

START_TEST(biases) {
  static const float logits[4] = {1.0f, 2.0f, 3.0f, 2.5f};
  otr_logit_bias bias[3] = {{2, -INFINITY}, {0, 1.0f}, {0, 0.75f}};
  otr_sampler *sampler = make(4, (otr_sampler_params){.bias = bias, .n_bias = 3});
  bias[0].id = 0; /* it was copied */
  ck_assert_int_eq(sample(sampler, logits, 4), 0);
  otr_sampler_destroy(sampler);
}
END_TEST

START_TEST(repetition) {
  static const float logits[4] = {4.0f, 3.0f, -2.0f, -3.0f};
  otr_sampler *sampler = make(4, (otr_sampler_params){.repeat_penalty = 2.0f, .repeat_last_n = 2});
  ck_assert_int_eq(sample(sampler, logits, 4), 0);
  ck_status(otr_sampler_accept(sampler, 0), OTR_STATUS_OK);
  ck_status(otr_sampler_accept(sampler, 0), OTR_STATUS_OK); /* once for both: 4 / 2 < 3 */
  ck_assert_int_eq(sample(sampler, logits, 4), 1);
  ck_status(otr_sampler_accept(sampler, 1), OTR_STATUS_OK);
  ck_assert_int_eq(sample(sampler, logits, 4), 0); /* 2 against 1.5 */
  ck_status(otr_sampler_accept(sampler, 1), OTR_STATUS_OK);
  ck_assert_int_eq(sample(sampler, logits, 4), 0); /* 0 has left the window */
  otr_sampler_reset(sampler);
  ck_status(otr_sampler_accept(sampler, 2), OTR_STATUS_OK);
  static const float negative[4] = {-INFINITY, -INFINITY, -2.0f, -3.0f};
  ck_assert_int_eq(sample(sampler, negative, 4), 3); /* −4 against −3 */
  ck_status(otr_sampler_accept(sampler, 4), OTR_STATUS_INVALID_ARGUMENT);
  ck_status(otr_sampler_accept(sampler, -1), OTR_STATUS_INVALID_ARGUMENT);
  ck_status(otr_sampler_accept(NULL, 0), OTR_STATUS_INVALID_ARGUMENT);
  otr_sampler_destroy(sampler);
}
END_TEST

static otr_sampler *calling;
static otr_status inner;

static void only_id_3(void *user, float *logits, int32_t vocab) {
  int32_t id;
  for (int32_t i = 0; i < vocab; ++i)
    if (i != 3) logits[i] = -INFINITY;
  inner = otr_sampler_sample(calling, logits, vocab, &id);
  ++*(int *)user;
}

static void forbid_all(void *user, float *logits, int32_t vocab) {
  (void)user;
  for (int32_t i = 0; i < vocab; ++i) logits[i] = -INFINITY;
}

START_TEST(callback) {
  static const float logits[5] = {1.0f, 2.0f, 3.0f, -40.0f, 2.0f};
  int calls = 0;
  for (int warm = 0; warm < 2; ++warm) {
    calling = make(5, (otr_sampler_params){.temperature = (float)warm, .logits_fn = only_id_3, .logits_user = &calls});
    ck_assert_int_eq(sample(calling, logits, 5), 3);
    ck_assert_int_eq(inner, OTR_STATUS_BUSY);
    otr_sampler_destroy(calling);
  }
  ck_assert_int_eq(calls, 2);
  ck_assert_float_eq(logits[0], 1.0f);
  otr_sampler *sampler = make(5, (otr_sampler_params){.logits_fn = forbid_all});
  int32_t id;
  ck_status(otr_sampler_sample(sampler, logits, 5, &id), OTR_STATUS_NONFINITE);
  ck_assert_int_eq(id, -1);
  otr_sampler_destroy(sampler);
}
END_TEST

/* ---- what is refused
 * -------------------------------------------------------------------------------------------------- */

START_TEST(bad_parameters) {
  static const otr_logit_bias outside[] = {{5, 1.0f}}, negative[] = {{-1, 1.0f}}, infinite[] = {{0, INFINITY}},
                              nan[] = {{0, NAN}};
  static const otr_sampler_params cases[] = {
      {.temperature = NAN},
      {.temperature = -1.0f},
      {.temperature = INFINITY},
      {.temperature = 1e-30f},
      {.top_k = -1},
      {.top_p = NAN},
      {.top_p = -0.1f},
      {.top_p = 1.1f},
      {.min_p = NAN},
      {.min_p = -0.1f},
      {.min_p = 1.1f},
      {.repeat_penalty = NAN},
      {.repeat_penalty = -1.0f},
      {.repeat_penalty = INFINITY},
      {.repeat_last_n = -1},
      {.repeat_last_n = 1 << 30},
      {.n_bias = -1},
      {.n_bias = 1},
      {.bias = outside, .n_bias = 1},
      {.bias = negative, .n_bias = 1},
      {.bias = infinite, .n_bias = 1},
      {.bias = nan, .n_bias = 1},
  };
  otr_sampler *sampler;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
    otr_sampler_params p = cases[i];
    p.struct_size = sizeof p;
    sampler = (otr_sampler *)&p;
    ck_assert_msg(otr_sampler_create(5, &p, &sampler) == OTR_STATUS_INVALID_ARGUMENT && sampler == NULL, "case %zu", i);
  }
  otr_sampler_params unset = {0};
  ck_status(otr_sampler_create(5, &unset, &sampler), OTR_STATUS_INVALID_ARGUMENT);
  ck_status(otr_sampler_create(0, NULL, &sampler), OTR_STATUS_INVALID_ARGUMENT);
  ck_status(otr_sampler_create(-1, NULL, &sampler), OTR_STATUS_INVALID_ARGUMENT);
  ck_status(otr_sampler_create(5, NULL, NULL), OTR_STATUS_INVALID_ARGUMENT);
  otr_sampler_destroy(NULL);
  otr_sampler_reset(NULL);
}
END_TEST

START_TEST(bad_logits) {
  float logits[4] = {1.0f, 2.0f, 3.0f, 4.0f};
  int32_t id;
  otr_sampler *sampler = make(4, (otr_sampler_params){.temperature = 1.0f, .top_k = 1000});
  ck_status(otr_sampler_sample(sampler, logits, 5, &id), OTR_STATUS_INVALID_ARGUMENT);
  ck_status(otr_sampler_sample(sampler, NULL, 4, &id), OTR_STATUS_INVALID_ARGUMENT);
  ck_status(otr_sampler_sample(sampler, logits, 4, NULL), OTR_STATUS_INVALID_ARGUMENT);
  ck_status(otr_sampler_sample(NULL, logits, 4, &id), OTR_STATUS_INVALID_ARGUMENT);
  static const float bad[] = {NAN, INFINITY};
  for (int i = 0; i < 2; ++i) {
    logits[2] = bad[i];
    ck_status(otr_sampler_sample(sampler, logits, 4, &id), OTR_STATUS_NONFINITE);
  }
  for (int i = 0; i < 4; ++i) logits[i] = -INFINITY;
  ck_status(otr_sampler_sample(sampler, logits, 4, &id), OTR_STATUS_NONFINITE);
  logits[1] = -0x1p47f;
  ck_assert_int_eq(sample(sampler, logits, 4), 1);
  otr_sampler_destroy(sampler);
}
END_TEST

/* ---- memory ------------------------------------------------------------------------------------------------------ */

START_TEST(allocations) {
  static const float logits[3] = {1.0f, 1.0f, 1.0f};
  otr_logit_bias bias = {1, 0.5f};
  int n = 0;
  for (otr_status status = OTR_STATUS_NO_MEMORY; status != OTR_STATUS_OK; ++n) {
    suite_meter m = {n, 0};
    otr_sampler_params p = {.struct_size = sizeof p, .temperature = 1.0f, .bias = &bias, .n_bias = 1};
    p.allocator = suite_allocator(&m);
    otr_sampler *sampler;
    status = otr_sampler_create(3, &p, &sampler);
    ck_assert(status == OTR_STATUS_OK || status == OTR_STATUS_NO_MEMORY);
    if (status == OTR_STATUS_OK) { /* none left: sampling takes none */
      ck_assert_int_eq(m.left, 0);
      for (int i = 0; i < 100; ++i) ck_status(otr_sampler_accept(sampler, sample(sampler, logits, 3)), OTR_STATUS_OK);
    }
    otr_sampler_destroy(sampler);
    ck_assert_int_eq(m.held, 0);
  }
  ck_assert_int_gt(n, 5);
}
END_TEST

static void add(TCase *tests) {
  tcase_add_test(tests, equals_the_definition);
  tcase_add_test(tests, named_generator);
  tcase_add_test(tests, frequencies);
  tcase_add_test(tests, greedy);
  tcase_add_test(tests, biases);
  tcase_add_test(tests, repetition);
  tcase_add_test(tests, callback);
  tcase_add_test(tests, bad_parameters);
  tcase_add_test(tests, bad_logits);
  tcase_add_test(tests, allocations);
}

int main(void) {
  return suite_run("sampler", add);
}
