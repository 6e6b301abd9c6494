"""A file that is read again whenever it changed: by its time, size and inode, as a rename replaces the inode."""

from __future__ import annotations

import os
from collections.abc import Callable
from errno import EAGAIN, EIO, EMFILE, ENFILE, ENOBUFS, ENOMEM
from typing import Generic, TypeVar

Parsed = TypeVar("Parsed")

SHORTAGES = frozenset((EAGAIN, EIO, EMFILE, ENFILE, ENOBUFS, ENOMEM))
"""Errors that are the machine's and not the file's."""
MAX_BYTES = 16 << 20
"""More than any hosts file people block advertisements with; the rest of a larger file is not read."""


class WatchedFile(Generic[Parsed]):
    """What `parse` makes of the file at `path`; a file that is missing or unreadable counts as empty."""

    def __init__(self, path: str, parse: Callable[[str], Parsed]) -> None:
        self.path = path
        self.generation = 0
        """Grows whenever the file was seen to differ."""
        self._parse = parse
        self._signature: tuple[int, ...] | None = None
        self.value: Parsed = parse("")
        """The file as it was at the last :meth:`refresh`."""
        self.refresh()

    def refresh(self) -> bool:
        """Look at the file (one stat, some microseconds) and read it if it changed; True when it did."""
        signature: tuple[int, ...] = ()
        text = ""
        try:
            status = os.stat(self.path)
            signature = (status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev)
            if signature == self._signature:
                return False
            with open(self.path, encoding="utf-8", errors="replace") as file:
                text = file.read(MAX_BYTES)
        except OSError as error:
            if error.errno in SHORTAGES:
                return False  # it says nothing of the file: what was known holds, and the next look tries again
            signature = ()  # nor is one that may be read later known by what is read of it now
        if signature == self._signature:
            return False
        self._signature = signature
        self.value = self._parse(text)
        self.generation += 1
        return True
