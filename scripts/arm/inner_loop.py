# SPDX-License-Identifier: Apache-2.0
"""inner_loop.py FUNCTION OUT < DISASSEMBLY: writes the loop of the function that has the most SDOT or SMMLA, without its
addresses, to OUT for llvm-mca; prints the multiply-adds of one turn."""

import re
import sys

MULTIPLY_ADDS = {"sdot": 16, "smmla": 32}


def instructions(lines, function):
    """(address, text) of each instruction of the function."""
    inside = False
    for line in lines:
        if re.match(r"[0-9a-f]+ <", line):
            inside = f"<{function}>:" in line
        match = re.match(r"\s+([0-9a-f]+):\s+(.*)", line)
        if inside and match:
            yield int(match.group(1), 16), match.group(2).split("//")[0].strip()


def loops(code):
    """Stretches that a conditional branch at their end repeats."""
    for at, (address, text) in enumerate(code):
        match = re.match(r"(?:b\.\w+|cbnz\s+\w+,)\s*([0-9a-f]+) <", text)
        if match and int(match.group(1), 16) <= address:
            first = next(i for i, (a, _) in enumerate(code) if a == int(match.group(1), 16))
            yield [t for _, t in code[first:at]]


def multiply_adds(loop):
    return sum(MULTIPLY_ADDS.get(text.split()[0], 0) for text in loop)


def main():
    function, out = sys.argv[1:]
    code = list(instructions(sys.stdin, function))
    innermost = [loop for loop in loops(code) if not any(re.match(r"(b|b\.\w+|cb\w+|tb\w+)\s", text) for text in loop)]
    best = max(innermost, key=multiply_adds)
    with open(out, "w") as file:
        file.write("loop:\n" + "\n".join(best) + "\nb.ne loop\n")
    print(multiply_adds(best))


main()
