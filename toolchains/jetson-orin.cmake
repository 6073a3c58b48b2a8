# SPDX-License-Identifier: Apache-2.0
# Jetson Orin from a PC: the host's side as in aarch64-linux-gnu.cmake, device code by the PC's nvcc for Orin's GPU
# (sm_87). No CUDA library of the device is needed: the runtime opens the driver when it starts.
include(${CMAKE_CURRENT_LIST_DIR}/aarch64-linux-gnu.cmake)
find_program(CMAKE_CUDA_COMPILER nvcc HINTS $ENV{CUDACXX} $ENV{CUDA_HOME}/bin /usr/local/cuda/bin)
set(CMAKE_CUDA_HOST_COMPILER ${CMAKE_CXX_COMPILER})
set(CMAKE_CUDA_ARCHITECTURES 87)
