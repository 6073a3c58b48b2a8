#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# examples.sh SOURCE BUILD MAKE_TINY [CMAKE-OPTION...]: installs the build, builds examples/ against it as an app's maker
# would, and runs each on a tiny model, whose ids are the same on every machine; some on OUTRIDER_TEST_MODEL too, where
# that is set and no emulator is needed. For a cross build the options name its toolchain file and its emulator.
set -euo pipefail
source=$1 build=$2 make_tiny=$3
shift 3
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
run=() link=shared
for option in "$@"; do
  case $option in
    -DCMAKE_CROSSCOMPILING_EMULATOR=*) IFS=';' read -ra run <<<"${option#*=}" ;;
    -DCMAKE_EXE_LINKER_FLAGS=*-static*) link=static ;;
  esac
done

quiet() { "$@" >"$folder/log" 2>&1 || { cat "$folder/log"; echo "FAILED: $*"; exit 1; }; }

# expect PATTERN PROGRAM ARGUMENT...: it succeeds and a line of its output matches; standard input is $folder/input.
expect() {
  local pattern=$1 program=$2
  shift 2
  timeout 120 "${run[@]}" "$folder/build/$program" "$@" <"$folder/input" >"$folder/out" 2>&1 || {
    cat "$folder/out"; echo "FAILED: $program $*"; exit 1; }
  grep -qaE -- "$pattern" "$folder/out" || { cat "$folder/out"; echo "FAILED: $program: no \"$pattern\""; exit 1; }
}

quiet cmake --install "$build" --prefix "$folder/sdk"
quiet cmake -S "$source/examples" -B "$folder/build" -G Ninja -DEXAMPLES_LINK=$link \
  -DCMAKE_C_FLAGS="-Werror -Wconversion" -DCMAKE_FIND_ROOT_PATH="$folder/sdk" -DCMAKE_PREFIX_PATH="$folder/sdk" "$@"
quiet cmake --build "$folder/build"

tiny=$folder/tiny.gguf
ids="1 5 9"
: >"$folder/input"
quiet "${run[@]}" "$make_tiny" "$tiny"
# Words are arguments.
# shellcheck disable=SC2086
{
  expect '^293 169 169 9 169 239 169 169$' ids "$tiny" 8 $ids
  (head -c 4321 /dev/zero; cat "$tiny"; echo rest) >"$folder/container"
  expect '^next id: 293$' android_fd "$folder/container" 4321 "$(stat -c %s "$tiny")" $ids
  expect '^context [0-9]+; [0-9]+ of 2560000 bytes' embedded_memory "$tiny" 2500 $ids
}
expect 'the first is feature 77' linear
programs="ids android_fd embedded_memory linear"
if [ -x "$folder/build/minimal" ]; then
  expect . minimal "$tiny" "once upon" 20
  expect . embeddings "$tiny" 12
  printf 'hello\nand then\n' >"$folder/input"
  expect '^> .*> $|^> $' chat "$tiny" chatml
  programs="$programs minimal embeddings chat assistant"
  command -v python3 >/dev/null || { echo "no python3: the assistant is not tried" >&2; exit 77; }
  timeout 250 python3 "$source/tests/test_assistant.py" "$tiny" "${run[@]}" "$folder/build/assistant/assistant"
  if [ -n "${OUTRIDER_TEST_MODEL:-}" ] && [ ${#run[@]} -eq 0 ]; then
    expect Paris minimal "$OUTRIDER_TEST_MODEL" "The capital of France is" 6
    printf 'What is the capital of France?\n' >"$folder/input"
    expect Paris chat "$OUTRIDER_TEST_MODEL"
  fi
fi
echo "built and run: $programs"
