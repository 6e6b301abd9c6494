"""A host under test: takes the steps of a script and says what it did. What both kinds have in common."""

from __future__ import annotations

import abc
import struct
from itertools import cycle

from .script import Says, Seen, Step
from .wire import ACK, MASK, RST, SYN, TCP, Raw, Reply, options_of, packet, segment

PEER_ISN = 0xFFFF_FF00
"""Just before the wrap, so that every script with some data crosses it."""
HOST = {4: "198.18.81.2", 6: "fd6e:6272:81::2"}
PEER = {4: "198.18.81.1", 6: "fd6e:6272:81::1"}
PREFIX = {4: 30, 6: 64}
PEER_PORT = 40_000
NOT_OPEN = frozenset({"SYN-SENT", "SYN-RECEIVED"})
ports = cycle(range(20_000, 65_000))
"""One for each run: nothing left of one is met by the next."""


def pattern(first: int, length: int, fill: str = "") -> bytes:
    """The bytes of the stream from its sequence number `first`; `fill`: others, to see whose were kept."""
    if fill:
        return fill.encode() * length
    return bytes((first + index) % 251 for index in range(length))


class Host(abc.ABC):
    """One run of one script."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.port = next(ports)
        self.received = b""
        self.eof = False
        self.error = ""
        self.written = 0
        self._isn = 0
        self._stamp = 0
        """The host's latest timestamp, which ours echo."""

    def take(self, step: Step) -> Seen:
        """Do one step."""
        if isinstance(step, Says):
            mark = 3 if step.marked else 0
            self.inject(packet(PEER[self.version], HOST[self.version], TCP, self._segment(step), mark))
        elif step.what == "write":
            # In a handshake Linux may keep it until its timer comes; after the end each face says no in its own way.
            if self.state() in NOT_OPEN | {"CLOSED"}:
                return Seen((), self.state(), self.received, self.eof, self.error)
            self.write(pattern(self.written + 1, step.count))
            self.written += step.count
        else:
            getattr(self, step.what)()
        replies = [self._reply(raw) for raw in self.replies() if raw.source_port == self.port]
        self.look()
        late = [self._reply(raw) for raw in self.replies() if raw.source_port == self.port]
        return Seen(tuple(replies + late), self.state(), self.received, self.eof, self.error)

    def _segment(self, said: Says) -> bytes:
        options = b""
        if said.mss is not None:
            options += struct.pack("!BBH", 2, 4, said.mss)
        if said.sack_permitted:
            options += bytes((4, 2))
        if said.stamp is not None:
            options += struct.pack("!BBII", 8, 10, said.stamp, self._stamp if said.flags & ACK else 0)
        if said.wscale is not None:
            options += bytes((1, 3, 3, said.wscale))
        if said.sacks:
            edges = [(self._isn + edge) & MASK for block in said.sacks for edge in block]
            options += struct.pack(f"!BB{len(edges)}I", 5, 2 + 4 * len(edges), *edges)
        ack = self._isn + said.ack if said.flags & ACK else 0
        return segment(
            (PEER_PORT, self.port), PEER_ISN + said.seq, ack, said.flags, said.window, options,
            pattern(said.seq, said.length, said.fill),
        )  # fmt: skip

    def _reply(self, raw: Raw) -> Reply:
        if raw.flags & SYN:
            self._isn = raw.seq
        options, stamp = options_of(raw.options, PEER_ISN)
        if stamp is not None and (raw.flags & SYN or self.state() not in NOT_OPEN):
            self._stamp = stamp  # Linux lets a handshake end by an echo of its SYN-ACK only
        letters = "".join(letter for bit, letter in enumerate("FSR.AUEC") if raw.flags >> bit & 1 and letter != ".")
        # A reset without an acknowledgement to go by bears 0 (RFC 9293, section 3.10.7.1), which is no ISN's relative.
        seq = raw.seq if raw.flags & RST and raw.seq == 0 else (raw.seq - self._isn) & MASK
        ack = (raw.ack - PEER_ISN) & MASK if raw.flags & ACK else None
        closed = raw.window == 0 and not raw.flags & RST
        return Reply(letters, seq, ack, raw.payload, closed, options, raw.mark)

    @abc.abstractmethod
    def inject(self, data: bytes) -> None:
        """A packet arrives."""

    @abc.abstractmethod
    def replies(self) -> list[Raw]:
        """What was sent since the last call, once everything said so far has been worked at."""

    @abc.abstractmethod
    def look(self) -> None:
        """Let the application accept and read what there is."""

    @abc.abstractmethod
    def state(self) -> str:
        """The connection's."""

    @abc.abstractmethod
    def listen(self) -> None: ...

    @abc.abstractmethod
    def connect(self) -> None: ...

    @abc.abstractmethod
    def write(self, data: bytes) -> None: ...

    @abc.abstractmethod
    def shutdown(self) -> None: ...

    @abc.abstractmethod
    def close(self) -> None: ...

    @abc.abstractmethod
    def abort(self) -> None: ...

    @abc.abstractmethod
    def pause(self) -> None: ...

    @abc.abstractmethod
    def read(self) -> None: ...

    @abc.abstractmethod
    def end(self) -> None:
        """The script is over: leave nothing."""


