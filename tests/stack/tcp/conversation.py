"""A connection under test and a peer that says exactly what the test tells it to, on a fake clock.

A test reads as a dialogue: `talk.says(...)` is a segment that arrives, `talk.hears(...)` is the next one that must
leave, `talk.silent()` says that nothing does, `talk.passes(seconds)` moves the clock. Sequence numbers are relative to
each side's ISN, as packet sniffers show them. A failure prints the dialogue so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from netbridge.stack.tcp.budget import Budget
from netbridge.stack.tcp.config import TcpConfig
from netbridge.stack.tcp.connection import Connection
from netbridge.stack.tcp.counters import TcpCounters
from netbridge.stack.tcp.segment import ACK, FIN, PSH, RST, SYN, URG, Options, Segment, flag_names, parse_options
from netbridge.stack.tcp.seq import MASK

FLAGS = {"S": SYN, "F": FIN, "R": RST, "P": PSH, "A": ACK, "U": URG}
MSS = 1000
OUR_ISN = 0xFFFF_FF00
PEER_ISN = 0xFFFF_FFF0
"""Both just before the wrap, so every conversation crosses it."""


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

    def __init__(self, config: TcpConfig | None = None, *, mss: int = MSS, max_payload: int | None = None) -> None:
        self.config = config or TcpConfig()
        self.user = RecordingUser()
        self.counters = TcpCounters()
        self.now = 1000.0
        self.budget = Budget(self.config.receive_budget)
        self.connection = Connection(
            self.config, self.budget, self.user, iss=OUR_ISN, mss=mss, max_payload=max_payload or mss,
            counters=self.counters,
        )  # fmt: skip
        self.wscale = 0
        self._out: list[Segment] = []
        self._log: list[str] = []

    # -- states

    @classmethod
    def established(
        cls, config: TcpConfig | None = None, *, window: int = 65535, mss: int = MSS, max_payload: int | None = None,
        wscale: int | None = None, sack: bool = False,
    ) -> Talk:
        """Passively opened, handshake done; both sides' next sequence number is 1."""
        talk = cls(config, mss=mss, max_payload=max_payload)
        talk.connection.accept(PEER_ISN, min(window, 65535), Options(mss, wscale, sack_permitted=sack))
        talk.hears("SA", 0, 1)
        talk.wscale = talk.connection.sender.scale
        talk.now += 0.25  # the round trip; the RTO becomes 0.75 s
        talk.says("A", 1, 1, window=window)
        assert talk.state == "ESTABLISHED"
        assert talk.user.calls == ["connected"]
        return talk

    @property
    def state(self) -> str:
        return self.connection.state.value

    # -- the dialogue

    def says(
        self, flags: str, seq: int, ack: int = 0, data: bytes = b"", *, window: int = 65535,
        options: Options | None = None, sacks: Sequence[tuple[int, int]] = (),
    ) -> None:
        """A segment arrives; `sacks` are ranges of our data that the peer reports to hold."""
        bits = sum(FLAGS[letter] for letter in flags)
        said = f"{flag_names(bits)} seq={seq} ack={ack} len={len(data)} win={window}"
        self._log.append(f"{self.now - 1000:9.3f} < {said}")
        if bits & SYN and options is None:
            options = Options(MSS, None)
        if sacks:
            options = Options(sacks=[((OUR_ISN + left) & MASK, (OUR_ISN + right) & MASK) for left, right in sacks])
            self._log[-1] += f" sack={sacks}"
        self.connection.receive(
            (PEER_ISN + seq) & MASK, (OUR_ISN + ack) & MASK if bits & ACK else 0, bits,
            window >> (0 if bits & SYN else self.wscale),
            memoryview(data), options, self.now,
        )
        self._pump()

    def _pump(self) -> None:
        self._out += self.connection.transmit(self.now)

    def hears(
        self, flags: str, seq: int, ack: int | None = None, data: bytes | None = None, *, window: int | None = None,
        sacks: Sequence[tuple[int, int]] | None = None,
    ) -> Segment:
        """The next segment leaves, with these flags (PSH does not matter), and is returned."""
        self._pump()
        if not self._out:
            raise AssertionError(self._dialogue(f"nothing was sent, expected {flags} seq={seq}"))
        segment = self._out.pop(0)
        bits = sum(FLAGS[letter] for letter in flags)
        got_seq = (segment.seq - OUR_ISN) & MASK
        got_ack = (segment.ack - PEER_ISN) & MASK if segment.flags & ACK else None
        self._log.append(f"{self.now - 1000:9.3f} > {segment!r} (seq={got_seq} ack={got_ack})")
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
