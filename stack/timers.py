"""One timer for everything in a stack that waits.

A timed object moves its deadline with every packet, almost always later. So the heap is told only of deadlines that
became earlier; an entry that fires too early asks the object and goes back in. A packet therefore costs a comparison,
not a heap operation, and the event loop sees one timer however many connections there are.

An entry whose object has meanwhile got an earlier one is stale: it stays, and is skipped when its time comes. Were
there more stale entries than others (a deadline of hours, moved to milliseconds again and again), they are all thrown
out.
"""

from __future__ import annotations

import asyncio
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from typing import Protocol

from .clock import Clock

TOLERATED = 64
"""Stale entries that are never worth a look."""


class Timed(Protocol):
    """Something with deadlines."""

    scheduled: float
    """When the heap will ask next; the heap's own note, initially inf."""

    def next_timeout(self) -> float:
        """When `handle_timeout` wants to be called; inf: not at all."""

    def handle_timeout(self, now: float) -> None:
        """Do what has become due."""


SOON = 0.001
"""Seconds until an object is called again whose deadline is past after the call as well: it may wait for another."""


class Timers:
    """The deadlines of all timed objects on one event-loop timer."""

    __slots__ = ("_clock", "_closed", "_handle", "_handle_at", "_heap", "_loop", "_order", "_stale")

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock) -> None:
        self._loop = loop
        self._clock = clock
        self._heap: list[tuple[float, int, Timed]] = []
        self._order = count()
        self._stale = 0
        self._handle: asyncio.TimerHandle | None = None
        self._handle_at = inf
        """When the event loop will call; -inf while that is not to be changed."""
        self._closed = False

    def __len__(self) -> int:
        return len(self._heap)

    def update(self, timed: Timed) -> None:
        """Look at the object's deadline again: to be called when it may have become earlier."""
        self._note(timed, timed.next_timeout())

    def _note(self, timed: Timed, at: float) -> None:
        if at < timed.scheduled:
            if timed.scheduled != inf:
                self._stale += 1
            timed.scheduled = at
            heappush(self._heap, (at, next(self._order), timed))
            if at < self._handle_at:
                self._arm(at)

    def look(self) -> None:
        """The clock goes on: deadlines come later than the event loop was told."""
        if self._heap and not self._closed:
            self._arm(self._heap[0][0])

    def close(self) -> None:
        """Forget everything, and arm no timer any more."""
        self._closed = True
        self._heap.clear()
        self._handle_at = -inf
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self, at: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if self._clock.stopped:
            self._handle_at = inf
            return
        self._handle_at = at
        self._handle = self._loop.call_later(max(0.0, at - self._clock.now()), self._fire)

    def _fire(self) -> None:
        self._handle = None
        if self._clock.stopped:
            self._handle_at = inf
            return
        self._handle_at = -inf
        heap = self._heap
        now = self._clock.now()
        try:
            while heap and heap[0][0] <= now:
                at, _, timed = heappop(heap)
                if at != timed.scheduled:
                    self._stale -= 1
                    continue  # an earlier deadline was noted since; that entry speaks for the object
                timed.scheduled = inf
                if timed.next_timeout() <= now:
                    timed.handle_timeout(now)
                at = timed.next_timeout()
                self._note(timed, at if at > now else now + SOON)
        finally:
            if not self._closed:
                self._sweep()
                self._handle_at = inf
                if heap:
                    self._arm(heap[0][0])

    def _sweep(self) -> None:
        heap = self._heap
        if self._stale > TOLERATED and self._stale * 2 > len(heap):
            heap[:] = [entry for entry in heap if entry[0] == entry[2].scheduled]
            heapify(heap)
            self._stale = 0
