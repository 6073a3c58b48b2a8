# SPDX-License-Identifier: Apache-2.0
# Functions that the folders' lists use.

# outrider_library(<name> <objects> <version node> [<part>]): the shared library lib<name>.so (soname 0, only OTR_API
# symbols, versioned) as target <name>, the static one as <name>_static, both from <objects>. Installed, they are
# outrider::[<part>_]shared and outrider::[<part>_]static, each in an export of its own.
function(outrider_library name objects node)
  set(script ${PROJECT_BINARY_DIR}/${name}.map)
  file(CONFIGURE OUTPUT ${script} CONTENT "@node@ { global: otr_*; local: *; };\n" @ONLY)
  add_library(${name} SHARED $<TARGET_OBJECTS:${objects}>)
  set_target_properties(${name} PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION 0 LINK_DEPENDS ${script}
    LINKER_LANGUAGE C)
  target_link_options(${name} PRIVATE -Wl,--version-script=${script} -Wl,--as-needed)
  if(NOT CMAKE_C_FLAGS MATCHES "-fsanitize")
    target_link_options(${name} PRIVATE -Wl,-z,defs)
  endif()
  add_library(${name}_static STATIC $<TARGET_OBJECTS:${objects}>)
  set_target_properties(${name}_static PROPERTIES OUTPUT_NAME ${name} LINKER_LANGUAGE C)
  target_link_libraries(${name} PRIVATE m Threads::Threads ${CMAKE_DL_LIBS})
  target_link_libraries(${name}_static INTERFACE m Threads::Threads ${CMAKE_DL_LIBS})
  set(part "")
  if(ARGC GREATER 3)
    set(part ${ARGV3}_)
  endif()
  set_target_properties(${name} PROPERTIES EXPORT_NAME ${part}shared)
  set_target_properties(${name}_static PROPERTIES EXPORT_NAME ${part}static)
  foreach(library ${name} ${name}_static)
    get_target_property(export ${library} EXPORT_NAME)
    target_include_directories(${library} INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/sdk/include>)
    install(TARGETS ${library} EXPORT outrider-${export}
      LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
      INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
    install(EXPORT outrider-${export} NAMESPACE outrider:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/outrider)
  endforeach()
endfunction()

# The others are unrolled by hand, and as fast with the options of the rest.
set(OUTRIDER_KERNEL_FLAGS "" CACHE STRING "compiler options of ISA files that -Os would slow down")

# outrider_isa(<options> <file>...): adds runtime sources of the current folder that are compiled with `options`.
function(outrider_isa options)
  foreach(file ${ARGN})
    set_source_files_properties(${CMAKE_CURRENT_SOURCE_DIR}/${file} TARGET_DIRECTORY outrider_objects
      PROPERTIES COMPILE_OPTIONS "${options}")
    target_sources(outrider_objects PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/${file})
  endforeach()
endfunction()

# Sets `result` when the x86 kernels are to be built: OUTRIDER_X86, and under AUTO what target and compiler can do.
function(outrider_want_x86 result)
  set(${result} OFF PARENT_SCOPE)
  if(OUTRIDER_X86 STREQUAL "OFF")
    return()
  endif()
  set(able OFF)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$" AND CMAKE_SIZEOF_VOID_P EQUAL 8)
    cmake_push_check_state(RESET)
    check_c_compiler_flag("-mavx512vnni -mavx512vl -mavxvnni -mf16c -mfma" OUTRIDER_CC_HAS_VNNI)
    cmake_pop_check_state()
    set(able ${OUTRIDER_CC_HAS_VNNI})
  endif()
  if(OUTRIDER_X86 STREQUAL "ON" AND NOT able)
    message(FATAL_ERROR "OUTRIDER_X86=ON: not an x86-64 target, or the compiler lacks -mavx512vnni or -mavxvnni")
  endif()
  set(${result} ${able} PARENT_SCOPE)
endfunction()

# The same for the NEON kernels.
function(outrider_want_neon result)
  set(${result} OFF PARENT_SCOPE)
  if(OUTRIDER_NEON STREQUAL "OFF")
    return()
  endif()
  set(able OFF)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64|ARM64)$" AND CMAKE_SIZEOF_VOID_P EQUAL 8)
    check_c_compiler_flag("-march=armv8.2-a+dotprod+i8mm" OUTRIDER_CC_HAS_I8MM)
    set(able ${OUTRIDER_CC_HAS_I8MM})
  endif()
  if(OUTRIDER_NEON STREQUAL "ON" AND NOT able)
    message(FATAL_ERROR "OUTRIDER_NEON=ON: not a 64-bit Arm target, or the compiler lacks -march=armv8.2-a+dotprod+i8mm")
  endif()
  set(${result} ${able} PARENT_SCOPE)
endfunction()

# outrider_want_gpu(<result> <option> <folder>): `result` ON when the backend is to be built: its sources are there and
# the option is not OFF. What it needs beyond them its own folder looks for, and says what is missing.
function(outrider_want_gpu result option folder)
  set(${result} OFF PARENT_SCOPE)
  if(${option} STREQUAL "OFF")
    return()
  endif()
  if(EXISTS ${PROJECT_SOURCE_DIR}/backends/${folder}/CMakeLists.txt)
    set(${result} ON PARENT_SCOPE)
  elseif(${option} STREQUAL "ON")
    message(FATAL_ERROR "${option}=ON: backends/${folder} is not there")
  endif()
endfunction()

# outrider_test(<name> quick|full SOURCES <file>... [LIBRARIES <target>...] [ARGUMENTS <arg>...] [TIMEOUT <seconds>]
#               [THREADS]): a program of the tests folder and its ctest of the same name. It gets outrider_core and Check.
# Exit status 77 is "skipped". THREADS adds the label that the tsan run selects, and the program to the target
# `thread_tests`.
function(outrider_test name label)
  cmake_parse_arguments(PARSE_ARGV 2 T "THREADS" "TIMEOUT" "SOURCES;LIBRARIES;ARGUMENTS")
  add_executable(${name} ${T_SOURCES})
  target_link_libraries(${name} PRIVATE ${T_LIBRARIES} outrider_core PkgConfig::check)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  if(NOT T_TIMEOUT)
    set(T_TIMEOUT 300)
  endif()
  if(CMAKE_CROSSCOMPILING) # an emulator
    math(EXPR T_TIMEOUT "${T_TIMEOUT} * 3")
  endif()
  add_test(NAME ${name} COMMAND ${name} ${T_ARGUMENTS})
  set_tests_properties(${name} PROPERTIES LABELS "${label}$<$<BOOL:${T_THREADS}>:;threads>" SKIP_RETURN_CODE 77
    TIMEOUT ${T_TIMEOUT})
  if(T_THREADS)
    add_dependencies(thread_tests ${name})
  endif()
endfunction()

# outrider_fuzz(<name> SOURCES <file>... [LIBRARIES <target>...] [CORPUS <folder>]): LLVMFuzzerTestOneInput in <file>;
# under OUTRIDER_FUZZ a libFuzzer program, else one that replays the files of tests/fuzz/corpus/<folder> (<name> where
# none is given), which is also a quick ctest.
function(outrider_fuzz name)
  cmake_parse_arguments(PARSE_ARGV 1 T "" "CORPUS" "SOURCES;LIBRARIES")
  if(NOT T_CORPUS)
    set(T_CORPUS ${name})
  endif()
  set(corpus ${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/${T_CORPUS})
  add_executable(${name} ${T_SOURCES})
  target_link_libraries(${name} PRIVATE ${T_LIBRARIES} outrider_core)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  if(OUTRIDER_FUZZ)
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
    add_test(NAME ${name} COMMAND ${name} -runs=0 ${corpus})
  else()
    target_sources(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests/fuzz/replay.c)
    add_test(NAME ${name} COMMAND ${name} ${corpus})
  endif()
  set_tests_properties(${name} PROPERTIES LABELS quick TIMEOUT 300)
  if(NOT TARGET fuzz_targets)
    add_custom_target(fuzz_targets)
  endif()
  add_dependencies(fuzz_targets ${name})
endfunction()
