"""The file of `--log-file`: private, of a bounded size, and never a reason for the bridge to fail.

At its size it becomes FILE.1, an old FILE.1 becomes FILE.2, and so on; KEPT old ones stay. A file that somebody else
moved away (logrotate, another bridge with the same file) is opened anew. Where a line cannot be written, on a disk that
is full, it is lost and the next one is tried afresh, so that the log goes on when there is room again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path

from netbridge.bridge.runtime import open_private

KEPT = 3
"""Old files: with the one in use four times its size, days of a busy bridge."""


class LogFile(RotatingFileHandler):
    """One line after the other; from any thread."""

    def __init__(self, path: Path, size: int, complain: Callable[[str], None]) -> None:
        """Open it. `size`: bytes, 0 for no end. `complain` hears when lines begin to be lost. Raises OSError."""
        # Under sudo we are root in a folder that may be somebody else's: once a file was here, a link that takes its
        # place is not followed.
        self._no_link = 0 if path.is_symlink() else os.O_NOFOLLOW
        self._complain = complain
        self._losing = False
        super().__init__(path, maxBytes=size, backupCount=KEPT, encoding="utf-8")
        self.delay = True  # from now on it is opened when there is a line to write, so each fault is met in one place

    def write(self, line: str) -> None:
        """Append a line, or lose it."""
        self.handle(logging.makeLogRecord({"msg": line}))

    def emit(self, record: logging.LogRecord) -> None:
        if self.stream and self._moved_away(self.stream.fileno()):
            self._abandon()
        super().emit(record)
        if self.stream:
            self._losing = False

    def shouldRollover(self, record: logging.LogRecord) -> bool:  # noqa: N802, as the library names it
        # What a link (/dev/stdout is one) leads to is in other hands; devices and pipes the library leaves alone.
        return not os.path.islink(self.baseFilename) and bool(super().shouldRollover(record))

    def doRollover(self) -> None:  # noqa: N802
        try:
            super().doRollover()
        except OSError as error:  # a file that we may write in a folder that we may not: it grows
            self.maxBytes *= 2
            self._complain(f"the log file {self.baseFilename} cannot be moved to make room: {error.strerror}; it grows")

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        error = sys.exc_info()[1]
        self._abandon()  # it would keep the line, and every later one, for another try
        if not self._losing:
            self._losing = True
            why = error.strerror if isinstance(error, OSError) else error
            self._complain(f"the log file {self.baseFilename} cannot be written: {why}; lines are lost until it can")

    def _open(self) -> TextIOWrapper:
        return open(self.baseFilename, "a", encoding="utf-8", opener=self._opened)

    def _opened(self, path: str, flags: int) -> int:
        return open_private(path, flags | self._no_link)

    def _moved_away(self, descriptor: int) -> bool:
        try:
            return not os.path.samestat(os.stat(self.baseFilename), os.fstat(descriptor))
        except FileNotFoundError:
            return True
        except OSError:  # the folder was closed to us: what is open goes on
            return False

    def _abandon(self) -> None:
        stream, self.stream = self.stream, None
        if stream:
            with contextlib.suppress(OSError, ValueError):
                stream.close()
