// SPDX-License-Identifier: Apache-2.0
#include "calibration.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "glob.h"
#include "numerics.h"
#include "outlier_stats.h"
#include "status.h"

/* Magnitudes by the highest bits of their f32: BINS_OCTAVE steps in each doubling from 2^FIRST_OCTAVE on. A threshold
 * is the lower end of a step, 2 to 3 % apart. */
enum { BINS_OCTAVE = 32, FIRST_OCTAVE = -8, OCTAVES = 24, BINS = BINS_OCTAVE * OCTAVES };

/* What linears share an input: as outlier_stats.h has it, and the two projections of an embedding that is not as wide
 * as the model (OPT). */
enum { INPUT_PROJECT_IN = OUTLIER_INPUTS, INPUT_PROJECT_OUT, INPUTS };

static int32_t input_of(otr_role role) {
  return role == OTR_ROLE_PROJECT_IN    ? INPUT_PROJECT_IN
         : role == OTR_ROLE_PROJECT_OUT ? INPUT_PROJECT_OUT
                                        : (int32_t)outlier_input_of(role);
}

/* One input of the layer that is being counted: the linears that share it (q, k, v; gate, up) decide alike. */
typedef struct input_count {
  otr_role role;  // the linear that is counted: the first that was seen
  int32_t k;      // 0: not seen in this layer
  uint64_t rows;
  uint32_t *hits;       // [room] rows in which the feature is an outlier; with a share, after finish_input
  uint32_t *histogram;  // [room][BINS] with a share, or NULL
  int32_t room;
} input_count;

/* A linear of the layer that is being counted. */
typedef struct pending_linear {
  const otr_tensor_rule *rule;
  bool columns;
} pending_linear;

/* What came out for a linear. */
typedef struct linear_count {
  const otr_tensor_rule *rule;
  bool columns;
  int32_t layer, k;
  float threshold;
  uint64_t rows;
  uint32_t *hits;  // [k]
} linear_count;

struct calibration_counts {
  const calibration_params *params;
  int32_t layer;
  input_count input[INPUTS];
  pending_linear pending[OTR_ROLES];  // linears of the layer, in the order in which they were seen
  int32_t n_pending;
  linear_count *linears;  // [n]
  int32_t n;
  otr_status status;
  char detail[OTR_DETAIL_BYTES];
};

/* ---- counting --------------------------------------------------------------------------------------------------- */

static int32_t bin_of(float magnitude) {
  const uint32_t step = OTR_BITS(magnitude) >> 18; /* exponent and five bits of the mantissa */
  const int32_t bin = (int32_t)step - (127 + FIRST_OCTAVE) * BINS_OCTAVE;
  return bin < 0 ? 0 : bin >= BINS ? BINS - 1 : bin;
}

static float bin_begin(int32_t bin) {
  return OTR_FLOAT((uint32_t)(bin + (127 + FIRST_OCTAVE) * BINS_OCTAVE) << 18);
}

static void count_magnitudes(input_count *c, const float *x, int32_t m) {
  for (int32_t i = 0; i < m; i++, x += c->k) {
    for (int32_t j = 0; j < c->k; j++) c->histogram[(size_t)j * BINS + (size_t)bin_of(fabsf(x[j]))]++;
  }
}

/* The least magnitude that is an outlier of a row. */
static float row_threshold(const otr_rule *rule, const float *x, int32_t k) {
  double sum = 0.0;
  if (rule->kind == OTR_RULE_OFF) return INFINITY;
  if (rule->kind == OTR_RULE_ABSOLUTE) return rule->value;
  for (int32_t j = 0; j < k; j++) sum += (double)x[j] * (double)x[j];
  return sum > 0.0 ? (float)((double)rule->value * sqrt(sum / k)) : INFINITY;
}

static void count_outliers(input_count *c, const otr_rule *rule, const float *x, int32_t m) {
  for (int32_t i = 0; i < m; i++, x += c->k) {
    const float threshold = row_threshold(rule, x, c->k);
    for (int32_t j = 0; j < c->k; j++) c->hits[j] += fabsf(x[j]) >= threshold;
  }
}

static otr_status make_room(input_count *c, bool histogram, int32_t k) {
  if (k <= c->room) {
    memset(c->hits, 0, (size_t)k * sizeof *c->hits);
    if (histogram) memset(c->histogram, 0, (size_t)k * BINS * sizeof *c->histogram);
    return OTR_STATUS_OK;
  }
  free(c->hits);
  free(c->histogram);
  c->hits = c->histogram = NULL;
  c->room = 0;
  OTR_TRY(tool_allocate((size_t)k, sizeof *c->hits, (void **)&c->hits));
  if (histogram) OTR_TRY(tool_allocate((size_t)k * BINS, sizeof *c->histogram, (void **)&c->histogram));
  c->room = k;
  return OTR_STATUS_OK;
}

/* ---- the end of a layer ----------------------------------------------------------------------------------------- */

/* With a share: the threshold whose share of outliers is nearest to it, and the rows of each feature that reach it. */
static float finish_input(const calibration_params *params, input_count *c) {
  const double wanted = params->outlier_share * (double)c->rows * c->k;
  uint64_t reached = 0, nearest = 0;
  int32_t from = BINS;
  if (!c->histogram) return 0.0f;
  for (int32_t bin = BINS - 1; bin >= 0 && (double)reached < wanted; bin--) {
    for (int32_t j = 0; j < c->k; j++) reached += c->histogram[(size_t)j * BINS + (size_t)bin];
    if (fabs((double)reached - wanted) > fabs((double)nearest - wanted)) break;
    nearest = reached;
    from = bin;
  }
  for (int32_t j = 0; j < c->k; j++) {
    for (int32_t bin = from; bin < BINS; bin++) c->hits[j] += c->histogram[(size_t)j * BINS + (size_t)bin];
  }
  return bin_begin(from < BINS ? from : BINS - 1);
}

static otr_status add_linear(calibration_counts *c, const pending_linear *from, const input_count *input,
                             float threshold) {
  linear_count *more = realloc(c->linears, ((size_t)c->n + 1) * sizeof *more);
  if (!more) return otr_fail(OTR_STATUS_NO_MEMORY, "the counts of %d linears", (int)c->n + 1);
  c->linears = more;
  linear_count *linear = &more[c->n];
  *linear = (linear_count){.rule = from->rule,
                           .columns = from->columns,
                           .layer = c->layer,
                           .k = input->k,
                           .threshold = threshold,
                           .rows = input->rows};
  OTR_TRY(tool_allocate((size_t)input->k, sizeof *linear->hits, (void **)&linear->hits));
  memcpy(linear->hits, input->hits, (size_t)input->k * sizeof *linear->hits);
  c->n++;
  return OTR_STATUS_OK;
}

static otr_status finish_layer(calibration_counts *c) {
  float thresholds[INPUTS] = {0};
  for (int i = 0; i < INPUTS; i++) {
    if (c->input[i].k > 0) thresholds[i] = finish_input(c->params, &c->input[i]);
  }
  for (int32_t i = 0; i < c->n_pending; i++) {
    const int32_t input = input_of((otr_role)c->pending[i].rule->role);
    OTR_TRY(add_linear(c, &c->pending[i], &c->input[input], thresholds[input]));
  }
  for (int i = 0; i < INPUTS; i++) c->input[i].k = 0;
  c->n_pending = 0;
  return OTR_STATUS_OK;
}

static bool is_kept(const calibration_params *params, const otr_tensor_rule *rule, int32_t layer) {
  char name[OTR_NAME_BYTES];
  otr_tensor_name(name, rule, layer, ".weight");
  return otr_glob_any(params->keep_f16, params->n_keep_f16, name) != 0;
}

/* Notes that the layer has this linear. */
static void note_linear(calibration_counts *c, const otr_tensor_rule *rule, int32_t layer, bool columns) {
  for (int32_t i = 0; i < c->n_pending; i++) {
    if (c->pending[i].rule->role == rule->role) return;
  }
  if (!is_kept(c->params, rule, layer)) c->pending[c->n_pending++] = (pending_linear){rule, columns};
}

static otr_status count_input(calibration_counts *c, const otr_tensor_rule *rule, int32_t layer, bool columns,
                              const float *x, int32_t m, int32_t k) {
  const int32_t input = input_of((otr_role)rule->role);
  const bool histogram = c->params->outlier_share > 0.0;
  if (layer != c->layer) OTR_TRY(finish_layer(c));
  c->layer = layer;
  input_count *at = &c->input[input];
  if (at->k == 0) {
    OTR_TRY(make_room(at, histogram, k));
    at->role = rule->role;
    at->k = k;
    at->rows = 0;
  }
  if (at->k != k) return OTR_STATUS_OK;
  note_linear(c, rule, layer, columns);
  if (at->role != rule->role) return OTR_STATUS_OK;
  at->rows += (uint64_t)m;
  if (histogram) {
    count_magnitudes(at, x, m);
  } else {
    count_outliers(at, &c->params->rule, x, m);
  }
  return OTR_STATUS_OK;
}

void calibration_count(calibration_counts *c, const otr_tensor_rule *rule, int32_t layer, bool columns, const float *x,
                       int32_t m, int32_t k) {
  if (c->status != OTR_STATUS_OK) return;
  c->status = count_input(c, rule, layer, columns, x, m, k);
  if (c->status != OTR_STATUS_OK) otr_detail_get(c->detail);
}

otr_status calibration_counts_create(const calibration_params *params, calibration_counts **out) {
  OTR_TRY(tool_allocate(1, sizeof **out, (void **)out));
  (*out)->params = params;
  return OTR_STATUS_OK;
}

void calibration_counts_free(calibration_counts *c) {
  if (!c) return;
  for (int i = 0; i < INPUTS; i++) {
    free(c->input[i].hits);
    free(c->input[i].histogram);
  }
  for (int32_t i = 0; i < c->n; i++) free(c->linears[i].hits);
  free(c->linears);
  free(c);
}

/* ---- deciding --------------------------------------------------------------------------------------------------- */

/* A feature that is an outlier often enough. */
typedef struct candidate {
  int32_t linear, feature;
  double frequency;
} candidate;

static int by_frequency(const void *a, const void *b) {
  const candidate *x = a, *y = b;
  if (x->frequency != y->frequency) return x->frequency > y->frequency ? -1 : 1;
  return x->linear != y->linear ? x->linear - y->linear : x->feature - y->feature;
}

static int by_place(const void *a, const void *b) {
  const candidate *x = a, *y = b;
  return x->linear != y->linear ? x->linear - y->linear : x->feature - y->feature;
}

static otr_status list_candidates(const calibration_counts *c, candidate **out, size_t *n) {
  size_t room = 0;
  *n = 0;
  for (int pass = 0; pass < 2; pass++) {
    for (int32_t i = 0; i < c->n; i++) {
      const linear_count *l = &c->linears[i];
      for (int32_t j = 0; l->columns && j < l->k; j++) {
        const double frequency = (double)l->hits[j] / (double)l->rows;
        if (frequency < CALIBRATION_FREQUENT) continue;
        if (pass == 1) (*out)[(*n)++] = (candidate){i, j, frequency};
        room++;
      }
    }
    if (pass == 0) OTR_TRY(tool_allocate(room, sizeof **out, (void **)out));
  }
  return OTR_STATUS_OK;
}

static otr_status take_columns(calibration *out, const candidate *chosen, size_t n) {
  for (size_t i = 0; i < n;) {
    calibration_linear *linear = &out->linears[chosen[i].linear];
    size_t end = i;
    while (end < n && chosen[end].linear == chosen[i].linear) end++;
    OTR_TRY(tool_allocate(end - i, sizeof *linear->columns, (void **)&linear->columns));
    for (; i < end; i++) linear->columns[linear->n_columns++] = chosen[i].feature;
  }
  out->columns = n;
  return OTR_STATUS_OK;
}

static otr_status choose_columns(const calibration_counts *c, calibration *out) {
  candidate *candidates;
  size_t n, most = (size_t)(c->params->column_share * (double)out->all_columns);
  OTR_TRY(list_candidates(c, &candidates, &n));
  if (n > most) {
    qsort(candidates, n, sizeof *candidates, by_frequency);
    n = most;
  }
  qsort(candidates, n, sizeof *candidates, by_place);
  otr_status status = take_columns(out, candidates, n);
  free(candidates);
  return status;
}

static otr_status decide(calibration_counts *c, calibration *out) {
  OTR_TRY(finish_layer(c));
  OTR_TRY(tool_allocate((size_t)c->n, sizeof *out->linears, (void **)&out->linears));
  for (; out->n < c->n; out->n++) {
    const linear_count *from = &c->linears[out->n];
    calibration_linear *linear = &out->linears[out->n];
    otr_tensor_name(linear->name, from->rule, from->layer, ".weight");
    linear->k = from->k;
    linear->rule = (otr_rule){OTR_RULE_ABSOLUTE, from->threshold};
    if (from->columns) out->all_columns += (uint64_t)from->k;
    out->tokens = from->rows;
  }
  return choose_columns(c, out);
}

otr_status calibration_decide(calibration_counts *c, calibration *out) {
  *out = (calibration){0};
  if (c->status != OTR_STATUS_OK) {
    otr_detail_set(c->detail);
    return c->status;
  }
  otr_status status = decide(c, out);
  if (status != OTR_STATUS_OK) calibration_free(out);
  return status;
}

void calibration_free(calibration *c) {
  for (int32_t i = 0; c->linears && i < c->n; i++) free(c->linears[i].columns);
  free(c->linears);
  memset(c, 0, sizeof *c);
}
