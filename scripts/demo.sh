#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# scripts/demo.sh [PROMPT]: builds outrider, gets a small model, converts it to LLM.int8() once, and answers the prompt.
set -euo pipefail
. "$(dirname "$0")/common.sh"

case ${1:-} in -h | --help) fail "usage: scripts/demo.sh [PROMPT]" ;; esac
prompt=${1:-What is the capital of France?}
outrider=$root/build/release/bin/outrider
model=$cache/smollm2-135m-instruct.int8-1.gguf # 1: the contract's revision

need_build_tools
need_model_tools
install_missing
mkdir -p "$cache"
build release outrider_command
if [ ! -f "$model" ]; then
  source_model=$("$root/scripts/get-model.sh")
  say "converting to LLM.int8(), once: $model"
  "$outrider" convert "$source_model" "$model" >/dev/null # under another name until it is whole
fi

say "outrider run $model -p \"$prompt\""
"$outrider" run "$model" -p "$prompt" --stats
short=${outrider#"$PWD"/}
cat >&2 <<END

Next:
  $short chat $model
  $short run $model -p "Write a haiku about the sea." --temp 0.8 --seed 1
  $short bench $model
  $short devices
END
