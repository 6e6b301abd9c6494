"""Host connects under way: how many there are, to whom, and which of them gives way.

A place is taken for milliseconds by a connect to a living host, and for the whole time-out by one to a black hole. So
nothing new is turned away for want of a place: the oldest gives way. And only what has waited for a while counts
against its destination, because a busy moment of ours makes a hundred connects to a living server look half-open.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .tcpflow import TcpFlow

YOUNG = 1.0
"""Seconds in which a connect says nothing about its destination."""


class Connecting:
    """Flows whose host connect is under way, oldest first."""

    def __init__(self, per_destination: int) -> None:
        self._per_destination = per_destination
        self._flows: dict[TcpFlow, None] = {}
        self._by_destination: dict[bytes, dict[TcpFlow, None]] = {}

    def __len__(self) -> int:
        return len(self._flows)

    @property
    def most(self) -> int:
        """Connects to the destination that has most."""
        return max(map(len, self._by_destination.values()), default=0)

    @property
    def oldest(self) -> TcpFlow | None:
        """The connect that began first."""
        return next(iter(self._flows), None)

    def add(self, flow: TcpFlow) -> None:
        """A connect began."""
        self._flows[flow] = None
        self._by_destination.setdefault(flow.destination, {})[flow] = None

    def remove(self, flow: TcpFlow) -> None:
        """It ended."""
        del self._flows[flow]
        others = self._by_destination[flow.destination]
        del others[flow]
        if not others:
            del self._by_destination[flow.destination]

    def surplus(self, now: float) -> list[TcpFlow]:
        """What is to be given up because its destination has too many that have waited for long."""
        return [flow for others in self._by_destination.values() for flow in self._surplus_of(others, now)]

    def _surplus_of(self, others: dict[TcpFlow, None], now: float) -> Iterator[TcpFlow]:
        excess = len(others) - self._per_destination
        for flow in others:
            if excess <= 0 or flow.opened > now - YOUNG:
                return
            excess -= 1
            yield flow
