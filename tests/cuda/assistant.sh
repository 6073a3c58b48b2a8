#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# assistant.sh PYTHON TEST MAKE_TINY ASSISTANT: TEST, the bad days of examples/assistant, with --device cuda on a tiny
# model. OUTRIDER_CUDA_DRIVER names the driver.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$3" "$folder/tiny.gguf"
"$1" "$2" "$folder/tiny.gguf" env "$4" --device cuda
