#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# installed_sdk.sh SOURCE BUILD [CMAKE-OPTION...]: installs the build into a folder, moves that (an installed SDK holds
# no path of where it was made), and builds and runs tests/consumer against it: with find_package, and natively with
# pkg-config. For a cross build the options name its toolchain file and its emulator.
set -euo pipefail
source=$1 build=$2
shift 2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# quiet COMMAND...: its output only when it fails.
quiet() { "$@" >"$folder/log" 2>&1 || { cat "$folder/log"; echo "FAILED: $*"; exit 1; }; }

quiet cmake --install "$build" --prefix "$folder/made"
mv "$folder/made" "$folder/sdk"
if grep -rIlF -e "$folder/made" -e "$build" -e "$source" "$folder/sdk"; then
  echo "FAILED: these installed files hold paths of the build"
  exit 1
fi
quiet cmake -S "$source/tests/consumer" -B "$folder/consumer" -G Ninja -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_FIND_ROOT_PATH="$folder/sdk" -DCMAKE_PREFIX_PATH="$folder/sdk" "$@"
quiet cmake --build "$folder/consumer"
quiet ctest --test-dir "$folder/consumer" --output-on-failure --no-tests=error
echo "find_package: $(ctest --test-dir "$folder/consumer" -N | sed -n 's/^Total Tests: //p') programs"

case " $* " in *CMAKE_TOOLCHAIN_FILE*) exit 0 ;; esac
libraries=$(dirname "$(find "$folder/sdk" -name liboutrider.so)")
export PKG_CONFIG_PATH=$libraries/pkgconfig LD_LIBRARY_PATH=$libraries
# Words of pkg-config are options.
# shellcheck disable=SC2046
for name in runtime text; do
  package=outrider
  [ "$name" = runtime ] || package=outrider-text
  pkg-config --exists "$package" || continue
  quiet cc "$source/tests/consumer/$name.c" $(pkg-config --cflags --libs "$package") -lm -o "$folder/$name"
  quiet "$folder/$name"
  quiet cc -static "$source/tests/consumer/$name.c" $(pkg-config --static --cflags --libs "$package") -o "$folder/$name"
  quiet "$folder/$name"
  echo "pkg-config $package: shared and static"
done
