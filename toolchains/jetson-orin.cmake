# SPDX-License-Identifier: Apache-2.0
# Jetson Orin from a PC: the host's side as in aarch64-linux-gnu.cmake; device code by the PC's nvcc, the same images as in
# a native build (backends/cuda/device_code.cmake says where it looks for nvcc). No CUDA library of the device is needed:
# the runtime opens the driver when it starts.
include(${CMAKE_CURRENT_LIST_DIR}/aarch64-linux-gnu.cmake)
