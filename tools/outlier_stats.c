// SPDX-License-Identifier: Apache-2.0
#include "outlier_stats.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "status.h"

const char *const outlier_input_names[OUTLIER_INPUTS] = {"attention input", "MLP input", "attention output", "MLP down",
                                                         "output layer"};

outlier_input outlier_input_of(otr_role role) {
  switch (role) {
    case OTR_ROLE_ATTN_Q:
    case OTR_ROLE_ATTN_K:
    case OTR_ROLE_ATTN_V:
      return OUTLIER_ATTENTION;
    case OTR_ROLE_FFN_GATE:
    case OTR_ROLE_FFN_UP:
      return OUTLIER_MLP;
    case OTR_ROLE_ATTN_OUT:
      return OUTLIER_ATTENTION_OUT;
    case OTR_ROLE_FFN_DOWN:
      return OUTLIER_MLP_DOWN;
    case OTR_ROLE_OUTPUT:
    case OTR_ROLE_TOKEN_EMBD: /* the output layer where it is tied */
      return OUTLIER_HEAD;
    default:
      return OUTLIER_INPUTS;
  }
}

static size_t words_of(int32_t k) {
  return ((size_t)k + 63) / 64;
}

otr_status outlier_stats_create(outlier_stats *s, outlier_criteria criteria, int32_t n_layers, int32_t dim) {
  *s = (outlier_stats){.criteria = criteria, .n_layers = n_layers, .dim = dim};
  OTR_TRY(tool_allocate(((size_t)n_layers + 1) * OUTLIER_INPUTS, sizeof *s->counts, (void **)&s->counts));
  OTR_TRY(tool_allocate((size_t)dim * OUTLIER_PLACES, sizeof *s->places, (void **)&s->places));
  return tool_allocate((size_t)dim * OUTLIER_BINS, sizeof *s->magnitudes, (void **)&s->magnitudes);
}

void outlier_stats_free(outlier_stats *s) {
  for (size_t i = 0; s->counts && i < ((size_t)s->n_layers + 1) * OUTLIER_INPUTS; i++) {
    free(s->counts[i].hits);
    free(s->counts[i].positive);
    free(s->counts[i].peak);
    free(s->counts[i].met);
    free(s->counts[i].held);
  }
  free(s->counts);
  free(s->places);
  free(s->magnitudes);
  *s = (outlier_stats){0};
}

const outlier_count *outlier_count_at(const outlier_stats *s, int32_t layer, outlier_input input) {
  return &s->counts[(size_t)layer * OUTLIER_INPUTS + (size_t)input];
}

/* ---- counting --------------------------------------------------------------------------------------------------- */

static otr_status first_sight(outlier_count *c, otr_role role, int32_t k) {
  c->role = role;
  OTR_TRY(tool_allocate((size_t)k, sizeof *c->hits, (void **)&c->hits));
  OTR_TRY(tool_allocate((size_t)k, sizeof *c->positive, (void **)&c->positive));
  OTR_TRY(tool_allocate((size_t)k, sizeof *c->peak, (void **)&c->peak));
  OTR_TRY(tool_allocate(words_of(k), sizeof *c->met, (void **)&c->met));
  OTR_TRY(tool_allocate(words_of(k) * OUTLIER_LEVELS, sizeof *c->held, (void **)&c->held));
  c->k = k;
  return OTR_STATUS_OK;
}

static int32_t bin_of(float magnitude, float threshold) {
  int32_t bin = (int32_t)(OUTLIER_BINS_OCTAVE * log2f(magnitude / threshold));
  return bin < 0 ? 0 : bin >= OUTLIER_BINS ? OUTLIER_BINS - 1 : bin;
}

/* One outlier: `place` is the part of the window it lies in. */
static void count_value(outlier_stats *s, outlier_count *c, bool hidden, int32_t place, int32_t feature, float value) {
  c->outliers++;
  c->hits[feature]++;
  c->positive[feature] += value > 0.0f;
  if (!hidden) return;
  s->places[(size_t)feature * OUTLIER_PLACES + (size_t)place]++;
  s->magnitudes[(size_t)feature * OUTLIER_BINS + (size_t)bin_of(fabsf(value), s->criteria.magnitude)]++;
}

/* A row's outliers as bits. */
static void count_row(outlier_stats *s, outlier_count *c, bool hidden, int32_t place, const float *x, uint64_t *bits) {
  const float threshold = s->criteria.magnitude;
  for (int32_t j = 0; j < c->k; j++) {
    const float magnitude = fabsf(x[j]);
    if (magnitude > c->peak[j]) c->peak[j] = magnitude;
    if (!(magnitude >= threshold)) continue;
    count_value(s, c, hidden, place, j, x[j]);
    bits[j / 64] |= (uint64_t)1 << (j % 64);
  }
}

static uint64_t count_bits(const uint64_t *bits, size_t words) {
  uint64_t n = 0;
  for (size_t i = 0; i < words; i++) {
    for (uint64_t rest = bits[i]; rest; rest &= rest - 1) n++;
  }
  return n;
}

static void count_batch(outlier_count *c, int32_t level, const uint64_t *bits, size_t words) {
  c->columns[level] += count_bits(bits, words);
  c->batches[level]++;
}

/* A batch that was counted waits for the next of its size, or makes the next larger one with the one that waits. */
static void join_batch(outlier_count *c, int32_t level, uint64_t *bits, size_t words) {
  for (; level + 1 < OUTLIER_LEVELS; level++) {
    uint64_t *held = c->held + (size_t)level * words;
    c->holds ^= 1u << level;
    if (c->holds >> level & 1) {
      memcpy(held, bits, words * sizeof *bits);
      return;
    }
    for (size_t w = 0; w < words; w++) bits[w] |= held[w];
    count_batch(c, level + 1, bits, words);
  }
}

/* bits [m][words] of rows: whole batches of 2^level rows, each made of two of the level before, in place. */
static void count_batches(outlier_count *c, uint64_t *bits, size_t words, int32_t m) {
  int32_t level = 0;
  for (;; level++, m /= 2) {
    for (int32_t i = 0; i < m; i++) count_batch(c, level, bits + (size_t)i * words, words);
    if (m <= 1 || level + 1 == OUTLIER_LEVELS) break;
    for (int32_t i = 0; i < m / 2; i++) {
      for (size_t w = 0; w < words; w++) {
        bits[(size_t)i * words + w] = bits[(size_t)(2 * i) * words + w] | bits[(size_t)(2 * i + 1) * words + w];
      }
    }
  }
  if (m == 1) join_batch(c, level, bits, words);
}

static otr_status add_window(outlier_stats *s, otr_role role, int32_t layer, const float *x, int32_t m, int32_t k) {
  const outlier_input input = outlier_input_of(role);
  if (input == OUTLIER_INPUTS || layer > s->n_layers) return OTR_STATUS_OK;
  outlier_count *c = &s->counts[(size_t)layer * OUTLIER_INPUTS + (size_t)input];
  if (c->k == 0) OTR_TRY(first_sight(c, role, k));
  if (c->role != role || c->k != k) return OTR_STATUS_OK;
  const bool hidden = (int)input < OUTLIER_HIDDEN && k == s->dim;
  const size_t words = words_of(k);
  uint64_t *bits;
  OTR_TRY(tool_allocate((size_t)m * words, sizeof *bits, (void **)&bits));
  for (int32_t i = 0; i < m; i++) {
    uint64_t *row = bits + (size_t)i * words;
    count_row(s, c, hidden, i * OUTLIER_PLACES / m, x + (size_t)i * (size_t)k, row);
    for (size_t w = 0; w < words; w++) c->met[w] |= row[w];
  }
  c->rows += (uint64_t)m;
  count_batches(c, bits, words, m);
  free(bits);
  s->windows += layer == 0 && input == OUTLIER_ATTENTION;
  return OTR_STATUS_OK;
}

void outlier_stats_add(outlier_stats *s, otr_role role, int32_t layer, const float *x, int32_t m, int32_t k) {
  if (s->status != OTR_STATUS_OK) return;
  s->status = add_window(s, role, layer, x, m, k);
  if (s->status != OTR_STATUS_OK) otr_detail_get(s->detail);
}

/* ---- features --------------------------------------------------------------------------------------------------- */

static double share(uint64_t part, uint64_t whole) {
  return whole ? (double)part / (double)whole : 0.0;
}

/* The magnitude below which `part` of the outliers lie: the middle of its bin. */
static double quantile(const outlier_stats *s, int32_t feature, uint64_t n, double part) {
  const uint32_t *bins = s->magnitudes + (size_t)feature * OUTLIER_BINS;
  uint64_t below = 0;
  int32_t bin = 0;
  for (; bin < OUTLIER_BINS - 1; bin++) {
    below += bins[bin];
    if ((double)below >= part * (double)n && below > 0) break;
  }
  return (double)s->criteria.magnitude * exp2((bin + 0.5) / OUTLIER_BINS_OCTAVE);
}

static void add_layer(const outlier_stats *s, int32_t layer, outlier_feature *f, uint64_t *positive) {
  bool affected = false;
  for (int input = 0; input < OUTLIER_HIDDEN; input++) {
    const outlier_count *c = outlier_count_at(s, layer, (outlier_input)input);
    if (c->k != s->dim) continue;
    affected = affected || c->hits[f->feature] > 0;
    *positive += c->positive[f->feature];
    if (c->peak[f->feature] > f->peak) {
      f->peak = c->peak[f->feature];
      f->peak_layer = layer;
    }
  }
  f->layers += affected;
}

static uint64_t hidden_rows(const outlier_stats *s) {
  uint64_t rows = 0;
  for (int32_t layer = 0; layer < s->n_layers; layer++) {
    for (int input = 0; input < OUTLIER_HIDDEN; input++) {
      const outlier_count *c = outlier_count_at(s, layer, (outlier_input)input);
      if (c->k == s->dim) rows += c->rows;
    }
  }
  return rows;
}

static outlier_feature describe(const outlier_stats *s, int32_t feature, uint64_t rows) {
  outlier_feature f = {.feature = feature};
  const uint32_t *places = s->places + (size_t)feature * OUTLIER_PLACES;
  uint64_t n = 0, positive = 0;
  for (int i = 0; i < OUTLIER_PLACES; i++) {
    n += places[i];
    f.place[i] = share(places[i] * (uint64_t)OUTLIER_PLACES, rows);
  }
  for (int32_t layer = 0; layer < s->n_layers; layer++) add_layer(s, layer, &f, &positive);
  f.positions = share(n, rows);
  f.positive = share(positive, n);
  for (int i = 0; i < 3; i++) f.quartile[i] = quantile(s, feature, n, 0.25 * (i + 1));
  return f;
}

static int by_positions(const void *a, const void *b) {
  const outlier_feature *x = a, *y = b;
  if (x->positions != y->positions) return x->positions > y->positions ? -1 : 1;
  return x->feature - y->feature;
}

otr_status outlier_stats_features(const outlier_stats *s, outlier_feature **out, int32_t *n) {
  const uint64_t rows = hidden_rows(s);
  *n = 0;
  OTR_TRY(tool_allocate((size_t)s->dim, sizeof **out, (void **)out));
  for (int32_t i = 0; i < s->dim; i++) {
    outlier_feature f = describe(s, i, rows);
    bool meets = f.layers > 0 && f.layers >= s->criteria.layers * s->n_layers && f.positions >= s->criteria.positions;
    if (meets) (*out)[(*n)++] = f;
  }
  qsort(*out, (size_t)*n, sizeof **out, by_positions);
  return OTR_STATUS_OK;
}

/* ---- sums ------------------------------------------------------------------------------------------------------- */

static void add_count(outlier_total *t, const outlier_count *c, uint64_t columns[OUTLIER_LEVELS],
                      uint64_t batches[OUTLIER_LEVELS]) {
  t->k = c->k;
  t->rows = c->rows;
  t->layers++;
  t->values += c->rows * (uint64_t)c->k;
  t->outliers += c->outliers;
  for (int32_t j = 0; j < c->k; j++) t->peak = c->peak[j] > t->peak ? c->peak[j] : t->peak;
  int32_t met = (int32_t)count_bits(c->met, words_of(c->k));
  t->features = met > t->features ? met : t->features;
  for (int i = 0; i < OUTLIER_LEVELS; i++) {
    columns[i] += c->columns[i];
    batches[i] += c->batches[i];
  }
}

outlier_total outlier_stats_total(const outlier_stats *s, outlier_input input) {
  outlier_total t = {0};
  uint64_t columns[OUTLIER_LEVELS] = {0}, batches[OUTLIER_LEVELS] = {0};
  for (int32_t layer = 0; layer <= s->n_layers; layer++) {
    const outlier_count *c = outlier_count_at(s, layer, input);
    if (c->k > 0) add_count(&t, c, columns, batches);
  }
  for (int i = 0; i < OUTLIER_LEVELS; i++) {
    t.columns[i] = batches[i] ? (double)columns[i] / (double)batches[i] : -1.0;
  }
  return t;
}
