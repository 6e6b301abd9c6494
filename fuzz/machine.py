"""One TCP connection, told a program of segments, calls and clock steps; and what must hold of it after each step.

The program is bytes. The first three choose the configuration and the opening; then each step is a byte that says what
happens and the bytes it needs (zeros where the input ends). Sequence and acknowledgement numbers are given relative to
those in force, so that mutated programs still talk about this connection.
"""

from __future__ import annotations

from dataclasses import asdict
from itertools import pairwise
from math import inf

from netbridge.stack.tcp.budget import Budget
from netbridge.stack.tcp.config import TcpConfig
from netbridge.stack.tcp.congestion import NewReno
from netbridge.stack.tcp.connection import Connection
from netbridge.stack.tcp.counters import TcpCounters
from netbridge.stack.tcp.cubic import Cubic
from netbridge.stack.tcp.segment import ACK, CE, CWR, ECE, SYN, Options, Segment, Stamp, parse_options
from netbridge.stack.tcp.seq import HALF, MASK, diff
from netbridge.stack.tcp.states import SYNCHRONIZED, State
from netbridge.stack.tcp.timestamps import Stamps

MSS = 1000
OUR_ISN, PEER_ISN = 0xFFFF_FF00, 0xFFFF_FFF0
"""Just before the wrap, so that every connection crosses it."""
START = 1000.0
PERIOD = 251
TEXT = bytes(index * 31 % PERIOD for index in range(PERIOD)) * 270
"""What both sides say: the byte at a position tells which position that is."""
STEPS = 60
WRITTEN = 300_000
"""Bytes written at most: more tells nothing new and takes long."""
TIMERS = 2000
"""Expiries after which a connection that nobody answers is over; some dozens are usual."""


def text(position: int, length: int) -> bytes:
    """What is said from that position on."""
    start = position % PERIOD
    return TEXT[start : start + length]


class Program:
    """The bytes of the program, one by one; zeros when they are used up."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def over(self) -> bool:
        return self._at >= len(self._data)

    def byte(self) -> int:
        """The next one."""
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0


class User:
    """Takes what it has room for, checks that it is what was said, and writes down what it is told."""

    def __init__(self) -> None:
        self.taken = 0
        self.room = 1 << 40
        self.calls: list[str] = []
        self.over = False

    def _told(self, what: str, *, once: bool = True) -> None:
        assert not self.over, f"{what} after the end"
        assert not once or what not in self.calls, f"{what} twice"
        self.calls.append(what)

    def connected(self) -> None:
        self._told("connected")

    def data_received(self, data: memoryview) -> int:
        assert not self.over, "data after the end"
        assert "eof" not in self.calls, "data after the end of data"
        assert "connected" in self.calls
        size = min(len(data), self.room)
        assert data[:size] == text(1 + self.taken, size), "not what was said, or out of order"
        self.taken += size
        self.room -= size
        return size

    def eof_received(self) -> None:
        self._told("eof")

    def acked(self) -> None: ...

    def probed(self, idle: float) -> None:
        assert idle >= 0
        self._told("probed", once=False)

    def closed(self, error: OSError | None) -> None:
        self._told("closed" if error is None else f"closed by {type(error).__name__}")
        self.over = True


class Machine:
    """The connection, its user, its clock, and what was seen of it so far."""

    def __init__(self, program: Program) -> None:
        first, second, self.peer_options = program.byte(), program.byte(), program.byte()
        self.config = TcpConfig(
            sack=not first & 1, timestamps=bool(first & 2), ecn=bool(first & 4), nagle=bool(first & 8),
            receive_window=2_000 if first & 16 else 65_536, max_receive_window=20_000 if first & 16 else 1 << 20,
            receive_budget=18_000 if first & 32 else 1 << 22, keepalive=30.0 if first & 64 else 0.0,
            user_timeout=20.0 if first & 128 else 0.0, ecn_request=bool(second & 4),
            congestion=NewReno if second & 8 else Cubic, user_timeout_option=bool(second & 16),
            quick_acks=0 if second & 32 else 16,
        )  # fmt: skip
        self.now = START
        self.user = User()
        self.budget = Budget(self.config.receive_budget)
        self.counters = TcpCounters()
        self.connection = Connection(
            self.config, self.budget, self.user, iss=OUR_ISN, mss=MSS,
            max_payload=MSS * (8 if second & 2 else 1), counters=self.counters,
            stamps=Stamps(0xFFFF_FFC0 - int(START * 1000) & MASK) if self.config.timestamps else None,
        )  # fmt: skip
        self.written = 0
        self.since = 0
        """Segments that came since it was last asked what to send."""
        self.stamp = 0
        """The peer's clock, and ours as it last heard it."""
        self.heard_stamp = 0
        self.right = 1 + 4_000 * (not second & 1)
        """The farthest position that the peer ever allowed us to send, by what it said itself."""
        self.edge: int | None = None
        """The farthest right edge we ever showed, from the peer's ISN on."""
        self.received = self.acknowledged = 0
        self.aborted = False
        if second & 1:
            self.connection.open()
        else:
            ecn = bool(second & 64)
            self.connection.accept(PEER_ISN, 4_000, self._syn_options(), ecn=ecn)
        self.pump()

    def _syn_options(self) -> Options:
        bits = self.peer_options
        return Options(
            (None, 1000, 0, 65535)[bits & 3], (None, 0, 7, 14)[bits >> 2 & 3], sack_permitted=not bits & 16,
            stamp=(self.stamp, self.heard_stamp) if not bits & 32 else None, user_timeout=30 if bits & 64 else 0,
        )  # fmt: skip

    # -- what happens

    def step(self, program: Program) -> None:
        """One step; the machine is asked what to send after all but segments, which are a burst until then."""
        what = program.byte() % 16
        connection = self.connection
        if what < 7:
            self._segment(program)
            if what & 1:
                self.check(pumped=False)
                return
        elif what == 7:
            size = min(program.byte() * 40, WRITTEN - self.written)
            if size > 0:
                fits = connection.state in (State.SYN_SENT, State.SYN_RECEIVED, State.ESTABLISHED, State.CLOSE_WAIT)
                connection.write(text(1 + self.written, size))
                self.written += size if fits and not connection.sender.fin_queued else 0
        elif what == 8:
            room = program.byte()
            self.user.room = room << 6 if room < 255 else 1 << 40
            connection.drain(self.now)
        elif what == 9:
            connection.shutdown()
        elif what == 10:
            if program.byte() < 8:
                self.abort()
        elif what == 11:
            self.pass_time(0.0005 * 2 ** (program.byte() / 13))  # half a millisecond to seven minutes
        elif what == 12:
            at = connection.next_timeout()
            if at < inf:
                self.pass_time(max(at - self.now, 0.0))
        elif what == 13:
            if program.byte() < 8:
                connection.abandon(self.now)
        elif what == 14:
            connection.limit_mss(program.byte() * 6)
        else:
            self.now += program.byte() / 1000  # late: timers are looked at by the next step
        self.pump()

    def abort(self) -> None:
        before = self.user.over
        self.aborted = self.connection.abort() or self.aborted
        assert self.user.over == before, "told of what it did itself"
        self.user.over = True

    def _segment(self, program: Program) -> None:
        connection = self.connection
        sender, receiver = connection.sender, connection.receiver
        flags, where, acked, length, window, extras = (program.byte() for _ in range(6))
        nxt, una = receiver.nxt if self._knows_peer() else PEER_ISN, sender.una
        seq = _near(nxt, receiver.adv, where)
        ack = _near(sender.nxt, una, acked)
        size = length if length < 200 else (length - 200) * 100
        if flags & SYN:
            size = min(size, 100)
        begins = connection.state is State.SYN_SENT and flags & SYN
        first = diff(seq, seq if begins else self.isn)
        payload = text(first + bool(flags & SYN), size)
        bits = flags | (CE if extras & 1 else 0)
        if not extras & 2:
            bits &= ~(ECE | CWR)
        options: Options | Stamp | None = None
        stamp = None
        if connection.stamps is not None and not extras & 4:
            stamp = (self.stamp - (500 if extras & 8 else 0)) & MASK, self.heard_stamp
            options = stamp
        if extras & 0x30:
            start = program.byte() * 100
            blocks = [((una + start) & MASK, (una + start + 100 + program.byte() * 100) & MASK)]
            if extras & 0x20:
                blocks.insert(0, ((una - 200) & MASK, (una - program.byte()) & MASK))
            options = Options(sacks=blocks, stamp=stamp)
        if flags & SYN:
            options = self._syn_options()
        self.since += 1
        raw = window << 8 | window
        acknowledged = max(diff(ack, OUR_ISN), 1) if flags & ACK else 1
        if acknowledged <= diff(sender.nxt, OUR_ISN):
            scale = 0 if flags & SYN else sender.scale
            self.right = max(self.right, acknowledged + (raw << scale))
        connection.receive(
            seq, ack if flags & ACK else 0, bits, raw, memoryview(payload), options, self.now,
        )  # fmt: skip

    def pass_time(self, seconds: float) -> None:
        """Every timer that is due on the way fires at its time."""
        until, self.stamp = self.now + seconds, (self.stamp + int(seconds * 1000)) & MASK
        for _ in range(TIMERS):
            at = self.connection.next_timeout()
            if at > until:
                break
            self.now = max(at, self.now)
            self.connection.handle_timeout(self.now)
            self.pump()
            assert self.connection.next_timeout() > self.now, "a timer that is due for ever"
        else:
            raise AssertionError(f"more than {TIMERS} expiries in {seconds} s")
        self.now = until

    def pump(self) -> None:
        """What is to be sent leaves, and is looked at."""
        told = 0
        while segments := self.connection.transmit(self.now):
            for segment in segments:
                told += not segment.payload
                self._sent(segment)
        assert told <= 2 * self.since + 4, f"{told} answers to {self.since} segments"
        self.since = 0
        self.check(pumped=True)

    # -- what must hold

    @property
    def isn(self) -> int:
        """The peer's."""
        return self.connection.receiver.irs if self._knows_peer() else PEER_ISN

    def _knows_peer(self) -> bool:
        return self.connection.state in SYNCHRONIZED or self.connection.state is State.SYN_RECEIVED

    def _sent(self, segment: Segment) -> None:
        sender = self.connection.sender
        position = (segment.seq - OUR_ISN) & MASK
        if segment.payload:
            assert len(segment.payload) <= sender.max_payload
            assert segment.payload == text(position, len(segment.payload)), "not what was written there"
            assert position - 1 + len(segment.payload) <= self.written
        if segment.flags & ACK and self._knows_peer():
            ack = (segment.ack - self.isn) & MASK
            assert ack >= self.acknowledged, "took an acknowledgement back"
            self.acknowledged = ack
            if not segment.flags & (SYN | 4):
                edge = ack + (segment.window << self.connection.receiver.scale)
                scale = self.connection.receiver.scale
                assert self.edge is None or edge > self.edge - (1 << scale), "the right edge moved back"
                self.edge = max(self.edge or 0, edge)
        found = parse_options(segment.options)
        if found.stamp is not None:
            self.heard_stamp = found.stamp[0]
        for left, right in found.sacks:
            assert not (left - right) & MASK < HALF, "an empty or reversed block"

    def check(self, *, pumped: bool) -> None:
        """The invariants between steps; `pumped`: nothing waits to be asked for."""
        connection, user = self.connection, self.user
        sender, receiver, state = connection.sender, connection.receiver, connection.state
        assert not self.counters.broken
        assert self.budget.used == receiver.backlog_bytes + receiver.early.cost >= 0
        assert self.budget.widened == receiver.buffer - receiver._first >= 0
        assert sum(map(len, receiver.backlog or ())) == receiver.backlog_bytes
        assert sender.queued == sum(map(len, sender.unsent))
        if state is State.CLOSED:
            self._check_closed()
            return
        assert not user.over or self.aborted
        flight = sender.flight
        if state not in (State.SYN_SENT, State.SYN_RECEIVED):
            held = sum(map(len, sender.sent))
            assert flight in (held, held + 1), (flight, held)
            assert flight == held or sender.fin_sent
            una = (sender.una - OUR_ISN) & MASK
            assert una == sender.base + 1
            assert una + flight <= max(self.right, una) + 1, "sent beyond the window"
            assert sender.fin_queued or not sender.fin_sent
            received = (receiver.nxt - self.isn) & MASK
            assert received >= self.received, "RCV.NXT went back"
            self.received = received
            assert user.taken + receiver.backlog_bytes == received - 1 - connection._fin_received
            assert receiver.window <= max(receiver._max, receiver._first) + (1 << receiver.scale)
        if pumped:
            self._check_timers()

    def _check_closed(self) -> None:
        connection = self.connection
        sender, receiver = connection.sender, connection.receiver
        assert not sender.sent
        assert not sender.unsent
        assert not sender.queued
        assert not receiver.early.size
        if connection._end_told_later:
            assert receiver.backlog_bytes
            assert not self.user.over
        else:
            assert connection.next_timeout() == inf
            assert self.budget.used == self.budget.widened == 0
            assert self.user.over or self.aborted, "nobody was told"

    def _check_timers(self) -> None:
        connection = self.connection
        sender, state = connection.sender, connection.state
        assert (connection._retry_at < inf) == (state in (State.SYN_SENT, State.SYN_RECEIVED))
        if state is State.TIME_WAIT:
            assert connection._life_until < inf
            assert sender.deadline == inf
        elif state in SYNCHRONIZED:
            waits = bool(sender.flight or sender.unsent or (sender.fin_queued and not sender.fin_sent))
            assert (sender.deadline < inf) == waits, "a timer without reason, or none where something waits"
        assert not connection._ack_now
        assert (connection._delayed_ack_at < inf) == (connection._ack_due > 0)
        runs = sender._run_starts
        assert all(one < other for one, other in pairwise(runs))

    def finish(self) -> str:
        """The user goes for good: in the end everything is released; the state before."""
        state = self.connection.state.value
        self.user.room = 1 << 40
        self.connection.drain(self.now)
        self.pump()
        self.connection.abandon(self.now)
        self.pump()
        self.pass_time(100_000.0)
        assert self.connection.state is State.CLOSED, f"still {self.connection.state} after a day"
        assert not self.connection._end_told_later
        return state


def _near(base: int, other: int, where: int) -> int:
    """A sequence number: `base` for 0, then some near it, some near the other, and wild ones."""
    if where < 0x40:
        found = base + where
    elif where < 0x80:
        found = base - (where - 0x3F)
    elif where < 0xA0:
        found = base + (where - 0x7F) * 400
    elif where < 0xC0:
        found = base - (where - 0x9F) * 400
    elif where < 0xD0:
        found = other + where - 0xC8
    else:
        found = base + (where << 24)
    return found & MASK


def play(data: bytes) -> object:
    """Run a program; what came of it, for telling programs apart."""
    program = Program(data)
    machine = Machine(program)
    for _ in range(STEPS):
        if program.over:
            break
        machine.step(program)
    machine.pump()
    happened = tuple(name for name, value in asdict(machine.counters).items() if value)
    return machine.finish(), tuple(machine.user.calls[-2:]), happened
