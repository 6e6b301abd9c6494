"""Two connections over a path that loses, reorders, duplicates and delays, on a fake clock, by seed.

Invariants: every byte arrives once and in order, both ends close, no timer is left, and copies stay bounded.
"""

from __future__ import annotations

import heapq
from itertools import count
from random import Random

import pytest

from netbridge.stack.tcp.budget import Budget
from netbridge.stack.tcp.config import TcpConfig
from netbridge.stack.tcp.congestion import NewReno, Unlimited
from netbridge.stack.tcp.connection import Connection
from netbridge.stack.tcp.segment import RST, SYN, Segment, parse_options
from netbridge.stack.tcp.states import State

MSS = 1000
NOT_YET = {State.CLOSED, State.SYN_SENT}


class Side:
    """A connection whose user sends `data`, reads by fits and starts, and closes when it has sent all."""

    def __init__(self, config: TcpConfig, iss: int, data: bytes, random: Random) -> None:
        self.received = bytearray()
        self.random = random
        self.unsent = data
        self.eof = False
        self.over = False
        self.error: OSError | None = None
        self.done = False
        self.connection = Connection(config, Budget(1 << 24), self, iss=iss, mss=MSS, max_payload=8 * MSS)

    def connected(self) -> None:
        pass

    def data_received(self, data: memoryview) -> int:
        taken = len(data) if self.random.random() < 0.9 else self.random.randrange(len(data) + 1)
        self.received += data[:taken]
        return taken

    def probed(self, idle: float) -> None:
        pass

    def eof_received(self) -> None:
        self.eof = True

    def acked(self) -> None:
        pass

    def closed(self, error: OSError | None) -> None:
        self.over = True
        self.error = error

    def feed(self) -> None:
        """Write a little more, if there is room; close after the last byte."""
        if self.done or self.connection.state in NOT_YET or self.connection.sender.queued >= 20000:
            return
        size = self.random.randrange(1, 9000)
        self.connection.write(self.unsent[:size])
        self.unsent = self.unsent[size:]
        if not self.unsent:
            self.done = True
            self.connection.shutdown()


def simulate(
    seed: int, *, loss: float, reorder: float, duplicate: float, size: int, congestion: type = NewReno,
    sack: bool = True,
) -> tuple[Side, Side, int]:
    """Run until both ends are over; returns both and the number of packets sent."""
    random = Random(seed)
    config = TcpConfig(congestion=congestion, sack=sack)
    left = Side(config, random.getrandbits(32), random.randbytes(size), random)
    right = Side(config, random.getrandbits(32), random.randbytes(size // 2), random)
    expected = (bytes(left.unsent), bytes(right.unsent))
    order = count()
    wire: list[tuple[float, int, Side, Segment]] = []
    now, packets = 0.0, 0
    left.connection.open()
    accepted = False

    def pump(side: Side, peer: Side) -> None:
        nonlocal packets
        side.feed()
        for segment in side.connection.transmit(now):
            packets += 1
            copies = 2 if random.random() < duplicate else 1
            for _ in range(copies):
                if random.random() >= loss:
                    delay = 0.01 + (random.random() * 0.05 if random.random() < reorder else 0.0)
                    heapq.heappush(wire, (now + delay, next(order), peer, segment))

    for _ in range(200_000):
        for side, peer in ((left, right), (right, left)):
            pump(side, peer)
        if left.over and right.over:
            break
        timers = min(left.connection.next_timeout(), right.connection.next_timeout())
        now = max(now, min(timers, wire[0][0] if wire else 1e9, now + 0.02))
        assert now < 3600, f"stuck: {left.connection!r} {right.connection!r}"
        for side in (left, right):
            if random.random() < 0.3:
                side.connection.drain(now)
            if side.connection.next_timeout() <= now:
                side.connection.handle_timeout(now)
        while wire and wire[0][0] <= now:
            _, _, to, segment = heapq.heappop(wire)
            options = parse_options(segment.options) if segment.options else None
            if to is right and not accepted:
                if segment.flags & SYN:
                    assert options is not None
                    right.connection.accept(segment.seq, segment.window, options)
                    accepted = True
                continue
            if to.over:  # as a stack answers a segment of no connection
                if not segment.flags & RST:
                    reset = Segment(segment.ack, 0, RST, 0)
                    heapq.heappush(wire, (now + 0.01, next(order), left if to is right else right, reset))
                continue
            to.connection.receive(
                segment.seq, segment.ack, segment.flags, segment.window, memoryview(bytes(segment.payload)),
                options, now,
            )
    assert (bytes(right.received), bytes(left.received)) == expected
    assert left.eof
    assert right.eof
    assert left.error is None
    assert right.error is None
    return left, right, packets


@pytest.mark.parametrize("seed", range(60))
def test_a_bad_path_delivers_everything_once_and_in_order(seed: int) -> None:
    random = Random(seed)
    left, right, packets = simulate(
        seed, loss=random.choice((0.0, 0.01, 0.1)), reorder=random.choice((0.0, 0.2)),
        duplicate=random.choice((0.0, 0.05)), size=random.choice((1, 5_000, 150_000)),
        congestion=random.choice((NewReno, Unlimited)), sack=random.random() < 0.7,
    )
    for side in (left, right):
        assert side.connection.next_timeout() > 1e9
        assert side.connection.sender.queued == 0
    assert packets < 3000


def test_a_good_path_sends_nothing_twice() -> None:
    for congestion in (NewReno, Unlimited):
        left, right, _ = simulate(7, loss=0, reorder=0, duplicate=0, size=400_000, congestion=congestion)
        assert left.connection.sender.retransmitted == 0
        assert right.connection.sender.retransmitted == 0


def test_a_link_that_stands_still_is_not_flooded() -> None:
    """A stall of 30 s with a full window in flight: a few single segments ask, then everything goes on."""
    config = TcpConfig(congestion=Unlimited, min_rto=2.0)
    random = Random(1)
    side = Side(config, 0, b"", random)
    side.connection.accept(0, 65535, parse_options(bytes([3, 3, 8])))
    side.connection.transmit(0.0)
    side.connection.receive(1, 1, 0x10, 4096, memoryview(b""), None, 0.01)
    side.connection.write(b"x" * 500_000)
    assert sum(len(segment.payload) for segment in side.connection.transmit(0.02)) == 500_000
    copies = []
    while (at := side.connection.next_timeout()) < 30:
        side.connection.handle_timeout(at)
        copies += side.connection.transmit(at)
    assert sum(len(segment.payload) for segment in copies) <= 5 * MSS
