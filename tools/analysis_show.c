// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "analysis.h"

const char *const analysis_ablation_names[ABLATIONS] = {
    "outliers zeroed: attention",
    "outliers zeroed: attention, MLP",
    "as many random: attention",
    "as many random: attention, MLP",
};

static uint64_t all_outliers(const analysis *a) {
  uint64_t n = 0;
  for (int i = 0; i < OUTLIER_INPUTS; i++) n += a->total[i].outliers;
  return n;
}

double analysis_outliers_per_window(const analysis *a) {
  return a->stats.windows ? (double)all_outliers(a) / (double)a->stats.windows : 0.0;
}

double analysis_int8_share(const analysis *a) {
  uint64_t values = 0;
  for (int i = 0; i < OUTLIER_INPUTS; i++) values += a->total[i].values;
  return values ? 1.0 - (double)all_outliers(a) / (double)values : 1.0;
}

static double share(uint64_t part, uint64_t whole) {
  return whole ? (double)part / (double)whole : 0.0;
}

/* ---- text ------------------------------------------------------------------------------------------------------- */

static const char *side(double positive) {
  return positive >= 0.995 ? "positive" : positive <= 0.005 ? "negative" : "both";
}

static void print_features(const analysis *a) {
  printf("\noutlier features: %d (|x| >= %g, in >= %g %% of layers and >= %g %% of positions)\n", (int)a->n_features,
         (double)a->stats.criteria.magnitude, 100.0 * a->stats.criteria.layers, 100.0 * a->stats.criteria.positions);
  if (a->n_features == 0) return;
  printf("  %7s %7s %10s %9s %29s %18s\n", "feature", "layers", "positions", "side", "quartiles of |x|",
         "largest (layer)");
  for (int32_t i = 0; i < a->n_features; i++) {
    const outlier_feature *f = &a->features[i];
    printf("  %7d %5.0f %% %8.1f %% %9s %9.1f %9.1f %9.1f %11.1f (%d)\n", (int)f->feature,
           100.0 * f->layers / a->n_layers, 100.0 * f->positions, side(f->positive), f->quartile[0], f->quartile[1],
           f->quartile[2], (double)f->peak, (int)f->peak_layer);
  }
}

static void print_inputs(const analysis *a) {
  printf("\n  %-17s %7s %12s %12s %15s %14s\n", "input", "width", "in int8", "outliers", "features", "largest |x|");
  printf("  %-17s %7s %12s %12s %15s\n", "", "", "", "a token", "ever, a layer");
  for (int i = 0; i < OUTLIER_INPUTS; i++) {
    const outlier_total *t = &a->total[i];
    if (t->layers == 0) continue;
    printf("  %-17s %7d %10.4f %% %12.3f %15d %14.1f\n", outlier_input_names[i], (int)t->k,
           100.0 * (1.0 - share(t->outliers, t->values)), share(t->outliers, t->rows * (uint64_t)t->layers),
           (int)t->features, (double)t->peak);
  }
}

static void print_columns(const analysis *a) {
  printf("\ncolumns that are an outlier for any token of a batch, mean over layers\n  %-17s", "tokens");
  for (int level = 0; level < OUTLIER_LEVELS; level += 2) printf(" %8d", 1 << level);
  printf("\n");
  for (int i = 0; i < OUTLIER_INPUTS; i++) {
    const outlier_total *t = &a->total[i];
    if (t->layers == 0) continue;
    printf("  %-17s", outlier_input_names[i]);
    for (int level = 0; level < OUTLIER_LEVELS && t->columns[level] >= 0.0; level += 2)
      printf(" %8.2f", t->columns[level]);
    printf("\n");
  }
}

static void print_ablation(const analysis *a) {
  if (!a->ablated) return;
  printf("\n  %-34s %12s %8s %7s\n", "features of the inputs of", "perplexity", "ratio", "top-1");
  printf("  %-34s %12.2f %8s %7.3f\n", "nothing zeroed", a->score.perplexity, "", a->score.top1);
  for (int i = 0; i < ABLATIONS; i++) {
    printf("  %-34s %12.2f %8.3f %7.3f\n", analysis_ablation_names[i], a->ablation[i].perplexity,
           a->ablation[i].perplexity / a->score.perplexity, a->ablation[i].top1);
  }
}

static void print_one(const analysis *a) {
  printf("%s: %.4g million parameters, %d layers of %d; %llu tokens\n", a->name, 1e-6 * a->parameters, (int)a->n_layers,
         (int)a->dim, (unsigned long long)a->tokens);
  printf("perplexity %.4f, mean top-1 probability %.3f\n", a->score.perplexity, a->score.top1);
  printf("outlier values a window %.0f; in int8 %.4f %% of all values\n", analysis_outliers_per_window(a),
         100.0 * analysis_int8_share(a));
  print_features(a);
  print_inputs(a);
  print_columns(a);
  print_ablation(a);
}

void analysis_print(const analysis *list, int32_t n) {
  for (int32_t i = 0; i < n; i++) {
    if (i > 0) printf("\n");
    print_one(&list[i]);
  }
  if (n < 2) return;
  printf("\n%-40s %12s %12s %8s %18s\n", "model", "parameters", "perplexity", "features", "outliers a window");
  for (int32_t i = 0; i < n; i++) {
    printf("%-40s %10.4gM %12.4f %8d %18.0f\n", list[i].name, 1e-6 * list[i].parameters, list[i].score.perplexity,
           (int)list[i].n_features, analysis_outliers_per_window(&list[i]));
  }
}

/* ---- JSON ------------------------------------------------------------------------------------------------------- */

/* Layers whose attention or MLP input has the feature as an outlier, with the share of positions in each. */
static json_t *feature_layers(const analysis *a, int32_t feature) {
  json_t *list = json_array();
  for (int32_t layer = 0; layer < a->n_layers; layer++) {
    const outlier_count *attention = outlier_count_at(&a->stats, layer, OUTLIER_ATTENTION);
    const outlier_count *mlp = outlier_count_at(&a->stats, layer, OUTLIER_MLP);
    const bool has_attention = attention->k == a->dim, has_mlp = mlp->k == a->dim;
    const uint32_t hits[2] = {has_attention ? attention->hits[feature] : 0, has_mlp ? mlp->hits[feature] : 0};
    if (hits[0] + hits[1] == 0) continue;
    json_array_append_new(list, json_pack("{s:i, s:f, s:f}", "layer", (int)layer, "attention",
                                          share(hits[0], attention->rows), "mlp", share(hits[1], mlp->rows)));
  }
  return list;
}

static json_t *features_json(const analysis *a) {
  json_t *list = json_array();
  for (int32_t i = 0; i < a->n_features; i++) {
    const outlier_feature *f = &a->features[i];
    json_t *places = json_array();
    for (int p = 0; p < OUTLIER_PLACES; p++) json_array_append_new(places, json_real(f->place[p]));
    json_array_append_new(
        list,
        json_pack("{s:i, s:f, s:f, s:f, s:[f, f, f], s:f, s:i, s:o, s:o}", "feature", (int)f->feature, "layer_share",
                  (double)f->layers / a->n_layers, "position_share", f->positions, "positive_share", f->positive,
                  "quartiles", f->quartile[0], f->quartile[1], f->quartile[2], "largest", (double)f->peak,
                  "largest_layer", (int)f->peak_layer, "by_position", places, "layers", feature_layers(a, f->feature)));
  }
  return list;
}

static json_t *inputs_json(const analysis *a) {
  json_t *list = json_array();
  for (int i = 0; i < OUTLIER_INPUTS; i++) {
    const outlier_total *t = &a->total[i];
    if (t->layers == 0) continue;
    json_t *columns = json_array();
    for (int level = 0; level < OUTLIER_LEVELS && t->columns[level] >= 0.0; level++) {
      json_array_append_new(columns, json_pack("{s:i, s:f}", "tokens", 1 << level, "columns", t->columns[level]));
    }
    json_array_append_new(
        list, json_pack("{s:s, s:i, s:f, s:f, s:i, s:f, s:o}", "input", outlier_input_names[i], "width", (int)t->k,
                        "outlier_share", share(t->outliers, t->values), "outliers_per_token",
                        share(t->outliers, t->rows * (uint64_t)t->layers), "features", (int)t->features, "largest",
                        (double)t->peak, "batches", columns));
  }
  return list;
}

static json_t *ablation_json(const analysis *a) {
  json_t *list = json_array();
  for (int i = 0; i < ABLATIONS; i++) {
    json_array_append_new(
        list,
        json_pack("{s:s, s:f, s:f, s:f}", "what", analysis_ablation_names[i], "ppl", a->ablation[i].perplexity, "ratio",
                  a->ablation[i].perplexity / a->score.perplexity, "top1_probability", a->ablation[i].top1));
  }
  return list;
}

json_t *analysis_json(const analysis *list, int32_t n) {
  json_t *models = json_array();
  for (int32_t i = 0; i < n; i++) {
    const analysis *a = &list[i];
    json_t *one = json_pack("{s:s, s:f, s:i, s:i, s:I, s:f, s:f, s:f, s:f, s:o, s:o}", "model", a->name, "parameters",
                            a->parameters, "layers", (int)a->n_layers, "dim", (int)a->dim, "tokens",
                            (json_int_t)a->tokens, "ppl", a->score.perplexity, "top1_probability", a->score.top1,
                            "outliers_per_window", analysis_outliers_per_window(a), "int8_share",
                            analysis_int8_share(a), "features", features_json(a), "inputs", inputs_json(a));
    if (one && a->ablated) json_object_set_new(one, "ablation", ablation_json(a));
    json_array_append_new(models, one);
  }
  return json_pack("{s:o}", "models", models);
}
