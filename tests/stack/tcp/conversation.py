"""A connection under test and a peer that says exactly what the test tells it to, on a fake clock.

A test reads as a dialogue: `talk.says(...)` is a segment that arrives, `talk.hears(...)` is the next one that must
leave, `talk.silent()` says that nothing does, `talk.passes(seconds)` moves the clock. Sequence numbers are relative to
each side's ISN, as packet sniffers show them; timestamps are as well, and count milliseconds. A failure prints the
dialogue so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf

from netbridge.stack.tcp.budget import Budget
from netbridge.stack.tcp.config import TcpConfig
from netbridge.stack.tcp.congestion import NewReno
from netbridge.stack.tcp.connection import Connection
from netbridge.stack.tcp.counters import TcpCounters
from netbridge.stack.tcp.segment import (
    ACK,
    CE,
    CWR,
    ECE,
    ECT_0,
    FIN,
    PSH,
    RST,
    SYN,
    URG,
    Options,
    Segment,
    Stamp,
    flag_names,
    parse_options,
    read_options,
)
from netbridge.stack.tcp.seq import MASK
from netbridge.stack.tcp.timestamps import Stamps

FLAGS = {"S": SYN, "F": FIN, "R": RST, "P": PSH, "A": ACK, "U": URG, "E": ECE, "C": CWR}
MSS = 1000
OUR_ISN = 0xFFFF_FF00
PEER_ISN = 0xFFFF_FFF0
OUR_STAMP = 0xFFFF_FFC0
PEER_STAMP = 0xFFFF_FFE0
"""All just before the wrap, so every conversation crosses it."""
START = 1000.0
"""The clock when a conversation begins, and the timestamps are 0."""


class RecordingUser:
    """A `ConnectionUser` that writes down what it is told and takes as much data as it is allowed to."""

    def __init__(self) -> None:
        self.data = b""
        self.room: int = 1 << 60
        self.calls: list[str] = []
        self.error: OSError | None = None

    def connected(self) -> None:
        self.calls.append("connected")

    def data_received(self, data: memoryview) -> int:
        taken = min(len(data), self.room)
        self.room -= taken
        self.data += bytes(data[:taken])
        return taken

    def probed(self, idle: float) -> None:
        self.calls.append(f"probed after {idle:g} s")

    def eof_received(self) -> None:
        self.calls.append("eof")

    def acked(self) -> None:
        pass

    def closed(self, error: OSError | None) -> None:
        self.calls.append("closed")
        self.error = error


class Talk:
    """One connection, its user, its clock, and what was said."""

    def __init__(
        self, config: TcpConfig | None = None, *, mss: int = MSS, max_payload: int | None = None, quick: bool = False
    ) -> None:
        """Acknowledgements are delayed from the first on, as later in a connection, unless `quick`."""
        config = config or TcpConfig(congestion=NewReno)  # whose window is easily told
        self.config = config if quick else replace(config, quick_acks=0)
        self.user = RecordingUser()
        self.counters = TcpCounters()
        self.now = START
        self.budget = Budget(self.config.receive_budget)
        stamps = Stamps((OUR_STAMP - int(START * 1000)) & MASK) if self.config.timestamps else None
        self.connection = Connection(
            self.config, self.budget, self.user, iss=OUR_ISN, mss=mss, max_payload=max_payload or mss,
            counters=self.counters, stamps=stamps,
        )  # fmt: skip
        self.wscale = 0
        self._out: list[Segment] = []
        self._log: list[str] = []

    # -- states

    @classmethod
    def established(
        cls, config: TcpConfig | None = None, *, window: int = 65535, mss: int = MSS, max_payload: int | None = None,
        wscale: int | None = None, sack: bool = False, stamp: int | None = None, ecn: bool = False,
        quick: bool = False,
    ) -> Talk:
        """Passively opened, handshake done; both sides' next sequence number is 1.

        With `stamp`, both use timestamps, and it is the peer's in the handshake; a round trip later it is 250 more.
        """
        talk = cls(config, mss=mss, max_payload=max_payload, quick=quick)
        offered = None if stamp is None else (_wrapped(PEER_STAMP, stamp), 0)
        options = Options(mss, wscale, sack_permitted=sack, stamp=offered)
        talk.connection.accept(PEER_ISN, min(window, 65535), options, ecn=ecn)
        talk.hears("SAE" if talk.connection.ecn else "SA", 0, 1)
        talk.wscale = talk.connection.sender.scale
        talk.now += 0.25  # the round trip; the RTO becomes 0.75 s
        talk.says("A", 1, 1, window=window, stamp=None if stamp is None else (stamp + 250, 0))
        assert talk.state == "ESTABLISHED"
        assert talk.user.calls == ["connected"]
        return talk

    @property
    def state(self) -> str:
        return self.connection.state.value

    # -- the dialogue

    def says(
        self, flags: str, seq: int, ack: int = 0, data: bytes = b"", *, window: int = 65535,
        options: Options | None = None, sacks: Sequence[tuple[int, int]] = (), stamp: Stamp | None = None,
        marked: bool = False,
    ) -> None:
        """A segment arrives; `sacks` are ranges of our data that the peer reports to hold, `stamp` are TSval and TSecr;
        `marked`: by a router, congestion experienced.
        """
        bits = sum(FLAGS[letter] for letter in flags)
        said = f"{flag_names(bits)} seq={seq} ack={ack} len={len(data)} win={window}"
        self._log.append(f"{self.now - START:9.3f} < {said}")
        if bits & SYN and options is None:
            options = Options(MSS, None)
        if sacks:
            options = Options(sacks=[((OUR_ISN + left) & MASK, (OUR_ISN + right) & MASK) for left, right in sacks])
            self._log[-1] += f" sack={sacks}"
        said_with: Options | Stamp | None = options
        if stamp is not None:
            self._log[-1] += f" stamp={stamp}"
            raw = _wrapped(PEER_STAMP, stamp[0]), _wrapped(OUR_STAMP, stamp[1])
            if options is None:
                said_with = raw  # as `read_options` gives what is nothing but a stamp
            else:
                options.stamp = raw
        self.connection.receive(
            (PEER_ISN + seq) & MASK, (OUR_ISN + ack) & MASK if bits & ACK else 0, bits | (CE if marked else 0),
            window >> (0 if bits & SYN else self.wscale),
            memoryview(data), said_with, self.now,
        )
        self._pump()

    def _pump(self) -> None:
        self._out += self.connection.transmit(self.now)

    def hears(
        self, flags: str, seq: int, ack: int | None = None, data: bytes | None = None, *, window: int | None = None,
        sacks: Sequence[tuple[int, int]] | None = None, stamp: Stamp | None = None, markable: bool | None = None,
    ) -> Segment:
        """The next segment leaves, with these flags (PSH does not matter), and is returned; `markable`: as ECT(0)."""
        self._pump()
        if not self._out:
            raise AssertionError(self._dialogue(f"nothing was sent, expected {flags} seq={seq}"))
        segment = self._out.pop(0)
        bits = sum(FLAGS[letter] for letter in flags)
        got_seq = (segment.seq - OUR_ISN) & MASK
        got_ack = (segment.ack - PEER_ISN) & MASK if segment.flags & ACK else None
        self._log.append(f"{self.now - START:9.3f} > {segment!r} (seq={got_seq} ack={got_ack})")
        same = segment.flags & ~PSH == bits and got_seq == seq and (ack is None or got_ack == ack)
        if data is not None:
            same = same and bytes(segment.payload) == data
        if window is not None:
            same = same and segment.window << self.connection.receiver.scale == window
        if sacks is not None:
            blocks = parse_options(segment.options).sacks
            told = [((left - PEER_ISN) & MASK, (right - PEER_ISN) & MASK) for left, right in blocks]
            self._log[-1] += f" sack={told}"
            same = same and told == list(sacks)
        if stamp is not None:
            value, echo = stamp_of(segment) or (0, 0)
            heard = (value - OUR_STAMP) & MASK, (echo - PEER_STAMP) & MASK
            self._log[-1] += f" stamp={heard}"
            same = same and heard == stamp
        if markable is not None:
            self._log[-1] += f" tos={segment.tos}"
            same = same and segment.tos == (ECT_0 if markable else 0)
        if not same:
            wanted = f"{flag_names(bits)} seq={seq} ack={ack} len={None if data is None else len(data)} win={window}"
            raise AssertionError(self._dialogue(f"expected {wanted}"))
        return segment

    def left(self) -> list[Segment]:
        """All that left and was not heard yet, whatever it is."""
        self._pump()
        segments, self._out = self._out, []
        return segments

    def silent(self) -> None:
        """Nothing more leaves now."""
        self._pump()
        if self._out:
            raise AssertionError(self._dialogue(f"expected silence, got {self._out}"))

    def passes(self, seconds: float) -> None:
        """Time passes; every timer that is due on the way fires at its time."""
        until = self.now + seconds
        while (at := self.connection.next_timeout()) <= until:
            self.now = max(at, self.now)
            self.connection.handle_timeout(self.now)
            self._pump()
        self.now = until

    def writes(self, data: bytes) -> None:
        self.connection.write(data)
        self._pump()

    def closes(self) -> None:
        self.connection.shutdown()
        self._pump()

    def reads(self, room: int = 1 << 60) -> None:
        """The user has room again."""
        self.user.room = room
        self.connection.drain(self.now)
        self._pump()

    @property
    def quiet(self) -> bool:
        """No timer runs and nothing is to be sent."""
        return self.connection.next_timeout() == inf and not self._out

    def _dialogue(self, complaint: str) -> str:
        return "\n".join([complaint, *self._log, f"state {self.state}, {self.connection!r}"])


def stamp_of(segment: Segment) -> Stamp | None:
    """TSval and TSecr of a segment, or None without any."""
    options = segment.options
    found = read_options(options, 0, len(options))
    return found if isinstance(found, tuple) else found.stamp


def _wrapped(base: int, ticks: int) -> int:
    return (base + ticks) & MASK
