// SPDX-License-Identifier: Apache-2.0
/* How large a model is, from its file's header or from a parameter count alone, and what it takes in each scheme. Sizes
 * are doubles: estimates of models of any size, exact far beyond what is needed. */
#ifndef TOOL_PLAN_SHAPE_H
#define TOOL_PLAN_SHAPE_H

#include "outrider/outrider.h"

/** Parameters by how schemes treat them. */
typedef struct plan_shape {
  char name[96]; /**< the file's name, or "176B, shaped as BLOOM 176B" */
  int32_t exact; /**< 0: estimated from a parameter count */
  int32_t n_layers, dim;
  int32_t n_ctx_train; /**< 0: not known */
  double linear;       /**< weights of the blocks' linears */
  double embedding;    /**< of the token embedding, also the output layer where that is tied */
  double output;       /**< of an output layer of its own */
  double other;        /**< norms, biases, position tables */
  double linear_rows, embedding_rows, output_rows; /**< each row of a weight has a scale in int8 */
  double linear_columns;                           /**< inputs of the linears: what an adapter of low rank reads */
  double kv_width;                                 /**< values of keys and values of all layers that a position keeps */
} plan_shape;

/** Adds a tensor of [n, k] (k 1: a vector) under its GGUF name. */
void plan_add_tensor(plan_shape *shape, const char *name, double n, double k);
/** The shape of a GGUF file, published or converted, or of a Hugging Face directory. Only headers are read.
 *  @return also UNSUPPORTED, BAD_FORMAT. */
otr_status plan_read_model(const char *path, plan_shape *shape);
/** "176B", "1.3b", "350M", "7e9": the published model of the nearest size, scaled to that many parameters.
 *  @return INVALID_ARGUMENT: no number from 1M to 100T. */
otr_status plan_read_parameters(const char *text, plan_shape *shape);
double plan_parameters(const plan_shape *shape);

/** The schemes that weights are held in. */
typedef enum plan_scheme {
  PLAN_FP32,
  PLAN_FP16,
  PLAN_INT8,         /**< LLM.int8(), embedding and output layer in int8, too: this SDK's default */
  PLAN_INT8_COLUMNS, /**< the same with f16 columns for a share of the inputs */
  PLAN_INT8_F16,     /**< LLM.int8(), embedding and output layer in f16: what bitsandbytes does */
  PLAN_NF4,          /**< NF4 in blocks of 64, embedding and output layer in f16 */
  PLAN_NF4_DOUBLE,   /**< the same with double quantization */
  PLAN_SCHEMES
} plan_scheme;

/** Short name and what it is. */
extern const char *const plan_scheme_names[PLAN_SCHEMES], *const plan_scheme_notes[PLAN_SCHEMES];
/** Bytes of the weights. @param columns share of the inputs with f16 columns (PLAN_INT8_COLUMNS) */
double plan_weight_bytes(const plan_shape *shape, plan_scheme scheme, double columns);
/** Bytes of f16 keys and values of a position. */
double plan_kv_bytes(const plan_shape *shape);

/** Ways to train, as the papers count them: weights, gradients and optimizer states; activations come on top. */
typedef enum plan_training {
  PLAN_TRAIN_MIXED,     /**< 16 bytes a parameter: Rajbhandari et al. 2020 (ZeRO), section 3.1 */
  PLAN_TRAIN_MIXED_8,   /**< 10: the same with Adam's states in 8 bits, Dettmers et al. 2022 */
  PLAN_TRAIN_16,        /**< 12: weights and gradients in 16 bits, Dettmers et al. 2023 (QLoRA: 780 GB for 65B) */
  PLAN_TRAIN_LORA_FP16, /**< frozen weights and adapters: Hu et al. 2021 */
  PLAN_TRAIN_LORA_INT8,
  PLAN_TRAIN_QLORA, /**< NF4 with double quantization */
  PLAN_TRAININGS
} plan_training;

extern const char *const plan_training_names[PLAN_TRAININGS];
/** @param rank of the adapters, on every linear of the blocks */
double plan_training_bytes(const plan_shape *shape, plan_training training, double rank);

#endif
