#version 450
// SPDX-License-Identifier: Apache-2.0
/* linear, few rows. */
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "common.glsl"
#include "linear.glsl"
