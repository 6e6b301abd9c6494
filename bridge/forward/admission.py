"""Requests take turns, so that a flood of them leaves time for the connections that stand.

A connect costs some hundred times what a segment of a standing connection costs, a datagram or a ping ten times that,
and a hundred where it needs a socket. In each turn of the event loop each kind gets a slice of time; what does not fit
into it waits, and services (an address and a port) are served in rotation. A flood to one service therefore delays
neither standing connections nor what goes to another service. What the queues cannot hold is dropped, as by a router
that is full: its sender tries again. Who did not while it waited has gone, and costs nothing more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from time import monotonic
from typing import Generic, Protocol, TypeVar

from .slices import Slice

SHARE = 4
"""A queue may be as long as the SHAREth part of the free places (dynamic thresholds, as in `stack/tcp/budget.py`)."""
LATE = 0.5
"""Seconds by which a SYN may be late before nobody waits for the answer any more."""
LONGEST_PAUSE = 8.0
"""Seconds between SYNs: 1, 2, 4 and so on; who waits here for longer has had several chances."""

Service = tuple[bytes, int]


class Request(Protocol):
    """What waits."""

    destination: bytes
    destination_port: int
    asked_at: float
    """By this module's clock, when it was asked for last."""
    repeated: int
    """How often it was asked for again."""

    @property
    def pending(self) -> bool:
        """Whether it is still wanted."""

    def drop(self) -> None:
        """Nobody serves it."""


R = TypeVar("R", bound=Request)


class Unserved(Enum):
    """Why what had a place was not admitted."""

    LATE = auto()
    """Its sender had gone when its turn came; it was dropped."""
    CANCELLED = auto()
    """Its sender had taken it back."""
    CLOSING = auto()
    """The queues were closed; it was dropped."""
    FAILED = auto()
    """The forwarder raised; it was dropped."""


class Admission(Generic[R]):
    """The queues before a forwarder."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, admit: Callable[[R], None], unserved: Callable[[Unserved], None], *,
        in_all: int, per_service: int, clock: Callable[[], float] = monotonic,
    ) -> None:  # fmt: skip
        """`in_all`, `per_service`: how many may wait. `unserved` is told why, for each that was not admitted though it
        had a place.
        """
        self._unserved = unserved
        self._admit = admit
        self._clock = clock
        self._time = Slice(loop, self._next_turn, clock=clock)
        self._in_all = in_all
        self._per_service = per_service
        self._waiting: dict[Service, deque[R]] = {}
        """In rotation: who stands first is served next."""
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def free(self) -> bool:
        """Whether what comes now need not wait."""
        return not self._count and self._time.left

    def offer(self, request: R) -> bool:
        """Admit `request` now or in its turn; False when there is no place for it to wait."""
        if self.free:
            self._spend(request)
            return True
        if not self.has_place(request.destination, request.destination_port):
            return False
        self.queue(request)
        return True

    def has_place(self, destination: bytes, port: int) -> bool:
        """Whether one more to that service may wait.

        The fuller all queues are the shorter each may be, so that a scan leaves places for a service that is new.
        """
        most = min(self._per_service, (self._in_all - self._count) // SHARE)
        return len(self._waiting.get((destination, port), ())) < most

    def queue(self, request: R) -> None:
        """Let it wait for its turn."""
        self._time.begin()
        service = request.destination, request.destination_port
        queue = self._waiting.get(service)
        if queue is None:
            queue = self._waiting[service] = deque()
        queue.append(request)
        self._count += 1

    def spend(self, seconds: float) -> None:
        """So much of this turn was used for what need not wait."""
        self._time.spend(seconds)

    def close(self) -> None:
        """Drop what waits."""
        self._time.close()
        for queue in self._waiting.values():
            for request in queue:
                if request.pending:
                    self._unserved(Unserved.CLOSING)
                    request.drop()
                else:
                    self._unserved(Unserved.CANCELLED)
        self._waiting.clear()
        self._count = 0

    def _spend(self, request: R) -> None:
        begun = self._clock()
        try:
            self._admit(request)
        except BaseException:
            if request.pending:
                self._unserved(Unserved.FAILED)
                request.drop()  # else its ports would be taken for ever
            raise
        finally:
            self._time.spend(self._clock() - begun)

    def _next_turn(self) -> None:
        waiting = self._waiting
        try:
            while waiting and self._time.left:
                service = next(iter(waiting))
                queue = waiting.pop(service)
                request = queue.popleft()
                self._count -= 1
                if queue:
                    waiting[service] = queue  # to the end of the rotation
                if not request.pending:
                    self._unserved(Unserved.CANCELLED)
                    continue
                # A SYN may be repeated a thousand times, by who means harm.
                if self._clock() - request.asked_at > min(1 << min(request.repeated, 16), LONGEST_PAUSE) + LATE:
                    self._unserved(Unserved.LATE)
                    request.drop()
                else:
                    self._spend(request)
        finally:  # whatever failed, the others have their turn
            if waiting:
                self._time.begin()
