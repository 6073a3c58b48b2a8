#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# scripts/arm-figures.sh [MODEL IDS]: the speed of the NEON kernels in two figures that need no Arm hardware and come out
# the same on every machine. Instructions that linears execute, counted by a plugin of qemu; cycles of their inner loops
# by llvm-mca. With a converted MODEL and a file of token IDS (one window a line, 64 ids) also the instructions of a
# decoded token and of a prefill of 64, by operation. Fails where a figure is beyond its limit.
set -euo pipefail
. "$(dirname "$0")/common.sh"

preset=aarch64-linux-gnu
folder=$root/build/$preset
objects=$folder/CMakeFiles/outrider_objects.dir/backends
work=$folder/figures
failures=0

need_arm_tools
need_that "command -v llvm-mca-19" llvm-19
install_missing
build $preset "linear_once outrider_command"
mkdir -p "$work"
cc -O2 -shared -fPIC -o "$work/qemu_profile.so" "$root/scripts/arm/qemu_profile.c"

# count PROGRAM ARGUMENT...: writes "instructions function" lines to $work/profile.
count() {
  env -i qemu-aarch64 -d plugin -plugin "$work/qemu_profile.so,out=$work/profile" "$@" >/dev/null 2>&1
}

# sum OBJECT...: instructions of the last count in functions of these objects.
sum() {
  aarch64-linux-gnu-nm "$@" | awk 'NF == 3 && $2 ~ /[tT]/ {print $3}' | sort -u >"$work/functions"
  awk 'NR == FNR {wanted[$1] = 1; next} wanted[$2] {n += $1} END {printf "%d\n", n}' "$work/functions" "$work/profile"
}

# judge TEXT VALUE (at-most|at-least) LIMIT
judge() {
  local verdict
  verdict=$(awk -v v="$2" -v l="$4" -v how="$3" 'BEGIN {print ((how == "at-most" ? v <= l : v >= l) ? "ok" : "BEYOND")}')
  printf '%-52s %12s  %s %s  %s\n' "$1" "$2" "$3" "$4" "$verdict"
  [ "$verdict" = ok ] || failures=$((failures + 1))
}

# linear KERNEL ROWS OUTLIERS LIMIT: rows x 2048 x 2048.
linear() {
  count "$folder/bin/linear_once" "$1" "$2" 2048 2048 "$3" 0
  judge "$1, $2x2048x2048, $3 outliers a row: instructions" "$(sum "$objects"/neon/linear_*.o)" at-most "$4"
}

# loop OBJECT FUNCTION CPU LIMIT: multiply-adds a cycle of a function's longest loop.
loop() {
  local figure
  aarch64-linux-gnu-objdump -d --no-show-raw-insn "$objects/neon/$1" >"$work/text"
  figure=$(python3 "$root/scripts/arm/inner_loop.py" "$2" "$work/loop.s" <"$work/text")
  figure=$(llvm-mca-19 -mtriple=aarch64-linux-gnu -mattr=+dotprod,+i8mm -mcpu="$3" -iterations=1000 "$work/loop.s" |
    awk -v macs="$figure" '/^Total Cycles:/ {printf "%.1f\n", macs * 1000 / $3}')
  judge "$1 $2 on $3: multiply-adds a cycle" "$figure" at-least "$4"
}

# part NAME PATTERN: million instructions of functions whose names match.
part() {
  awk -v name="$1" -v pattern="$2" '$2 ~ pattern {n += $1} END {printf "  %-12s %.1f\n", name, n / 1e6}' "$work/profile"
}

# share TEXT LOGITS-OPTION...: which part of the backend's instructions are linears'.
share() {
  local text=$1 linears all
  shift
  count "$folder/bin/outrider" logits "$model" --tokens "$ids" --threads 1 --no-self-check --device neon:dotprod "$@"
  linears=$(sum "$objects"/neon/linear_*.o)
  all=$(sum "$objects"/neon/*.o "$objects"/cpu/*.o)
  printf '%s: %s million instructions\n' "$text" $((all / 1000000))
  part linears '^(otr_linear|tile|row|sum_outliers|lay_|rows_by|finish|fill_panel|copied)'
  part norms '^(otr_norm|norm_|row_s)'
  part quantizer '^(otr_quantize|quantize_|find_out|round_|outlier_bound)'
  part "RoPE and KV" '^(otr_rope|rope_|put_keys)'
  part attention '^(otr_attention|attend|page_|lane_|sort_by|score|value_|weigh|merge|scale_sc|widen|block_of|visible)'
  part activations '^(otr_glu|otr_act|activate)'
  part sums '^(otr_add)'
  judge "$text: share of the linears, %" "$(awk -v a="$linears" -v b="$all" 'BEGIN {printf "%.1f", 100 * a / b}')" at-least 85
}

linear dotprod 1 0 734749
linear dotprod 1 13 844961
linear dotprod 64 0 23300000
linear dotprod 64 13 26795000
linear i8mm 64 0 15000000
linear i8mm 64 13 17250000
for cpu in neoverse-n1 neoverse-n2; do
  loop linear_dotprod.c.o tile4 $cpu 28.8
  loop linear_dotprod.c.o otr_linear_dotprod $cpu 28
done
loop linear_i8mm.c.o tile4 neoverse-n2 57.6
if [ $# -eq 2 ]; then
  model=$1 ids=$2
  share "8 decoded tokens" --n 8 --split 1
  share "a prefill of 64" --n 64 --split 64
fi
[ $failures -eq 0 ] || fail "$failures figures are beyond their limits"
