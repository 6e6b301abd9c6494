"""Standard error of a transport's program: drained always, kept little, shown without its control characters.

A pipe that nobody reads stops its writer, so it is read to its end whatever comes. What is kept is bounded, because
the other side may write for days; and it is untrusted text, which must not move the reader's cursor or colour his
terminal.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable

LINES = 20
LINE_LENGTH = 400
_READ = 65536


def clean(text: str) -> str:
    """The text on one line, printable characters only."""
    return "".join(letter if letter.isprintable() else " " for letter in text).strip()


class Diagnostics:
    """The last lines of a stream of text, from a descriptor (whose ownership it takes) or fed by hand."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
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
        """Stop reading."""
        if self._descriptor >= 0:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
        self._keep(self._partial)
        self._partial = b""
        if not self.ended:
            self.ended = True
            if self.when_ended is not None:
                self.when_ended()

    def text(self) -> str:
        """What was kept, a line each, printable."""
        return "\n".join([*self._lines, *([partial] if (partial := self._readable_line(self._partial)) else [])])

    def _readable(self) -> None:
        try:
            data = os.read(self._descriptor, _READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.feed(data)
        else:
            self.close()

    def _keep(self, line: bytes) -> None:
        if text := self._readable_line(line):
            self._lines.append(text)
            self._log(text)

    @staticmethod
    def _readable_line(line: bytes) -> str:
        return clean(line[:LINE_LENGTH].decode("utf-8", "replace"))
