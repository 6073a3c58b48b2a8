# SPDX-License-Identifier: Apache-2.0
# What else an installed SDK has: headers, the files of find_package and of pkg-config. The libraries' own rules are in
# outrider_library.
include(CMakePackageConfigHelpers)

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/outrider)
install(FILES sdk/include/outrider/outrider.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/outrider)
if(OUTRIDER_TEXT)
  install(FILES sdk/include/outrider/text.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/outrider)
endif()

configure_package_config_file(cmake/outriderConfig.cmake.in ${PROJECT_BINARY_DIR}/outriderConfig.cmake
  INSTALL_DESTINATION ${package})
# Before 1.0 a minor version may change the ABI.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/outriderConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/outriderConfig.cmake ${PROJECT_BINARY_DIR}/outriderConfigVersion.cmake
  DESTINATION ${package})

# The prefix as seen from the .pc file, so that an installed tree can be moved or be part of a sysroot.
file(RELATIVE_PATH OUTRIDER_PC_PREFIX /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
string(REGEX REPLACE "/$" "" OUTRIDER_PC_PREFIX ${OUTRIDER_PC_PREFIX})
foreach(name outrider outrider-text)
  if(name STREQUAL "outrider" OR OUTRIDER_TEXT)
    configure_file(cmake/${name}.pc.in ${PROJECT_BINARY_DIR}/${name}.pc @ONLY)
    install(FILES ${PROJECT_BINARY_DIR}/${name}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
  endif()
endforeach()
