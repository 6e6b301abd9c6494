"""New requests take turns, so that a flood of them leaves time for the flows that stand.

A connect costs some hundred times what a segment of a standing flow costs. In each turn of the event loop new requests
get a slice of time; what does not fit into it waits, and services (an address and a port) are served in rotation. A
flood to one service therefore delays neither standing flows nor connects to another service. What the queues cannot
hold is dropped: its sender tries again. Who did not while it waited has gone, and costs no connect.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netbridge.stack.tcp.request import TcpRequest

    from .counters import TcpForwardCounters
    from .limits import Limits

SLICE = 0.01
"""Seconds of each turn for new requests: some fifty connects."""

SHARE = 4
"""A queue may be as long as the SHAREth part of the free places (dynamic thresholds, as in `stack/tcp/budget.py`)."""
LATE = 0.5
"""Seconds by which a SYN may be late before nobody waits for the answer any more."""
LONGEST_PAUSE = 8.0
"""Seconds between SYNs: 1, 2, 4 and so on; who waits here for longer has had several chances."""

Service = tuple[bytes, int]


class Admission:
    """The queues before the forwarder."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, admit: Callable[[TcpRequest], None], limits: Limits,
        counters: TcpForwardCounters, *, clock: Callable[[], float] = monotonic,
    ) -> None:
        self._counters = counters
        self._loop = loop
        self._admit = admit
        self._clock = clock
        self._in_all = limits.tcp_waiting
        self._per_service = limits.tcp_waiting_per_service
        self._spent = 0.0
        """Seconds of this turn's slice that are used up."""
        self._waiting: dict[Service, deque[TcpRequest]] = {}
        """In rotation: who stands first is served next."""
        self._count = 0
        self._turn: asyncio.Handle | None = None

    def __len__(self) -> int:
        return self._count

    def offer(self, request: TcpRequest) -> bool:
        """Admit `request` now or in its turn; False when there is no place for it to wait."""
        if self._turn is None:
            self._turn = self._loop.call_soon(self._next_turn)
        if not self._count and self._spent < SLICE:
            self._spend(request)
            return True
        service = request.destination, request.destination_port
        queue = self._waiting.get(service)
        # The fuller all queues are the shorter each may be, so that a scan leaves places for a service that is new.
        most = min(self._per_service, (self._in_all - self._count) // SHARE)
        if (len(queue) if queue is not None else 0) >= most:
            return False
        if queue is None:
            queue = self._waiting[service] = deque()
        queue.append(request)
        self._count += 1
        return True

    def close(self) -> None:
        """Drop what waits."""
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        for queue in self._waiting.values():
            for request in queue:
                if request.pending:
                    self._counters.dropped_closing += 1
                    request.drop()
                else:
                    self._counters.cancelled_waiting += 1
        self._waiting.clear()
        self._count = 0

    def _spend(self, request: TcpRequest) -> None:
        begun = self._clock()
        try:
            self._admit(request)
        except BaseException:
            if request.pending:
                self._counters.dropped_error += 1
                request.drop()  # else its ports would be taken for ever
            raise
        finally:
            self._spent += self._clock() - begun

    def _next_turn(self) -> None:
        self._turn = None
        self._spent = 0.0
        waiting = self._waiting
        try:
            while waiting and self._spent < SLICE:
                service = next(iter(waiting))
                queue = waiting.pop(service)
                request = queue.popleft()
                self._count -= 1
                if queue:
                    waiting[service] = queue  # to the end of the rotation
                if not request.pending:
                    self._counters.cancelled_waiting += 1
                    continue
                # A SYN may be repeated a thousand times, by who means harm.
                if self._clock() - request.asked_at > min(1 << min(request.repeated, 16), LONGEST_PAUSE) + LATE:
                    self._counters.dropped_late += 1
                    request.drop()
                else:
                    self._spend(request)
        finally:  # whatever failed, the others have their turn
            if waiting and self._turn is None:
                self._turn = self._loop.call_soon(self._next_turn)
