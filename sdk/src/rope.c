// SPDX-License-Identifier: Apache-2.0
#include "rope.h"

#include <string.h>

#define LN2 0.69314718055994530942
#define PI 3.14159265358979323846

/** 2^e as a double, -1022 <= e <= 1023. */
static double power_of_two(int e) {
  uint64_t bits = (uint64_t)(e + 1023) << 52;
  double v;
  memcpy(&v, &bits, sizeof v);
  return v;
}

/** log2 of a normal v > 0: exponent plus 2/ln 2 times the odd series of (m - 1)/(m + 1), m in [sqrt(1/2), sqrt 2). */
static double log2_of(double v) {
  uint64_t bits;
  memcpy(&bits, &v, sizeof bits);
  int e = (int)(bits >> 52) - 1023;
  double m = v * power_of_two(-e);
  if (m > 1.41421356237309504880) {
    m = m * 0.5;
    e++;
  }
  double s = (m - 1.0) / (m + 1.0), s2 = s * s, sum = 0.0;
  for (int i = 41; i >= 1; i -= 2) sum = sum * s2 + 1.0 / i;
  return (double)e + 2.0 * (s * sum) / LN2;
}

/** 2^y for |y| < 1000: Horner on the fraction in [-1/2, 1/2]. */
static double exp2_of(double y) {
  int n = (int)(y < 0 ? y - 0.5 : y + 0.5);
  double f = (y - (double)n) * LN2, p = 1.0;
  for (int i = 20; i >= 1; i--) p = 1.0 + p * f / i;
  return p * power_of_two(n);
}

void otr_rope_inverse(double *inverse, double theta, int32_t n_rot, const float *factors) {
  double log2_theta = log2_of(theta);
  for (int32_t j = 0; j < n_rot / 2; j++) {
    inverse[j] = exp2_of(-(2.0 * j / n_rot) * log2_theta);
    if (factors) inverse[j] = inverse[j] / (double)factors[j];
  }
}

/* One step of the Taylor series: 1 - s * r2 / (n (n - 1)), the divisor as a constant factor. */
#define TAYLOR(s, n) s = 1.0 - s * r2 * (1.0 / ((n) * ((n)-1.0)))

/** sin and cos of |r| <= pi/4, Taylor to the 17th and 18th power. */
static void sine_cosine(double r, double *sine, double *cosine) {
  double r2 = r * r, s = 1.0, c = 1.0;
  TAYLOR(s, 17), TAYLOR(s, 15), TAYLOR(s, 13), TAYLOR(s, 11), TAYLOR(s, 9), TAYLOR(s, 7), TAYLOR(s, 5), TAYLOR(s, 3);
  TAYLOR(c, 18), TAYLOR(c, 16), TAYLOR(c, 14), TAYLOR(c, 12), TAYLOR(c, 10);
  TAYLOR(c, 8), TAYLOR(c, 6), TAYLOR(c, 4), TAYLOR(c, 2);
  *sine = s * r;
  *cosine = c;
}

void otr_rope_row(float *cos, float *sin, const double *inverse, int32_t half, int32_t position,
                  double attention_factor) {
  /* pi/2 in three parts: the products with n < 2^21 of the first two are exact. */
  static const double part1 = 0x1.921fb544p+0, part2 = 0x1.0b4611a6p-34, part3 = 0x1.3198a2e037073p-69;
  for (int32_t j = 0; j < half; j++) {
    double angle = (double)position * inverse[j];
    double turns = angle * (2.0 / PI);
    int64_t n = (int64_t)(turns < 0 ? turns - 0.5 : turns + 0.5);
    double r = ((angle - (double)n * part1) - (double)n * part2) - (double)n * part3;
    double s, c;
    sine_cosine(r, &s, &c);
    double sine = n & 1 ? c : s, cosine = n & 1 ? s : c;
    if ((n & 3) == 1 || (n & 3) == 2) cosine = -cosine;
    if ((n & 3) == 2 || (n & 3) == 3) sine = -sine;
    cos[j] = (float)(cosine * attention_factor);
    sin[j] = (float)(sine * attention_factor);
  }
}

void otr_rope_llama3(float *factors, double theta, int32_t n_rot, double factor, double low, double high,
                     double original_context) {
  double log2_theta = log2_of(theta);
  for (int32_t j = 0; j < n_rot / 2; j++) {
    double wavelength = 2.0 * PI / exp2_of(-(2.0 * j / n_rot) * log2_theta);
    double f = 1.0;
    if (wavelength > original_context / low) {
      f = factor;
    } else if (wavelength >= original_context / high) {
      double smooth = (original_context / wavelength - low) / (high - low);
      f = 1.0 / ((1.0 - smooth) / factor + smooth);
    }
    factors[j] = (float)f;
  }
}

/** Index of the pair that turns `beta` times within the original context, cut to [0, most]. */
static double yarn_bound(double log2_theta, int32_t n_rot, double beta, double original_context, double up) {
  double j = n_rot * log2_of(original_context / (beta * 2.0 * PI)) / (2.0 * log2_theta), most = n_rot - 1.0;
  if (!(j > 0.0)) return 0.0;
  if (j >= most) return most;
  double whole = (double)(int32_t)j;
  return whole < j ? whole + up : whole;
}

double otr_rope_yarn(float *factors, double theta, int32_t n_rot, double factor, double beta_fast, double beta_slow,
                     double original_context) {
  double log2_theta = log2_of(theta);
  double low = yarn_bound(log2_theta, n_rot, beta_fast, original_context, 0.0);
  double high = yarn_bound(log2_theta, n_rot, beta_slow, original_context, 1.0);
  if (low == high) high = high + 0.001;
  for (int32_t j = 0; j < n_rot / 2; j++) {
    double ramp = (j - low) / (high - low);
    ramp = ramp < 0.0 ? 0.0 : ramp > 1.0 ? 1.0 : ramp;
    factors[j] = (float)(1.0 / (ramp / factor + (1.0 - ramp)));
  }
  return 0.1 * (log2_of(factor) * LN2) + 1.0;
}

void otr_alibi_slopes(float *slopes, int32_t n_heads, double largest, double scale) {
  int32_t whole = 1;
  while (whole * 2 <= n_heads) whole *= 2;
  for (int32_t i = 0; i < n_heads; i++) {
    double step = i < whole ? i + 1.0 : (i - whole) + 0.5;
    slopes[i] = (float)(exp2_of(-(largest * step / whole)) * scale);
  }
}
