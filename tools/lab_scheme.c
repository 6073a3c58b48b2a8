// SPDX-License-Identifier: Apache-2.0
#include "lab_scheme.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "status.h"

#define RELATIVE \
  { OTR_RULE_RELATIVE, 4.0f }
#define ABSOLUTE \
  { OTR_RULE_ABSOLUTE, 6.0f }

/* In the order of the reports. "row" is row-wise as the paper has it beside vector-wise: the inputs by rows, the
 * weights by one constant; "vector" gives the weights a constant for each output, too. */
static const lab_scheme schemes[] = {
    {.name = "f32", .title = "f32"},
    {.name = "f16", .title = "f16 weights and inputs", .weights = LAB_F16, .inputs = LAB_F16},
    {.name = "absmax-tensor",
     .title = "absmax, per tensor",
     .weights = LAB_ABSMAX,
     .inputs = LAB_ABSMAX,
     .weights_tensor = 1,
     .inputs_tensor = 1},
    {.name = "absmax-row",
     .title = "absmax, row-wise",
     .weights = LAB_ABSMAX,
     .inputs = LAB_ABSMAX,
     .weights_tensor = 1},
    {.name = "absmax-vector",
     .title = "absmax, vector-wise = LLM.int8() off",
     .weights = LAB_ABSMAX,
     .inputs = LAB_ABSMAX,
     .in_runtime = 1},
    {.name = "zeropoint-tensor",
     .title = "zeropoint, per tensor",
     .weights = LAB_ZEROPOINT,
     .inputs = LAB_ZEROPOINT,
     .weights_tensor = 1,
     .inputs_tensor = 1},
    {.name = "zeropoint-row",
     .title = "zeropoint, row-wise",
     .weights = LAB_ZEROPOINT,
     .inputs = LAB_ZEROPOINT,
     .weights_tensor = 1},
    {.name = "zeropoint-vector", .title = "zeropoint, vector-wise", .weights = LAB_ZEROPOINT, .inputs = LAB_ZEROPOINT},
    {.name = "absolute",
     .title = "LLM.int8(), |x| \xe2\x89\xa5 T",
     .weights = LAB_ABSMAX,
     .inputs = LAB_ABSMAX,
     .outliers = ABSOLUTE,
     .in_runtime = 1},
    {.name = "absolute-batch",
     .title = "LLM.int8(), |x| \xe2\x89\xa5 T, batch scope",
     .weights = LAB_ABSMAX,
     .inputs = LAB_ABSMAX,
     .outliers = ABSOLUTE,
     .batch = 1},
    {.name = "relative",
     .title = "LLM.int8(), |x| \xe2\x89\xa5 T rms",
     .weights = LAB_ABSMAX,
     .inputs = LAB_ABSMAX,
     .outliers = RELATIVE,
     .in_runtime = 1},
    {.name = "relative-batch",
     .title = "LLM.int8(), |x| \xe2\x89\xa5 T rms, batch scope",
     .weights = LAB_ABSMAX,
     .inputs = LAB_ABSMAX,
     .outliers = RELATIVE,
     .batch = 1},
    {.name = "weights-int8", .title = "int8 weights only", .weights = LAB_ABSMAX},
    {.name = "nf4", .title = "NF4 weights only", .weights = LAB_NF4},
    {.name = "nf4-dq", .title = "NF4, double quantization", .weights = LAB_NF4, .double_quant = 1},
    {.name = "gptq-8", .title = "GPTQ 8 bits, rows", .weights = LAB_GPTQ, .bits = 8},
    {.name = "gptq-8-g128", .title = "GPTQ 8 bits, groups of 128", .weights = LAB_GPTQ, .bits = 8, .group = 128},
    {.name = "gptq-4", .title = "GPTQ 4 bits, rows", .weights = LAB_GPTQ, .bits = 4},
    {.name = "gptq-4-g128", .title = "GPTQ 4 bits, groups of 128", .weights = LAB_GPTQ, .bits = 4, .group = 128},
};
enum { N_SCHEMES = sizeof schemes / sizeof *schemes };

static otr_status no_such(const char *name) {
  char list[32 * N_SCHEMES] = "";
  for (int32_t i = 0; i < N_SCHEMES; i++) {
    strcat(list, " ");
    strcat(list, schemes[i].name);
  }
  return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "\"%.32s\" is none of%s", name, list);
}

/* "=T" of a scheme that has a threshold. */
static bool take_threshold(const char *text, lab_scheme *s) {
  char *end;
  if (s->outliers.kind == OTR_RULE_OFF) return false;
  double value = strtod(text, &end);
  if (end == text || *end || !(value >= 0x1p-8 && value <= 0x1p20)) return false;
  s->outliers.value = (float)value;
  return true;
}

/* Puts the threshold into name and title (for its T). */
static void name_threshold(const lab_scheme *plain, lab_scheme *out) {
  const char *t = strchr(plain->title, 'T');
  const double value = (double)out->outliers.value;
  snprintf(out->name, sizeof out->name, "%s=%g", plain->name, value);
  if (t) snprintf(out->title, sizeof out->title, "%.*s%g%s", (int)(t - plain->title), plain->title, value, t + 1);
}

otr_status lab_scheme_parse(const char *name, lab_scheme *out) {
  const char *equals = strchr(name, '=');
  size_t n = equals ? (size_t)(equals - name) : strlen(name);
  if (strcmp(name, "off") == 0) return lab_scheme_parse("absmax-vector", out);
  for (int32_t i = 0; i < N_SCHEMES; i++) {
    if (strlen(schemes[i].name) != n || memcmp(schemes[i].name, name, n) != 0) continue;
    *out = schemes[i];
    if (equals && !take_threshold(equals + 1, out)) break;
    if (out->outliers.kind != OTR_RULE_OFF) name_threshold(&schemes[i], out);
    return OTR_STATUS_OK;
  }
  return no_such(name);
}

static otr_status parse_list(char *names, lab_scheme *out, int32_t *n) {
  char *rest = NULL;
  for (char *name = strtok_r(names, ",", &rest); name; name = strtok_r(NULL, ",", &rest))
    OTR_TRY(lab_scheme_parse(name, &out[(*n)++]));
  return *n > 0 ? OTR_STATUS_OK : otr_fail(OTR_STATUS_INVALID_ARGUMENT, "no scheme is named");
}

otr_status lab_schemes_parse(const char *names, lab_scheme **out, int32_t *n) {
  size_t most = strlen(names) / 2 + 1 + N_SCHEMES;
  *n = 0;
  OTR_TRY(tool_allocate(most, sizeof **out, (void **)out));
  otr_status status = OTR_STATUS_OK;
  if (strcmp(names, "all") == 0) {
    for (; *n < N_SCHEMES && status == OTR_STATUS_OK; (*n)++) status = lab_scheme_parse(schemes[*n].name, &(*out)[*n]);
  } else {
    char *copy = strdup(names);
    status = copy ? parse_list(copy, *out, n) : OTR_STATUS_NO_MEMORY;
    free(copy);
  }
  if (status == OTR_STATUS_OK) return OTR_STATUS_OK;
  free(*out);
  *out = NULL;
  return status;
}

lab_scheme lab_scheme_head(const lab_scheme *scheme) {
  lab_scheme head = *scheme;
  if (!lab_scheme_has_head(scheme)) head.weights = LAB_F16;
  return head;
}

/* Constants: f32 for int8 rows and NF4 blocks; f16 with an integer zero for GPTQ's groups, as its kernels keep them. */
uint64_t lab_scheme_bytes(const lab_scheme *scheme, int32_t n, int32_t k) {
  const uint64_t rows = (uint64_t)n, values = rows * (uint64_t)k;
  const uint64_t blocks = rows * (uint64_t)((k + LAB_NF4_BLOCK - 1) / LAB_NF4_BLOCK);
  const uint64_t groups = scheme->group ? rows * (uint64_t)((k + scheme->group - 1) / scheme->group) : rows;
  switch (scheme->weights) {
    case LAB_F32:
      return values * 4;
    case LAB_F16:
      return values * 2;
    case LAB_ABSMAX:
      return values + 4 * (scheme->weights_tensor ? 1 : rows);
    case LAB_ZEROPOINT:
      return values + 8 * (scheme->weights_tensor ? 1 : rows);
    case LAB_NF4:
      return values / 2 + (scheme->double_quant ? blocks + 4 * (blocks / LAB_NF4_CONSTANTS + 1) : 4 * blocks);
    default:
      return values * (uint64_t)scheme->bits / 8 + groups * (2 + (uint64_t)scheme->bits / 8);
  }
}
