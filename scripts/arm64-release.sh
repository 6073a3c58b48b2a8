#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# scripts/arm64-release.sh [CMAKE-OPTION...]: the SDK, the command and the examples for 64-bit Arm Linux with glibc 2.31 or
# newer, in build/arm64-release/sdk; ends with what each file needs, and runs some where qemu-aarch64 and Debian's arm64
# libc are. The compiler comes from PyPI (ziglang, 80 MB) into the cache folder, once.
set -euo pipefail
. "$(dirname "$0")/common.sh"

version=0.13.0
folder=$root/build/arm64-release
parts=$folder/parts # utf8proc and jansson, apart from the host's headers
arm=/usr/lib/aarch64-linux-gnu

get_zig() {
  zig=$cache/ziglang-$version/ziglang/zig
  [ -x "$zig" ] && return
  say "downloading ziglang $version from PyPI to $cache"
  python3 -m pip install --quiet --root-user-action ignore --disable-pip-version-check --no-deps --target "$cache/ziglang.$$" \
    "ziglang==$version" >&2
  rm -rf "$cache/ziglang-$version"
  mv "$cache/ziglang.$$" "$cache/ziglang-$version"
}

# part PACKAGE NAME HEADER...: a static library of Debian's arm64 packages with its headers, as a pkg-config package.
part() {
  local package=$1 name=$2
  shift 2
  mkdir -p "$parts/include" "$parts/lib/pkgconfig"
  cp "$arm/lib$name.a" "$parts/lib/"
  cp "$@" "$parts/include/"
  cat >"$parts/lib/pkgconfig/$package.pc" <<END
Name: $name
Description: of Debian
Version: $(pkg-config --modversion "$package")
Cflags: -I$parts/include
Libs: -L$parts/lib -l$name
END
}

need_build_tools
need_model_tools
need readelf binutils
need aarch64-linux-gnu-ar binutils-aarch64-linux-gnu
if [ ! -e "$arm/libutf8proc.a" ] || [ ! -e "$arm/libjansson.a" ]; then
  [ "$(id -u)" -ne 0 ] || dpkg --add-architecture arm64
  missing+=(libutf8proc-dev:arm64 libjansson-dev:arm64)
fi
install_missing
mkdir -p "$cache" "$folder"
get_zig
part libutf8proc utf8proc /usr/include/utf8proc.h
part jansson jansson /usr/include/jansson.h "$(find /usr/include -name jansson_config.h -print -quit)"

say "building in $folder"
options=(-G Ninja --toolchain "$root/toolchains/aarch64-glibc-2.31.cmake" -DOUTRIDER_ZIG="$zig"
  -DCMAKE_BUILD_TYPE=Release)
{
  cmake -S "$root" -B "$folder/build" "${options[@]}" -DCMAKE_PREFIX_PATH="$parts" -DOUTRIDER_TESTS=OFF "$@"
  cmake --build "$folder/build"
  rm -rf "$folder/sdk"
  cmake --install "$folder/build" --strip --prefix "$folder/sdk"
  cmake -S "$root/examples" -B "$folder/examples" "${options[@]}" -DCMAKE_PREFIX_PATH="$folder/sdk" \
    -DCMAKE_FIND_ROOT_PATH="$folder/sdk"
  cmake --build "$folder/examples"
} >"$folder/log" 2>&1 || { tail -n 40 "$folder/log" >&2; fail "the whole output is in $folder/log"; }

programs=("$folder"/examples/{minimal,chat,ids,linear,embedded_memory,android_fd,embeddings,assistant/assistant})
[ ! -e "$folder/sdk/bin/outrider" ] || programs+=("$folder/sdk/bin/outrider")
"$root/scripts/glibc-needs.sh" 2.31 "$folder"/sdk/lib/*.so "${programs[@]}"
if command -v qemu-aarch64 >/dev/null && [ -e /lib/ld-linux-aarch64.so.1 ]; then
  say "running under qemu"
  qemu-aarch64 "$folder/examples/linear"
fi
