// SPDX-License-Identifier: Apache-2.0
/* Rounding to the grids of the lab's schemes: weights row by row. */
#include <math.h>
#include <stdlib.h>

#include "lab_scheme.h"

/* The 16 quantiles of N(0, 1), scaled to [-1, 1] with an exact 0 (QLoRA, appendix E; bitsandbytes holds the same). */
static const float nf4[16] = {-1.0f,
                              -0.6961928009986877f,
                              -0.5250730514526367f,
                              -0.39491748809814453f,
                              -0.28444138169288635f,
                              -0.18477343022823334f,
                              -0.09105003625154495f,
                              0.0f,
                              0.07958029955625534f,
                              0.16093020141124725f,
                              0.24611230194568634f,
                              0.33791524171829224f,
                              0.44070982933044434f,
                              0.5626170039176941f,
                              0.7229568362236023f,
                              1.0f};

float lab_nf4(float x) {
  int32_t low = 0;
  for (int32_t step = 8; step > 0; step /= 2)
    if (x > 0.5f * (nf4[low + step - 1] + nf4[low + step])) low += step;
  return nf4[low];
}

/* x on a grid of `digits` significant bits, at least `least` apart. */
static float round_digits(float x, int digits, float least) {
  int exponent;
  (void)frexpf(x, &exponent);
  float step = ldexpf(1.0f, exponent - digits);
  if (step < least) step = least;
  return rintf(x / step) * step;
}

float lab_f16(float x) {
  float y = round_digits(x, 11, 0x1p-24f);
  return y > 65504.0f ? 65504.0f : y < -65504.0f ? -65504.0f : y;
}

float lab_e4m3(float x) {
  float y = round_digits(x, 4, 0x1p-9f);
  return y > 448.0f ? 448.0f : y < -448.0f ? -448.0f : y;
}

/* ---- rows -------------------------------------------------------------------------------------------------------- */

typedef struct range {
  float min, max;
} range;

static range range_of(const float *x, int32_t k) {
  range r = {x[0], x[0]};
  for (int32_t i = 1; i < k; i++) {
    r.min = x[i] < r.min ? x[i] : r.min;
    r.max = x[i] > r.max ? x[i] : r.max;
  }
  return r;
}

static float absmax_of(range r) {
  return -r.min > r.max ? -r.min : r.max;
}

static void round_step(float *x, int32_t k, float per_unit) {
  if (!(per_unit > 0.0f) || !isfinite(per_unit)) return; /* all values are equal, or next to nothing */
  float step = 1.0f / per_unit;
  for (int32_t i = 0; i < k; i++) x[i] = rintf(x[i] * per_unit) * step;
}

/* The paper's section 2: X_i8 = round(127 X / absmax). */
static void round_absmax(float *x, int32_t k, range r) {
  round_step(x, k, 127.0f / absmax_of(r));
}

/* The paper's section 2: X_i8 = round(nd X) with nd = 2 * 127 / (max - min), stored with the zero point round(nd min)
 * taken off, so that the whole of [-127, 127] is used. The zero point is an integer: what is read is round(nd X) / nd.
 */
static void round_zeropoint(float *x, int32_t k, range r) {
  round_step(x, k, 254.0f / (r.max - r.min));
}

static void round_f16(float *x, int32_t k) {
  for (int32_t i = 0; i < k; i++) x[i] = lab_f16(x[i]);
}

static int32_t block_length(int32_t k, int32_t block) {
  int32_t left = k - block * LAB_NF4_BLOCK;
  return left < LAB_NF4_BLOCK ? left : LAB_NF4_BLOCK;
}

/* Codes are of the block's own absmax; what they are read with may be a rounded one. */
static void round_nf4_row(const lab_rounding *rounding, int32_t row, float *w) {
  for (int32_t b = 0; b * LAB_NF4_BLOCK < rounding->k; b++) {
    float *block = w + b * LAB_NF4_BLOCK;
    const int32_t n = block_length(rounding->k, b);
    const float absmax = absmax_of(range_of(block, n));
    const float inverse = isfinite(1.0f / absmax) ? 1.0f / absmax : 0.0f; /* a block of next to nothing is 0 */
    const float constant =
        rounding->constants ? rounding->constants[(size_t)row * (size_t)rounding->per_row + (size_t)b] : absmax;
    for (int32_t i = 0; i < n; i++) block[i] = lab_nf4(block[i] * inverse) * constant;
  }
}

/* ---- tensors ----------------------------------------------------------------------------------------------------- */

otr_status lab_rounding_create(lab_rounding *rounding, const lab_scheme *scheme, int32_t n, int32_t k) {
  *rounding = (lab_rounding){.scheme = scheme, .n = n, .k = k};
  if (scheme->weights_tensor) rounding->per_row = 2;
  if (scheme->weights == LAB_NF4 && scheme->double_quant) rounding->per_row = (k + LAB_NF4_BLOCK - 1) / LAB_NF4_BLOCK;
  if (rounding->per_row == 0) return OTR_STATUS_OK;
  return tool_allocate((size_t)n * (size_t)rounding->per_row, sizeof(float), (void **)&rounding->constants);
}

void lab_rounding_free(lab_rounding *rounding) {
  free(rounding->constants);
  rounding->constants = NULL;
}

bool lab_rounding_scans(const lab_rounding *rounding) {
  return rounding->constants != NULL;
}

void lab_rounding_scan(lab_rounding *rounding, int32_t row, const float *w) {
  float *constants = rounding->constants + (size_t)row * (size_t)rounding->per_row;
  if (rounding->scheme->weights_tensor) {
    range r = range_of(w, rounding->k);
    constants[0] = r.min;
    constants[1] = r.max;
    return;
  }
  for (int32_t b = 0; b < rounding->per_row; b++)
    constants[b] = absmax_of(range_of(w + b * LAB_NF4_BLOCK, block_length(rounding->k, b)));
}

/* Constants c of NF4's blocks, themselves in 8 bits: E4M3 over blocks of 256, around their mean (QLoRA, section 3). */
static void quantize_constants(float *c, size_t n) {
  double sum = 0.0;
  for (size_t i = 0; i < n; i++) sum += (double)c[i];
  const float mean = (float)(sum / (double)n);
  for (size_t at = 0; at < n; at += LAB_NF4_CONSTANTS) {
    size_t end = n - at < LAB_NF4_CONSTANTS ? n : at + LAB_NF4_CONSTANTS;
    float most = 0.0f;
    for (size_t i = at; i < end; i++) most = fabsf(c[i] - mean) > most ? fabsf(c[i] - mean) : most;
    float scale = most / 448.0f;
    for (size_t i = at; i < end; i++) c[i] = scale > 0.0f ? mean + lab_e4m3((c[i] - mean) / scale) * scale : mean;
  }
}

void lab_rounding_settle(lab_rounding *rounding) {
  float *c = rounding->constants;
  const size_t n = (size_t)rounding->n * (size_t)rounding->per_row;
  if (!rounding->scheme->weights_tensor) {
    quantize_constants(c, n);
    return;
  }
  range all = range_of(c, (int32_t)n); /* of all minima and maxima: the tensor's */
  for (size_t i = 0; i < n; i += 2) {
    c[i] = all.min;
    c[i + 1] = all.max;
  }
}

void lab_round_row(const lab_rounding *rounding, int32_t row, float *w) {
  const int32_t k = rounding->k;
  range r = {0.0f, 0.0f};
  if (rounding->scheme->weights_tensor) {
    const float *c = rounding->constants + 2 * (size_t)row;
    r = (range){c[0], c[1]};
  } else if (rounding->scheme->weights == LAB_ABSMAX || rounding->scheme->weights == LAB_ZEROPOINT) {
    r = range_of(w, k);
  }
  switch (rounding->scheme->weights) {
    case LAB_ABSMAX:
      round_absmax(w, k, r);
      break;
    case LAB_ZEROPOINT:
      round_zeropoint(w, k, r);
      break;
    case LAB_NF4:
      round_nf4_row(rounding, row, w);
      break;
    case LAB_F16:
      round_f16(w, k);
      break;
    default:
      break;
  }
}
