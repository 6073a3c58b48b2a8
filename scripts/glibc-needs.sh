#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# scripts/glibc-needs.sh MOST FILE...: what each ELF file needs of glibc, by the versions of its undefined symbols; fails
# when one needs more than MOST ("2.31").
set -euo pipefail
most=$1
shift
status=0
for file in "$@"; do
  needs=$(readelf -VW "$file" | grep -o 'Name: GLIBC_[0-9.]*' | sed 's/.*_//' | sort -uV | tail -n 1)
  echo "${file##*/}: needs glibc ${needs:-of any version}"
  if [ "$(printf '%s\n' "$most" "${needs:-0}" | sort -V | tail -n 1)" != "$most" ]; then
    echo "$file: that is above $most" >&2
    status=1
  fi
done
exit $status
