# SPDX-License-Identifier: Apache-2.0
# All kernel files, for the device code (one image of all of them) and for the emulation.
set(OUTRIDER_CUDA_KERNELS
  act.cu
  add.cu
  attention_chunk.cu
  attention_merge.cu
  copy.cu
  embed.cu
  glu.cu
  glu_quantize.cu
  linear16.cu
  linear_stream.cu
  linear_tile.cu
  linear_union.cu
  norm.cu
  norm_quantize.cu
  numerics.cu
  position.cu
  quantize.cu
  rope_kv.cu
  round16.cu
  select.cu
)

# What they share: taken before them, for the image.
set(OUTRIDER_CUDA_HEADERS
  attention.cuh
  device.cuh
  linear.cuh
  norm.cuh
  quantize.cuh
)

# A kernel that is in neither would be missed on a device only.
file(GLOB found RELATIVE ${CMAKE_CURRENT_LIST_DIR} ${CMAKE_CURRENT_LIST_DIR}/*.cu ${CMAKE_CURRENT_LIST_DIR}/*.cuh)
list(REMOVE_ITEM found cuda_wrap.cuh ${OUTRIDER_CUDA_KERNELS} ${OUTRIDER_CUDA_HEADERS})
if(found)
  message(FATAL_ERROR "backends/cuda/kernels/kernels.cmake does not list ${found}")
endif()
