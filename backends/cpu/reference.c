// SPDX-License-Identifier: Apache-2.0
/* The reference: plain scalar C that reads like docs/contract.md. Every kernel of every backend has these bits. */
#include <string.h>

#include "kernels.h"

/* ---- section 1: lanesum ------------------------------------------------------------------------------------------ */

/** The tree that joins L lanes: for h = L/2 … 1: partial[l] += partial[l + h]. */
static float join_lanes(float *partial, int lanes) {
  for (int h = lanes / 2; h >= 1; h /= 2)
    for (int l = 0; l < h; l++) partial[l] += partial[l + h];
  return partial[0];
}

/** lanesum<64>(x·x). */
static float sum_of_squares(const float *x, int32_t k) {
  float partial[OTR_LANES_ROW] = {0};
  for (int32_t i = 0; i < k; i++) {
    float square = x[i] * x[i];
    partial[i % OTR_LANES_ROW] += square;
  }
  return join_lanes(partial, OTR_LANES_ROW);
}

static float sum_of_row(const float *x, int32_t k) {
  float partial[OTR_LANES_ROW] = {0};
  for (int32_t i = 0; i < k; i++) partial[i % OTR_LANES_ROW] += x[i];
  return join_lanes(partial, OTR_LANES_ROW);
}

/* ---- norms ------------------------------------------------------------------------------------------------------- */

static void rms_norm_row(otr_found *found, float *out, const float *x, const float *gain, float eps, int32_t k) {
  float s = sum_of_squares(x, k) * otr_recip((float)k);
  float r = otr_rsqrt(s + eps);
  for (int32_t i = 0; i < k; i++) {
    float y = x[i] * r;
    out[i] = otr_tidy_found(y * gain[i], found);
  }
}

static void layer_norm_row(otr_found *found, float *out, const float *x, const float *gain, const float *bias,
                           float eps, int32_t k) {
  float mean = sum_of_row(x, k) * otr_recip((float)k);
  for (int32_t i = 0; i < k; i++) out[i] = otr_tidy_found(x[i] - mean, found);
  float var = sum_of_squares(out, k) * otr_recip((float)k);
  float r = otr_rsqrt(var + eps);
  for (int32_t i = 0; i < k; i++) {
    float y = out[i] * r;
    y = y * gain[i];
    if (bias) y = y + bias[i];
    out[i] = otr_tidy_found(y, found);
  }
}

static void norm(otr_found *found, float *out, const float *x, const float *gain, const float *bias, otr_norm_kind kind,
                 float eps, int32_t width, int32_t n_rows) {
  for (int32_t i = 0; i < n_rows; i++) {
    size_t at = (size_t)i * (size_t)width;
    if (kind == OTR_NORM_RMS)
      rms_norm_row(found, out + at, x + at, gain, eps, width);
    else
      layer_norm_row(found, out + at, x + at, gain, bias, eps, width);
  }
}

/* ---- section 2: the activations of a linear ---------------------------------------------------------------------- */

typedef struct threshold {
  otr_rule_kind kind;
  float bound; /* absolute: t; relative: the square that x·x must reach */
} threshold;

static threshold threshold_of_row(const float *x, int32_t k, otr_rule rule) {
  threshold t = {rule.kind, rule.value};
  if (rule.kind == OTR_RULE_RELATIVE) {
    float mean = sum_of_squares(x, k) * otr_recip((float)k);
    float square = rule.value * rule.value;
    t.bound = square * mean;
  }
  return t;
}

static float magnitude(float x) {
  return OTR_FLOAT(OTR_BITS(x) & OTR_BITS_ABS);
}

static bool is_outlier(float x, threshold t) {
  if (t.kind == OTR_RULE_ABSOLUTE) return magnitude(x) >= t.bound;
  if (t.kind == OTR_RULE_RELATIVE) {
    float square = x * x;
    return square > 0.0f && square >= t.bound;
  }
  return false;
}

/** rint(x · inv) for |x · inv| <= 127 and a little; anything else (only after a NONFINITE value) is 0. */
static int8_t quantize_value(float x, float inv) {
  float v = x * inv;
  if (!(v >= -127.5f && v <= 127.5f)) return 0;
  float n = (v + 12582912.0f) - 12582912.0f;
  return (int8_t)n;
}

static float exact_scale_to_f16(float x, float pow2_minus_e) {
  return otr_f16_round(x * pow2_minus_e);
}

/** e_i = exponent(largest) − 14, kept where 2^e and 2^−e are both normal (a value beyond is NONFINITE anyway). */
static int outlier_exponent(float largest) {
  int e = otr_exponent(largest) - 14;
  return e > 112 ? 112 : e < -112 ? -112 : e;
}

static void quantize_row(otr_found *found, const otr_quantized *out, const float *x, otr_rule rule, int32_t row) {
  int32_t k = out->k;
  int8_t *q = out->q + (size_t)row * (size_t)out->q_stride;
  int32_t *index = out->out_index + (size_t)row * (size_t)k;
  float *value = out->out_value + (size_t)row * (size_t)k;
  threshold t = threshold_of_row(x, k, rule);

  int32_t n = 0;
  float absmax = 0.0f, largest = 0.0f;
  for (int32_t i = 0; i < k; i++) {
    float a = magnitude(x[i]);
    if (is_outlier(x[i], t)) {
      index[n++] = i;
      if (a > largest) largest = a;
    } else if (a > absmax) {
      absmax = a;
    }
  }

  float inv = absmax > 0.0f ? 127.0f * otr_recip(absmax) : 0.0f;
  int32_t sum = 0;
  for (int32_t i = 0; i < k; i++) {
    q[i] = is_outlier(x[i], t) ? 0 : quantize_value(x[i], inv);
    sum += q[i];
  }
  memset(q + k, 0, (size_t)(out->q_stride - k));

  int e = outlier_exponent(largest);
  for (int32_t j = 0; j < n; j++) value[j] = exact_scale_to_f16(x[index[j]], otr_pow2(-e));
  out->scale[row] = absmax * OTR_FLOAT(OTR_BITS_INV127);
  out->pow2e[row] = otr_pow2(e);
  out->sum[row] = sum;
  out->n_out[row] = n;
  otr_quantized_group(out, row);
  found->outliers += (uint64_t)n;
}

static void quantize(otr_found *found, const otr_quantized *out, const float *x, otr_rule rule, int32_t r0,
                     int32_t r1) {
  for (int32_t i = r0; i < r1; i++) quantize_row(found, out, x + (size_t)i * (size_t)out->k, rule, i);
}

/* Batch scope: q is 0 and x16 is taken in every column that is an outlier in any row; absmax_i leaves out outlier
 * elements only. */
void otr_quantize_batch(otr_found *found, const otr_quantized *out, const float *x, otr_rule rule, int32_t m) {
  int32_t k = out->k;
  for (int32_t i = 0; i < m; i++) quantize_row(found, out, x + (size_t)i * (size_t)k, rule, i);
  /* The union, gathered in row 0's index list: its own list is rebuilt below like every other. */
  int32_t *all = out->out_index;
  int32_t n = out->n_out[0];
  for (int32_t i = 1; i < m; i++) {
    const int32_t *index = out->out_index + (size_t)i * (size_t)k;
    for (int32_t j = 0; j < out->n_out[i]; j++) {
      int32_t at = 0;
      while (at < n && all[at] < index[j]) at++;
      if (at < n && all[at] == index[j]) continue;
      memmove(all + at + 1, all + at, (size_t)(n - at) * sizeof *all);
      all[at] = index[j];
      n++;
    }
  }
  for (int32_t i = 0; i < m; i++) {
    const float *row = x + (size_t)i * (size_t)k;
    int8_t *q = out->q + (size_t)i * (size_t)out->q_stride;
    int32_t *index = out->out_index + (size_t)i * (size_t)k;
    float largest = 0.0f;
    if (i > 0) memcpy(index, all, (size_t)n * sizeof *index);
    for (int32_t j = 0; j < n; j++) {
      out->sum[i] -= q[index[j]];
      q[index[j]] = 0;
      if (magnitude(row[index[j]]) > largest) largest = magnitude(row[index[j]]);
    }
    int e = outlier_exponent(largest);
    for (int32_t j = 0; j < n; j++)
      out->out_value[(size_t)i * (size_t)k + (size_t)j] = exact_scale_to_f16(row[index[j]], otr_pow2(-e));
    out->pow2e[i] = otr_pow2(e);
    out->n_out[i] = n;
    otr_quantized_group(out, i);
  }
}

static void round16(const otr_rounded *out, const float *x, int32_t r0, int32_t r1) {
  for (int32_t i = r0; i < r1; i++) {
    const float *row = x + (size_t)i * (size_t)out->k;
    uint16_t *x16 = out->x16 + (size_t)i * (size_t)out->stride;
    float largest = 0.0f;
    for (int32_t j = 0; j < out->k; j++)
      if (magnitude(row[j]) > largest) largest = magnitude(row[j]);
    int e = outlier_exponent(largest);
    for (int32_t j = 0; j < out->k; j++) x16[j] = (uint16_t)otr_f16_bits(row[j] * otr_pow2(-e));
    memset(x16 + out->k, 0, (size_t)(out->stride - out->k) * sizeof *x16);
    out->pow2e[i] = otr_pow2(e);
  }
}

/* ---- section 2: the result --------------------------------------------------------------------------------------- */

/** Wo[n, feature]: the f16 column of a feature in the static set, else Wq. */
static float outlier_weight(const otr_host_weight *w, const int8_t *row, int32_t n, int32_t feature) {
  int32_t slot = -1;
  if (w->n_static == w->k)
    slot = feature;
  else if (w->static_slot)
    slot = w->static_slot[feature];
  if (slot < 0) return (float)row[feature];
  return otr_f16_value(w->static_cols[(size_t)slot * (size_t)w->n + (size_t)n]);
}

static float linear_value(const otr_quantized *x, int32_t i, const otr_host_weight *w, int32_t n) {
  const int8_t *row = (const int8_t *)w->data + (int64_t)n * w->row_stride;
  const int8_t *q = x->q + (size_t)i * (size_t)x->q_stride;
  int32_t acc = 0;
  for (int32_t j = 0; j < w->k; j++) acc += q[j] * row[j];

  float both = x->scale[i] * w->scale[n];
  float y = (float)acc * both;

  const int32_t *index = x->out_index + (size_t)i * (size_t)x->k;
  const float *x16 = x->out_value + (size_t)i * (size_t)x->k;
  float partial[OTR_LANES_DOT] = {0};
  for (int32_t j = 0; j < x->n_out[i]; j++) {
    float product = x16[j] * outlier_weight(w, row, n, index[j]);
    partial[index[j] % OTR_LANES_DOT] += product;
  }
  float o = join_lanes(partial, OTR_LANES_DOT) * x->pow2e[i];
  o = o * w->scale[n];
  y = y + o;
  if (w->bias) y = y + w->bias[n];
  return y;
}

static void linear(otr_found *found, float *y, size_t y_stride, const otr_quantized *x, const otr_host_weight *w,
                   int32_t m, int32_t n0, int32_t n1, void *scratch) {
  (void)scratch;
  for (int32_t i = 0; i < m; i++)
    for (int32_t n = n0; n < n1; n++)
      y[(size_t)i * y_stride + (size_t)n] = otr_tidy_found(linear_value(x, i, w, n), found);
}

static size_t linear_scratch(int32_t k) {
  (void)k;
  return 0;
}

static void linear16(otr_found *found, float *y, size_t y_stride, const otr_rounded *x, const otr_host_weight *w,
                     int32_t m, int32_t n0, int32_t n1, void *scratch) {
  (void)scratch;
  for (int32_t i = 0; i < m; i++) {
    const uint16_t *x16 = x->x16 + (size_t)i * (size_t)x->stride;
    for (int32_t n = n0; n < n1; n++) {
      const uint16_t *row = (const uint16_t *)w->data + (int64_t)n * w->row_stride;
      float partial[OTR_LANES_F16] = {0};
      for (int32_t j = 0; j < w->k; j++) {
        float product = otr_f16_value(x16[j]) * otr_f16_value(row[j]);
        partial[j % OTR_LANES_F16] += product;
      }
      float v = join_lanes(partial, OTR_LANES_F16) * x->pow2e[i];
      v = v * w->scale[n];
      if (w->bias) v = v + w->bias[n];
      y[(size_t)i * y_stride + (size_t)n] = otr_tidy_found(v, found);
    }
  }
}

/* ---- section 3 --------------------------------------------------------------------------------------------------- */

void otr_embed_row(otr_found *found, float *out, const otr_host_weight *table, int32_t token, int32_t has_scale,
                   float scale, const float *position) {
  for (int32_t i = 0; i < table->k; i++) {
    int64_t at = (int64_t)token * table->row_stride + i;
    float v = table->type == OTR_WEIGHT_INT8 ? (float)((const int8_t *)table->data)[at]
                                             : otr_f16_value(((const uint16_t *)table->data)[at]);
    v = v * table->scale[token];
    if (has_scale) v = v * scale;
    if (position) v = v + position[i];
    out[i] = otr_tidy_found(v, found);
  }
}

static uint16_t to_f16(float x, otr_found *found) {
  float t = otr_tidy_found(x, found);
  if (otr_f16_saturates(t)) found->saturations++;
  return (uint16_t)otr_f16_bits(t);
}

static void rope(otr_found *found, uint16_t *out, const float *x, const float *cos, const float *sin, int32_t n_heads,
                 int32_t head_dim, int32_t n_rot) {
  int32_t half = n_rot / 2;
  for (int32_t h = 0; h < n_heads; h++, x += head_dim, out += head_dim) {
    for (int32_t j = 0; j < half; j++) {
      float x0 = x[j], x1 = x[j + half];
      float a = x0 * cos[j], b = x1 * sin[j], c = x0 * sin[j], d = x1 * cos[j];
      out[j] = to_f16(a - b, found);
      out[j + half] = to_f16(c + d, found);
    }
    for (int32_t j = n_rot; j < head_dim; j++) out[j] = to_f16(x[j], found);
  }
}

/** One query row against the positions [from, to) of a chunk; p, [256], is 0 where the row does not look. */
typedef struct chunk_part {
  float max, sum;
  bool any;
} chunk_part;

static bool visible(const otr_attend *a, int32_t i, int32_t j) {
  return j <= i && (a->window == 0 || i - j < a->window);
}

static float score(const otr_attend *a, const uint16_t *q, const uint16_t *k_page, int32_t head, int32_t i, int32_t j) {
  float partial[OTR_LANES_DOT] = {0};
  for (int32_t d = 0; d < a->head_dim; d++) {
    float product = otr_f16_value(q[d]) * otr_f16_value(k_page[(size_t)d * OTR_CHUNK + (size_t)(j % OTR_CHUNK)]);
    partial[d % OTR_LANES_DOT] += product;
  }
  float s = join_lanes(partial, OTR_LANES_DOT) * a->scale;
  if (a->slopes) {
    float bias = a->slopes[head] * (float)(j - i);
    s = s + bias;
  }
  return s;
}

static chunk_part attend_chunk(const otr_attend *a, const uint16_t *q, int32_t head, int32_t i, int32_t chunk, float *p,
                               float *out) {
  chunk_part part = {0.0f, 0.0f, false};
  void *page = a->page_base[chunk];
  if (!page) return part;
  const uint16_t *k_page = otr_page_k(page, &a->kv, a->kv_layer, a->kv_head);
  const uint16_t *v_page = otr_page_v(page, &a->kv, a->kv_layer, a->kv_head);
  int32_t start = chunk * OTR_CHUNK;

  for (int32_t c = 0; c < OTR_CHUNK; c++) {
    if (!visible(a, i, start + c)) continue;
    p[c] = score(a, q, k_page, head, i, start + c);
    if (!part.any || p[c] > part.max) part.max = p[c];
    part.any = true;
  }
  if (!part.any) return part;

  float sum[OTR_LANES_F16] = {0};
  for (int32_t c = 0; c < OTR_CHUNK; c++) {
    if (!visible(a, i, start + c)) continue;
    p[c] = otr_f16_round(otr_exp(p[c] - part.max) * 32768.0f);
    sum[c % OTR_LANES_F16] += p[c];
  }
  part.sum = join_lanes(sum, OTR_LANES_F16);

  for (int32_t d = 0; d < a->head_dim; d++) {
    float partial[OTR_LANES_DOT] = {0};
    for (int32_t c = 0; c < OTR_CHUNK; c++) {
      if (!visible(a, i, start + c)) continue;
      float product = p[c] * otr_f16_value(v_page[(size_t)c * (size_t)a->head_dim + (size_t)d]);
      partial[c % OTR_LANES_DOT] += product;
    }
    out[d] = join_lanes(partial, OTR_LANES_DOT);
  }
  return part;
}

/** scratch: p [256], then for each chunk m_c, l_c and a_c [head_dim]. */
static size_t attention_scratch(int32_t rows, int32_t group, int32_t head_dim, int32_t max_pages) {
  (void)rows;
  (void)group;
  return (OTR_CHUNK + (size_t)max_pages * ((size_t)head_dim + 2)) * sizeof(float);
}

static void attend_row(otr_found *found, const otr_attend *a, float *out, const uint16_t *q, int32_t head, int32_t i,
                       float *scratch) {
  float *p = scratch, *parts = scratch + OTR_CHUNK;
  size_t part_floats = (size_t)a->head_dim + 2;
  int32_t n = 0;
  float max = 0.0f;
  for (int32_t chunk = 0; chunk <= i / OTR_CHUNK; chunk++) {
    float *part = parts + (size_t)n * part_floats;
    chunk_part c = attend_chunk(a, q, head, i, chunk, p, part + 2);
    if (!c.any) continue;
    part[0] = c.max;
    part[1] = c.sum;
    if (n == 0 || c.max > max) max = c.max;
    n++;
  }

  float below = 0.0f;
  for (int32_t c = 0; c < n; c++) {
    float *part = parts + (size_t)c * part_floats;
    part[0] = otr_exp(part[0] - max); /* w_c */
    float l = part[1] * part[0];
    below = below + l;
  }
  float r = otr_recip(below);
  for (int32_t d = 0; d < a->head_dim; d++) {
    float above = 0.0f;
    for (int32_t c = 0; c < n; c++) {
      float *part = parts + (size_t)c * part_floats;
      float v = part[2 + d] * part[0];
      above = above + v;
    }
    out[d] = otr_tidy_found(above * r, found);
  }
}

static void attention(otr_found *found, const otr_attend *a, void *scratch) {
  for (int32_t row = 0; row < a->n; row++)
    for (int32_t g = 0; g < a->group; g++) {
      int32_t head = a->kv_head * a->group + g;
      size_t at = (size_t)row * (size_t)a->row_stride + (size_t)head * (size_t)a->head_dim;
      attend_row(found, a, a->out + at, a->q16 + at, head, a->first_position + row, scratch);
    }
}

static float activate(float x, otr_act_kind act) {
  switch (act) {
    case OTR_ACT_SILU:
      return otr_silu(x);
    case OTR_ACT_GELU_TANH:
      return otr_gelu_tanh(x);
    case OTR_ACT_GELU_ERF:
      return otr_gelu_erf(x);
    default:
      return x > 0.0f ? x : 0.0f;
  }
}

static void glu(otr_found *found, float *out, const float *gate, const float *up, size_t n, otr_act_kind act) {
  for (size_t i = 0; i < n; i++) {
    float a = activate(gate[i], act);
    out[i] = otr_tidy_found(a * up[i], found);
  }
}

static void act_values(otr_found *found, float *out, const float *x, size_t n, otr_act_kind act) {
  for (size_t i = 0; i < n; i++) out[i] = otr_tidy_found(activate(x[i], act), found);
}

static void add(otr_found *found, float *x, const float *y, size_t n) {
  for (size_t i = 0; i < n; i++) x[i] = otr_tidy_found(x[i] + y[i], found);
}

const otr_cpu_kernels otr_reference_kernels = {
    .isa = "scalar C (reference)",
    .norm = norm,
    .quantize = quantize,
    .round16 = round16,
    .linear = linear,
    .linear_scratch = linear_scratch,
    .linear16 = linear16,
    .rope = rope,
    .attention = attention,
    .attention_scratch = attention_scratch,
    .attention_rows = 8,
    .glu = glu,
    .act = act_values,
    .add = add,
};
