# SPDX-License-Identifier: Apache-2.0
# Sourced by the other scripts: where things are, and installing what is missing.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/outrider
missing=()

say() { printf '%s\n' "== $*" >&2; }
fail() { printf '%s\n' "$*" >&2; exit 1; }

# need COMMAND PACKAGE...: remembers the packages when the command is not there.
need() {
  local command=$1
  shift
  command -v "$command" >/dev/null 2>&1 || missing+=("$@")
}

# need_that DESCRIPTION-COMMAND PACKAGE...: the same when running the command (a string) fails.
need_that() {
  local test=$1
  shift
  sh -c "$test" >/dev/null 2>&1 || missing+=("$@")
}

# Installs what need and need_that found missing, with apt, as root or through sudo.
install_missing() {
  [ ${#missing[@]} -gt 0 ] || return 0
  local as_root=()
  command -v apt-get >/dev/null 2>&1 || fail "Missing: ${missing[*]} (Debian names). There is no apt-get here: please install them."
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null 2>&1 || fail "Missing: ${missing[*]}. Please install them as root."
    as_root=(sudo)
  fi
  say "installing with apt: ${missing[*]}"
  "${as_root[@]}" apt-get update -q >&2
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" >&2
  missing=()
}

need_build_tools() {
  need cc gcc libc6-dev
  need cmake cmake
  need ninja ninja-build
  need pkg-config pkg-config
  need_that "pkg-config --exists jansson" libjansson-dev
  need_that "pkg-config --exists libutf8proc" libutf8proc-dev
}

# Lets apt install packages of another architecture.
add_architecture() {
  command -v dpkg >/dev/null 2>&1 || return 0
  if dpkg --print-foreign-architectures | grep -qx "$1"; then return 0; fi
  if [ "$(id -u)" -eq 0 ]; then dpkg --add-architecture "$1"; else sudo dpkg --add-architecture "$1"; fi
}

# A 32-bit Arm cross compiler, its Check, and qemu.
need_arm32_tools() {
  add_architecture armhf
  need arm-linux-gnueabihf-gcc gcc-arm-linux-gnueabihf libc6-dev-armhf-cross
  need qemu-arm qemu-user
  need_that "test -e /usr/lib/arm-linux-gnueabihf/libcheck.a" check:armhf
}

# A 64-bit Arm cross compiler, the libraries of that architecture, and qemu, which runs what it makes.
need_arm_tools() {
  add_architecture arm64
  need aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu libc6-dev-arm64-cross
  need qemu-aarch64 qemu-user
  need_that "test -e /usr/lib/aarch64-linux-gnu/libcheck.a" check:arm64
  need_that "test -e /usr/lib/aarch64-linux-gnu/libjansson.a" libjansson-dev:arm64
  need_that "test -e /usr/lib/aarch64-linux-gnu/libutf8proc.a" libutf8proc-dev:arm64
}

# Vulkan: headers, the shader compiler and lavapipe, a driver that runs on the CPU, with the validation layers.
need_vulkan_tools() {
  need_that "test -e /usr/include/vulkan/vulkan_core.h" libvulkan-dev
  need glslangValidator glslang-tools
  need spirv-val spirv-tools
  need_that "ls /usr/share/vulkan/icd.d/lvp_icd.*.json" mesa-vulkan-drivers
  need_that "test -e /usr/share/vulkan/explicit_layer.d/VkLayer_khronos_validation.json" vulkan-validationlayers
}

# SwiftShader, a second driver, which Debian has as a part of a browser: unpacked into the build folder, not installed.
fetch_swiftshader() {
  local folder=$root/build/swiftshader
  [ ! -e "$folder/usr/lib/chromium/vk_swiftshader_icd.json" ] || return 0
  command -v apt-get >/dev/null 2>&1 || return 0
  say "fetching SwiftShader"
  rm -rf "$folder" && mkdir -p "$folder"
  (cd "$folder" && apt-get download -q chromium-common >&2 && dpkg-deb -x chromium-common_*.deb whole &&
    mkdir -p usr/lib/chromium && mv whole/usr/lib/chromium/*swiftshader* usr/lib/chromium/) ||
    say "SwiftShader could not be fetched: its tests are left out"
  rm -rf "$folder/whole" "$folder"/*.deb
}

need_model_tools() {
  need python3 python3
  need_that "python3 -m pip --version" python3-pip
  need_that "test -e /etc/ssl/certs/ca-certificates.crt" ca-certificates
}

# build PRESET TARGETS [CMAKE-OPTION...]: configures where that was not done with these options yet, and builds the
# targets (words of one argument). What it says is shown when it fails.
build() {
  local preset=$1 targets=$2
  shift 2
  local folder=$root/build/$preset log=$root/build/$preset.log
  mkdir -p "$folder"
  say "building: cmake --preset $preset $*"
  if [ ! -f "$folder/build.ninja" ] || [ "$(cat "$folder/options" 2>/dev/null)" != "$*" ]; then
    (cd "$root" && cmake --preset "$preset" "$@") >"$log" 2>&1 || { cat "$log" >&2; return 1; }
    printf '%s\n' "$*" >"$folder/options"
  fi
  # shellcheck disable=SC2086
  cmake --build "$folder" --parallel "$(nproc)" --target $targets >"$log" 2>&1 || { cat "$log" >&2; return 1; }
}
