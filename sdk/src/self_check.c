// SPDX-License-Identifier: Apache-2.0
#include "self_check.h"

#include "check_case.h"
#include "status.h"

/* An otr_case in narrow fields: the table below is a third of the size so. */
typedef struct small_case {
  otr_rule rule;
  float constant;
  int16_t m, k, n, n_next, n_static, window, position, dropped;
  int8_t code, values, logits, n_parts, wide, kind, bias, groups, alias, after;
  int8_t n_heads, n_kv_heads, head_dim, n_rot, slopes, n_sequences;
} small_case;

static otr_case widen(const small_case *s, uint32_t seed) {
  return (otr_case){.code = (otr_op_code)s->code,
                    .values = (otr_case_values)s->values,
                    .seed = seed,
                    .m = s->m,
                    .logits = s->logits,
                    .k = s->k,
                    .n = s->n,
                    .n_next = s->n_next,
                    .n_parts = s->n_parts,
                    .n_static = s->n_static,
                    .wide = s->wide,
                    .kind = s->kind,
                    .bias = s->bias,
                    .groups = s->groups,
                    .alias = s->alias,
                    .after = s->after,
                    .rule = s->rule,
                    .constant = s->constant,
                    .n_heads = s->n_heads,
                    .n_kv_heads = s->n_kv_heads,
                    .head_dim = s->head_dim,
                    .n_rot = s->n_rot,
                    .slopes = s->slopes,
                    .window = s->window,
                    .position = s->position,
                    .n_sequences = s->n_sequences,
                    .dropped = (uint32_t)s->dropped};
}

/* Every operation and every path through its kernels, as small as that goes: rows that fill no vector, inputs around
 * 16, 32, 64 and 256, outliers under every rule, all kinds of static columns, pages that are full, begun and dropped.
 */
static const small_case cases[] = {
    {.code = OTR_OP_EMBED, .values = OTR_VALUES_MIXED, .m = 9, .k = 75, .n = 7, .constant = 3.0f, .bias = 1},
    {.code = OTR_OP_EMBED, .values = OTR_VALUES_MIXED, .m = 5, .k = 64, .n = 7, .kind = OTR_WEIGHT_F16},
    {.code = OTR_OP_NORM, .values = OTR_VALUES_MIXED, .m = 7, .k = 331, .constant = 1e-5f},
    {.code = OTR_OP_NORM, .values = OTR_VALUES_PLAIN, .m = 33, .k = 235, .constant = 1e-5f},
    {.code = OTR_OP_NORM, .values = OTR_VALUES_OUTLIERS, .m = 3, .k = 64, .groups = 3, .alias = 1},
    {.code = OTR_OP_NORM, .values = OTR_VALUES_MIXED, .m = 5, .k = 147, .kind = OTR_NORM_LAYER, .bias = 1},
    {.code = OTR_OP_QUANTIZE, .values = OTR_VALUES_MIXED, .m = 8, .k = 321, .rule = {OTR_RULE_ABSOLUTE, 6.0f}},
    {.code = OTR_OP_QUANTIZE, .values = OTR_VALUES_TIES, .m = 4, .k = 128, .rule = {OTR_RULE_OFF, 0.0f}},
    {.code = OTR_OP_QUANTIZE, .values = OTR_VALUES_EXTREME, .m = 2, .k = 64, .rule = {OTR_RULE_RELATIVE, 1.0f}},
    {.code = OTR_OP_ROUND16, .values = OTR_VALUES_MIXED, .m = 8, .k = 97},
    {.code = OTR_OP_LINEAR,
     .values = OTR_VALUES_OUTLIERS,
     .m = 1,
     .k = 353,
     .n = 131,
     .rule = {OTR_RULE_RELATIVE, 4.0f}},
    {.code = OTR_OP_LINEAR,
     .values = OTR_VALUES_MIXED,
     .m = 5,
     .k = 259,
     .n = 67,
     .n_static = 40,
     .bias = 1,
     .n_parts = 2,
     .n_next = 16,
     .rule = {OTR_RULE_RELATIVE, 0.5f}},
    {.code = OTR_OP_LINEAR,
     .values = OTR_VALUES_MIXED,
     .m = 21,
     .k = 192,
     .n = 70,
     .n_static = -1,
     .wide = 1,
     .rule = {OTR_RULE_ABSOLUTE, 1e-30f}},
    {.code = OTR_OP_LINEAR, .values = OTR_VALUES_EXTREME, .m = 2, .k = 2050, .n = 33, .logits = 1},
    {.code = OTR_OP_LINEAR16, .values = OTR_VALUES_MIXED, .m = 1, .k = 123, .n = 67, .bias = 1},
    {.code = OTR_OP_LINEAR16, .values = OTR_VALUES_OUTLIERS, .m = 9, .k = 80, .n = 70, .n_parts = 3, .n_next = 5},
    {.code = OTR_OP_ROPE_KV,
     .values = OTR_VALUES_MIXED,
     .m = 5,
     .n_heads = 3,
     .n_kv_heads = 3,
     .head_dim = 20,
     .n_rot = 12,
     .position = 254},
    {.code = OTR_OP_ATTENTION,
     .values = OTR_VALUES_PLAIN,
     .m = 1,
     .n_heads = 6,
     .n_kv_heads = 2,
     .head_dim = 16,
     .n_rot = 16,
     .position = 700,
     .dropped = 2},
    {.code = OTR_OP_ATTENTION,
     .values = OTR_VALUES_PLAIN,
     .m = 19,
     .n_heads = 2,
     .n_kv_heads = 1,
     .head_dim = 24,
     .n_rot = 8,
     .position = 250,
     .window = 70,
     .slopes = 1,
     .n_sequences = 2},
    {.code = OTR_OP_GLU, .values = OTR_VALUES_PLAIN, .m = 7, .k = 45, .kind = OTR_ACT_SILU, .alias = 1},
    {.code = OTR_OP_GLU, .values = OTR_VALUES_MIXED, .m = 5, .k = 33, .kind = OTR_ACT_GELU_TANH},
    {.code = OTR_OP_ACT, .values = OTR_VALUES_ANY, .m = 7, .k = 35, .kind = OTR_ACT_GELU_TANH},
    {.code = OTR_OP_ACT, .values = OTR_VALUES_MIXED, .m = 7, .k = 35, .kind = OTR_ACT_GELU_ERF},
    {.code = OTR_OP_ACT, .values = OTR_VALUES_EDGES, .m = 3, .k = 19, .kind = OTR_ACT_RELU},
    {.code = OTR_OP_ADD, .values = OTR_VALUES_EDGES, .m = 7, .k = 53},
    {.code = OTR_OP_ADD, .values = OTR_VALUES_HUGE, .m = 5, .k = 1},
    {.code = OTR_OP_SELECT, .values = OTR_VALUES_EDGES, .m = 3, .k = 21},
    {.code = OTR_OP_COPY, .values = OTR_VALUES_EDGES, .m = 3, .k = 21},
    {.code = OTR_OP_POSITION, .values = OTR_VALUES_EDGES, .m = 9, .k = 75},
    {.code = OTR_OP_NORM, .values = OTR_VALUES_OUTLIERS, .m = 3, .k = 20, .groups = 3, .wide = 1, .alias = 1},
    /* sequences that a device may do in one kernel */
    {.code = OTR_OP_QUANTIZE,
     .values = OTR_VALUES_MIXED,
     .m = 5,
     .k = 321,
     .after = 1,
     .constant = 1e-5f,
     .rule = {OTR_RULE_RELATIVE, 2.0f}},
    {.code = OTR_OP_QUANTIZE,
     .values = OTR_VALUES_OUTLIERS,
     .m = 5,
     .k = 300,
     .after = 2,
     .kind = OTR_ACT_SILU,
     .rule = {OTR_RULE_ABSOLUTE, 1.0f}},
};

/* Seconds of a run after which one more is enough: a device as slow as the reference is not timed eight times. */
#define LONG_WORK 0.01

/* The fixed work that devices are ranked by: one row, then some. */
static const otr_case work[] = {
    {.code = OTR_OP_LINEAR, .m = 1, .k = 1024, .n = 1024, .rule = {OTR_RULE_RELATIVE, 4.0f}},
    {.code = OTR_OP_LINEAR, .m = 64, .k = 1024, .n = 1024, .rule = {OTR_RULE_RELATIVE, 4.0f}},
};

/** @param[out] differs the device gave other bits or wrote where it must not */
static otr_status check_one(otr_device *device, otr_device *reference, const otr_case *c, bool *differs) {
  otr_case_image expected, got;
  OTR_TRY(otr_case_run(reference, c, NULL, &expected, 1, NULL));
  otr_status status = otr_case_run(device, c, NULL, &got, 1, NULL);
  *differs = status == OTR_STATUS_NO_DEVICE;
  if (status == OTR_STATUS_OK) {
    status = otr_case_compare(c, &expected, &got);
    *differs = status != OTR_STATUS_OK;
    otr_case_image_free(device->memory, &got);
  }
  otr_case_image_free(reference->memory, &expected);
  return status;
}

otr_status otr_self_check(otr_device *device, otr_device *reference, otr_op_code *failed, double *seconds) {
  bool differs = false;
  *failed = OTR_OP_COUNT;
  *seconds = 0.0;
  for (size_t i = 0; i < sizeof cases / sizeof cases[0] && device != reference; ++i) {
    otr_case c = widen(&cases[i], (uint32_t)i + 1);
    otr_status status = check_one(device, reference, &c, &differs);
    if (differs) *failed = c.code;
    if (status != OTR_STATUS_OK) return status;
  }
  for (size_t i = 0; i < sizeof work / sizeof work[0]; ++i) {
    double took = 0.0, again = 0.0;
    OTR_TRY(otr_case_run(device, &work[i], NULL, NULL, 1, &took));
    OTR_TRY(otr_case_run(device, &work[i], NULL, NULL, took < LONG_WORK ? 7 : 1, &again));
    *seconds += again < took ? again : took;
  }
  return OTR_STATUS_OK;
}
