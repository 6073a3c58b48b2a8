#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# library_needs.sh LIBRARY: it may need libc, libm and pthread only, exports otr_ symbols of one version only, and calls
# nothing that ends, prints or changes the process.
set -euo pipefail
library=$1
status=0
complain() { echo "$library: $*"; status=1; }

needed=$(readelf -dW "$library" | sed -n 's/.*(NEEDED).*\[\(.*\)\].*/\1/p')
for name in $needed; do
  case $name in libc.so.* | libm.so.* | libpthread.so.* | ld-linux*.so.*) ;; *) complain "needs $name" ;; esac
done
readelf -dW "$library" | grep -q 'SONAME.*\[lib.*\.so\.0\]' || complain "has no soname 0"
exported=$(nm -D --defined-only "$library" | awk '$2 != "A" { print $3 }')
for symbol in $exported; do
  case $symbol in otr_*@@OUTRIDER_0) ;; *) complain "exports $symbol" ;; esac
done
undefined=$(nm -D --undefined-only "$library" | awk '{ print $2 }' | sed 's/@.*//')
# On 32-bit Arm libgcc divides 64-bit numbers, with a signal for a division by 0.
if readelf -hW "$library" | grep -q 'Machine: *ARM$'; then undefined=$(grep -vx raise <<<"$undefined"); fi
for symbol in abort exit _exit _Exit __assert_fail printf puts putchar perror signal sigaction setlocale raise; do
  if grep -qx "$symbol" <<<"$undefined"; then complain "calls $symbol"; fi
done
[ $status -eq 0 ] && echo "$library: needs $(echo $needed); $(wc -w <<<"$exported") symbols exported"
exit $status
