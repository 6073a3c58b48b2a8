// SPDX-License-Identifier: Apache-2.0
/* What row.comp does with a row before the quantizer: its constant 2. Included by GLSL and C alike. */
#ifndef OTR_VULKAN_ROW
#define OTR_VULKAN_ROW

#define ROW_NOTHING 0
#define ROW_NORM 1
#define ROW_ADD_NORM 2 /* the residual sum, and its norm */
#define ROW_ACT 3
#define ROW_GLU 4

#endif
