#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# scripts/cuda-figures.sh [ARCHITECTURE]: what can be said of the CUDA kernels without a GPU: registers, shared memory,
# occupancy, inner loops and bytes per multiply-add of each from its instructions (ARCHITECTURE: 87 unless said
# otherwise), and estimates from these, which are no measurements, for Jetson modules.
set -euo pipefail
. "$(dirname "$0")/common.sh"

"$root/scripts/get-cuda.sh" --tools >/dev/null
build release "cuda_device_code test_cuda_images"
images=$root/build/release/backends/cuda/images
"$root/build/release/bin/test_cuda_images" shared >"$images/dynamic_shared"
python3 "$root/scripts/cuda/device_code.py" "$images" "$cache/cuda/bin/nvdisasm" --table "${1-87}"
echo
python3 "$root/scripts/cuda/device_code.py" "$images" "$cache/cuda/bin/nvdisasm" --estimate
