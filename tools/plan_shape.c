// SPDX-License-Identifier: Apache-2.0
#include "plan_shape.h"

#include <ctype.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "config.h"
#include "gguf.h"
#include "io.h"
#include "memory.h"
#include "source.h"
#include "status.h"

/* ---- from a file ------------------------------------------------------------------------------------------------ */

static bool begins_with(const char *name, const char *prefix) {
  return strncmp(name, prefix, strlen(prefix)) == 0;
}

void plan_add_tensor(plan_shape *s, const char *name, double n, double k) {
  if (k == 1.0) {
    s->other += n;
  } else if (begins_with(name, "blk.")) {
    s->linear += n * k;
    s->linear_rows += n;
    s->linear_columns += k;
  } else if (strcmp(name, "token_embd.weight") == 0) {
    s->embedding += n * k;
    s->embedding_rows += n;
  } else if (strcmp(name, "output.weight") == 0) {
    s->output += n * k;
    s->output_rows += n;
  } else {
    s->other += n * k;
  }
}

/* What a converted file holds beside its weights. */
static bool is_companion(const char *name) {
  static const char *const suffixes[] = {".weight.scale", ".weight.outlier_cols", ".weight.outlier_index"};
  const size_t n = strlen(name);
  for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
    size_t length = strlen(suffixes[i]);
    if (n > length && strcmp(name + n - length, suffixes[i]) == 0) return true;
  }
  return false;
}

static void take_config(plan_shape *s, const otr_config *c) {
  s->exact = 1;
  s->n_layers = c->n_layers;
  s->dim = c->dim;
  s->n_ctx_train = c->n_ctx_train;
  s->kv_width = 2.0 * c->n_layers * c->n_kv_heads * c->head_dim;
}

static otr_status read_gguf(const otr_gguf *gguf, plan_shape *s) {
  otr_config config;
  OTR_TRY(otr_config_read(gguf, &config));
  take_config(s, &config);
  for (int32_t i = 0; i < gguf->n_tensors; i++) {
    const otr_gguf_tensor *t = &gguf->tensors[i];
    /* A vector has one dimension, which is the contiguous one: [n, 1] here. */
    if (is_companion(t->name)) continue;
    if (t->n_dims == 1) {
      plan_add_tensor(s, t->name, (double)t->dims[0], 1.0);
    } else {
      plan_add_tensor(s, t->name, (double)t->dims[1], (double)t->dims[0]);
    }
  }
  return OTR_STATUS_OK;
}

static otr_status read_file(const char *path, otr_memory *memory, plan_shape *s) {
  otr_file file;
  otr_gguf *gguf;
  const otr_source from = {.kind = OTR_SOURCE_PATH, .path = path};
  OTR_TRY(otr_file_open(&from, false, &file));
  otr_status status = otr_gguf_read(&file, memory, &gguf);
  if (status == OTR_STATUS_OK) status = read_gguf(gguf, s);
  if (status != OTR_STATUS_OK) status = otr_fail_in(status, "%s", path);
  otr_gguf_destroy(gguf);
  otr_file_close(&file);
  return status;
}

static otr_status read_directory(const char *path, otr_memory *memory, plan_shape *s) {
  source *model;
  OTR_TRY(source_open(path, memory, &model));
  take_config(s, source_config(model));
  for (int32_t i = 0; i < source_count(model); i++) {
    const source_tensor *t = source_at(model, i);
    plan_add_tensor(s, t->name, t->is_vector ? t->k : t->n, t->is_vector ? 1.0 : t->k);
  }
  source_close(model);
  return OTR_STATUS_OK;
}

otr_status plan_read_model(const char *path, plan_shape *s) {
  otr_memory memory;
  *s = (plan_shape){0};
  tool_base_name(path, s->name, sizeof s->name);
  otr_memory_init(&memory, NULL);
  return tool_is_directory(path) ? read_directory(path, &memory, s) : read_file(path, &memory, s);
}

/* ---- from a number ---------------------------------------------------------------------------------------------- */

typedef struct published {
  const char *name;
  int32_t layers, dim, ffn, kv_width, vocab, n_mlp; /* n_mlp: 3 with a gate, 2 without; kv_width: of one layer's keys */
  int32_t tied, n_ctx;
} published;

/* From the models' papers and configurations. */
static const published known[] = {
    {"OPT 125M", 12, 768, 3072, 768, 50272, 2, 1, 2048},
    {"SmolLM2 360M", 32, 960, 2560, 320, 49152, 3, 1, 8192},
    {"Qwen2.5 0.5B", 24, 896, 4864, 128, 151936, 3, 1, 32768},
    {"TinyLlama 1.1B", 22, 2048, 5632, 256, 32000, 3, 0, 2048},
    {"OPT 1.3B", 24, 2048, 8192, 2048, 50272, 2, 1, 2048},
    {"OPT 2.7B", 32, 2560, 10240, 2560, 50272, 2, 1, 2048},
    {"Phi-3 mini 3.8B", 32, 3072, 8192, 3072, 32064, 3, 0, 4096},
    {"Llama 2 7B", 32, 4096, 11008, 4096, 32000, 3, 0, 4096},
    {"Llama 3.1 8B", 32, 4096, 14336, 1024, 128256, 3, 0, 131072},
    {"Llama 2 13B", 40, 5120, 13824, 5120, 32000, 3, 0, 4096},
    {"OPT 30B", 48, 7168, 28672, 7168, 50272, 2, 1, 2048},
    {"OPT 66B", 64, 9216, 36864, 9216, 50272, 2, 1, 2048},
    {"Llama 2 70B", 80, 8192, 28672, 1024, 32000, 3, 0, 4096},
    {"OPT 175B", 96, 12288, 49152, 12288, 50272, 2, 1, 2048},
    {"BLOOM 176B", 70, 14336, 57344, 14336, 250880, 2, 1, 2048},
};

static void add_weight(plan_shape *s, double layers, double n, double k) {
  s->linear += layers * n * k;
  s->linear_rows += layers * n;
  s->linear_columns += layers * k;
}

static void take_published(plan_shape *s, const published *p) {
  const double layers = p->layers, dim = p->dim;
  *s = (plan_shape){.n_layers = p->layers, .dim = p->dim, .n_ctx_train = p->n_ctx};
  snprintf(s->name, sizeof s->name, "%s", p->name);
  for (int i = 0; i < 2; i++) add_weight(s, layers, dim, dim);         /* q, attention's output */
  for (int i = 0; i < 2; i++) add_weight(s, layers, p->kv_width, dim); /* k, v */
  for (int i = 1; i < p->n_mlp; i++) add_weight(s, layers, p->ffn, dim);
  add_weight(s, layers, dim, p->ffn);
  s->embedding = (double)p->vocab * dim;
  s->embedding_rows = p->vocab;
  s->output = p->tied ? 0.0 : s->embedding;
  s->output_rows = p->tied ? 0.0 : p->vocab;
  s->kv_width = 2.0 * layers * p->kv_width;
}

/* Parameters grow with layers · dim², what a position keeps and the rows with layers · dim. */
static void scale_to(plan_shape *s, double parameters) {
  const double ratio = parameters / plan_parameters(s), width = pow(ratio, 2.0 / 3.0);
  s->linear *= ratio;
  s->embedding *= ratio;
  s->output *= ratio;
  s->linear_rows *= width;
  s->linear_columns *= width;
  s->kv_width *= width;
}

static bool parse_parameters(const char *text, double *out) {
  static const char suffixes[] = "KMBT";
  char *end;
  double value = strtod(text, &end);
  if (end == text) return false;
  if (*end) {
    const char *found = strchr(suffixes, toupper((unsigned char)*end));
    if (!found || end[1]) return false;
    value *= pow(1000.0, (double)(found - suffixes) + 1.0);
  }
  *out = value;
  return value >= 1e6 && value <= 1e14;
}

otr_status plan_read_parameters(const char *text, plan_shape *s) {
  double parameters, nearest = INFINITY;
  plan_shape candidate;
  *s = (plan_shape){0};
  if (!parse_parameters(text, &parameters)) {
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "%s: neither a file nor a number of parameters from 1M to 100T", text);
  }
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    take_published(&candidate, &known[i]);
    double distance = fabs(log(parameters / plan_parameters(&candidate)));
    if (distance >= nearest) continue;
    nearest = distance;
    *s = candidate;
  }
  candidate = *s;
  snprintf(s->name, sizeof s->name, "%.16s parameters, shaped as %.48s", text, candidate.name);
  scale_to(s, parameters);
  return OTR_STATUS_OK;
}

/* ---- sizes ------------------------------------------------------------------------------------------------------ */

double plan_parameters(const plan_shape *s) {
  return s->linear + s->embedding + s->output + s->other;
}

const char *const plan_scheme_names[PLAN_SCHEMES] = {"fp32",     "fp16", "int8",      "int8+columns",
                                                     "int8+f16", "nf4",  "nf4 double"};
const char *const plan_scheme_notes[PLAN_SCHEMES] = {
    "FP32",
    "FP16 or BF16",
    "LLM.int8(), all weights (default)",
    "LLM.int8() with f16 outlier columns",
    "LLM.int8(), embedding and output f16",
    "NF4, embedding and output f16",
    "NF4 with double quantization",
};

/* NF4 (Dettmers et al. 2023): a half byte a weight and for each 64 an f32 constant, or, quantized twice, a byte and for
 * each 256 of those an f32. */
static double nf4_bytes(const plan_shape *s, bool twice) {
  const double blocks = s->linear / 64.0;
  return 0.5 * s->linear + (twice ? blocks + 4.0 * blocks / 256.0 : 4.0 * blocks);
}

double plan_weight_bytes(const plan_shape *s, plan_scheme scheme, double columns) {
  const double ends = s->embedding + s->output, end_rows = s->embedding_rows + s->output_rows;
  const double int8 = s->linear + 4.0 * s->linear_rows, rest = 4.0 * s->other;
  switch (scheme) {
    case PLAN_FP32:
      return 4.0 * plan_parameters(s);
    case PLAN_FP16:
      return 2.0 * plan_parameters(s);
    case PLAN_INT8:
      return int8 + ends + 4.0 * end_rows + rest;
    case PLAN_INT8_COLUMNS: /* the output layer, tied or not, is a linear, too */
      return int8 + ends + 4.0 * end_rows + rest +
             2.0 * columns * (s->linear + (s->output > 0.0 ? s->output : s->embedding));
    case PLAN_INT8_F16:
      return int8 + 2.0 * ends + rest;
    case PLAN_NF4:
      return nf4_bytes(s, false) + 2.0 * ends + rest;
    default:
      return nf4_bytes(s, true) + 2.0 * ends + rest;
  }
}

double plan_kv_bytes(const plan_shape *s) {
  return 2.0 * s->kv_width;
}

const char *const plan_training_names[PLAN_TRAININGS] = {
    "all weights, mixed precision, Adam: 16 bytes a parameter",
    "the same, 8-bit Adam: 10 bytes a parameter",
    "all weights in 16 bits, Adam: 12 bytes a parameter",
    "LoRA on FP16 weights",
    "LoRA on LLM.int8() weights",
    "QLoRA: LoRA on NF4 weights, double quantization",
};

double plan_training_bytes(const plan_shape *s, plan_training training, double rank) {
  const double parameters = plan_parameters(s), adapters = 16.0 * rank * (s->linear_rows + s->linear_columns);
  switch (training) {
    case PLAN_TRAIN_MIXED:
      return 16.0 * parameters;
    case PLAN_TRAIN_MIXED_8:
      return 10.0 * parameters;
    case PLAN_TRAIN_16:
      return 12.0 * parameters;
    case PLAN_TRAIN_LORA_FP16:
      return plan_weight_bytes(s, PLAN_FP16, 0.0) + adapters;
    case PLAN_TRAIN_LORA_INT8:
      return plan_weight_bytes(s, PLAN_INT8_F16, 0.0) + adapters;
    default:
      return plan_weight_bytes(s, PLAN_NF4_DOUBLE, 0.0) + adapters;
  }
}
