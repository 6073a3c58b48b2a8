// SPDX-License-Identifier: Apache-2.0
/* What every shader shares: the step and found blocks, push constants, operands, and the contract's functions. */
#ifndef OTR_VULKAN_COMMON
#define OTR_VULKAN_COMMON

#include "numerics_gpu.h"
#include "step.glsl"

layout(std430, set = 0, binding = 0) readonly buffer step_block { uint step_word[]; };
layout(std430, set = 0, binding = 1) buffer found_block { uint found_word[]; };
/* rest: bytes from an operand's binding to its begin; own: what the lowering pushes for the shader. */
layout(std430, push_constant) uniform push_words {
  uint rest[8];
  uint own[24];
} push;

/* Operand `index` as an array of `type`, in which it begins at FIRST(index). One operand may have several views. */
#define OPERAND(index, access, type, name) \
  layout(std430, set = 0, binding = 2 + index) access buffer name##_block { type name[]; };
#define FIRST(index) (push.rest[index] >> 2)
#define FIRST4(index) (push.rest[index] >> 4)

/* own[0] and own[1] mean the same everywhere. */
#define OP_LAYER push.own[0] /* layer + 1, whom NONFINITE names */
#define OP_ROWS push.own[1]  /* STEP_N_ROWS or STEP_N_LOGITS */

uint rows_of_pass() { return step_word[OP_ROWS]; }

/* The row or group of rows of this workgroup, where axis y follows rows. */
uint group_y() { return gl_WorkGroupID.y + step_word[STEP_GROUP_BASE]; }

/** tidy(x), telling of a NONFINITE value in `layer` (+ 1), or in the operation's own. */
float tidy_of(float x, uint layer) {
  if (otr_is_nonfinite(x)) atomicMin(found_word[FOUND_LAYER], layer);
  return otr_tidy(x);
}
float tidy_found(float x) { return tidy_of(x, OP_LAYER); }

/** f16 bits of tidy(x); a clamp is counted. */
uint to_f16(float x) {
  float t = tidy_found(x);
  if (otr_f16_saturates(t)) atomicAdd(found_word[FOUND_SATURATIONS], 1u);
  return otr_f16_bits(t);
}

/** The value of f16 bits that otr_f16_bits made: zeros and normal numbers only, which no driver changes. */
vec2 pair_value(uint bits) { return unpackHalf2x16(bits); }

/** Half `index` of an array of f16 bits, as the contract reads a file's. */
float half_value(uint word, uint index) { return otr_f16_value((word >> ((index & 1u) * 16u)) & 0xffffu); }

/** int8 `index` of a word's four. */
int byte_value(uint word, uint index) { return bitfieldExtract(int(word), int(index & 3u) * 8, 8); }

/** f32(acc) to nearest even, by two conversions that are exact. */
float exact_float(int acc) {
  precise float high = float(acc >> 12) * 4096.0;
  precise float sum = high + float(acc & 4095);
  return sum;
}

float magnitude(float x) { return OTR_FLOAT(OTR_BITS(x) & OTR_BITS_ABS); }

/** e_i of the largest outlier, kept where 2^e and 2^-e are both normal. */
int outlier_exponent(float largest) { return clamp(otr_exponent(largest) - 14, -112, 112); }

#endif
