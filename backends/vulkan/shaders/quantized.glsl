// SPDX-License-Identifier: Apache-2.0
/* A row of the quantized layout (../vulkan_layout.c). Included by GLSL and C alike. */
#ifndef OTR_VULKAN_QUANTIZED
#define OTR_VULKAN_QUANTIZED

/* The head of a row, in words; heads of all rows, then q of all rows, then lists of all rows. */
#define QUANTIZED_SCALE 0 /* scale_i */
#define QUANTIZED_POW2E 1 /* 2^e_i */
#define QUANTIZED_COUNT 2 /* outliers */
#define QUANTIZED_LANES 4 /* [4] outliers of each lane: feature mod 4 */
#define QUANTIZED_HEAD 8

/* An entry of the list of a lane: feature / 4 (15 bits) and x16 (f16 bits). */
#define outlier_entry(feature_by_4, x16) ((feature_by_4) << 16 | (x16))
#define outlier_feature(entry, lane) (((entry) >> 16) * 4u + (lane))

#endif
