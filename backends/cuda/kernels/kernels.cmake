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
  position.cu
  quantize.cu
  rope_kv.cu
  round16.cu
  select.cu
)
