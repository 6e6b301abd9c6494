"""A slice of each turn of the event loop for one kind of work that must not crowd out the rest.

A slice is a part of what else the turn took: where nobody else has work, turns are short and follow each other at once,
so all the time there is goes to this kind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

SLICE = 0.001
"""Seconds of each turn for one kind, at least: some five connects, or fifty datagrams."""
LONGEST_SLICE = 0.01
"""And at most: what stands waits no longer for any kind."""
PART = 0.2
"""Of what the turn took besides, between the two."""


class Slice:
    """The time of one kind of work."""

    __slots__ = ("_allowed", "_loop", "_next", "_since", "_spent", "_turn", "clock")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, next_turn: Callable[[], None] | None = None, *,
        clock: Callable[[], float] = monotonic,
    ) -> None:  # fmt: skip
        """`next_turn` is called when a turn begins after one in which time was spent, or that `begin` was called in."""
        self._loop = loop
        self._next = next_turn
        self.clock = clock
        self._allowed = SLICE
        self._spent = 0.0
        self._since = 0.0
        """When this turn began, or its first work came."""
        self._turn: asyncio.Handle | None = None

    @property
    def left(self) -> bool:
        """Whether there is time left in this turn."""
        return self._spent < self._allowed

    def begin(self) -> None:
        """There is work in this turn, or for the next."""
        if self._turn is None:
            self._turn = self._loop.call_soon(self._next_turn)
            self._since = self.clock()

    def spend(self, seconds: float) -> None:
        """So much was used."""
        self.begin()
        self._spent += seconds

    def close(self) -> None:
        """No more turns."""
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def _next_turn(self) -> None:
        self._turn = None
        self._allowed = min(max(SLICE, (self.clock() - self._since - self._spent) * PART), LONGEST_SLICE)
        self._spent = 0.0
        if self._next is not None:
            self._next()
