// SPDX-License-Identifier: Apache-2.0
/* Kernel tables of the x86 devices, for the harness. */
#ifndef OTR_X86_BACKEND_H
#define OTR_X86_BACKEND_H

#include "kernels.h"

/** The kernels of device `index` of otr_x86_backend; only for a device that describe() finds available. */
const otr_cpu_kernels *otr_x86_kernels(int32_t index);

#endif
