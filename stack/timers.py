"""One timer for everything in a stack that waits.

A timed object moves its deadline with every packet, almost always later. So the heap is told only of deadlines that
became earlier; an entry that fires too early asks the object and goes back in. A packet therefore costs a comparison,
not a heap operation, and the event loop sees one timer however many connections there are.
"""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush
from itertools import count
from math import inf
from time import monotonic
from typing import Protocol


class Timed(Protocol):
    """Something with deadlines."""

    scheduled: float
    """When the heap will ask next; the heap's own note, initially inf."""

    def next_timeout(self) -> float:
        """When `handle_timeout` wants to be called; inf: not at all."""

    def handle_timeout(self, now: float) -> None:
        """Do what has become due."""


class Timers:
    """The deadlines of all timed objects on one event-loop timer."""

    __slots__ = ("_handle", "_handle_at", "_heap", "_loop", "_order")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._heap: list[tuple[float, int, Timed]] = []
        self._order = count()
        self._handle: asyncio.TimerHandle | None = None
        self._handle_at = inf

    def update(self, timed: Timed) -> None:
        """Look at the object's deadline again: to be called when it may have become earlier."""
        at = timed.next_timeout()
        if at < timed.scheduled:
            timed.scheduled = at
            heappush(self._heap, (at, next(self._order), timed))
            if at < self._handle_at:
                self._arm(at)

    def close(self) -> None:
        """Forget everything."""
        self._heap.clear()
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self, at: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._handle_at = at
        self._handle = self._loop.call_later(max(0.0, at - monotonic()), self._fire)

    def _fire(self) -> None:
        self._handle = None
        self._handle_at = inf
        heap = self._heap
        now = monotonic()
        while heap and heap[0][0] <= now:
            at, _, timed = heappop(heap)
            if at != timed.scheduled:
                continue  # an earlier deadline was noted since; that entry speaks for the object
            timed.scheduled = inf
            if timed.next_timeout() <= now:
                timed.handle_timeout(now)
            self.update(timed)
        if heap and heap[0][0] < self._handle_at:
            self._arm(heap[0][0])
