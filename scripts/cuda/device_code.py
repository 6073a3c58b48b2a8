# SPDX-License-Identifier: Apache-2.0
"""device_code.py IMAGES NVDISASM (--check | --table [ARCHITECTURE] | --estimate): what is in the images of the CUDA
backend's device code. IMAGES: the build folder's backends/cuda/images, with ptxas's words beside each image. --check: no fused
multiply-add, no approximate function, no local memory, registers within the launch bounds, integer tensor cores and dot
products where they belong; exit 1 and the reasons where not. --table: a table of the kernels, in Markdown. --estimate: what
the instruction counts and the modules' data sheets bound speed by; nothing in it is measured."""

import collections
import math
import os
import re
import subprocess
import sys

# Orin's multiprocessor, sm_87: threads and shared memory of it, registers as they are given out.
SM87 = {"warps": 48, "blocks": 16, "registers": 65536, "shared": 164 * 1024, "block_shared": 1024}
# What a multiply-add of one row with one weight costs: by a thread (IDP) or a warp (IMMA).
MULTIPLY_ADDS = {"IDP.4A": 4 * 32, "IMMA.16832": 16 * 8 * 32, "IMMA.8816": 8 * 8 * 16}
# Jetson modules: GB/s of memory, multiprocessors, GHz (NVIDIA's data sheets). A multiprocessor has four schedulers, each
# of which issues an instruction a cycle, and four tensor cores of 512 int8 multiply-adds a cycle.
MODULES = {"AGX Orin 64GB": (204.8, 16, 1.3), "Orin NX 16GB": (102.4, 8, 0.918), "Orin Nano 8GB": (68, 8, 0.625),
           "Orin Nano 8GB Super": (102, 8, 1.02)}
SCHEDULERS, TENSOR = 4, 4 * 512
MODELS = {"135M": 0.134e9, "1B": 1.0e9, "8B": 7.5e9}  # int8 weights that a token reads
DECODE_SHARE = 0.75   # of the bandwidth: the goal, not a result
OUTLIERS = 0.0065     # share of the features, per row
STEP, TILE = 64, 128  # the large tile: features a step, rows and outputs
WIDTH = 4096          # features of a row
# An integer division's reciprocal and conversion are the compiler's own, and exact.
FORBIDDEN = re.compile(
    r"FFMA|DFMA|HMMA|MUFU\.(?!RCP)|STL|LDL|(RED|ATOM|ATOMG)\S*\.(ADD\.F|F32)|(?!F2I)[FH]\w+\S*\.FTZ")


def image_names(folder):
    return sorted((n for n in os.listdir(folder) if re.fullmatch(r"sm_\d+", n)), key=lambda n: int(n[3:]))


def resources(folder, name):
    """{kernel: {registers, shared, stack, spills}} of what ptxas said."""
    result, kernel = {}, None
    with open(os.path.join(folder, name + ".log")) as log:
        for line in log:
            if match := re.search(r"Compiling entry function '(\w+)'", line):
                kernel = result.setdefault(match[1], {"registers": 0, "shared": 0, "stack": 0, "spills": 0})
            elif kernel and (match := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+)", line)):
                kernel["stack"], kernel["spills"] = int(match[1]), int(match[2]) + int(match[3])
            elif kernel and (match := re.search(r"Used (\d+) registers", line)):
                kernel["registers"] = int(match[1])
                if match := re.search(r"(\d+) bytes smem", line):
                    kernel["shared"] = int(match[1])
    return result


def launch_bounds(folder):
    """{kernel: (threads, blocks)} as the PTX has them."""
    with open(os.path.join(folder, "compute_80")) as file:
        text = file.read()
    bounds = {}
    for match in re.finditer(r"\.entry (\w+)\([^{]*?\.maxntid (\d+)[^{]*?\{", text):
        blocks = re.search(r"\.minnctapersm (\d+)", match[0])
        bounds[match[1]] = (int(match[2]), int(blocks[1]) if blocks else 1)
    return bounds


def dynamic_shared(folder):
    """{kernel: bytes}, where scripts/cuda-figures.sh has written them beside the images."""
    path = os.path.join(folder, "dynamic_shared")
    if not os.path.exists(path):
        return {}
    with open(path) as file:
        return {"otr_" + name: int(size) for name, size in (line.split() for line in file)}


def disassembly(nvdisasm, path):
    """{kernel: [(label or None, instruction)]}; an instruction without its predicate."""
    done = subprocess.run([nvdisasm, "-c", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{nvdisasm}: {done.stderr}")
    kernels, code = {}, None
    for line in done.stdout.splitlines():
        if match := re.match(r"\s*\.section\s+\.text\.(\w+)", line):
            code = kernels.setdefault(match[1], [])
        elif code is not None and (match := re.match(r"(\.L_x_\d+):", line)):
            code.append((match[1], None))
        elif code is not None and (match := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z]\S*)\s*(.*?)\s*;", line)):
            code.append((None, match[1] + " " + match[2]))
    return kernels


def opcodes(code):
    return [text.split()[0] for label, text in code if text]


def all_loops(code):
    """(instructions, innermost) of each loop: from a label to a branch back to it."""
    places = {label: i for i, (label, text) in enumerate(code) if label}
    spans = []
    for i, (_, text) in enumerate(code):
        match = re.match(r"BRA\S*\s.*?(\.L_x_\d+)", text or "")
        if match and places.get(match[1], i) < i:
            spans.append((places[match[1]], i))
    for span in spans:
        innermost = not any(o != span and span[0] <= o[0] and o[1] <= span[1] for o in spans)
        yield opcodes(code[span[0]:span[1] + 1]), innermost


def loops(code):
    return [names for names, innermost in all_loops(code) if innermost]


def count(names, start):
    return sum(name.startswith(start) for name in names)


def bytes_of_tile(code, work):
    """Bytes a multiply-add where tiles pass by cp.async: those of the loop around the two slabs of a step."""
    copies = max((count(names, "LDGSTS") for names, _ in all_loops(code)), default=0)
    return copies * 16 * 32 / (2 * work)


def multiply_adds(names):
    return sum(value for name in names for key, value in MULTIPLY_ADDS.items() if name.startswith(key))


def check(folder, nvdisasm):
    problems = []
    bounds = launch_bounds(folder)
    for image in image_names(folder):
        told, code = resources(folder, image), disassembly(nvdisasm, os.path.join(folder, image))
        if set(told) != set(code) or set(code) != set(bounds):
            problems.append(f"{image}: kernels differ: {sorted(set(code) ^ set(bounds))}")
        for kernel in sorted(set(told) & set(code) & set(bounds)):
            names = opcodes(code[kernel])
            threads, blocks = bounds[kernel]
            bad = sorted(set(n for n in names if FORBIDDEN.match(n)))
            if bad:
                problems.append(f"{image} {kernel}: {' '.join(bad)}")
            if told[kernel]["spills"] or told[kernel]["stack"]:
                problems.append(f"{image} {kernel}: registers are spilled")
            if int(image[3:]) >= 100:
                blocks = 1  # bounds of kernels differ there
            if told[kernel]["registers"] * threads * blocks > SM87["registers"]:
                problems.append(f"{image} {kernel}: {told[kernel]['registers']} registers for {threads} threads x {blocks}")
            wanted = {"linear_tile": "IMMA", "linear_stream": "IDP.4A"}
            for start, opcode in wanted.items():
                if (image, kernel) == ("sm_75", "otr_linear_tile128"):
                    continue  # has no room there, and is empty
                if kernel.startswith("otr_" + start) and not any(n.startswith(opcode) for n in names):
                    problems.append(f"{image} {kernel}: no {opcode}")
    return problems


def occupancy(threads, registers, shared):
    """Share of sm_87's warps that blocks of a kernel fill."""
    warps = -(-threads // 32)
    of_registers = SM87["registers"] // (-(-registers * 32 // 256) * 256 * warps)
    of_shared = SM87["shared"] // (-(-shared // 128) * 128 + SM87["block_shared"])
    return min(SM87["warps"] // warps, SM87["blocks"], of_registers, of_shared) * warps / SM87["warps"]


def mix(names):
    groups = collections.Counter()
    for name in names:
        key = name.split(".")[0]
        if key in ("LDG", "LDS", "LDSM", "LDGSTS", "STS", "STG"):
            width = re.search(r"\.(64|128|16\.M\d+\S*)", name)
            key += "." + {"16": "16"}.get(width[1][:2], width[1]) if width and key not in ("LDSM", "LDGSTS") else ""
        groups[key] += 1
    return ", ".join(f"{count} {key}" for key, count in groups.most_common(6))


def bytes_loaded(names):
    """Of global memory, by a warp, in one turn."""
    total = 0
    for name in names:
        if name.startswith(("LDG.", "LDGSTS")) or name == "LDG":
            width = re.search(r"\.(128|64|U16|S16|U8|S8)\b", name)
            total += 32 * {"128": 16, "64": 8, "U16": 2, "S16": 2, "U8": 1, "S8": 1}.get(width[1] if width else "", 4)
    return total


def table(folder, nvdisasm, image):
    told, code = resources(folder, image), disassembly(nvdisasm, os.path.join(folder, image))
    bounds, dynamic = launch_bounds(folder), dynamic_shared(folder)
    print(f"| kernel ({image}) | threads | registers | shared bytes | occupancy | instructions | inner loop | bytes per multiply-add |")
    print("|---|---|---|---|---|---|---|---|")
    for kernel in sorted(told):
        threads, _ = bounds[kernel]
        shared = told[kernel]["shared"] + dynamic.get(kernel, 0)
        found = loops(code[kernel])
        best = max(found, key=lambda names: (multiply_adds(names), len(names)), default=[])
        work = multiply_adds(best)
        loaded = bytes_loaded(best) / work if work else 0
        share = f"{loaded or bytes_of_tile(code[kernel], work):.3f}" if work else ""
        text = f"{len(best)}: {mix(best)}" if best else ""
        print(f"| {kernel[4:]} | {threads} | {told[kernel]['registers']} | {shared} | "
              f"{occupancy(threads, told[kernel]['registers'], shared):.0%} | {len(opcodes(code[kernel]))} | {text} | {share} |")


def tile_shares(folder, nvdisasm):
    """Upper bounds of the large tile's share of the tensor cores' peak: without outliers, with them."""
    code = disassembly(nvdisasm, os.path.join(folder, "sm_87"))["otr_linear_tile128"]
    found = list(all_loops(code))
    slab = max((n for n, inner in found if inner), key=multiply_adds)
    step = min((n for n, _ in found if count(n, "LDGSTS")), key=len)
    columns = min((n for n, inner in found if inner and count(n, "IMMA") and n is not slab), key=len)
    # Outliers of a row go 32 at a time: looked up and sorted, then two a turn of one of four loops, rounded up.
    pairs = [n for n, inner in found if inner and count(n, "FMUL") and count(n, "PRMT") and not count(n, "I2F")]
    group = min((n for n, inner in found if not inner and count(n, "VOTE")), key=len)
    elsewhere = max((n for n, _ in found if count(n, "I2F") and not count(n, "VOTE")), key=len)  # is not in the panel
    outliers = OUTLIERS * WIDTH
    groups = math.ceil(outliers / 32)
    row = (outliers + groups * 4 / 2) / 2 * len(pairs[0])
    row += groups * (len(group) - sum(map(len, pairs)) - len(elsewhere))
    warps = 8
    tensor = STEP * TILE * TILE / TENSOR
    issue = warps * (len(step) - len(columns) + len(slab)) / SCHEDULERS
    extra = row * TILE / SCHEDULERS * STEP / WIDTH
    return tensor / max(tensor, issue), tensor / max(tensor, issue + extra)


def estimate(folder, nvdisasm):
    plain, outliers = tile_shares(folder, nvdisasm)
    print(f"| estimated, not measured | decode tokens/s at {DECODE_SHARE:.0%} of the bandwidth: {' / '.join(MODELS)} | "
          f"int8 peak, dense | prefill tokens/s at most, no outliers | with {OUTLIERS:.2%} outliers |")
    print("|---|---|---|---|---|")
    for name, (bandwidth, n_sm, clock) in MODULES.items():
        peak = n_sm * TENSOR * clock * 1e9
        decode = " / ".join(f"{bandwidth * 1e9 * DECODE_SHARE / weights:.0f}" for weights in MODELS.values())
        prefill = [" / ".join(f"{peak * share / weights:.0f}" for weights in MODELS.values()) for share in (plain, outliers)]
        print(f"| {name} | {decode} | {2 * peak / 1e12:.0f} TOPS | {prefill[0]} ({plain:.0%}) | {prefill[1]} ({outliers:.0%}) |")


def main():
    folder, nvdisasm, what = sys.argv[1:4]
    if what == "--table":
        table(folder, nvdisasm, "sm_" + (sys.argv[4] if len(sys.argv) > 4 else "87"))
        return
    if what == "--estimate":
        estimate(folder, nvdisasm)
        return
    problems = check(folder, nvdisasm)
    print("\n".join(problems) or f"{len(image_names(folder))} images: no fused multiply-add, no spills, registers within bounds")
    sys.exit(1 if problems else 0)


main()
