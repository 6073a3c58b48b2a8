// SPDX-License-Identifier: Apache-2.0
/* Shaders made wrong, as drivers make them wrong. */
#ifndef TESTS_VULKAN_SHIM_SPIRV_H
#define TESTS_VULKAN_SHIM_SPIRV_H

#include <stddef.h>
#include <stdint.h>

/** A copy of a module (free()) with every 4 x 8-bit dot product turned into an exclusive or, and every f32 sum
 *  multiplied by 1 + 2^-23. NULL: no memory. @param[in,out] bytes of the module, then of the copy */
uint32_t *shim_spirv(const uint32_t *code, size_t *bytes, int wrong_dot, int wrong_add);

#endif
