// SPDX-License-Identifier: Apache-2.0
#include "origin.h"

#include <math.h>
#include <string.h>

#include "dequantize.h"
#include "gguf.h"
#include "numerics.h"
#include "status.h"

#define RUN 64    /* values of a transposed tensor that are read at a time */
#define BLOCK 256 /* the largest of ggml's types */

int origin_type_supported(uint32_t type) {
  return type == ORIGIN_F8_E4M3 || type == ORIGIN_F8_E5M2 || otr_dequantize_supported(type);
}

uint64_t origin_row_bytes(uint32_t type, uint64_t k) {
  if (type == ORIGIN_F8_E4M3 || type == ORIGIN_F8_E5M2) return k;
  const otr_ggml_type *t = otr_ggml_type_find(type);
  return k / t->block * t->block_bytes;
}

/* 4 bits of exponent, bias 7, no infinity: Micikevicius et al. 2022, "FP8 formats for deep learning". */
static float e4m3_value(uint8_t bits) {
  int exponent = bits >> 3 & 15, mantissa = bits & 7;
  if ((bits & 0x7f) == 0x7f) return NAN;
  float size = exponent == 0 ? ldexpf((float)mantissa, -9) : ldexpf((float)(8 + mantissa), exponent - 10);
  return bits & 0x80 ? -size : size;
}

/* n values at `in`. @return false when one is not finite. */
static bool decode(float *out, const uint8_t *in, uint32_t type, size_t n) {
  if (type != ORIGIN_F8_E4M3 && type != ORIGIN_F8_E5M2) return otr_dequantize_row(out, in, type, n);
  bool finite = true;
  for (size_t i = 0; i < n; ++i) {
    /* E5M2 is the upper half of an f16. */
    out[i] = type == ORIGIN_F8_E4M3 ? e4m3_value(in[i]) : otr_f16_exact((uint16_t)(in[i] << 8));
    finite = finite && isfinite(out[i]);
  }
  return finite;
}

static int32_t stored_row(const origin *o, int32_t row) {
  const origin_slice *s = &o->slice;
  int32_t r = otr_row_source(o->order, row);
  return s->take == 0 ? r : r / s->take * s->group + s->skip + r % s->take;
}

static otr_status not_finite(const origin *o, int32_t row) {
  return otr_fail(OTR_STATUS_BAD_FORMAT, "%s: tensor %s: row %d has a value that is not finite", o->file, o->name,
                  (int)row);
}

/* A value of a vector, of a type with blocks, too. */
static bool element(const origin *o, int32_t index, float *out) {
  const otr_ggml_type *type = otr_ggml_type_find(o->type);
  float values[BLOCK];
  size_t block = type != NULL ? type->block : 1, at = (size_t)index;
  const uint8_t *data = o->data;
  if (o->stack != NULL) {
    data = o->stack[index / o->stack_values];
    at = (size_t)(index % o->stack_values);
  }
  bool finite = decode(values, data + at / block * origin_row_bytes(o->type, block), o->type, block);
  *out = values[at % block];
  return finite || isfinite(*out);
}

static otr_status vector_rows(const origin *o, int32_t first, int32_t count, float *out) {
  for (int32_t i = 0; i < count; ++i) {
    int32_t row = stored_row(o, first + i);
    if (!element(o, row, &out[i])) return not_finite(o, row);
  }
  return OTR_STATUS_OK;
}

/* Stored [k, rows]: read along what is contiguous. */
static otr_status transposed_rows(const origin *o, int32_t first, int32_t count, float *out) {
  size_t k = (size_t)o->k, size = (size_t)origin_row_bytes(o->type, 1), stride = (size_t)o->rows * size;
  float run[RUN];
  for (int32_t begin = 0, n; begin < count; begin += n) {
    int32_t row = stored_row(o, first + begin);
    for (n = 1; n < RUN && begin + n < count && stored_row(o, first + begin + n) == row + n;) ++n;
    for (size_t j = 0; j < k; ++j) {
      if (!decode(run, o->data + j * stride + (size_t)row * size, o->type, (size_t)n)) return not_finite(o, row);
      for (int32_t i = 0; i < n; ++i) out[(size_t)(begin + i) * k + j] = run[i];
    }
  }
  return OTR_STATUS_OK;
}

static otr_status int8_rows(const origin *o, int32_t first, int32_t count, float *out) {
  for (int32_t i = 0; i < count; ++i) {
    int32_t row = stored_row(o, first + i);
    float absmax;
    memcpy(&absmax, o->absmax + (size_t)row * sizeof absmax, sizeof absmax);
    if (!isfinite(absmax)) return not_finite(o, row);
    float scale = absmax * OTR_FLOAT(OTR_BITS_INV127);
    const uint8_t *q = o->data + (size_t)row * (size_t)o->k;
    for (int32_t j = 0; j < o->k; ++j) out[(size_t)i * (size_t)o->k + (size_t)j] = (float)(int8_t)q[j] * scale;
  }
  return OTR_STATUS_OK;
}

static otr_status matrix_rows(const origin *o, int32_t first, int32_t count, float *out) {
  size_t k = (size_t)o->k, row_bytes = (size_t)origin_row_bytes(o->type, k);
  for (int32_t i = 0; i < count; ++i) {
    int32_t row = stored_row(o, first + i);
    if (!decode(out + (size_t)i * k, o->data + (size_t)row * row_bytes, o->type, k)) return not_finite(o, row);
  }
  return OTR_STATUS_OK;
}

otr_status origin_rows(const origin *o, int32_t first, int32_t count, float *out) {
  if (o->absmax != NULL) return int8_rows(o, first, count, out);
  OTR_TRY(o->transposed ? transposed_rows(o, first, count, out)
          : o->k == 1   ? vector_rows(o, first, count, out)
                        : matrix_rows(o, first, count, out));
  if (o->add != 0.0f)
    for (size_t i = 0; i < (size_t)count * (size_t)o->k; ++i) out[i] += o->add;
  return OTR_STATUS_OK;
}

static otr_status check_int8(const origin *o, int32_t row, const int8_t *q, float absmax) {
  if (!(absmax >= 0.0f) || otr_is_nonfinite(absmax))
    return otr_fail(OTR_STATUS_BAD_FORMAT, "%s: tensor %s: the SCB of row %d is %g", o->file, o->name, (int)row,
                    (double)absmax);
  bool lowest = false, any = false;
  for (int32_t j = 0; j < o->k; ++j) {
    lowest = lowest || q[j] == INT8_MIN;
    any = any || q[j] != 0;
  }
  if (lowest) return otr_fail(OTR_STATUS_BAD_FORMAT, "%s: tensor %s: row %d holds -128", o->file, o->name, (int)row);
  if (any && absmax == 0.0f)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "%s: tensor %s: the SCB of row %d is 0, its values are not", o->file,
                    o->name, (int)row);
  return OTR_STATUS_OK;
}

otr_status origin_int8(const origin *o, int32_t first, int32_t count, int8_t *q, float *absmax) {
  size_t k = (size_t)o->k;
  for (int32_t i = 0; i < count; ++i) {
    int32_t row = stored_row(o, first + i);
    memcpy(q + (size_t)i * k, o->data + (size_t)row * k, k);
    memcpy(&absmax[i], o->absmax + (size_t)row * sizeof *absmax, sizeof *absmax);
    OTR_TRY(check_int8(o, row, q + (size_t)i * k, absmax[i]));
  }
  return OTR_STATUS_OK;
}
