# SPDX-License-Identifier: Apache-2.0
"""interrupt.py OUTRIDER ARGUMENT...: chat on a terminal, where Ctrl-C stops an answer and not the program."""
import os
import pty
import select
import sys
import time

pid, fd = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
seen = b""


def until(text):
    """Reads up to `text`."""
    global seen
    end = time.time() + 60
    while text not in seen:
        if time.time() > end:
            sys.exit(f"no {text!r} in {seen[-400:]!r}")
        if select.select([fd], [], [], 0.1)[0]:
            try:
                seen += os.read(fd, 4096)
            except OSError:
                sys.exit(f"ended before {text!r}: {seen[-400:]!r}")
    seen = seen[seen.index(text) + len(text):]


def send(text):
    os.write(fd, text)


until(b"> ")
send(b"the rest\r")
until(b"\n")
time.sleep(0.3)
send(b"\x03")
until(b"[stopped]")
until(b"> ")
send(b"\x03")
until(b"(/quit leaves)")
until(b"> ")
send(b"/quit\r")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
