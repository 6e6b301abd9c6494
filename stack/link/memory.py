"""Two links back to back, in one process: for tests and for stacks that talk to each other.

Packets are handed over in a later iteration of the event loop, in batches, in order, and copied once, because
`LinkUser.packet_received` takes a packet in one piece. The queue is bounded: above HIGH bytes the sender is asked to
wait, above LIMIT packets are dropped and counted.
"""

from __future__ import annotations

import asyncio
from collections import deque

from ..packet import Buffer
from .base import Link, LinkError, LinkUser
from .offload import finish

HIGH = 1 << 20
LOW = HIGH // 4
LIMIT = 4 * HIGH
BATCH = 64
"""Packets delivered in one go: enough to spread the cost of a wake-up, few enough to stay fair to others."""


class MemoryLink(Link):
    """One end of a pair."""

    def __init__(self, *, mtu: int, offload: bool) -> None:
        self.mtu = mtu
        self.offload = offload
        self.dropped = 0
        """Packets this end could not queue."""
        self.peer: MemoryLink = self
        self._user: LinkUser | None = None
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._ready = True
        self._scheduled = False
        self._closed = False

    def start(self, user: LinkUser) -> None:
        self._user = user
        self.peer._schedule()

    def send(self, header: Buffer, payload: Buffer = b"") -> None:
        if not self.offload and (header[0] or header[1]):
            for packet in finish(header, payload):
                self._put(packet)
        else:
            self._put(b"".join((header, payload)))

    @property
    def ready(self) -> bool:
        return self._ready

    def close(self) -> None:
        """Close both ends; what is under way is lost."""
        for end, error in ((self, None), (self.peer, LinkError("the other end closed the link"))):
            if not end._closed:
                end._closed = True
                end._queue.clear()
                if end._user is not None:
                    asyncio.get_running_loop().call_soon(end._user.link_lost, error)

    def _put(self, packet: bytes) -> None:
        if self._closed or self._queued > LIMIT:
            self.dropped += 1
            return
        self._queue.append(packet)
        self._queued += len(packet)
        if self._queued > HIGH:
            self._ready = False
        if not self._scheduled:
            self._schedule()

    def _schedule(self) -> None:
        if self._queue and not self._scheduled and self.peer._user is not None:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._deliver)

    def _deliver(self) -> None:
        """Hand the oldest packets to the peer's user."""
        self._scheduled = False
        user = self.peer._user
        if user is None or self._closed:
            return
        queue = self._queue
        try:
            for _ in range(min(BATCH, len(queue))):
                if not queue:  # closed from inside
                    return
                packet = queue.popleft()
                self._queued -= len(packet)
                user.packet_received(memoryview(packet))
            user.burst_ended()
        finally:
            self._schedule()
        if not self._ready and self._queued < LOW:
            self._ready = True
            if self._user is not None and not self._closed:
                self._user.link_ready()


def memory_link(mtu: int = 1500, *, offload: bool = True) -> tuple[MemoryLink, MemoryLink]:
    """Both ends of a new pair. Close either to end both."""
    one, other = MemoryLink(mtu=mtu, offload=offload), MemoryLink(mtu=mtu, offload=offload)
    one.peer, other.peer = other, one
    return one, other
