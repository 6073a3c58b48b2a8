// SPDX-License-Identifier: Apache-2.0
/* The lab's schemes: what becomes of a linear's weights and of its inputs. Values are rounded to the scheme's grid and
 * multiplied in f32 ("fake quantization"): the int8 sums of the real thing are exact, so only the order in which f32
 * rounds differs. For comparison, outside the numerical contract. Sources:
 *   absmax, zeropoint, vector-wise, LLM.int8()   Dettmers, Lewis, Belkada, Zettlemoyer 2022, arXiv 2208.07339, 2 and 3
 *   NF4, double quantization                     Dettmers, Pagnoni, Holtzman, Zettlemoyer 2023, arXiv 2305.14314, 3
 *   GPTQ                                         Frantar, Ashkboos, Hoefler, Alistarh 2022, arXiv 2210.17323 */
#ifndef TOOL_LAB_SCHEME_H
#define TOOL_LAB_SCHEME_H

#include "common.h"
#include "ops.h"
#include "parallel.h"

typedef enum lab_grid { LAB_F32, LAB_F16, LAB_ABSMAX, LAB_ZEROPOINT, LAB_NF4, LAB_GPTQ } lab_grid;

#define LAB_NF4_BLOCK 64      /* weights of a block */
#define LAB_NF4_CONSTANTS 256 /* block constants of a block of the second quantization */

typedef struct lab_scheme {
  char name[32];  /**< as --schemes takes it: "absolute=6" */
  char title[48]; /**< for people, UTF-8 */
  lab_grid weights, inputs;
  int32_t weights_tensor; /**< 1: one constant for the tensor; 0: for each row (NF4: each block) */
  int32_t inputs_tensor;  /**< the same of inputs: the tensor is the window's [m, k] */
  otr_rule outliers;      /**< LLM.int8(): what is left to 16 bits; OTR_RULE_OFF: nothing */
  int32_t batch;          /**< 1: a column that is an outlier in one row of the window is one in all */
  int32_t bits, group;    /**< GPTQ: bits of a weight, inputs that share a grid (0: the row) */
  int32_t double_quant;   /**< NF4: its constants are quantized, too */
  int32_t in_runtime;     /**< 1: the library runs it, with the rule `outliers` */
} lab_scheme;

/** Schemes by name: "f32,absmax-row,absolute=6" or "all". @param[out] out freed by the caller.
 *  @return INVALID_ARGUMENT where a name is none (the detail lists them). */
otr_status lab_schemes_parse(const char *names, lab_scheme **out, int32_t *n);
/** One of them. */
otr_status lab_scheme_parse(const char *name, lab_scheme *out);
/** Whether the output layer and the embedding are in the scheme, too; otherwise they are f16, as NF4's and GPTQ's
 *  papers leave them. */
static inline bool lab_scheme_has_head(const lab_scheme *scheme) {
  return scheme->weights != LAB_NF4 && scheme->weights != LAB_GPTQ;
}
/** What is left of the scheme there: f16 where it has no head. */
lab_scheme lab_scheme_head(const lab_scheme *scheme);
/** Bytes of a weight [n, k] under the scheme, with its constants. */
uint64_t lab_scheme_bytes(const lab_scheme *scheme, int32_t n, int32_t k);

/* ---- weights ---- */

/** How a tensor's rows are rounded: constants that take more than a row to know. */
typedef struct lab_rounding {
  const lab_scheme *scheme;
  int32_t n, k, per_row;
  float *constants; /**< [n, per_row]: min and max of a row, or the absmax of its blocks */
} lab_rounding;

/** 0-initialised rounding of a weight [n, k]; where lab_rounding_scans, every row goes through lab_rounding_scan and
 *  then lab_rounding_settle once, before the first lab_round_row. Not for GPTQ (lab_gptq.h). */
otr_status lab_rounding_create(lab_rounding *rounding, const lab_scheme *scheme, int32_t n, int32_t k);
bool lab_rounding_scans(const lab_rounding *rounding);
void lab_rounding_scan(lab_rounding *rounding, int32_t row, const float *w);
void lab_rounding_settle(lab_rounding *rounding);
/** Rounds row `row` in place. @param w [k]. @threads Any, of different rows. */
void lab_round_row(const lab_rounding *rounding, int32_t row, float *w);
void lab_rounding_free(lab_rounding *rounding);

/* ---- inputs ---- */

/** What was met on the way. */
typedef struct lab_count {
  uint64_t outliers, values;
} lab_count;
/** out = x rounded. Between otr_parallel_begin and end.
 *  @param out, x [m, k]; may be the same
 *  @param scratch [m + k] */
void lab_round_inputs(const lab_scheme *scheme, float *out, const float *x, int32_t m, int32_t k, float *scratch,
                      otr_parallel *parallel, lab_count *count);

/* ---- grids ---- */

/** IEEE binary16, nearest even, with its subnormals; beyond 65504 it is 65504. */
float lab_f16(float x);
/** The value of the 16 of NF4 that is nearest. */
float lab_nf4(float x);
/** FP8 E4M3, nearest even, |x| <= 448: what QLoRA keeps NF4's constants in. */
float lab_e4m3(float x);

#endif
