// SPDX-License-Identifier: Apache-2.0
/* The binary number formats that models are stored and computed in, as pure functions: what a double becomes in each,
 * step by step. Rounding is to nearest, ties to even. */
#ifndef TOOL_NUMBER_FORMAT_H
#define TOOL_NUMBER_FORMAT_H

#include <stdbool.h>
#include <stdint.h>

/** Sign, exponent, mantissa, from the highest bit down. A code is these bits as an integer. */
typedef struct number_format {
  const char *name;
  int32_t exponent_bits, mantissa_bits;
  int32_t bias;      /**< the exponent field's value for 2^0 */
  bool has_infinity; /**< IEEE 754: the highest exponent holds infinities and NaNs. Otherwise (OCP's E4M3) it holds
                          numbers, too, and all ones is the one NaN of each sign */
  int32_t pad_bits;  /**< unused bits below the mantissa where a value lies in memory (TF32: 13) */
} number_format;

enum { NUMBER_FORMATS = 6 };
/** FP32, FP16, BF16, TF32, FP8 E4M3, FP8 E5M2. */
extern const number_format number_formats[NUMBER_FORMATS];

typedef enum number_kind { NUMBER_ZERO, NUMBER_SUBNORMAL, NUMBER_NORMAL, NUMBER_INFINITE, NUMBER_NAN } number_kind;

/** How a double was rounded. For finite values other than 0: |value| = scaled · 2^(exponent − mantissa_bits). */
typedef struct number_rounding {
  uint32_t code;
  number_kind kind; /**< of the code */
  bool overflow;    /**< a finite value beyond what rounds to the largest one: infinity, or NaN where there is none */
  int32_t exponent; /**< floor(log2 |value|), or the smallest normal's where that is larger */
  double scaled;    /**< exact */
  double rounded;   /**< scaled, to an integer */
} number_rounding;

number_rounding number_round(const number_format *format, double value);
/** The value of a code. */
double number_value(const number_format *format, uint32_t code);
number_kind number_kind_of(const number_format *format, uint32_t code);
/** The fields of a code. */
uint32_t number_sign(const number_format *format, uint32_t code);
uint32_t number_exponent(const number_format *format, uint32_t code);
uint32_t number_mantissa(const number_format *format, uint32_t code);

/** The next value towards +infinity (`up`) or −infinity. @return false where there is none: of NaN, beyond an infinity,
 *  beyond the largest of a format without infinities. */
bool number_next(const number_format *format, uint32_t code, bool up, double *out);

double number_max(const number_format *format);
double number_min_normal(const number_format *format);
double number_min_subnormal(const number_format *format);

/** INT8 by the row's absmax, in the order of docs/contract.md. */
typedef struct number_int8 {
  int32_t q;    /**< rint(value · inv), in [−127, 127] */
  float inv;    /**< 127 · (1 / absmax) */
  float scale;  /**< absmax · (1/127) */
  float scaled; /**< value · inv */
  double held;  /**< q · scale */
  bool clamped; /**< |value| is beyond absmax: such a value cannot come from its own row */
} number_int8;
/** @param absmax > 0, finite @param value not NaN */
number_int8 number_round_int8(float value, float absmax);

#endif
