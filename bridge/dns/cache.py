"""Answers for as long as their TTL lasts: bounded in number and bytes, the least recently asked for leaves first."""

from __future__ import annotations

from collections import OrderedDict

from .answer import Answer

MAX_ENTRIES = 8192
MAX_BYTES = 8 << 20
"""Together they bound the cache's memory: an entry costs about 1 KiB beside its bytes, so at most 16 MiB in all."""


class Cache:
    """Answers by question key."""

    def __init__(self, max_entries: int = MAX_ENTRIES, max_bytes: int = MAX_BYTES) -> None:
        self._entries: OrderedDict[bytes, tuple[Answer, float]] = OrderedDict()
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self.bytes = 0
        """Bytes of answers held."""
        self.flushes = 0
        """Times everything was forgotten."""

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes, now: float) -> tuple[Answer, int] | None:
        """The answer and its age in whole seconds; None when there is none that still lives."""
        found = self._entries.get(key)
        if found is None:
            return None
        answer, since = found
        age = int(now - since)
        if age >= answer.lifetime:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return answer, age

    def put(self, key: bytes, answer: Answer, now: float) -> None:
        """Keep an answer, unless it says that it may not be kept."""
        if answer.lifetime <= 0:
            return
        self._drop(key)
        self._entries[key] = answer, now
        self.bytes += len(answer.tail)
        while len(self._entries) > self._max_entries or self.bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def flush(self) -> None:
        """Forget everything."""
        self.flushes += 1
        self._entries.clear()
        self.bytes = 0

    def _drop(self, key: bytes) -> None:
        found = self._entries.pop(key, None)
        if found is not None:
            self.bytes -= len(found[0].tail)
