// SPDX-License-Identifier: Apache-2.0
/* What test_cuda_emulation.c gives trial_kernels.cu. */
#ifndef TRIAL_KERNELS_H
#define TRIAL_KERNELS_H

#include <stdint.h>

enum {
  TRIAL_RIGHT,
  TRIAL_NO_WAIT,    /* cp.async is not waited for */
  TRIAL_NO_BARRIER, /* shared memory without __syncthreads */
  TRIAL_DIVERGED,   /* a lane shuffles elsewhere */
  TRIAL_DEADLOCK,   /* a barrier that a thread never reaches */
  TRIAL_MISALIGNED,
  TRIAL_OVER_READ /* of global memory */
};
enum { TRIAL_WARP_RESULTS = 10 };

struct trial_args {
  uint64_t a, b, out; /* addresses */
  int32_t k, variant, fault;
};

#endif
