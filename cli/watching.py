"""A picture that is drawn anew every second until ctrl-c: on a terminal in its place, elsewhere one after another."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

SECONDS = 1.0
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
"""The terminal's other screen, without a cursor; what stood there before comes back."""


def watch(draw: Callable[[], list[str]]) -> None:
    """Show what `draw` gives. Escape codes are for terminals only."""
    with suppress(KeyboardInterrupt, BrokenPipeError), _place() as terminal:
        while True:
            lines = draw()
            if terminal:
                width, height = shutil.get_terminal_size()
                shown = "".join(f"{line[:width]}\x1b[K\n" for line in lines[:height - 1])
                sys.stdout.write(f"\x1b[H{shown}\x1b[J")
            else:
                sys.stdout.write("".join(f"{line}\n" for line in lines))
            sys.stdout.flush()
            time.sleep(SECONDS)


@contextmanager
def _place() -> Iterator[bool]:
    """Whether it is a terminal, which afterwards is as before, also when the program is told to end."""
    def ended(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    before = {number: signal.signal(number, ended) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        if terminal:
            sys.stdout.write(_ENTER)
        yield terminal
    finally:
        if terminal:
            with suppress(OSError):
                sys.stdout.write(_LEAVE)
                sys.stdout.flush()
        for number, handler in before.items():
            signal.signal(number, handler)
