"""The three standard descriptors, there even when whoever started the program closed them.

A program started with `2>&-`, as some supervisors do, would get the next descriptors it opens as 0, 1 and 2: a child
would read the event loop's epoll as its input, and libuv ends the process when it finds one of its own there.
"""

from __future__ import annotations

import os
import sys


def ensure() -> None:
    """Open what is closed on /dev/null. To be called before any other descriptor is opened."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest free number
            os.set_inheritable(opened, True)
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)
