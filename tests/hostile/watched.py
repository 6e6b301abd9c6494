"""`netbridge` as it is, with figures of what an attack did to it: memory, CPU, stalls, descriptors, what it touched.

    NETBRIDGE_HOSTILE_FIGURES=FILE python -m tests.hostile.watched up …

Python's audit events tell what it connected to, opened for writing and started; uvloop's own connects are seen by
strace only (see tests/hostile/test_touched.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import sys
import time
from typing import Any

from netbridge.bridge.session import Session
from netbridge.cli.main import main

FIGURES = "NETBRIDGE_HOSTILE_FIGURES"
BEAT = 0.005
"""Seconds between two looks at the clock."""
LETS_GO = 100
"""Fiftieths of a second until all descriptors are given back."""
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
TOUCHES = {
    "socket.connect", "socket.bind", "os.exec", "os.posix_spawn", "os.system", "os.fork", "subprocess.Popen",
    "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.chmod", "os.chown", "os.truncate",
}


def descriptors() -> dict[int, str]:
    """Those that are open, and what they are."""
    found = {}
    for number in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):  # the listing's own
            found[number] = os.readlink(f"/proc/self/fd/{number}")
    return found


class Figures:
    """What one run of a session cost."""

    def __init__(self) -> None:
        self.stall = 0.0
        self.left: list[str] = []
        """What descriptors are left open that were not there before."""
        self.cpu = 0.0
        self.touched: set[str] = set()
        self._seen = 0.0

    def beat(self, session: Session) -> None:
        """Note what the event loop took since the last beat; time that other processes took does not count, nor what
        is loaded before anything is heard of the agent.
        """
        now = time.thread_time()
        if self._seen and len(session._stages._begun) > 1:
            self.stall = max(self.stall, now - self._seen)
        self._seen = now
        self._timer = asyncio.get_running_loop().call_later(BEAT, self.beat, session)

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Python's audit hook."""
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES:
            self.touched.add(f"open {arguments[0]}")
        elif event in {"socket.connect", "socket.bind"}:
            self.touched.add(f"{event} {arguments[1]}")
        elif event in TOUCHES:
            self.touched.add(f"{event} {arguments[:2]}"[:500])

    async def run(self, session: Session) -> int:
        """The session's life."""
        before = descriptors()
        self.beat(session)
        began = time.process_time()
        try:
            return await run(session)
        finally:
            self.cpu = time.process_time() - began
            self._timer.cancel()
            for _ in range(LETS_GO):  # what was closed is let go in the next turn, or when a child has ended
                await asyncio.sleep(0.02)
                self.left = [
                    where for number, where in descriptors().items()
                    if before.get(number) != where and where != "/dev/null"  # libuv keeps one, for when none is left
                ]
                if not self.left:
                    break
            self.write()  # now, since the program leaves by _exit

    def write(self) -> None:
        """For whoever started us."""
        with open(os.environ[FIGURES], "w") as file:
            json.dump({
                "stall": self.stall, "cpu": self.cpu, "left": self.left,
                "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "touched": sorted(self.touched),
            }, file)  # fmt: skip


run = Session.run

if __name__ == "__main__":
    figures = Figures()
    Session.run = lambda self: figures.run(self)  # type: ignore[method-assign]
    sys.addaudithook(figures.audit)
    sys.argv[0] = "netbridge"
    main()
