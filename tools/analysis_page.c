// SPDX-License-Identifier: Apache-2.0
/* analyze's page. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "analysis.h"
#include "html.h"
#include "status.h"

enum { MAP_FEATURES = 32 /* columns of a map at most */ };

/* A map's hidden features: those with the largest values, in ascending order. */
typedef struct feature_map {
  const analysis *a;
  outlier_input input;
  int32_t *features;  // [n]
  int32_t n;
  char (*labels)[24];   // [n_layers]
  const char **layers;  // [n_layers]
} feature_map;

/* ---- the map ---------------------------------------------------------------------------------------------------- */

static double share_of(const feature_map *m, int32_t layer, int32_t feature) {
  const outlier_count *c = outlier_count_at(&m->a->stats, layer, m->input);
  return c->k == m->a->dim && c->rows > 0 ? (double)c->hits[feature] / (double)c->rows : 0.0;
}

/* Faint up to the threshold, by magnitude; from there on by the share of positions. */
static double shade(void *user, int32_t row, int32_t column) {
  const feature_map *m = user;
  const int32_t feature = m->features[column];
  const outlier_count *c = outlier_count_at(&m->a->stats, row, m->input);
  if (c->k != m->a->dim) return NAN;
  const double share = share_of(m, row, feature);
  return share > 0.0 ? 0.4 + 0.6 * sqrt(share) : 0.3 * (double)(c->peak[feature] / m->a->stats.criteria.magnitude);
}

static void tip(void *user, int32_t row, int32_t column, char text[128]) {
  const feature_map *m = user;
  const int32_t feature = m->features[column];
  const outlier_count *c = outlier_count_at(&m->a->stats, row, m->input);
  snprintf(text, 128, "layer %d, feature %d: %.1f %% of positions, largest %.1f", (int)row, (int)feature,
           100.0 * share_of(m, row, feature), c->k == m->a->dim ? (double)c->peak[feature] : 0.0);
}

static void column_label(void *user, int32_t column, char text[32]) {
  const feature_map *m = user;
  snprintf(text, 32, "%d", (int)m->features[column]);
}

typedef struct ranked {
  int32_t feature;
  float most; /* largest magnitude */
} ranked;

static int by_most(const void *a, const void *b) {
  const ranked *x = a, *y = b;
  if (x->most != y->most) return x->most > y->most ? -1 : 1;
  return x->feature - y->feature;
}

static int ascending(const void *a, const void *b) {
  return *(const int32_t *)a - *(const int32_t *)b;
}

static otr_status choose_features(feature_map *m) {
  ranked *all;
  OTR_TRY(tool_allocate((size_t)m->a->dim, sizeof *all, (void **)&all));
  for (int32_t f = 0; f < m->a->dim; f++) {
    all[f].feature = f;
    for (int32_t layer = 0; layer < m->a->n_layers; layer++) {
      const outlier_count *c = outlier_count_at(&m->a->stats, layer, m->input);
      if (c->k == m->a->dim) all[f].most = fmaxf(all[f].most, c->peak[f]);
    }
  }
  qsort(all, (size_t)m->a->dim, sizeof *all, by_most);
  for (m->n = 0; m->n < MAP_FEATURES && m->n < m->a->dim && all[m->n].most > 0.0f; m->n++) {
    m->features[m->n] = all[m->n].feature;
  }
  qsort(m->features, (size_t)m->n, sizeof *m->features, ascending);
  free(all);
  return OTR_STATUS_OK;
}

static otr_status prepare_map(feature_map *m) {
  const size_t layers = (size_t)m->a->n_layers;
  OTR_TRY(tool_allocate(MAP_FEATURES, sizeof *m->features, (void **)&m->features));
  OTR_TRY(tool_allocate(layers, sizeof *m->labels, (void **)&m->labels));
  OTR_TRY(tool_allocate(layers, sizeof *m->layers, (void **)&m->layers));
  for (size_t i = 0; i < layers; i++) {
    snprintf(m->labels[i], sizeof m->labels[i], "%zu", i);
    m->layers[i] = m->labels[i];
  }
  return choose_features(m);
}

static otr_status draw_map(FILE *out, const analysis *a, outlier_input input) {
  feature_map m = {.a = a, .input = input};
  char heading[96];
  otr_status status = prepare_map(&m);
  if (status == OTR_STATUS_OK && m.n > 0) {
    const html_map map = {.rows = a->n_layers,
                          .columns = m.n,
                          .row_labels = m.layers,
                          .column_label = column_label,
                          .shade = shade,
                          .tip = tip,
                          .user = &m,
                          .low = "small",
                          .high = "an outlier in every position",
                          .rows_name = "layer",
                          .columns_name = "feature"};
    snprintf(heading, sizeof heading, "Outliers by layer and feature: %s", outlier_input_names[input]);
    html_section(out, heading,
                 "The hidden features with the largest values. Faint cells are below the threshold; strong ones are by "
                 "the share of positions in which the feature is an outlier.");
    html_heat_map(out, &map, heading);
    html_section_end(out);
  }
  free(m.features);
  free(m.labels);
  free(m.layers);
  return status;
}

/* ---- tables and bars -------------------------------------------------------------------------------------------- */

static void write_features(FILE *out, const analysis *a) {
  static const char *const headers[] = {"feature", "layers",     "positions", "positive", "quartile 1",
                                        "median",  "quartile 3", "largest",   "in layer"};
  char note[160];
  snprintf(note, sizeof note,
           "|x| at least %g in %g %% of layers and %g %% of positions (inputs of attention and MLP).",
           (double)a->stats.criteria.magnitude, 100.0 * a->stats.criteria.layers, 100.0 * a->stats.criteria.positions);
  html_section(out, "Outlier features", note);
  if (a->n_features == 0) html_paragraph(out, "None.");
  if (a->n_features > 0) html_table(out, headers, sizeof headers / sizeof *headers);
  for (int32_t i = 0; i < a->n_features; i++) {
    const outlier_feature *f = &a->features[i];
    html_row(out);
    html_cell(out, "%d", (int)f->feature);
    html_cell(out, "%.0f %%", 100.0 * f->layers / a->n_layers);
    html_cell(out, "%.1f %%", 100.0 * f->positions);
    html_cell(out, "%.0f %%", 100.0 * f->positive);
    for (int q = 0; q < 3; q++) html_cell(out, "%.1f", f->quartile[q]);
    html_cell(out, "%.1f", (double)f->peak);
    html_cell(out, "%d", (int)f->peak_layer);
  }
  if (a->n_features > 0) html_table_end(out);
  html_section_end(out);
}

static void write_inputs(FILE *out, const analysis *a) {
  static const char *const headers[] = {"input", "width", "in int8", "outliers a token", "1 token",
                                        "16",    "256",   "4096",    "largest"};
  static const int levels[] = {0, 4, 8, 12};
  html_section(
      out, "What linears read",
      "Outliers by input; then the mean number of columns that are an outlier for any token of a batch: what a "
      "decision for the whole batch would have to take to 16 bits.");
  html_table(out, headers, sizeof headers / sizeof *headers);
  for (int i = 0; i < OUTLIER_INPUTS; i++) {
    const outlier_total *t = &a->total[i];
    if (t->layers == 0) continue;
    html_row(out);
    html_cell(out, "%s", outlier_input_names[i]);
    html_cell(out, "%d", (int)t->k);
    html_cell(out, "%.4f %%", 100.0 - 100.0 * (double)t->outliers / (double)t->values);
    html_cell(out, "%.3f", (double)t->outliers / ((double)t->rows * t->layers));
    for (size_t l = 0; l < sizeof levels / sizeof *levels; l++) {
      if (t->columns[levels[l]] >= 0.0) {
        html_cell(out, "%.2f", t->columns[levels[l]]);
      } else {
        html_cell(out, "\xe2\x80\x93");
      }
    }
    html_cell(out, "%.1f", (double)t->peak);
  }
  html_table_end(out);
  html_section_end(out);
}

static void draw_ablation(FILE *out, const analysis *a) {
  html_bar bars[ABLATIONS + 1] = {{"nothing zeroed", a->score.perplexity, false}};
  html_bar top1[ABLATIONS + 1] = {{"nothing zeroed", a->score.top1, false}};
  if (!a->ablated) return;
  for (int i = 0; i < ABLATIONS; i++) {
    const bool outliers = i == ABLATE_OUTLIERS_ATTENTION || i == ABLATE_OUTLIERS_BOTH;
    bars[i + 1] = (html_bar){analysis_ablation_names[i], a->ablation[i].perplexity, outliers};
    top1[i + 1] = (html_bar){analysis_ablation_names[i], a->ablation[i].top1, outliers};
  }
  html_section(out, "Without them: perplexity", "Features zeroed in all layers at once. Logarithmic.");
  html_bars(out, bars, ABLATIONS + 1, "%.2f", true, "Perplexity with features zeroed");
  html_section_end(out);
  html_section(out, "Without them: mean probability of the likeliest token", NULL);
  html_bars(out, top1, ABLATIONS + 1, "%.3f", false, "Mean top-1 probability with features zeroed");
  html_section_end(out);
}

static void write_models(FILE *out, const analysis *list, int32_t n) {
  static const char *const headers[] = {"model",  "parameters", "perplexity", "outlier features", "outliers a window",
                                        "in int8"};
  if (n < 2) return;
  html_section(out, "Models", "The number of outlier features against size and perplexity.");
  html_table(out, headers, sizeof headers / sizeof *headers);
  for (int32_t i = 0; i < n; i++) {
    html_row(out);
    html_cell(out, "%s", list[i].name);
    html_cell(out, "%.4g M", 1e-6 * list[i].parameters);
    html_cell(out, "%.3f", list[i].score.perplexity);
    html_cell(out, "%d", (int)list[i].n_features);
    html_cell(out, "%.0f", analysis_outliers_per_window(&list[i]));
    html_cell(out, "%.4f %%", 100.0 * analysis_int8_share(&list[i]));
  }
  html_table_end(out);
  html_section_end(out);
}

/* ---- the page --------------------------------------------------------------------------------------------------- */

static otr_status write_model(FILE *out, const analysis *a) {
  html_section(out, a->name, NULL);
  html_paragraph(out,
                 "%.4g million parameters, %d layers of %d; %llu tokens. Perplexity %.4f, mean top-1 probability %.3f. "
                 "%.0f outlier values a window; %.4f %% of all values that linears read stay in int8.",
                 1e-6 * a->parameters, (int)a->n_layers, (int)a->dim, (unsigned long long)a->tokens,
                 a->score.perplexity, a->score.top1, analysis_outliers_per_window(a), 100.0 * analysis_int8_share(a));
  html_section_end(out);
  write_features(out, a);
  for (int i = 0; i < OUTLIER_HIDDEN; i++) OTR_TRY(draw_map(out, a, (outlier_input)i));
  write_inputs(out, a);
  draw_ablation(out, a);
  return OTR_STATUS_OK;
}

otr_status analysis_write_page(const analysis *list, int32_t n, const char *path) {
  FILE *out;
  OTR_TRY(tool_create(path, &out));
  html_begin(out, "Outlier features", "By the criteria of Dettmers et al. 2022, LLM.int8(), section 4; all in f32.");
  write_models(out, list, n);
  otr_status status = OTR_STATUS_OK;
  for (int32_t i = 0; i < n && status == OTR_STATUS_OK; i++) status = write_model(out, &list[i]);
  html_end(out);
  return tool_finish(out, path, status);
}
