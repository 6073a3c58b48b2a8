# SPDX-License-Identifier: Apache-2.0
# One image: cmake -DNVCC= -DSOURCE= -DOUT= -DINCLUDES= -DARCH= [-DPTX_VERSION=] [-DPTXAS=] -P compile_image.cmake
# Without PTX_VERSION a cubin by nvcc; with it PTX whose version is lowered, which PTXAS, where given, makes a cubin of.
# What ptxas says of registers and spills goes to OUT.log, for tests.
set(flags -std=c++17 -O3 -fmad=false)
foreach(folder ${INCLUDES})
  list(APPEND flags -I${folder})
endforeach()
list(APPEND flags -MD -MF ${OUT}.d -MT ${OUT})

function(run output)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE failed OUTPUT_VARIABLE said ERROR_VARIABLE said)
  if(failed)
    list(JOIN ARGN " " command)
    message(FATAL_ERROR "${command}\n${said}")
  endif()
  set(${output} "${said}" PARENT_SCOPE)
endfunction()

set(log "")
if(NOT PTX_VERSION)
  run(log ${NVCC} ${flags} -arch=sm_${ARCH} -cubin -Xptxas -v -o ${OUT} ${SOURCE})
else()
  run(_ ${NVCC} ${flags} -arch=compute_${ARCH} -ptx -o ${OUT}.ptx ${SOURCE})
  file(READ ${OUT}.ptx text)
  string(REGEX REPLACE "(^|\n)//[^\n]*" "" text "${text}")
  # a hint that assemblers of now refuse in PTX of then
  string(REGEX REPLACE "\n[ \t]*\\.pragma \"used_bytes_mask[^\n]*" "" text "${text}")
  string(REGEX REPLACE "\\.version [0-9]+\\.[0-9]+" ".version ${PTX_VERSION}" text "${text}")
  file(WRITE ${OUT}.ptx "${text}")
  if(PTXAS)
    run(log ${PTXAS} -arch=sm_${ARCH} -O3 -fmad=false -v -o ${OUT} ${OUT}.ptx)
  else()
    run(_ ${NVCC} -arch=sm_${ARCH} -cubin -o ${OUT}.cubin ${OUT}.ptx) # is it PTX of that version?
    file(WRITE ${OUT} "${text}")
  endif()
endif()
file(WRITE ${OUT}.log "${log}")
