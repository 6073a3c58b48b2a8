#version 450
// SPDX-License-Identifier: Apache-2.0
/* linear, a thread per output. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "linear_row.glsl"
