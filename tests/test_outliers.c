// SPDX-License-Identifier: Apache-2.0
/* Outlier statistics and calibration on made-up activations, whose counts are known. */
#include <math.h>
#include <string.h>

#include "calibration.h"
#include "outlier_stats.h"
#include "suite.h"

enum { LAYERS = 8, DIM = 70, TOKENS = 32, WIDE = 130 };
static const outlier_criteria paper = {6.0f, 0.25, 0.06};

/* [m, k] of ones of alternating sign. */
static void fill(float *x, int32_t m, int32_t k) {
  for (int32_t i = 0; i < m * k; i++) x[i] = i % 2 ? 1.0f : -1.0f;
}

/* Feature 3: -8 in every other token of layers 2 to 7, attention only. Feature 65: 7 in one token of every layer.
 * Feature 9: 20 in every token of layer 0 only, MLP. */
static void window(float *x, int32_t layer, outlier_input input) {
  fill(x, TOKENS, DIM);
  for (int32_t i = 0; i < TOKENS; i++) {
    if (input == OUTLIER_ATTENTION && layer >= 2 && i % 2 == 0) x[i * DIM + 3] = -8.0f;
    if (input == OUTLIER_ATTENTION && i == 5) x[i * DIM + 65] = 7.0f;
    if (input == OUTLIER_MLP && layer == 0) x[i * DIM + 9] = 20.0f;
  }
}

static void count_windows(outlier_stats *stats, int n) {
  static float x[TOKENS * DIM];
  ck_ok(outlier_stats_create(stats, paper, LAYERS, DIM));
  for (int32_t layer = 0; layer < LAYERS; layer++) {
    for (int w = 0; w < n; w++) {
      window(x, layer, OUTLIER_ATTENTION);
      outlier_stats_add(stats, OTR_ROLE_ATTN_Q, layer, x, TOKENS, DIM);
      outlier_stats_add(stats, OTR_ROLE_ATTN_K, layer, x, TOKENS, DIM);
      window(x, layer, OUTLIER_MLP);
      outlier_stats_add(stats, OTR_ROLE_FFN_UP, layer, x, TOKENS, DIM);
      outlier_stats_add(stats, OTR_ROLE_ATTN_NORM, layer, x, TOKENS, DIM);
    }
  }
  ck_ok(stats->status);
}

START_TEST(features_by_the_criteria) {
  outlier_stats stats;
  outlier_feature *features;
  int32_t n;
  count_windows(&stats, 2);
  ck_ok(outlier_stats_features(&stats, &features, &n));
  /* 3: in half of the tokens of 6 of 16 inputs, 18.75 %; 65: in 1/64 of them; 9: in 6.25 %, but in one layer of 8. */
  ck_assert_int_eq(n, 1);
  ck_assert_int_eq(features[0].feature, 3);
  ck_assert_int_eq(features[0].layers, 6);
  ck_assert_double_eq_tol(features[0].positions, 0.1875, 1e-12);
  ck_assert(features[0].positive == 0.0 && features[0].peak == 8.0f && features[0].peak_layer == 2);
  for (int i = 0; i < 3; i++) ck_assert_double_eq_tol(features[0].quartile[i], 8.0, 0.8);
  for (int i = 0; i < OUTLIER_PLACES; i++) ck_assert_double_eq_tol(features[0].place[i], 0.1875, 1e-12);
  ck_assert_uint_eq(stats.windows, 2);
  free(features);
  stats.criteria.layers = 0.125;
  ck_ok(outlier_stats_features(&stats, &features, &n));
  ck_assert_int_eq(n, 2);
  ck_assert(features[1].feature == 9 && features[1].positive == 1.0);
  free(features);
  stats.criteria.positions = 0.0;
  ck_ok(outlier_stats_features(&stats, &features, &n));
  ck_assert_int_eq(n, 3);
  free(features);
  outlier_stats_free(&stats);
}
END_TEST

/* Columns of a batch, also of batches that go on from one window to the next. */
START_TEST(columns_by_batch) {
  enum { K = 100, M = 8, WINDOWS = 4 };
  outlier_stats stats;
  float x[M * K];
  ck_ok(outlier_stats_create(&stats, paper, 1, DIM));
  for (int w = 0; w < WINDOWS; w++) {
    fill(x, M, K);
    for (int i = 0; i < M; i++) {
      x[i * K + 70] = 6.0f;            /* in every token: 6 is an outlier */
      x[i * K + (w * M + i)] = -50.0f; /* one of its own in each of 32 tokens */
    }
    outlier_stats_add(&stats, OTR_ROLE_FFN_DOWN, 0, x, M, K);
  }
  outlier_total total = outlier_stats_total(&stats, OUTLIER_MLP_DOWN);
  ck_assert_uint_eq(total.outliers, 2 * M * WINDOWS);
  ck_assert_int_eq(total.features, 33);
  ck_assert(total.layers == 1 && total.k == K && total.peak == 50.0f);
  for (int level = 0; level <= 5; level++) ck_assert_double_eq_tol(total.columns[level], 1.0 + (1 << level), 1e-12);
  ck_assert(total.columns[6] < 0.0);
  outlier_stats_free(&stats);
}
END_TEST

START_TEST(odd_windows) {
  outlier_stats stats;
  static float x[5 * DIM];
  ck_ok(outlier_stats_create(&stats, paper, 1, DIM));
  fill(x, 5, DIM);
  x[4 * DIM + 1] = 9.0f;
  outlier_stats_add(&stats, OTR_ROLE_TOKEN_EMBD, 1, x, 5, DIM);
  outlier_stats_add(&stats, OTR_ROLE_TOKEN_EMBD, 1, x, 1, DIM);
  outlier_total total = outlier_stats_total(&stats, OUTLIER_HEAD);
  ck_assert_uint_eq(total.rows, 6);
  ck_assert_double_eq_tol(total.columns[0], 1.0 / 6.0, 1e-12);
  ck_assert(total.columns[1] == 0.0); /* the fifth token is in no whole pair */
  ck_assert_int_eq(outlier_stats_total(&stats, OUTLIER_MLP).layers, 0);
  outlier_stats_free(&stats);
}
END_TEST

/* ---- calibration ------------------------------------------------------------------------------------------------ */

static const otr_tensor_rule q = {.name = "attn_q", .role = OTR_ROLE_ATTN_Q},
                             k = {.name = "attn_k", .role = OTR_ROLE_ATTN_K},
                             down = {.name = "ffn_down", .role = OTR_ROLE_FFN_DOWN},
                             head = {.name = "output", .role = OTR_ROLE_OUTPUT};

/* Two layers and an output layer; in layer 1 feature 5 is an outlier of all tokens, 6 of a quarter, 7 of one in 64. */
static void run(const calibration_params *params, calibration *out) {
  static float x[TOKENS * WIDE];
  calibration_counts *counts;
  ck_ok(calibration_counts_create(params, &counts));
  for (int32_t layer = 0; layer < 2; layer++) {
    for (int w = 0; w < 2; w++) {
      fill(x, TOKENS, DIM);
      for (int32_t i = 0; layer == 1 && i < TOKENS; i++) {
        x[i * DIM + 5] = 60.0f;
        if (i % 4 == 0) x[i * DIM + 6] = -60.0f;
        if (w == 0 && i == 7) x[i * DIM + 7] = 60.0f;
      }
      calibration_count(counts, &q, layer, true, x, TOKENS, DIM);
      calibration_count(counts, &k, layer, true, x, TOKENS, DIM);
      fill(x, TOKENS, WIDE);
      calibration_count(counts, &down, layer, true, x, TOKENS, WIDE);
    }
  }
  fill(x, TOKENS, DIM);
  calibration_count(counts, &head, 2, true, x, TOKENS, DIM);
  ck_ok(calibration_decide(counts, out));
  calibration_counts_free(counts);
}

static const calibration_linear *find(const calibration *c, const char *name) {
  for (int32_t i = 0; i < c->n; i++) {
    if (strcmp(c->linears[i].name, name) == 0) return &c->linears[i];
  }
  return NULL;
}

START_TEST(columns_of_frequent_features) {
  const calibration_params params = {.rule = {OTR_RULE_RELATIVE, 4.0f}, .column_share = 0.02};
  calibration c;
  run(&params, &c);
  ck_assert_int_eq(c.n, 7);
  ck_assert_uint_eq(c.all_columns, 4 * DIM + 2 * WIDE + DIM);
  ck_assert_uint_eq(c.columns, 4);
  const char *const names[] = {"blk.1.attn_q.weight", "blk.1.attn_k.weight"};
  for (int i = 0; i < 2; i++) {
    const calibration_linear *linear = find(&c, names[i]);
    ck_assert_int_eq(linear->n_columns, 2);
    ck_assert(linear->columns[0] == 5 && linear->columns[1] == 6 && linear->k == DIM);
  }
  ck_assert_int_eq(find(&c, "blk.0.attn_q.weight")->n_columns, 0);
  ck_assert_ptr_null(find(&c, "blk.2.attn_q.weight"));
  calibration_free(&c);
}
END_TEST

/* 0.5 % of 610 columns are 3: the most frequent feature of both linears, then one of the next. */
START_TEST(columns_within_the_share) {
  const calibration_params params = {.rule = {OTR_RULE_ABSOLUTE, 6.0f}, .column_share = 0.005};
  calibration c;
  run(&params, &c);
  ck_assert_uint_eq(c.columns, 3);
  ck_assert_int_eq(find(&c, "blk.1.attn_q.weight")->n_columns, 2);
  ck_assert_int_eq(find(&c, "blk.1.attn_k.weight")->n_columns, 1);
  ck_assert_int_eq(find(&c, "blk.1.attn_k.weight")->columns[0], 5);
  calibration_free(&c);
}
END_TEST

START_TEST(kept_weights_are_left_out) {
  static const char *const globs[] = {"blk.*.attn_k*", "output*"};
  const calibration_params params = {
      .rule = {OTR_RULE_RELATIVE, 4.0f}, .column_share = 0.02, .keep_f16 = globs, .n_keep_f16 = 2};
  calibration c;
  run(&params, &c);
  ck_assert_int_eq(c.n, 4);
  ck_assert_ptr_null(find(&c, "output.weight"));
  ck_assert_uint_eq(c.columns, 2);
  calibration_free(&c);
}
END_TEST

/* The projections of an embedding of another width are linears like others; int8 weights have no columns. */
START_TEST(projections_and_int8) {
  static const otr_tensor_rule in = {.name = "project_in", .role = OTR_ROLE_PROJECT_IN},
                               out = {.name = "project_out", .role = OTR_ROLE_PROJECT_OUT};
  const calibration_params params = {.rule = {OTR_RULE_ABSOLUTE, 6.0f}, .column_share = 1.0};
  static float x[TOKENS * DIM];
  calibration_counts *counts;
  calibration c;
  fill(x, TOKENS, DIM);
  for (int32_t i = 0; i < TOKENS; i++) x[i * DIM + 5] = 60.0f;
  ck_ok(calibration_counts_create(&params, &counts));
  calibration_count(counts, &in, -1, true, x, TOKENS, DIM);
  calibration_count(counts, &q, 0, false, x, TOKENS, DIM);
  calibration_count(counts, &out, 1, true, x, TOKENS, DIM);
  calibration_count(counts, &head, 1, true, x, TOKENS, DIM);
  ck_ok(calibration_decide(counts, &c));
  calibration_counts_free(counts);
  ck_assert_int_eq(c.n, 4);
  ck_assert_uint_eq(c.all_columns, 3 * DIM);
  ck_assert_uint_eq(c.columns, 3);
  ck_assert_int_eq(find(&c, "project_in.weight")->columns[0], 5);
  ck_assert_int_eq(find(&c, "project_out.weight")->columns[0], 5);
  ck_assert_int_eq(find(&c, "blk.0.attn_q.weight")->n_columns, 0);
  calibration_free(&c);
}
END_TEST

/* 1/70 and a quarter of that of layer 1's values reach 60; all others are 1. */
START_TEST(thresholds_for_a_share) {
  const calibration_params params = {.outlier_share = 0.015, .column_share = 0.02};
  calibration c;
  run(&params, &c);
  const calibration_linear *linear = find(&c, "blk.1.attn_q.weight");
  ck_assert(linear->rule.kind == OTR_RULE_ABSOLUTE);
  ck_assert(linear->rule.value > 58.0f && linear->rule.value <= 60.0f);
  ck_assert_int_eq(linear->n_columns, 2);
  ck_assert(find(&c, "blk.1.attn_k.weight")->rule.value == linear->rule.value);
  /* Where all values are alike no threshold is near: none are outliers rather than all. */
  ck_assert(find(&c, "blk.0.ffn_down.weight")->rule.value > 1.0f);
  ck_assert_int_eq(find(&c, "blk.0.ffn_down.weight")->n_columns, 0);
  calibration_free(&c);
}
END_TEST

START_TEST(no_outliers) {
  const calibration_params params = {.rule = {OTR_RULE_OFF, 0.0f}, .column_share = 0.02};
  calibration c;
  run(&params, &c);
  ck_assert_uint_eq(c.columns, 0);
  calibration_free(&c);
}
END_TEST

static void add(TCase *tests) {
  tcase_add_test(tests, features_by_the_criteria);
  tcase_add_test(tests, columns_by_batch);
  tcase_add_test(tests, odd_windows);
  tcase_add_test(tests, columns_of_frequent_features);
  tcase_add_test(tests, columns_within_the_share);
  tcase_add_test(tests, kept_weights_are_left_out);
  tcase_add_test(tests, projections_and_int8);
  tcase_add_test(tests, thresholds_for_a_share);
  tcase_add_test(tests, no_outliers);
}

int main(void) {
  return suite_run("outliers", add);
}
