#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# scripts/size-report.sh [--most BYTES] [CMAKE-OPTION...]: what the runtime adds to a static app that feeds ids and gets
# logits (examples/ids.c), by the options of its build; CMAKE-OPTIONs name a toolchain file. A table as in docs/packaging.md.
# With --most the row "small" must not be above BYTES; only that row is built.
set -euo pipefail
. "$(dirname "$0")/common.sh"

most=
if [ "${1:-}" = --most ]; then
  most=$2
  shift 2
fi
target=("$@")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
small="-Os -DNDEBUG -ffunction-sections -fdata-sections -fno-asynchronous-unwind-tables -fno-unwind-tables"

quiet() { "$@" >"$folder/log" 2>&1 || { cat "$folder/log" >&2; fail "FAILED: $*"; }; }

# row NAME FLAGS [CMAKE-OPTION...]: one build of the SDK and of the app, and its line.
row() {
  local name=$1 flags=$2 bytes stripped
  shift 2
  rm -rf "$folder/sdk" "$folder/build" "$folder/app"
  quiet cmake -S "$root" -B "$folder/build" -G Ninja -DCMAKE_BUILD_TYPE=None -DCMAKE_C_FLAGS="$flags" \
    -DCMAKE_SHARED_LINKER_FLAGS="-Wl,--gc-sections" -DOUTRIDER_TEXT=OFF -DOUTRIDER_TOOLS=OFF -DOUTRIDER_TESTS=OFF \
    -DOUTRIDER_VULKAN=OFF -DOUTRIDER_CUDA=OFF \
    "${target[@]}" "$@"
  quiet cmake --build "$folder/build"
  quiet cmake --install "$folder/build" --strip --prefix "$folder/sdk"
  quiet cmake -S "$root/examples" -B "$folder/app" -G Ninja -DCMAKE_BUILD_TYPE=None -DCMAKE_C_FLAGS="$flags" \
    -DEXAMPLES_LINK=static -DCMAKE_PREFIX_PATH="$folder/sdk" -DCMAKE_FIND_ROOT_PATH="$folder/sdk" "${target[@]}" \
    -DCMAKE_EXE_LINKER_FLAGS="-static -Wl,--gc-sections -Wl,-Map=$folder/ids.map"
  quiet cmake --build "$folder/app" --target ids
  bytes=$("$root/scripts/linker-share.sh" "$folder/ids.map" liboutrider.a)
  stripped=$(stat -L -c %s "$folder"/sdk/lib/liboutrider.so)
  printf '| %s | %d | %d |\n' "$name" "$bytes" "$stripped"
  [ "$name" != small ] || share=$bytes
}

if [ -n "$most" ]; then
  row small "$small" -DOUTRIDER_KERNEL_FLAGS=-O2
  [ "$share" -le "$most" ] || fail "the runtime's share is above $most bytes"
  exit 0
fi
printf '| build | share of a static app (bytes) | stripped shared library |\n|---|---|---|\n'
row "release (-O3)" "-O3 -DNDEBUG"
row "small" "$small" -DOUTRIDER_KERNEL_FLAGS=-O2
row "small, no kernels but the reference" "$small" -DOUTRIDER_X86=OFF -DOUTRIDER_NEON=OFF
