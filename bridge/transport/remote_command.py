"""The line that runs a COMMAND over there without a terminal, so that it does not outlive the bridge.

With a terminal, sshd hangs it up when the connection ends, and the kernel tells the command. Without one it tells
nobody: a `sleep` runs on for ever. So a few lines of Python stand beside the command, notice that their standard
output lost its reader, and end the command's process group. Where there is no python3 the command runs alone.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

SHELL = 'if command -v python3 >/dev/null 2>&1; then exec python3 -c "$0" "$@"; else exec "$@"; fi'

SUPERVISOR = """
import os, select, signal, subprocess, sys, time
def end(number):
    try:
        os.killpg(child.pid, number)
    except OSError:
        pass
reading, writing = os.pipe()
os.set_blocking(writing, False)
signal.set_wakeup_fd(writing)
signal.signal(signal.SIGCHLD, lambda number, frame: None)
try:
    child = subprocess.Popen(sys.argv[1:], preexec_fn=os.setpgrp)
except OSError as error:
    sys.stderr.write("%s: %s\\n" % (sys.argv[1], error.strerror))
    sys.exit(127 if isinstance(error, FileNotFoundError) else 126)
poll = select.poll()
poll.register(1, 0)
poll.register(reading, select.POLLIN)
while child.poll() is None:
    for descriptor, events in poll.poll():
        if descriptor == reading:
            os.read(reading, 512)
        else:
            end(signal.SIGHUP)
            end(signal.SIGCONT)
            deadline = time.monotonic() + 3
            while child.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
            end(signal.SIGKILL)
            child.wait()
            os._exit(129)
status = child.returncode
os._exit(status if status >= 0 else 128 - status)
"""


def supervised(argv: Sequence[str]) -> str:
    """A command line for any login shell that runs `argv` and ends it with the connection."""
    return shlex.join(["sh", "-c", SHELL, SUPERVISOR, *argv])
