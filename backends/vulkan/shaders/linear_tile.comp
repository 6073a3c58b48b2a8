#version 450
// SPDX-License-Identifier: Apache-2.0
/* linear, many rows. */
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "common.glsl"
#include "linear_tile.glsl"
