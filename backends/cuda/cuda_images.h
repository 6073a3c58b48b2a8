// SPDX-License-Identifier: Apache-2.0
/* The device code of this build: a generated table (CMakeLists.txt). Each image holds all kernels of cuda_kernels.h. */
#ifndef OTR_CUDA_IMAGES_H
#define OTR_CUDA_IMAGES_H

#include <stddef.h>
#include <stdint.h>

typedef struct cuda_image {
  int32_t capability; /* 10 * major + minor that it is made for; PTX: the lowest it can be compiled for */
  int32_t is_ptx;     /* text, ended by a 0 byte */
  const unsigned char *data;
  size_t bytes;
  const char *name; /* as in messages: "sm_87", "compute_80" */
} cuda_image;

extern const cuda_image cuda_images[]; /* [cuda_n_images] */
extern const int32_t cuda_n_images;

#endif
