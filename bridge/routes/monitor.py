"""What `route -n monitor` prints, read for changes of the routing table (macOS, the BSDs).

Each message begins with a line that names its kind and carries the flags, as in

    RTM_ADD: Add Route: len 132, pid: 0, seq 0, errno 0, flags:<UP,GATEWAY,DONE,STATIC,PRCLONING>

Neighbours come and go as routes as well, all the time; those are no change here.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator

COMMAND = ("/sbin/route", "-n", "monitor")
_CHANGES = ("RTM_ADD:", "RTM_DELETE:", "RTM_CHANGE:", "RTM_NEWADDR:", "RTM_DELADDR:", "RTM_IFINFO:")
_NEIGHBOUR = ("LLINFO", "WASCLONED")
MOST = 65536
"""Bytes of a line; there is no longer one."""


class Ear:
    """Finds the changes in what is printed, however it is cut."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> bool:
        """Whether a change was told in what is whole now."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-MOST:]
        return any(tells_of_change(line.decode(errors="replace")) for line in lines)


def tells_of_change(line: str) -> bool:
    """Whether a line is the head of a message about another route, address or interface."""
    words = line.split(None, 1)
    if not words or words[0] not in _CHANGES:
        return False
    flags = line.partition("flags:<")[2].partition(">")[0].split(",")
    return not any(flag in flags for flag in _NEIGHBOUR)


@contextlib.contextmanager
def monitor() -> Iterator[int]:
    """The descriptor, not blocking, of what the program prints. Raises OSError."""
    with subprocess.Popen(COMMAND, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as it:
        try:
            assert it.stdout is not None
            os.set_blocking(it.stdout.fileno(), False)
            yield it.stdout.fileno()
        finally:
            it.kill()
