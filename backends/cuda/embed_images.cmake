# SPDX-License-Identifier: Apache-2.0
# The table of device code: cmake -DTABLE=name:capability:is_ptx;... -DFOLDER= -DOUT= -P embed_images.cmake
set(data "")
set(rows "")
set(n 0)
foreach(entry ${TABLE})
  string(REPLACE ":" ";" entry "${entry}")
  list(GET entry 0 name)
  list(GET entry 1 capability)
  list(GET entry 2 is_ptx)
  file(SIZE ${FOLDER}/${name} bytes)
  # a text ends with a 0 byte
  string(APPEND data "__asm__(\".section .rodata\\n.balign 64\\notr_cuda_${name}:\\n.incbin \\\"${FOLDER}/${name}\\\"\\n.byte 0\\n.previous\\n\");\n")
  string(APPEND data "__attribute__((visibility(\"hidden\"))) extern const unsigned char otr_cuda_${name}[];\n")
  string(APPEND rows "  {${capability}, ${is_ptx}, otr_cuda_${name}, ${bytes}, \"${name}\"},\n")
  math(EXPR n "${n} + 1")
endforeach()
file(WRITE ${OUT} "// Generated: the device code of this build.\n#include \"cuda_images.h\"\n\n${data}\n"
  "const cuda_image cuda_images[] = {\n${rows}};\nconst int32_t cuda_n_images = ${n};\n")
