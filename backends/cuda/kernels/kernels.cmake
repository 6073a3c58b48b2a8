# SPDX-License-Identifier: Apache-2.0
# All kernel files, for the device code (one image of all of them) and for the emulation.
set(OUTRIDER_CUDA_KERNELS
)
