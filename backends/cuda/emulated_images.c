// SPDX-License-Identifier: Apache-2.0
/* The table of device code where there is none: tests' fake driver finds the emulated kernels for it, every other
 * refuses it. */
#include "cuda_images.h"

static const unsigned char text[] = "EMULATED";
const cuda_image cuda_images[] = {{10, 1, text, sizeof text, "the emulation"}};
const int32_t cuda_n_images = 1;
