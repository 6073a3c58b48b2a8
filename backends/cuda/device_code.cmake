# SPDX-License-Identifier: Apache-2.0
# Device code: all kernels as one image for each GPU architecture and one PTX, embedded in a table (cuda_images.h). Sets
# cuda_images to its sources; leaves it alone where there is no nvcc.
#
# Images for sm_75 to sm_90 are made as the drivers of JetPack 6 and CUDA 12 read them (ELF ABI 7): by an nvcc before
# 13.0, or from a newer nvcc's PTX, its version lowered, by a ptxas of CUDA 11.8 or 12 (OUTRIDER_OLD_PTXAS). The PTX, for
# GPUs that came later, is of version 7.0, which every driver since CUDA 11 takes.
include(kernels/kernels.cmake)

set(OUTRIDER_CUDA_ARCHITECTURES "75;80;86;87;89;90;100;110;120" CACHE STRING
  "GPU architectures with an image of their own; those that nvcc does not know are left out")
set(tools $ENV{XDG_CACHE_HOME}/outrider/cuda $ENV{HOME}/.cache/outrider/cuda) # scripts/get-cuda.sh
find_program(OUTRIDER_NVCC nvcc DOC "CUDA compiler" HINTS ENV CUDACXX ENV CUDA_HOME ENV CUDA_PATH ${tools}
  PATHS /usr/local/cuda PATH_SUFFIXES bin NO_CMAKE_FIND_ROOT_PATH)
find_program(OUTRIDER_OLD_PTXAS ptxas-old DOC "ptxas of CUDA 11.8 or 12, where nvcc is of 13.0 or later" HINTS ${tools}
  PATH_SUFFIXES bin NO_CMAKE_FIND_ROOT_PATH)
if(NOT OUTRIDER_NVCC)
  return()
endif()

execute_process(COMMAND ${OUTRIDER_NVCC} --version OUTPUT_VARIABLE text ERROR_QUIET)
string(REGEX MATCH "release ([0-9.]+)" _ "${text}")
set(nvcc_version ${CMAKE_MATCH_1})
execute_process(COMMAND ${OUTRIDER_NVCC} --list-gpu-code OUTPUT_VARIABLE known ERROR_QUIET)
if(NOT nvcc_version OR NOT known)
  message(STATUS "CUDA: ${OUTRIDER_NVCC} does not work")
  return()
endif()
set(lowered OFF)
if(nvcc_version VERSION_GREATER_EQUAL 13)
  if(OUTRIDER_OLD_PTXAS)
    set(lowered ON)
  else()
    message(STATUS "CUDA: no ptxas of CUDA 11.8 or 12 beside nvcc ${nvcc_version} (scripts/get-cuda.sh): drivers before 580, "
      "JetPack 6 among them, compile the PTX at their first start")
  endif()
endif()

set(OUTRIDER_CUDA_OLD_ELF OFF PARENT_SCOPE)
if(lowered OR nvcc_version VERSION_LESS 13)
  set(OUTRIDER_CUDA_OLD_ELF ON PARENT_SCOPE)
endif()

# One file that holds all kernels, each file's own names in a namespace.
set(unity "// Generated: all kernels.\n")
foreach(file ${OUTRIDER_CUDA_HEADERS})
  string(APPEND unity "#include \"${file}\"\n")
endforeach()
foreach(file ${OUTRIDER_CUDA_KERNELS})
  string(REPLACE ".cu" "_cu" name ${file})
  string(APPEND unity "namespace ${name} {\n#include \"${file}\"\n}\n")
endforeach()
set(folder ${CMAKE_CURRENT_BINARY_DIR}/images)
file(CONFIGURE OUTPUT ${folder}/kernels.cu CONTENT "${unity}" @ONLY)

# image(<name> <capability> <ptx 0|1> <parameter>...): a command of compile_image.cmake.
set(images "")
set(table "")
function(image name capability is_ptx)
  add_custom_command(OUTPUT ${folder}/${name} COMMENT "CUDA ${name}"
    COMMAND ${CMAKE_COMMAND} -DNVCC=${OUTRIDER_NVCC} -DSOURCE=${folder}/kernels.cu -DOUT=${folder}/${name}
      "-DINCLUDES=${CMAKE_CURRENT_SOURCE_DIR}/kernels;${CMAKE_CURRENT_SOURCE_DIR};${PROJECT_SOURCE_DIR}/sdk/src" ${ARGN}
      -P ${CMAKE_CURRENT_SOURCE_DIR}/compile_image.cmake
    DEPENDS ${folder}/kernels.cu ${CMAKE_CURRENT_SOURCE_DIR}/compile_image.cmake
    DEPFILE ${folder}/${name}.d VERBATIM)
  set(images ${images} ${folder}/${name} PARENT_SCOPE)
  set(table ${table} ${name}:${capability}:${is_ptx} PARENT_SCOPE)
endfunction()

foreach(capability ${OUTRIDER_CUDA_ARCHITECTURES})
  if(NOT known MATCHES "sm_${capability}(\n|$)")
    continue()
  endif()
  if(lowered AND capability LESS 100)
    image(sm_${capability} ${capability} 0 -DARCH=${capability} -DPTX_VERSION=7.8 -DPTXAS=${OUTRIDER_OLD_PTXAS})
  else()
    image(sm_${capability} ${capability} 0 -DARCH=${capability})
  endif()
endforeach()
image(compute_80 80 1 -DARCH=80 -DPTX_VERSION=7.0)

set(cuda_images ${folder}/cuda_images.c)
add_custom_command(OUTPUT ${cuda_images} COMMENT "CUDA table of device code"
  COMMAND ${CMAKE_COMMAND} "-DTABLE=${table}" -DFOLDER=${folder} -DOUT=${cuda_images}
    -P ${CMAKE_CURRENT_SOURCE_DIR}/embed_images.cmake
  DEPENDS ${images} ${CMAKE_CURRENT_SOURCE_DIR}/embed_images.cmake VERBATIM)
set_source_files_properties(${cuda_images} TARGET_DIRECTORY outrider_objects PROPERTIES GENERATED ON INCLUDE_DIRECTORIES ${CMAKE_CURRENT_SOURCE_DIR}
  OBJECT_DEPENDS "${images}")
# Commands are known in their own folder only: the objects, which are another's, wait for this target.
add_custom_target(cuda_device_code DEPENDS ${cuda_images})
add_dependencies(outrider_objects cuda_device_code)
