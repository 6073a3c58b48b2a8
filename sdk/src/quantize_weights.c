// SPDX-License-Identifier: Apache-2.0
#include "quantize_weights.h"

#include <math.h>
#include <string.h>

#include "dequantize.h"
#include "numerics.h"
#include "status.h"

/* max |w|: on bits, where the order of magnitudes is that of unsigned integers, so that it vectorizes. */
static float absmax_of(const float *w, size_t k) {
  uint32_t most = 0;
  for (size_t i = 0; i < k; ++i) {
    uint32_t a = otr_bits_of_f32(w[i]) & OTR_BITS_ABS;
    most = a > most ? a : most;
  }
  return otr_f32_of_bits(most);
}

static bool counts_as_zero(float absmax) {
  return otr_bits_of_f32(absmax) < OTR_BITS_W_MIN;
}

/* rint of |x| < 2^22, nearest even: adding and taking away 1.5 * 2^23 leaves no fraction, and vectorizes. */
static int8_t round_to_int8(float x) {
  float shifted = x + 12582912.0f;
  return (int8_t)(int32_t)(shifted - 12582912.0f);
}

float otr_quantize_row(int8_t *q, float *scale, const float *w, size_t k) {
  float absmax = absmax_of(w, k);
  if (counts_as_zero(absmax)) {
    memset(q, 0, k);
    *scale = 0.0f;
    return 0.0f;
  }
  float inv = 127.0f * otr_recip(absmax);
  for (size_t i = 0; i < k; ++i) q[i] = round_to_int8(w[i] * inv);
  *scale = absmax * otr_f32_of_bits(OTR_BITS_INV127);
  return inv;
}

void otr_round_columns(uint16_t *columns, size_t stride, const float *w, float inv, const int32_t *index,
                       size_t n_static) {
  for (size_t i = 0; i < n_static; ++i) {
    float value = w[index != NULL ? (size_t)index[i] : i] * inv;
    columns[i * stride] = (uint16_t)otr_f16_bits(value);
  }
}

void otr_round_row(uint16_t *w16, float *scale, const float *w, size_t k) {
  float absmax = absmax_of(w, k);
  int f = otr_exponent(absmax) - 14;
  *scale = counts_as_zero(absmax) ? 0.0f : otr_tidy(otr_pow2(f));
  if (*scale == 0.0f) {
    memset(w16, 0, k * sizeof *w16);
    return;
  }
  float unit = otr_pow2(-f);
  for (size_t i = 0; i < k; ++i) w16[i] = (uint16_t)otr_f16_bits(w[i] * unit);
}

int32_t otr_row_source(otr_row_order order, int32_t row) {
  if (order.head_dim == 0) return row;
  int32_t j = row % order.head_dim, half = order.n_rot / 2;
  if (j >= order.n_rot) return row;
  return row - j + (j < half ? 2 * j : 2 * (j - half) + 1);
}

/* Writes destination `row` (counted from job->first) from its values. */
static void make_int8(const otr_weight_job *job, size_t row, const float *w) {
  size_t k = (size_t)job->k, stride = (size_t)job->row_stride;
  int8_t *q = (int8_t *)job->data + row * stride;
  float inv = otr_quantize_row(q, &job->scale[row], w, k);
  memset(q + k, 0, stride - k);
  if (job->static_cols != NULL)
    otr_round_columns(job->static_cols + row, (size_t)job->static_stride, w, inv, job->static_index,
                      (size_t)job->n_static);
}

static void make_f16(const otr_weight_job *job, size_t row, const float *w) {
  size_t k = (size_t)job->k, stride = (size_t)job->row_stride;
  uint16_t *w16 = (uint16_t *)job->data + row * stride;
  otr_round_row(w16, &job->scale[row], w, k);
  memset(w16 + k, 0, (stride - k) * sizeof *w16);
}

otr_status otr_weight_make(const otr_weight_job *job, const uint8_t *source, int32_t source_first, int32_t begin,
                           int32_t end, float *scratch) {
  for (int32_t row = begin; row < end; ++row) {
    int32_t from = otr_row_source(job->order, row);
    const uint8_t *in = source + (size_t)(from - source_first) * job->source_row_bytes;
    if (!otr_dequantize_row(scratch, in, job->ggml_type, (size_t)job->k))
      return otr_fail(OTR_STATUS_BAD_FORMAT, "tensor %s: row %d has a value that is not finite", job->name, (int)from);
    size_t place = (size_t)(row - job->first);
    if (job->type == OTR_WEIGHT_INT8) {
      make_int8(job, place, scratch);
    } else {
      make_f16(job, place, scratch);
    }
    if (otr_is_nonfinite(job->scale[place]))
      return otr_fail(OTR_STATUS_BAD_FORMAT, "tensor %s: row %d has values of 2^48 or more", job->name, (int)from);
  }
  return OTR_STATUS_OK;
}
