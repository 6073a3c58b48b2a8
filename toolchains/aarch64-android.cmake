# SPDX-License-Identifier: Apache-2.0
# Android 7 and later on arm64, with the NDK that -DANDROID_NDK=... or ANDROID_NDK_HOME names. Segments are aligned to
# 16 KB pages, which Android 15 devices may have and 4 KB ones take as well.
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES ANDROID_NDK)
if(NOT ANDROID_NDK)
  set(ANDROID_NDK "$ENV{ANDROID_NDK_HOME}")
endif()
if(NOT EXISTS "${ANDROID_NDK}/build/cmake/android.toolchain.cmake")
  message(FATAL_ERROR "There is no Android NDK at \"${ANDROID_NDK}\": name it with -DANDROID_NDK=... or ANDROID_NDK_HOME")
endif()
set(ANDROID_ABI arm64-v8a)
if(NOT ANDROID_PLATFORM)
  set(ANDROID_PLATFORM android-24)
endif()
set(ANDROID_SUPPORT_FLEXIBLE_PAGE_SIZES ON)
# As an option of directories: flags' initial values are dropped by the file that most NDKs take by default, and NDKs
# before r27 do not know the line above.
add_link_options(-Wl,-z,max-page-size=16384)
include("${ANDROID_NDK}/build/cmake/android.toolchain.cmake")
