#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# scripts/test.sh: builds with and without sanitizers, with gcc and clang, and runs all tests. Ends with the summary of
# the release build's run. OUTRIDER_TEST_DATA and OUTRIDER_TEST_MODEL, where set, let the tests that need them run.
set -euo pipefail
. "$(dirname "$0")/common.sh"

failed=()
jobs=$(nproc)

# run PRESET CTEST-OPTION...: remembers a failure and goes on.
run() {
  local preset=$1
  shift
  say "testing $preset: ctest $*"
  (cd "$root/build/$preset" && ctest --no-tests=error --output-on-failure -j "$jobs" "$@") || failed+=("$preset")
}

# build_and_run PRESET TARGETS CTEST-OPTION... Only the release build has CUDA device code: elsewhere the kernels are the
# emulation's, and compiling them for every GPU takes as long as the rest.
build_and_run() {
  local preset=$1 targets=$2
  shift 2
  if build "$preset" "$targets" -DOUTRIDER_NVCC=OFF; then run "$preset" "$@"; else failed+=("$preset (build)"); fi
}

need_build_tools
need clang clang
need python3 python3
need_that "pkg-config --exists check" check
need_arm_tools
need_arm32_tools
need_vulkan_tools
install_missing
fetch_swiftshader
clang_version=$(clang -dumpversion | cut -d . -f 1)
need_that "echo 'int LLVMFuzzerTestOneInput(const char *d, long n) { return d && n < 0; }' |
  clang -x c -fsanitize=fuzzer,address -o /dev/null -" "libclang-rt-$clang_version-dev"
install_missing
"$root/scripts/get-cuda.sh" --tools || failed+=("get-cuda")
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:allocator_may_return_null=1}
# The sanitizers' share: whole models on one device (every device's kernels are in the harness), and what only they find.
export OUTRIDER_TEST_FEW_DEVICES=1
build_and_run asan all -L quick
build_and_run tsan thread_tests -L threads
unset OUTRIDER_TEST_FEW_DEVICES
build_and_run clang all -L quick
build_and_run debug test_hashes -R '^test_hashes$'
build_and_run fuzz fuzz_targets -R ^fuzz_
# 64-bit Arm, run by qemu as a CPU with SDOT and as one with SMMLA: the harness compares every variant that it has. Left
# out: what takes minutes under an emulator, above all tests of devices that have no part that differs there. Of the rest
# what is long and the same for each variant runs once.
slow='.*_far|test_(cuda|vulkan|numerics_gpu).*|test_(hf_models|hf_mutants|memory|positions|split)'
export OUTRIDER_TEST_FEW_DEVICES=1
if build aarch64-linux-gnu all -DOUTRIDER_WERROR=ON; then
  QEMU_CPU=cortex-a76 run aarch64-linux-gnu -L quick -E "^($slow|installed_sdk|test_architectures)\$"
  QEMU_CPU=max run aarch64-linux-gnu -L quick -E "^($slow|installed_sdk|test_tokenizer|test_sampler|test_generate)\$"
  # What an app's maker gets: the installed SDK, the examples and the runtime's share, cross-compiled.
  run aarch64-linux-gnu -R '^(installed_sdk|examples|app_share|android_toolchain)$'
else
  failed+=("aarch64-linux-gnu (build)")
fi
# 32-bit Arm has the reference alone: its bits are in committed hashes.
if build arm-linux-gnueabihf "outrider test_hashes test_operations test_state test_linear test_gguf test_dequantize" \
  -DOUTRIDER_WERROR=ON; then
  run arm-linux-gnueabihf -R '^(library_needs|test_(hashes|operations|state|linear|gguf|dequantize))$'
else
  failed+=("arm-linux-gnueabihf (build)")
fi
unset OUTRIDER_TEST_FEW_DEVICES
# What arm64 artifacts need of glibc.
"$root/scripts/arm64-release.sh" -DOUTRIDER_TOOLS=OFF || failed+=("arm64-release")
if build release all -DOUTRIDER_WERROR=ON; then run release; else failed+=("release (build)"); fi

[ ${#failed[@]} -eq 0 ] || fail "FAILED: ${failed[*]}"
