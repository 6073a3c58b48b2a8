#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# library_size.sh SOURCE BUILD COMPILER BYTES [VULKAN-BYTES]: the stripped shared library of the cpu preset must be below
# BYTES; with the Vulkan backend (host code and shaders) in it, larger by less than VULKAN-BYTES.
set -euo pipefail
source=$1 build=$2 compiler=$3 most=$4 most_vulkan=${5:-}
cd "$source"

# size_of BUILD CMAKE-OPTION...: bytes of the stripped library.
size_of() {
  local build=$1
  shift
  cmake --preset cpu -B "$build" -DCMAKE_C_COMPILER="$compiler" "$@" >/dev/null
  cmake --build "$build" --target outrider >/dev/null
  strip -o "$build/liboutrider.stripped.so" "$build/lib/liboutrider.so.0"
  stat -c %s "$build/liboutrider.stripped.so"
}

bytes=$(size_of "$build")
echo "stripped shared library of the cpu preset: $bytes bytes (must be below $most)"
[ "$bytes" -lt "$most" ]
[ -n "$most_vulkan" ] || exit 0
vulkan=$(($(size_of "$build-vulkan" -DOUTRIDER_VULKAN=ON) - bytes))
echo "what the Vulkan backend adds to it: $vulkan bytes (must be below $most_vulkan)"
[ "$vulkan" -lt "$most_vulkan" ]
