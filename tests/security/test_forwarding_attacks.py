"""Attacks on the machine that carries a flow: a peer that acknowledges and reports whatever it likes.

The peer is a codespace's root. It may not make the bridge raise, loop, count below zero, hold what was released, or
send a byte that does not belong at its sequence number; and once it behaves, everything arrives. Each seed is one
attack, and names it when it fails: `attack(seed)`.
"""

from __future__ import annotations

import random
from itertools import pairwise
from math import inf

import pytest

from netbridge.stack.tcp.budget import Budget
from netbridge.stack.tcp.config import TcpConfig
from netbridge.stack.tcp.congestion import NewReno, Unlimited
from netbridge.stack.tcp.connection import Connection
from netbridge.stack.tcp.cubic import Cubic
from netbridge.stack.tcp.reports import FEW_RANGES
from netbridge.stack.tcp.rto import MAX_RTO
from netbridge.stack.tcp.scoreboard import LOST, SACKED
from netbridge.stack.tcp.segment import ACK, FIN, PSH, RST, SYN, URG, Block, Options, Segment
from netbridge.stack.tcp.seq import HALF, MASK
from netbridge.stack.tcp.states import State

SUPER = 44 * 1460
"""Payload of a super-segment."""
NOTHING = memoryview(b"")
QUIET = frozenset((State.SYN_RECEIVED, State.TIME_WAIT, State.CLOSED))


class User:
    """Reads as much as it feels like, and may end the connection from inside."""

    def __init__(self, rnd: random.Random) -> None:
        self.rnd = rnd
        self.greed = 1.0
        self.kills = 0.0
        self.data = bytearray()
        self.connection: Connection | None = None
        self.closes = 0

    def connected(self) -> None:
        pass

    def data_received(self, data: memoryview) -> int:
        if self.rnd.random() < self.kills and self.connection is not None:
            self.data += data
            self.connection.abort()
            return len(data)
        taken = len(data) if self.rnd.random() < self.greed else int(self.greed * self.rnd.randrange(len(data) + 1))
        self.data += data[:taken]
        return taken

    def eof_received(self) -> None:
        pass

    def acked(self) -> None:
        pass

    def probed(self, idle: float) -> None:
        assert idle >= 0

    def closed(self, error: OSError | None) -> None:
        self.closes += 1


class Victim:
    """A connection under attack, and what the peer got of it."""

    def __init__(self, rnd: random.Random) -> None:
        self.rnd = rnd
        self.now = 1000.0
        config = TcpConfig(
            congestion=rnd.choice((NewReno, Cubic, Unlimited)), min_rto=rnd.choice((0.2, 0.5)), longest_persist=5.0,
            time_wait=1.0, retries=500, persist_retries=500,
        )
        self.budget = Budget(config.receive_budget)
        self.user = User(rnd)
        self.iss = rnd.choice((MASK - rnd.randrange(200_000), rnd.getrandbits(32), HALF - 16))
        self.irs = rnd.choice((MASK - 255, rnd.getrandbits(32)))
        self.scale = rnd.randrange(15)
        self.tcp = Connection(
            config, self.budget, self.user, iss=self.iss, mss=1460, max_payload=rnd.choice((1460, SUPER)),
        )
        self.user.connection = self.tcp
        self.stream = bytearray()
        self.arrived: list[tuple[int, int]] = []
        self.fin_at = -1
        options = Options(rnd.choice((1460, 536, 88, None)), self.scale, sack_permitted=rnd.random() < 0.9)
        self.tcp.accept(self.irs, rnd.choice((0, 1, 65535)), options)
        self.pump(1.0)
        self.says(ack=(self.iss + 1) & MASK, window=rnd.randrange(65536))

    # -- the two sides

    def says(
        self, *, ack: int, window: int, seq: int = 0, flags: int = ACK, data: bytes = b"",
        sacks: tuple[Block, ...] = (),
    ) -> None:
        """A segment of the peer, `seq` counted from what is expected next."""
        at = (self.tcp.receiver.nxt + seq) & MASK
        options = Options(sacks=sacks) if sacks else None
        self.tcp.receive(at, ack & MASK, flags, window, memoryview(data), options, self.now)

    def pump(self, loss: float, quantum: int = 65536) -> None:
        """Everything that is due leaves, and some of it arrives."""
        for _ in range(5000):
            for segment in self.tcp.transmit(self.now, quantum):
                self.inspect(segment)
                if self.rnd.random() >= loss:
                    self.arrive(segment)
            if not self.tcp.wants_to_send:
                return
        raise AssertionError("it never stops sending")

    def inspect(self, segment: Segment) -> None:
        """Every byte is the one that belongs at its sequence number, and a FIN stands behind all of them."""
        at = (segment.seq - self.iss - 1) & MASK
        payload = bytes(segment.payload)
        assert not payload or payload == self.stream[at : at + len(payload)]
        assert len(payload) <= self.tcp.sender.max_payload
        assert not segment.flags & FIN or at + len(payload) == len(self.stream)

    def arrive(self, segment: Segment) -> None:
        at, size = (segment.seq - self.iss - 1) & MASK, len(segment.payload)
        if segment.flags & FIN:
            self.fin_at = at + size
        if not size:
            return
        joined: list[tuple[int, int]] = []
        for start, end in sorted([*self.arrived, (at, at + size)]):
            if joined and start <= joined[-1][1]:
                joined[-1] = joined[-1][0], max(joined[-1][1], end)
            else:
                joined.append((start, end))
        self.arrived = joined

    @property
    def got(self) -> int:
        """Bytes the peer has in order."""
        return self.arrived[0][1] if self.arrived and not self.arrived[0][0] else 0

    # -- what must hold

    def check(self) -> None:
        tcp, sender, receiver = self.tcp, self.tcp.sender, self.tcp.receiver
        assert sender.queued == sum(map(len, sender.unsent))
        if tcp.state in QUIET:
            assert tcp.state is State.SYN_RECEIVED or not sender.sent
        else:
            assert sum(map(len, sender.sent)) == sender.flight - (sender.fin_sent and sender.flight > 0)
            assert sender.base & MASK == (sender.una - self.iss - 1) & MASK
        if (board := sender.board) is not None:
            ranges = list(board.ranges())
            assert all(start < end for start, end, _ in ranges)
            assert all(end <= start for (_, end, _), (start, _, _) in pairwise(ranges))
            assert not ranges or sender.base <= ranges[0][0] < ranges[-1][1] <= sender.base + sender.flight
            assert board.sacked == sum(end - start for start, end, mark in ranges if mark == SACKED)
            assert board.lost == sum(end - start for start, end, mark in ranges if mark <= LOST)
            assert sender.flight >= board.gone >= 0
            assert len(ranges) <= 2 * (2 * 1_500_000 // sender.mss + FEW_RANGES)
        held = receiver.backlog_bytes + receiver.early.cost
        assert self.budget.used == held >= 0
        assert self.budget.widened == receiver.buffer - receiver._first >= 0

    def timer(self, loss: float) -> None:
        """The next deadline comes; afterwards none is in the past, or an event loop would spin."""
        at = self.tcp.next_timeout()
        if at < inf:
            self.now = max(self.now, at)
            self.tcp.handle_timeout(self.now)
            self.pump(loss)
            assert self.tcp.next_timeout() > self.now

    # -- what the peer does

    def lie(self) -> None:
        """Acknowledge and report anything at all."""
        rnd, sender = self.rnd, self.tcp.sender
        span = (sender.nxt - sender.una) & MASK
        edges = [sender.una, sender.nxt, sender.nxt, (sender.nxt + 1) & MASK, (sender.una - 1) & MASK,
                 (sender.una + HALF) & MASK, rnd.getrandbits(32)]  # fmt: skip

        def inside() -> int:
            return (sender.una + rnd.randrange(span + 1)) & MASK

        blocks = []
        for _ in range(rnd.choice((0, 1, 4, 40))):
            left = inside() if rnd.random() < 0.8 else rnd.choice(edges)
            size = rnd.choice((1, 1460, rnd.randrange(1, span + 2)))
            blocks.append((left, (left + size) & MASK if rnd.random() < 0.8 else rnd.choice(edges)))
        flags = ACK
        for flag, chance in ((FIN, 0.01), (SYN, 0.01), (URG | PSH, 0.01), (RST, 0.002)):
            flags |= flag if rnd.random() < chance else 0
        self.says(
            ack=rnd.choice((sender.una, inside(), inside(), sender.nxt, rnd.choice(edges))),
            window=rnd.choice((0, 1, 65535, rnd.randrange(65536), min(sender.wnd >> self.scale, 65535))),
            seq=rnd.choice((0, 0, 0, 0, -1, -1000, rnd.randrange(100_000), rnd.getrandbits(32))), flags=flags,
            data=rnd.randbytes(rnd.choice((0, 0, 0, 1, 1460, 60_000))), sacks=tuple(blocks),
        )

    def waver(self) -> None:
        """Acknowledge some of what arrived, report that and more, as one does who lost it again."""
        rnd, sender = self.rnd, self.tcp.sender
        span = (sender.nxt - sender.una) & MASK
        most = (self.iss + 1 + self.got - sender.una) & MASK
        blocks = [((self.iss + 1 + a) & MASK, (self.iss + 1 + b) & MASK) for a, b in self.arrived if a > self.got]
        if span and rnd.random() < 0.5:
            left = sender.una + rnd.randrange(span)
            blocks.append((left & MASK, (left + rnd.randrange(1, span + 1)) & MASK))
        ack = sender.una + rnd.randrange(most + 1) if most < HALF else sender.una
        self.says(ack=ack, window=rnd.choice((0, 1, 500, 65535)), sacks=tuple(blocks[-4:]))

    def behave(self) -> None:
        """Take everything, and say what is so."""
        ack = self.iss + 1 + self.got + (self.got == self.fin_at)
        blocks = tuple(((self.iss + 1 + a) & MASK, (self.iss + 1 + b) & MASK) for a, b in self.arrived if a > self.got)
        self.says(ack=ack, window=65535, sacks=blocks[:4])

    def host_writes(self) -> None:
        if not self.tcp.sender.fin_queued and self.tcp.state is State.ESTABLISHED and len(self.stream) < 1_500_000:
            data = self.rnd.randbytes(self.rnd.choice((1, 100, 1460, 30_000, 65_536)))
            self.tcp.write(data)
            self.stream += data


def attack(seed: int) -> None:
    """One peer that lies for a while, then resets or goes."""
    rnd = random.Random(seed)
    victim = Victim(rnd)
    tcp = victim.tcp
    for _ in range(rnd.choice((50, 400))):
        act = rnd.random()
        if act < 0.2:
            victim.host_writes()
        elif act < 0.22:
            rnd.choice((tcp.shutdown, lambda: tcp.abandon(victim.now), lambda: tcp.drain(victim.now)))()
            victim.user.greed, victim.user.kills = rnd.choice(((1.0, 0.0), (0.0, 0.0), (0.5, 0.05)))
        elif act < 0.35:
            victim.now += rnd.choice((0.001, 0.05, 0.3, 10.0))
        elif act < 0.5:
            victim.timer(0.5)
        else:
            victim.lie()
        victim.check()
        victim.pump(0.3, rnd.choice((65536, 1 << 30)))
        victim.check()
    tcp.abort()
    assert (victim.budget.used, victim.budget.widened) == (0, 0)
    assert victim.user.closes <= 1


def reform(seed: int) -> None:
    """One peer that loses, forgets and lies about it, then behaves: everything arrives, after two timeouts at most."""
    rnd = random.Random(seed)
    victim = Victim(rnd)
    tcp = victim.tcp
    for _ in range(rnd.choice((20, 150))):
        act = rnd.random()
        if act < 0.3:
            victim.host_writes()
        elif act < 0.32:
            tcp.shutdown()
        elif act < 0.45:
            victim.timer(0.5)
        else:
            victim.waver()
        victim.pump(rnd.choice((0.0, 0.1, 1.0)))
        victim.check()
    tcp.shutdown()
    begun = victim.now
    for _ in range(3000):
        if tcp.state is State.FIN_WAIT_2:
            break
        before = tcp.sender.una
        victim.pump(0.0)
        victim.now += 0.01
        victim.behave()
        victim.pump(0.0)
        if tcp.sender.una == before and tcp.state is not State.FIN_WAIT_2:
            assert tcp.next_timeout() < inf, "stuck, and no timer runs"
            victim.timer(0.0)
    assert tcp.state is State.FIN_WAIT_2
    assert victim.got == len(victim.stream)
    assert victim.now - begun < 2.5 * MAX_RTO  # who was slow for long is given time
    tcp.abort()


@pytest.mark.parametrize("first", range(0, 80, 20))
def test_lying_peer(first: int) -> None:
    for seed in range(first, first + 20):
        try:
            attack(seed)
        except Exception as error:
            raise AssertionError(f"attack({seed})") from error


@pytest.mark.parametrize("first", range(0, 80, 20))
def test_peer_that_reforms(first: int) -> None:
    for seed in range(first, first + 20):
        try:
            reform(seed)
        except Exception as error:
            raise AssertionError(f"reform({seed})") from error


def test_what_is_acknowledged_is_given_in_order_from_a_crowd() -> None:
    """Twelve senders whose segments come in any order, readers that stop and go, a budget for two of them."""
    for seed in range(25):
        rnd = random.Random(seed)
        stream = rnd.randbytes(1_000_000)
        budget = Budget(rnd.choice((65536, 200_000, 1 << 20)))
        crowd = []
        for _ in range(12):
            user = User(rnd)
            tcp = Connection(TcpConfig(receive_budget=budget.limit), budget, user, iss=5, mss=1460, max_payload=1460)
            irs = rnd.choice((MASK - 255, rnd.getrandbits(32)))
            tcp.accept(irs, 65535, Options(1460, 8, sack_permitted=True))
            tcp.transmit(1.0)
            tcp.receive((irs + 1) & MASK, 6, ACK, 1000, NOTHING, None, 1.0)
            crowd.append((tcp, user, (irs + 1) & MASK))
        for step in range(600):
            tcp, user, first = rnd.choice(crowd)
            receiver, now = tcp.receiver, 1.0 + step / 1000
            if rnd.random() < 0.15:
                user.greed = rnd.choice((0.0, 0.3, 1.0))
                tcp.drain(now)
            else:
                at = (receiver.nxt - first) & MASK
                at += rnd.choice((0, 0, 0, rnd.randrange(receiver.window + 1)))
                data = stream[at : at + rnd.choice((1, 1460, 20_000, 65_000))]
                tcp.receive((first + at) & MASK, 6, ACK, 1000, memoryview(data), None, now)
            tcp.transmit(now)
            assert (receiver.nxt - first) & MASK == len(user.data) + receiver.backlog_bytes, f"seed {seed}: bytes lost"
            assert user.data == stream[: len(user.data)], f"seed {seed}: wrong bytes"
            assert budget.used == sum(one.receiver.backlog_bytes + one.receiver.early.cost for one, _, _ in crowd)
        for tcp, _, _ in crowd:
            tcp.abort()
        assert (budget.used, budget.widened) == (0, 0)
