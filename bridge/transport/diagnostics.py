"""Standard error of a transport's program: drained always, kept little, shown without its control characters.

A pipe that nobody reads stops its writer, so it is read to its end whatever comes. What is kept is bounded, because
the other side may write for days; and it is untrusted text, which must not move the reader's cursor or colour his
terminal.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable

from ..plain import clean

LINES = 20
LINE_LENGTH = 400
LOGGED = 200
"""Lines that are logged at once; then LOGGED_EACH a second: the other side must not fill this machine's disk."""
LOGGED_EACH = 5.0
_READ = 65536


class _Calm:
    """A log that tells how many lines it left out."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._left = float(LOGGED)
        self._seen = time.monotonic()
        self._left_out = 0

    def __call__(self, line: str) -> None:
        now = time.monotonic()
        self._left = min(LOGGED, self._left + (now - self._seen) * LOGGED_EACH)
        self._seen = now
        if self._left < 1:
            self._left_out += 1
            return
        self._left -= 1
        if self._left_out:
            self._log(f"{self._left_out} lines are left out")
            self._left_out = 0
        self._log(line)

    def end(self) -> None:
        """Nothing more comes."""
        if self._left_out:
            self._log(f"{self._left_out} lines are left out")
            self._left_out = 0


class Diagnostics:
    """The last lines of a stream of text, from a descriptor (whose ownership it takes) or fed by hand."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = _Calm(log)
        self._lines: deque[str] = deque(maxlen=LINES)
        self._partial = b""
        self._descriptor = -1
        self.ended = True
        """Nothing more will come."""
        self.when_ended: Callable[[], None] | None = None

    def drain(self, descriptor: int) -> None:
        """Read the descriptor to its end."""
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self.ended = False
        asyncio.get_running_loop().add_reader(descriptor, self._readable)

    def feed(self, data: bytes) -> None:
        """Take text as it comes, in pieces of any size."""
        *lines, rest = (self._partial + data).replace(b"\r", b"\n").split(b"\n")
        self._partial = rest[:LINE_LENGTH]
        for line in lines:
            self._keep(line)

    def close(self) -> None:
        """Take what is there, and stop reading."""
        if self._descriptor >= 0:
            self._take()
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
        self._keep(self._partial)
        self._partial = b""
        self._log.end()
        if not self.ended:
            self.ended = True
            if self.when_ended is not None:
                self.when_ended()

    def text(self) -> str:
        """What was kept, a line each, printable."""
        return "\n".join([*self._lines, *([partial] if (partial := self._readable_line(self._partial)) else [])])

    def _readable(self) -> None:
        if not self._take():
            self.close()

    def _take(self) -> bool:
        """Read once; whether more may come."""
        try:
            data = os.read(self._descriptor, _READ)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if data:
            self.feed(data)
        return bool(data)

    def _keep(self, line: bytes) -> None:
        if text := self._readable_line(line):
            self._lines.append(text)
            self._log(text)

    @staticmethod
    def _readable_line(line: bytes) -> str:
        return clean(line[:LINE_LENGTH].decode("utf-8", "replace").strip())[:LINE_LENGTH]
