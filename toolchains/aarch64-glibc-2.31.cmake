# SPDX-License-Identifier: Apache-2.0
# 64-bit Arm Linux for every glibc from 2.31 on (JetPack 5, Debian 11, Ubuntu 20.04): clang of the Zig distribution, which
# links against any glibc that is asked for. OUTRIDER_ZIG: its `zig` (PyPI: ziglang; scripts/arm64-release.sh gets it).
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES OUTRIDER_ZIG)
if(NOT OUTRIDER_ZIG)
  find_program(OUTRIDER_ZIG zig REQUIRED)
endif()
set(CMAKE_C_COMPILER ${OUTRIDER_ZIG} cc)
set(CMAKE_C_COMPILER_TARGET aarch64-linux-gnu.2.31)
find_program(CMAKE_AR NAMES aarch64-linux-gnu-ar llvm-ar REQUIRED)
find_program(CMAKE_RANLIB NAMES aarch64-linux-gnu-ranlib llvm-ranlib REQUIRED)
find_program(CMAKE_STRIP NAMES aarch64-linux-gnu-strip llvm-strip)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(ENV{PKG_CONFIG_LIBDIR} /usr/lib/aarch64-linux-gnu/pkgconfig:/usr/share/pkgconfig)
