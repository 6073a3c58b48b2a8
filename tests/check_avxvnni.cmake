# SPDX-License-Identifier: Apache-2.0
# cmake -DOBJDUMP=... -DOBJECT=linear_avxvnni.c.o -P check_avxvnni.cmake
# A CPU with AVX-VNNI need not have AVX-512: the AVX-VNNI object must hold vpdpbusd in its VEX form (first byte c4 or
# c5), and no EVEX instruction (62, in 64-bit code nothing else) and no zmm register at all.
cmake_minimum_required(VERSION 3.22)
execute_process(COMMAND ${OBJDUMP} -d ${OBJECT} OUTPUT_VARIABLE text COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL ":[ \t]+c[45] [0-9a-f \t]+([{]vex[}][ \t]*)?vpdpbusd[ \t]" vex "${text}")
string(REGEX MATCHALL ":[ \t]+62 [0-9a-f ]+[ \t][^\n]*" evex "${text}")
string(REGEX MATCHALL "[^\n]*zmm[^\n]*" zmm "${text}")
list(LENGTH vex n_vex)
list(LENGTH evex n_evex)
list(LENGTH zmm n_zmm)
message("${OBJECT}: ${n_vex} VEX vpdpbusd, ${n_evex} EVEX instructions, ${n_zmm} uses of zmm")
if(n_vex EQUAL 0 OR n_evex GREATER 0 OR n_zmm GREATER 0)
  message(FATAL_ERROR "not a VEX-only AVX-VNNI object: ${evex} ${zmm}")
endif()
