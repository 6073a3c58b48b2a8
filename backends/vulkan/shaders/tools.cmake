# SPDX-License-Identifier: Apache-2.0
# What compiles shaders: OUTRIDER_GLSLANG, OUTRIDER_SPIRV_VAL, OUTRIDER_SPIRV_OPT; `OUTRIDER_SHADERS_LACK` lists what was
# not found, by the names of Debian's packages.
find_program(OUTRIDER_GLSLANG NAMES glslangValidator glslang DOC "GLSL to SPIR-V")
find_program(OUTRIDER_SPIRV_VAL spirv-val DOC "checker of SPIR-V")
find_program(OUTRIDER_SPIRV_OPT spirv-opt DOC "optimizer of SPIR-V")
mark_as_advanced(OUTRIDER_GLSLANG OUTRIDER_SPIRV_VAL OUTRIDER_SPIRV_OPT)
set(OUTRIDER_SHADERS_LACK "")
if(NOT OUTRIDER_GLSLANG)
  list(APPEND OUTRIDER_SHADERS_LACK glslang-tools)
endif()
if(NOT OUTRIDER_SPIRV_VAL OR NOT OUTRIDER_SPIRV_OPT)
  list(APPEND OUTRIDER_SHADERS_LACK spirv-tools)
endif()
