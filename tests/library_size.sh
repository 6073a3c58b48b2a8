#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# library_size.sh SOURCE BUILD COMPILER BYTES: the stripped shared library of the cpu preset must be below BYTES.
set -euo pipefail
source=$1 build=$2 compiler=$3 most=$4
cd "$source"
cmake --preset cpu -B "$build" -DCMAKE_C_COMPILER="$compiler" >/dev/null
cmake --build "$build" --target outrider >/dev/null
library=$build/liboutrider.stripped.so
strip -o "$library" "$build/lib/liboutrider.so.0"
bytes=$(stat -c %s "$library")
echo "stripped shared library of the cpu preset: $bytes bytes (must be below $most)"
[ "$bytes" -lt "$most" ]
