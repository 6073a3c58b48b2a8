// SPDX-License-Identifier: Apache-2.0
/* Devices with one mistake each, of the kinds that kernels are known to have. The harness must find every one. */
#include <math.h>

#include "kernel_check.h"

#define REFERENCE otr_reference_kernels

/* ---- values ------------------------------------------------------------------------------------------------------ */

static void note(otr_found *found, float x) {
  uint32_t a = otr_bits_of_f32(x) & OTR_BITS_ABS;
  if (a > found->worst) found->worst = a;
}

static void add_without_tidy(otr_found *found, float *x, const float *y, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    x[i] = x[i] + y[i];
    note(found, x[i]);
  }
}

static void add_missing_nonfinite(otr_found *found, float *x, const float *y, size_t n) {
  otr_found own = *found;
  REFERENCE.add(&own, x, y, n);
}

static void act_past_the_end(otr_found *found, float *out, const float *x, size_t n, otr_act_kind act) {
  REFERENCE.act(found, out, x, n, act);
  out[n] = 0.0f;
}

static void act_wrong_tail(otr_found *found, float *out, const float *x, size_t n, otr_act_kind act) {
  REFERENCE.act(found, out, x, n, act);
  if (n % 8 == 0) return;
  uint32_t bits = otr_bits_of_f32(out[n - 1]);
  if (bits != 0) out[n - 1] = otr_f32_of_bits(bits ^ 1u);
}

static void glu_of_libm(otr_found *found, float *out, const float *gate, const float *up, size_t n, otr_act_kind act) {
  if (act != OTR_ACT_SILU) {
    REFERENCE.glu(found, out, gate, up, n, act);
    return;
  }
  for (size_t i = 0; i < n; ++i) {
    float a = gate[i] / (1.0f + expf(-gate[i]));
    out[i] = otr_tidy_found(a * up[i], found);
  }
}

/* ---- norm -------------------------------------------------------------------------------------------------------- */

static float sum_of_squares(const float *x, int32_t width, int lanes) {
  float partial[OTR_LANES_ROW] = {0};
  for (int32_t j = 0; j < width; ++j) {
    float square = x[j] * x[j];
    partial[j % lanes] += square;
  }
  for (int h = lanes / 2; h > 0; h /= 2) {
    for (int l = 0; l < h; ++l) partial[l] += partial[l + h];
  }
  return partial[0];
}

static void rms_variant(otr_found *found, float *out, const float *x, const float *gain, float eps, int32_t width,
                        int32_t n_rows, int lanes, bool tidy) {
  for (int32_t i = 0; i < n_rows; ++i, x += width, out += width) {
    float s = sum_of_squares(x, width, lanes) * otr_recip((float)width);
    float r = otr_rsqrt(s + eps);
    for (int32_t j = 0; j < width; ++j) {
      float y = (x[j] * r) * gain[j];
      note(found, y);
      out[j] = tidy ? otr_tidy(y) : y;
    }
  }
}

static void norm_in_32_lanes(otr_found *found, float *out, const float *x, const float *gain, const float *bias,
                             otr_norm_kind kind, float eps, int32_t width, int32_t n_rows) {
  if (kind == OTR_NORM_RMS) {
    rms_variant(found, out, x, gain, eps, width, n_rows, 32, true);
  } else {
    REFERENCE.norm(found, out, x, gain, bias, kind, eps, width, n_rows);
  }
}

static void norm_without_tidy(otr_found *found, float *out, const float *x, const float *gain, const float *bias,
                              otr_norm_kind kind, float eps, int32_t width, int32_t n_rows) {
  if (kind == OTR_NORM_RMS) {
    rms_variant(found, out, x, gain, eps, width, n_rows, 64, false);
  } else {
    REFERENCE.norm(found, out, x, gain, bias, kind, eps, width, n_rows);
  }
}

/* ---- quantizer --------------------------------------------------------------------------------------------------- */

static void quantize_ties_away(otr_found *found, const otr_quantized *out, const float *x, otr_rule rule, int32_t r0,
                               int32_t r1) {
  REFERENCE.quantize(found, out, x, rule, r0, r1);
  for (int32_t i = r0; i < r1; ++i) {
    float absmax = 0.0f;
    const float *row = x + (size_t)i * (size_t)out->k;
    int8_t *q = out->q + (size_t)i * (size_t)out->q_stride;
    for (int32_t j = 0; j < out->k; ++j) absmax = q[j] != 0 && fabsf(row[j]) > absmax ? fabsf(row[j]) : absmax;
    for (int32_t j = 0; j < out->k; ++j) {
      if (q[j] != 0) q[j] = (int8_t)roundf(row[j] * (127.0f * otr_recip(absmax)));
    }
  }
}

static void quantize_strict_threshold(otr_found *found, const otr_quantized *out, const float *x, otr_rule rule,
                                      int32_t r0, int32_t r1) {
  rule.value = nextafterf(rule.value, 1e30f);
  REFERENCE.quantize(found, out, x, rule, r0, r1);
}

static void quantize_absmax_of_all(otr_found *found, const otr_quantized *out, const float *x, otr_rule rule,
                                   int32_t r0, int32_t r1) {
  REFERENCE.quantize(found, out, x, rule, r0, r1);
  for (int32_t i = r0; i < r1; ++i) {
    float absmax = 0.0f;
    for (int32_t j = 0; j < out->k; ++j) absmax = fmaxf(absmax, fabsf(x[(size_t)i * (size_t)out->k + (size_t)j]));
    out->scale[i] = absmax * otr_f32_of_bits(OTR_BITS_INV127);
  }
}

static void quantize_without_count(otr_found *found, const otr_quantized *out, const float *x, otr_rule rule,
                                   int32_t r0, int32_t r1) {
  uint64_t before = found->outliers;
  REFERENCE.quantize(found, out, x, rule, r0, r1);
  found->outliers = before;
}

static void round16_towards_zero(const otr_rounded *out, const float *x, int32_t r0, int32_t r1) {
  REFERENCE.round16(out, x, r0, r1);
  for (int32_t i = r0; i < r1; ++i) {
    for (int32_t j = 0; j < out->k; ++j) {
      uint16_t *h = &out->x16[(size_t)i * (size_t)out->stride + (size_t)j];
      float exact = x[(size_t)i * (size_t)out->k + (size_t)j] * otr_recip(out->pow2e[i]);
      if (fabsf(otr_f16_value(*h)) > fabsf(exact)) --*h;
    }
  }
}

/* ---- linears ----------------------------------------------------------------------------------------------------- */

typedef enum linear_mistake { ONE_LANE, NO_STATIC, BIAS_FIRST, CLAMPED_WEIGHTS, LAST_OUTPUT } linear_mistake;

static float outlier_weight(const otr_host_weight *w, int32_t n, int32_t feature, bool statics) {
  int32_t slot = w->n_static == w->k ? feature : w->static_slot != NULL ? w->static_slot[feature] : -1;
  if (statics && slot >= 0) return otr_f16_value(w->static_cols[(size_t)slot * (size_t)w->n + (size_t)n]);
  return (float)((const int8_t *)w->data)[n * w->row_stride + feature];
}

static float outlier_sum(const otr_quantized *x, const otr_host_weight *w, int32_t i, int32_t n, int lanes,
                         bool statics) {
  float partial[4] = {0};
  for (int32_t j = 0; j < x->n_out[i]; ++j) {
    size_t at = (size_t)i * (size_t)x->k + (size_t)j;
    float product = x->out_value[at] * outlier_weight(w, n, x->out_index[at], statics);
    partial[x->out_index[at] % lanes] += product;
  }
  for (int h = lanes / 2; h > 0; h /= 2) {
    for (int l = 0; l < h; ++l) partial[l] += partial[l + h];
  }
  return (partial[0] * x->pow2e[i]) * w->scale[n];
}

static float linear_value(const otr_quantized *x, const otr_host_weight *w, int32_t i, int32_t n,
                          linear_mistake mistake) {
  const int8_t *row = (const int8_t *)w->data + n * w->row_stride;
  const int8_t *q = x->q + (size_t)i * (size_t)x->q_stride;
  int32_t acc = 0;
  for (int32_t j = 0; j < w->k; ++j) acc += q[j] * (mistake == CLAMPED_WEIGHTS && row[j] < -127 ? -127 : row[j]);
  float y = (float)acc * (x->scale[i] * w->scale[n]);
  float outliers = outlier_sum(x, w, i, n, mistake == ONE_LANE ? 1 : 4, mistake != NO_STATIC);
  float bias = w->bias != NULL ? w->bias[n] : 0.0f;
  return mistake == BIAS_FIRST ? (y + bias) + outliers : (y + outliers) + bias;
}

static void linear_variant(otr_found *found, float *y, size_t y_stride, const otr_quantized *x,
                           const otr_host_weight *w, int32_t m, int32_t n0, int32_t n1, linear_mistake mistake) {
  for (int32_t i = 0; i < m; ++i) {
    for (int32_t n = n0; n < n1; ++n) {
      if (mistake == LAST_OUTPUT && n == w->n - 1 && n % 16 == 0) continue;
      y[(size_t)i * y_stride + (size_t)n] = otr_tidy_found(linear_value(x, w, i, n, mistake), found);
    }
  }
}

#define LINEAR_MUTANT(name, mistake)                                                                              \
  static void name(otr_found *found, float *y, size_t y_stride, const otr_quantized *x, const otr_host_weight *w, \
                   int32_t m, int32_t n0, int32_t n1, void *scratch) {                                            \
    (void)scratch;                                                                                                \
    linear_variant(found, y, y_stride, x, w, m, n0, n1, mistake);                                                 \
  }
LINEAR_MUTANT(linear_in_one_lane, ONE_LANE)
LINEAR_MUTANT(linear_without_static_columns, NO_STATIC)
LINEAR_MUTANT(linear_bias_first, BIAS_FIRST)
LINEAR_MUTANT(linear_clamped_weights, CLAMPED_WEIGHTS)
LINEAR_MUTANT(linear_without_last_output, LAST_OUTPUT)

static void linear16_scaled_first(otr_found *found, float *y, size_t y_stride, const otr_rounded *x,
                                  const otr_host_weight *w, int32_t m, int32_t n0, int32_t n1, void *scratch) {
  otr_host_weight bare = *w;
  bare.bias = NULL;
  REFERENCE.linear16(found, y, y_stride, x, &bare, m, n0, n1, scratch);
  for (int32_t i = 0; i < m && w->bias != NULL; ++i) { /* tidied before the bias, and not after it */
    for (int32_t n = n0; n < n1; ++n) y[(size_t)i * y_stride + (size_t)n] += w->bias[n] * 1.0000001f;
  }
}

/* ---- attention --------------------------------------------------------------------------------------------------- */

static void rope_without_count(otr_found *found, uint16_t *out, const float *x, const float *cosines,
                               const float *sines, int32_t n_heads, int32_t head_dim, int32_t n_rot) {
  uint64_t before = found->saturations;
  REFERENCE.rope(found, out, x, cosines, sines, n_heads, head_dim, n_rot);
  found->saturations = before;
}

static void rope_leaves_the_rest(otr_found *found, uint16_t *out, const float *x, const float *cosines,
                                 const float *sines, int32_t n_heads, int32_t head_dim, int32_t n_rot) {
  REFERENCE.rope(found, out, x, cosines, sines, n_heads, head_dim, n_rot);
  if (n_rot != 0 && n_rot != head_dim) out[n_rot] = (uint16_t)(out[n_rot] ^ 1u);
}

static void attention_wide_window(otr_found *found, const otr_attend *a, void *scratch) {
  otr_attend wide = *a;
  if (wide.window != 0) wide.window++;
  REFERENCE.attention(found, &wide, scratch);
}

static void attention_sees_the_next(otr_found *found, const otr_attend *a, void *scratch) {
  otr_attend late = *a;
  if (late.first_position % 256 < 200) late.first_position++;
  REFERENCE.attention(found, &late, scratch);
}

static void attention_one_slope(otr_found *found, const otr_attend *a, void *scratch) {
  float same[64];
  otr_attend flat = *a;
  for (int i = 0; i < 64 && a->slopes != NULL; ++i) same[i] = a->slopes[0];
  if (a->slopes != NULL) flat.slopes = same;
  REFERENCE.attention(found, &flat, scratch);
}

/* ---- operations without kernels of their own --------------------------------------------------------------------- */

static void embed_without_scale(otr_op *op) {
  op->u.embed.has_scale = 0;
}

static void embed_without_positions(otr_op *op) {
  op->u.embed.position_table = (otr_ref){0};
}

static void select_takes_the_first_rows(otr_op *op) {
  otr_op_select o = op->u.select;
  op->code = OTR_OP_COPY;
  op->u.copy = (otr_op_copy){.out = o.out, .x = o.x, .width = o.width};
}

static void select_without_last_value(otr_op *op) {
  op->u.select.width--;
}

static void copy_without_last_value(otr_op *op) {
  op->u.copy.width--;
}

static void norm_with_one_gain_for_all_heads(otr_op *op) {
  op->u.norm.group_gains = 0;
}

/* ---- the list ---------------------------------------------------------------------------------------------------- */

int mutants(const mutant **out) {
  static mutant all[32];
  int n = 0;
#define MUTANT(op, entry, function)                           \
  all[n] = (mutant){#function, OTR_OP_##op, REFERENCE, NULL}; \
  all[n++].kernels.entry = function;
  MUTANT(ADD, add, add_without_tidy)
  MUTANT(ADD, add, add_missing_nonfinite)
  MUTANT(POSITION, add, add_without_tidy)
  MUTANT(ACT, act, act_past_the_end)
  MUTANT(ACT, act, act_wrong_tail)
  MUTANT(GLU, glu, glu_of_libm)
  MUTANT(NORM, norm, norm_in_32_lanes)
  MUTANT(NORM, norm, norm_without_tidy)
  MUTANT(QUANTIZE, quantize, quantize_ties_away)
  MUTANT(QUANTIZE, quantize, quantize_strict_threshold)
  MUTANT(QUANTIZE, quantize, quantize_absmax_of_all)
  MUTANT(QUANTIZE, quantize, quantize_without_count)
  MUTANT(ROUND16, round16, round16_towards_zero)
  MUTANT(LINEAR, linear, linear_in_one_lane)
  MUTANT(LINEAR, linear, linear_without_static_columns)
  MUTANT(LINEAR, linear, linear_bias_first)
  MUTANT(LINEAR, linear, linear_clamped_weights)
  MUTANT(LINEAR, linear, linear_without_last_output)
  MUTANT(LINEAR16, linear16, linear16_scaled_first)
  MUTANT(ROPE_KV, rope, rope_without_count)
  MUTANT(ROPE_KV, rope, rope_leaves_the_rest)
  MUTANT(ATTENTION, attention, attention_wide_window)
  MUTANT(ATTENTION, attention, attention_sees_the_next)
  MUTANT(ATTENTION, attention, attention_one_slope)
#undef MUTANT
#define MUTANT(op, function) all[n++] = (mutant){#function, OTR_OP_##op, REFERENCE, function};
  MUTANT(EMBED, embed_without_scale)
  MUTANT(EMBED, embed_without_positions)
  MUTANT(SELECT, select_takes_the_first_rows)
  MUTANT(SELECT, select_without_last_value)
  MUTANT(COPY, copy_without_last_value)
  MUTANT(NORM, norm_with_one_gain_for_all_heads)
#undef MUTANT
  *out = all;
  return n;
}
