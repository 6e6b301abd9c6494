"""A device that harms what passes: loss, duplicates, corruption, delay, reordering, a rate with a bounded queue, marks
of congestion.

Deterministic: with the same seed, the same packets and the same clock the same packets suffer the same fate, because
every decision comes from one seeded generator for each direction, and each packet draws the same number of times
whatever is configured (marks come from another generator). Time comes from `clock` and `schedule`, by default the event
loop's; tests give their own.

Super-segments would be lost whole, which no network does; with `offload=False` the device cuts them first, both ways.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from ..checksum import checksum
from ..packet import Buffer
from ..vnet import VNET_LEN
from .base import Link, LinkUser
from .offload import finish
from .wrapper import Wrapper

Schedule = Callable[[float, Callable[[], None]], object]
"""Call a function after so many seconds."""


@dataclass(frozen=True, slots=True)
class Faults:
    """How one direction is harmed. Probabilities are from 0 to 1, each packet on its own."""

    loss: float = 0.0
    """Probability that a packet vanishes."""
    duplicate: float = 0.0
    """Probability that it comes twice."""
    corrupt: float = 0.0
    """Probability that one bit of it, anywhere behind the virtio_net_hdr, is flipped."""
    reorder: float = 0.0
    """Probability that it is overtaken: kept back `reorder_delay` longer than the others."""
    reorder_delay: float = 0.01
    """Seconds."""
    delay: float = 0.0
    """Seconds each packet takes."""
    jitter: float = 0.0
    """Up to so many seconds more, evenly distributed. Packets do not overtake each other by it."""
    rate: float = 0.0
    """Bytes a second that fit through; 0 for no limit."""
    queue: int = 256 * 1024
    """Bytes that may wait for the rate; beyond, packets are dropped from the tail."""
    mark: float = 0.0
    """Probability that a packet whose ends understand ECN is marked: congestion experienced (RFC 3168)."""


NO_FAULTS = Faults()


@dataclass(slots=True)
class FaultCounters:
    """What one direction suffered."""

    passed: int = 0
    """Packets delivered, duplicates included."""
    lost: int = 0
    """Packets that vanished."""
    duplicated: int = 0
    """Packets that came twice."""
    corrupted: int = 0
    """Packets with a flipped bit."""
    reordered: int = 0
    """Packets kept back."""
    overflowed: int = 0
    """Packets dropped because the queue before the rate was full."""
    marked: int = 0
    """Packets marked that met congestion."""


@dataclass(slots=True)
class _Direction:
    """One way through the device."""

    faults: Faults
    random: Random
    deliver: Callable[[bytes], None]
    clock: Callable[[], float]
    schedule: Schedule
    marks: Random
    counters: FaultCounters = field(default_factory=FaultCounters)
    free_at: float = 0.0
    """When the last byte queued for the rate will be through."""
    last_at: float = 0.0
    """When the last packet in order is delivered."""
    waiting: list[tuple[float, int, bytes]] = field(default_factory=list)
    """A heap of packets on their way: when to deliver, in which order, what."""

    def put(self, packet: bytes) -> None:
        """Decide about one packet."""
        draw = self.random.random
        lost, twice, corrupt, late, jitter, where = draw(), draw(), draw(), draw(), draw(), draw()
        faults, counters, now = self.faults, self.counters, self.clock()
        if lost < faults.loss:
            counters.lost += 1
            return
        if faults.mark and self.marks.random() < faults.mark and _markable(packet):
            counters.marked += 1
            packet = _marked(packet)
        if corrupt < faults.corrupt:
            counters.corrupted += 1
            packet = _flip(packet, where)
        through = now
        if faults.rate:
            self.free_at = max(self.free_at, now)
            if (self.free_at - now) * faults.rate + len(packet) > faults.queue:
                counters.overflowed += 1
                return
            self.free_at += len(packet) / faults.rate
            through = self.free_at
        at = max(self.last_at, through + faults.delay + jitter * faults.jitter)
        if late < faults.reorder:
            counters.reordered += 1
            at += faults.reorder_delay
        else:
            self.last_at = at
        self._later(at, now, packet)
        if twice < faults.duplicate:
            counters.duplicated += 1
            self._later(at, now, packet)

    def _later(self, at: float, now: float, packet: bytes) -> None:
        self.counters.passed += 1
        if at <= now:
            self.deliver(packet)
            return
        # One call for each packet, but which packet it delivers the heap decides: timers of one moment have no order.
        heapq.heappush(self.waiting, (at, self.counters.passed, packet))
        self.schedule(at - now, self._next)

    def _next(self) -> None:
        self.deliver(heapq.heappop(self.waiting)[2])


class FaultLink(Wrapper):
    """Harms what is sent and what is received through `inner`."""

    def __init__(
        self, inner: Link, *, seed: int = 0, sent: Faults = NO_FAULTS, received: Faults = NO_FAULTS,
        offload: bool | None = None, clock: Callable[[], float] | None = None, schedule: Schedule | None = None,
    ) -> None:
        """`offload=False` cuts super-segments into packets first; None keeps what the inner link has."""
        super().__init__(inner)
        if offload is not None:
            self.offload = offload and inner.offload
        self._cut = offload is False
        self._closed = False
        self._now = clock
        self._after = schedule
        times = self._clock, self._schedule
        draws = [Random(number) for number in (seed, ~seed, seed + 1, ~(seed + 1))]  # noqa: S311  (seeded, not secret)
        self._sent = _Direction(sent, draws[0], self._send, *times, draws[1])
        self._received = _Direction(received, draws[2], self._receive, *times, draws[3])

    @property
    def sent(self) -> FaultCounters:
        """What happened to packets sent."""
        return self._sent.counters

    @property
    def received(self) -> FaultCounters:
        """What happened to packets received."""
        return self._received.counters

    def set_faults(self, *, sent: Faults | None = None, received: Faults | None = None) -> None:
        """Change the weather."""
        if sent is not None:
            self._sent.faults = sent
        if received is not None:
            self._received.faults = received

    def start(self, user: LinkUser) -> None:
        if self._now is None or self._after is None:
            loop = asyncio.get_running_loop()
            self._now = self._now or loop.time
            self._after = self._after or loop.call_later
        super().start(user)

    def send(self, header: Buffer, payload: Buffer = b"") -> None:
        for packet in self._packets(self._sent, header, payload):
            self._sent.put(packet)

    def packet_received(self, packet: memoryview) -> None:
        for piece in self._packets(self._received, packet, b""):
            self._received.put(piece)

    def link_lost(self, error: Exception | None) -> None:
        self._closed = True
        super().link_lost(error)

    def close(self) -> None:
        self._closed = True
        super().close()

    def _packets(self, direction: _Direction, header: Buffer, payload: Buffer) -> list[bytes]:
        # A flipped bit behind an unfinished checksum would never be noticed, so corruption needs finished ones.
        if (self._cut or direction.faults.corrupt) and (header[0] or header[1]):
            return finish(header, payload)
        return [b"".join((header, payload))]

    def _send(self, packet: bytes) -> None:
        if not self._closed:
            self.inner.send(packet)

    def _receive(self, packet: bytes) -> None:
        if not self._closed:
            self.user.packet_received(memoryview(packet))
            self.user.burst_ended()

    def _clock(self) -> float:
        assert self._now is not None, "start the link first"
        return self._now()

    def _schedule(self, seconds: float, function: Callable[[], None]) -> None:
        assert self._after is not None, "start the link first"
        self._after(seconds, function)


def _ecn(packet: bytes) -> int:
    """The ECN codepoint of a packet behind its virtio_net_hdr."""
    return packet[VNET_LEN + 1] & 3 if packet[VNET_LEN] >> 4 == 4 else packet[VNET_LEN + 1] >> 4 & 3


def _markable(packet: bytes) -> bool:
    return _ecn(packet) in (1, 2)


def _marked(packet: bytes) -> bytes:
    """The packet with "congestion experienced" in its IP header."""
    changed = bytearray(packet)
    if packet[VNET_LEN] >> 4 == 4:
        changed[VNET_LEN + 1] |= 3
        header = memoryview(changed)[VNET_LEN : VNET_LEN + ((packet[VNET_LEN] & 15) << 2)]
        header[10:12] = b"\0\0"
        header[10:12] = checksum(header).to_bytes(2, "big")
    else:
        changed[VNET_LEN + 1] |= 0x30
    return bytes(changed)


def _flip(packet: bytes, where: float) -> bytes:
    """The packet with one bit flipped, `where` (0 to 1) behind its virtio_net_hdr."""
    bits = (len(packet) - VNET_LEN) * 8
    bit = VNET_LEN * 8 + int(where * bits)
    flipped = bytearray(packet)
    flipped[bit >> 3] ^= 1 << (bit & 7)
    return bytes(flipped)
