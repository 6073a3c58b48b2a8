#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# android_toolchain.sh SOURCE COMPILER: toolchains/aarch64-android.cmake without an NDK (its messages), and with a
# stand-in for one that does to CMake what an NDK does, around a cross COMPILER for arm64: the runtime and the examples
# that need no text library are built, and their segments must be aligned to 16 KB.
set -euo pipefail
source=$1 compiler=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset ANDROID_NDK_HOME
toolchain=$source/toolchains/aarch64-android.cmake

quiet() { "$@" >"$folder/log" 2>&1 || { cat "$folder/log"; echo "FAILED: $*"; exit 1; }; }

# refused PATTERN CMAKE-OPTION...: configuring fails and says so.
refused() {
  local pattern=$1
  shift
  rm -rf "$folder/refused"
  if cmake -S "$source" -B "$folder/refused" -G Ninja --toolchain "$toolchain" "$@" >"$folder/log" 2>&1; then
    echo "FAILED: configured with: $*"
    exit 1
  fi
  tr '\n' ' ' <"$folder/log" | tr -s ' ' | grep -qF -- "$pattern" || { cat "$folder/log"; echo "FAILED: no $pattern"; exit 1; }
}

# aligned FILE...: every segment that is loaded, to 0x4000 bytes.
aligned() {
  local file
  for file in "$@"; do
    readelf -lW "$file" | awk '$1 == "LOAD" { n++; wrong += $NF != "0x4000" } END { exit n == 0 || wrong > 0 }' || {
      readelf -lW "$file"; echo "FAILED: $file is not aligned to 16 KB"; exit 1; }
  done
}

refused 'There is no Android NDK at "": name it with -DANDROID_NDK=... or ANDROID_NDK_HOME'
refused "There is no Android NDK at \"$folder\"" -DANDROID_NDK="$folder"

mkdir -p "$folder/ndk/build/cmake"
cat >"$folder/ndk/build/cmake/android.toolchain.cmake" <<END
if(NOT ANDROID_ABI STREQUAL "arm64-v8a" OR NOT ANDROID_PLATFORM STREQUAL "android-24")
  message(FATAL_ERROR "ABI \${ANDROID_ABI}, platform \${ANDROID_PLATFORM}")
endif()
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER $compiler)
list(APPEND CMAKE_FIND_ROOT_PATH "\${ANDROID_NDK}")
foreach(what LIBRARY INCLUDE PACKAGE)
  set(CMAKE_FIND_ROOT_PATH_MODE_\${what} ONLY)
endforeach()
foreach(kind SHARED EXE)
  set(CMAKE_\${kind}_LINKER_FLAGS "" CACHE STRING "as the NDK has it")
  set(CMAKE_\${kind}_LINKER_FLAGS "-Wl,--fatal-warnings \${CMAKE_\${kind}_LINKER_FLAGS}")
endforeach()
END
ndk=(-G Ninja --toolchain "$toolchain" -DANDROID_NDK="$folder/ndk" -DCMAKE_BUILD_TYPE=None)
quiet cmake -S "$source" -B "$folder/build" "${ndk[@]}" -DOUTRIDER_TOOLS=OFF -DOUTRIDER_TEXT=OFF -DOUTRIDER_TESTS=OFF \
  -DOUTRIDER_VULKAN=OFF -DOUTRIDER_CUDA=OFF
quiet cmake --build "$folder/build"
quiet cmake --install "$folder/build" --prefix "$folder/sdk"
quiet cmake -S "$source/examples" -B "$folder/examples" "${ndk[@]}" -DCMAKE_FIND_ROOT_PATH="$folder/sdk" \
  -DCMAKE_PREFIX_PATH="$folder/sdk"
quiet cmake --build "$folder/examples"
aligned "$folder/sdk/lib/liboutrider.so" "$folder"/examples/{android_fd,embedded_memory,ids,linear}
echo "messages, and segments of the library and 4 programs aligned to 16 KB"
