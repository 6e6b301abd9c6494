"""The file of `--pcap`: private, and of a bounded size where one is given.

At its size it becomes FILE.1, an old FILE.1 becomes FILE.2, and so on; KEPT old ones stay. Each file can be read by
itself. What cannot be written ends the capture and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from netbridge.stack.packet import Buffer

from .errors import UsageError
from .runtime import open_private
from .shortage import todo

KEPT = 3
"""Old files, as many as of the log."""


class CaptureFile:
    """Takes packets in pieces, each to be found whole in one file."""

    def __init__(self, path: Path, size: int, beginning: bytes, complain: Callable[[str], None]) -> None:
        """`size`: bytes, 0 for no end. `beginning`: what each file starts with. Raises UsageError."""
        self._path = path
        self._size = size
        self._beginning = beginning
        self._complain = complain
        self._written = 0
        self._file: BinaryIO | None = None
        try:
            self._open(0 if path.is_symlink() else os.O_NOFOLLOW)
            if path.is_symlink() or not path.is_file():  # what a link leads to is in other hands, a pipe has no size
                self._size = 0
        except OSError as error:
            self.close()
            raise UsageError(
                f"The capture file {path} cannot be written.", f"{error.strerror}.",
                todo(error, "Name another by --pcap."),
            ) from error

    def begin(self, beginning: bytes) -> None:
        """What each file starts with, where it was not known yet when the first was opened."""
        self._beginning = beginning
        self.write([beginning])

    def write(self, pieces: Iterable[Buffer]) -> None:
        """Write one packet, or lose it."""
        if self._file is None:
            return
        try:
            whole = b"".join(pieces)
            if self._size and self._written + len(whole) > self._size and self._written > len(self._beginning):
                self._roll()
            self._file.write(whole)
            self._written += len(whole)
        except OSError as error:
            self._complain(f"the capture {self._path} ends here: {error.strerror}; the bridge goes on")
            self.close()

    def close(self) -> None:
        """Write what waits. Idempotent."""
        file, self._file = self._file, None
        if file:
            with suppress(OSError):  # a full disk; what could be written is there
                file.close()

    def _open(self, no_link: int) -> None:
        self._file = open(self._path, "wb", opener=lambda path, flags: open_private(path, flags | no_link))
        self._file.write(self._beginning)
        self._written = len(self._beginning)

    def _roll(self) -> None:
        assert self._file
        self._file.flush()
        try:
            for number in range(KEPT, 0, -1):
                with suppress(FileNotFoundError):
                    os.replace(self._old(number - 1), self._old(number))
        except OSError as error:  # a file that we may write in a folder that we may not: it grows
            self._size *= 2
            self._complain(f"the capture {self._path} cannot be moved to make room: {error.strerror}; it grows")
            return
        full = self._file
        self._open(os.O_NOFOLLOW)
        full.close()

    def _old(self, number: int) -> str:
        return f"{self._path}.{number}" if number else str(self._path)
