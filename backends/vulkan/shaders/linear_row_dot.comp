#version 450
// SPDX-License-Identifier: Apache-2.0
/* linear, a thread for four outputs of a row, by integer dot products. */
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_spirv_intrinsics : require
#define INT_DOT
#define ROWS 1u
#include "common.glsl"
#include "linear_row.glsl"
