#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# scripts/get-cuda.sh [--tools]: what builds and checks CUDA device code, from NVIDIA's Python packages, in the cache folder
# where CMake looks for it: nvcc where the machine has none, a ptxas whose images JetPack 6 loads, nvdisasm and
# cuobjdump. --tools: without nvcc. Nothing of it is needed on a device.
set -euo pipefail
. "$(dirname "$0")/common.sh"

need python3 python3
need_that "python3 -m pip --version" python3-pip
install_missing
folder=$cache/cuda
mkdir -p "$folder/bin"

# get PART PACKAGE...: the packages' files, as $folder/PART.
get() {
  local part=$1
  shift
  say "getting $*"
  rm -rf "${folder:?}/$part"
  python3 -m pip install -q --no-deps --root-user-action=ignore --target "$folder/$part" "$@"
}

# link NAME PART FILE: $folder/bin/NAME for a file of a part.
link() {
  local found
  found=$(find "$folder/$2" -path "*/$3" -type f | head -n 1)
  [ -n "$found" ] || fail "there is no $3 in the packages"
  chmod +x "$found"
  ln -sf "$found" "$folder/bin/$1"
}

[ -x "$folder/bin/nvdisasm" ] && [ -x "$folder/bin/cuobjdump" ] || {
  get look nvidia-cuda-nvdisasm nvidia-cuda-cuobjdump
  link nvdisasm look bin/nvdisasm
  link cuobjdump look bin/cuobjdump
}
[ -x "$folder/bin/ptxas-old" ] || {
  get old nvidia-cuda-nvcc-cu11==11.8.89
  link ptxas-old old cuda_nvcc/bin/ptxas
}
if [ "${1-}" != --tools ] && ! command -v nvcc >/dev/null && [ ! -x /usr/local/cuda/bin/nvcc ] && [ ! -x "$folder/bin/nvcc" ]; then
  need g++ g++
  install_missing
  # nvcc looks for its parts beside itself: a link to it would lose them
  get nvcc nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-cuda-runtime==13.0.96
  nvcc=$(find "$folder/nvcc" -path '*/bin/nvcc' -type f | head -n 1)
  chmod +x "$(dirname "$nvcc")"/* "$(dirname "$nvcc")"/../nvvm/bin/*
  printf '#!/bin/sh\nexec "%s" "$@"\n' "$nvcc" >"$folder/bin/nvcc"
  chmod +x "$folder/bin/nvcc"
fi
ls "$folder/bin"
