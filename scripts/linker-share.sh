#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# scripts/linker-share.sh MAP ARCHIVE: the bytes that ARCHIVE's objects take in a program, from its linker map: code and
# constants, initialized data.
set -euo pipefail
awk -v archive="$2" '
  function hex(text, i, value) { # as mawk has none
    for (i = 3; i <= length(text); i++) value = 16 * value + index("0123456789abcdef", substr(text, i, 1)) - 1
    return value
  }
  /^Linker script and memory map/ { inside = 1; next }
  !inside { next }
  # A long section name stands on a line of its own.
  NF == 1 && /^ [.A-Za-z*]/ { name = $1; next }
  {
    if ($1 !~ /^0x/) name = $1
    first = $1 ~ /^0x/ ? 1 : 2
    if (index($0, archive "(") == 0 || $first !~ /^0x/ || $(first + 1) !~ /^0x/) next
    if ($first ~ /^0x0*$/ || name ~ /^\.(comment|debug|note)/) next # not loaded
    bytes = hex($(first + 1))
    if (name !~ /^(\.bss|\.tbss|COMMON)/) sum += bytes # zeroed memory is in no file
  }
  END { print sum + 0 }' "$1"
