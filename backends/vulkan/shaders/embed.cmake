# SPDX-License-Identifier: Apache-2.0
# cmake -DNAMES=a;b -DFOLDER=... -DTO=file.c -P embed.cmake: FOLDER/<name>.spv as words of C, and the table of them. SPIR-V
# is little-endian here, as the compiler wrote it.
list(LENGTH NAMES count)
set(text "/* Made by embed.cmake. */\n#include \"vulkan_shaders.h\"\n\n")
set(table "")
foreach(name ${NAMES})
  file(READ ${FOLDER}/${name}.spv hex HEX)
  string(REGEX REPLACE "(..)(..)(..)(..)" "0x\\4\\3\\2\\1," words "${hex}")
  string(REGEX REPLACE "(0x........,0x........,0x........,0x........,0x........,0x........,0x........,0x........,)"
    "\\1\n" words "${words}")
  string(APPEND text "static const uint32_t ${name}_words[] = {\n${words}};\n")
  string(APPEND table "  [VULKAN_SHADER_${name}] = {${name}_words, sizeof ${name}_words, \"${name}\"},\n")
endforeach()
string(APPEND text "\n_Static_assert(VULKAN_SHADER_COUNT == ${count}, \"a shader is not in both lists\");\n"
  "const vulkan_spirv vulkan_spirv_of[VULKAN_SHADER_COUNT] = {\n${table}};\n")
file(WRITE ${TO} "${text}")
