// SPDX-License-Identifier: Apache-2.0
/* The backends of this build, in a visible order: the first is preferred where no self-check decides, the reference is
 * last. */
#include "backend.h"

static const otr_backend *const backends[] = {
#if OUTRIDER_CUDA
    &otr_cuda_backend,
#endif
#if OUTRIDER_VULKAN
    &otr_vulkan_backend,
#endif
#if OUTRIDER_X86
    &otr_x86_backend,
#endif
#if OUTRIDER_NEON
    &otr_neon_backend,
#endif
    &otr_cpu_backend,
    NULL,
};

const otr_backend *const *otr_backends(void) {
  return backends;
}
