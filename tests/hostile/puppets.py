"""TCP connections made by hand, many at a time: each a few numbers and no kernel behind them.

They come from addresses that the kernel over there does not know, so that it neither answers nor resets them. Positions
count from 0, the first byte of data, on both sides.
"""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass

from .attack import Attack
from .raw import ACK, FIN, RST, SYN, Wire, packed, tcp_packet
from .target import POUR

WSCALE = b"\1\3\3\7"
SACK_PERMITTED = b"\1\1\4\2"
MSS = b"\2\4\5\x78"
"""1,400 bytes."""
RETRY = 1.0
"""Seconds after which a SYN is sent again."""
RESETS, PAUSE = 5, 0.2
"""How often each is reset in the end, and the seconds after each time."""
ISN = 7_000_000
"""The first byte of data has this sequence number."""


def sack(blocks: list[tuple[int, int]]) -> bytes:
    """The option, with sequence numbers."""
    edges = [edge & 0xFFFFFFFF for block in blocks for edge in block]
    return b"\1\1\5" + bytes((2 + 4 * len(edges),)) + struct.pack(f"!{len(edges)}I", *edges)


@dataclass
class Puppet:
    """One connection."""

    source: bytes
    port: int
    opened: bool = False
    begun: float = 0.0
    irs: int = 0
    """The peer's first byte of data has this sequence number."""
    received: int = 0
    """How far the peer's data have come in order."""
    highest: int = 0
    """How far the peer has sent."""
    sent: int = 0
    heard: int = 0
    """Segments."""


class Puppetry(Attack):
    """`many` puppets connected to `port`; each segment they hear is shown to `answer`, each turn is one `act`."""

    needs_target = True
    rate = 5000.0
    many = 20
    port = POUR
    window = 65535
    scaled = True
    """Whether the SYN offers a window scale (7)."""
    options = MSS + SACK_PERMITTED
    """Of the SYN, beside the scale."""

    def prepare(self) -> None:
        self.wire: Wire = self.mouth(Wire(self.place.tun))
        self.puppets: list[Puppet] = []
        self._by_end: dict[bytes, Puppet] = {}
        self.to = packed(self.place.corp[6])
        self.facts |= {"heard": 0, "resets_heard": 0, "data_heard": 0}

    def ears(self) -> list[object]:  # type: ignore[override]
        return [self.wire.socket]

    def turn(self, number: int) -> None:
        if len(self.puppets) < self.many:
            self._open()
            return
        puppet = self.puppets[number % self.many]
        if puppet.opened:
            self.act(puppet, number // self.many)

    def tick(self, now: float) -> None:
        for packet in self.wire.heard():
            self._hear(packet)
        for puppet in self.puppets:
            if not puppet.opened and now - puppet.begun > RETRY:
                puppet.begun = now
                self._syn(puppet)

    def finish(self) -> None:
        for _ in range(RESETS):  # the TUN's queue may be full of what was sent before; else they would last for minutes
            for puppet in self.puppets:
                if puppet.opened:
                    self.send(puppet, RST | ACK, at=puppet.sent)
            time.sleep(PAUSE)
        self.wire.socket.close()

    # --- what they do -------------------------------------------------------------------------------------------------

    def established(self, puppet: Puppet) -> None:
        """The handshake is done but for this one's acknowledgement."""
        self.send(puppet, ACK)

    def act(self, puppet: Puppet, number: int) -> None:
        """Once in a while, for each in turn."""

    def answer(self, puppet: Puppet, seq: int, size: int) -> None:
        """The peer sent so many bytes from position `seq` on (0: a bare acknowledgement or a probe)."""
        if size:
            self.send(puppet, ACK)

    def send(
        self, puppet: Puppet, flags: int, *, at: int | None = None, ack: int | None = None, window: int | None = None,
        data: bytes = b"", options: bytes = b"",
    ) -> None:  # fmt: skip
        """A segment; as everything is right unless told otherwise."""
        acked = puppet.received if ack is None else ack
        position = puppet.sent if at is None else at
        wide = self.window if window is None else window
        ports = puppet.port, self.port
        self.wire.send(
            tcp_packet(
                puppet.source, self.to, ports, ISN + position, puppet.irs + acked, flags, window=wide, data=data,
                options=options,
            )
        )  # fmt: skip

    # --- how they live ------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        puppet = Puppet(self.stranger(), 1024 + self.random.randrange(60_000))
        self.puppets.append(puppet)
        self._by_end[puppet.source + puppet.port.to_bytes(2, "big")] = puppet
        self._syn(puppet)

    def _syn(self, puppet: Puppet) -> None:
        options = self.options + (WSCALE if self.scaled else b"")
        ports = puppet.port, self.port
        self.wire.send(
            tcp_packet(puppet.source, self.to, ports, ISN - 1, 0, SYN, window=self.window, options=options)
        )

    def _hear(self, packet: bytes) -> None:
        if len(packet) < 60 or packet[0] >> 4 != 6 or packet[6] != 6:
            return
        puppet = self._by_end.get(packet[24:40] + packet[42:44])
        if puppet is None:
            return
        self.facts["heard"] += 1
        seq, _ack, offset, flags = struct.unpack_from("!IIBB", packet, 44)
        if flags & RST:
            self.facts["resets_heard"] += 1
            if puppet.opened:  # another takes its place
                self._replace(puppet)
            return
        if flags & SYN:
            if not puppet.opened:
                puppet.opened, puppet.irs = True, seq + 1 & 0xFFFFFFFF
                self.connections += 1
            self.established(puppet)
            return
        if not puppet.opened:
            return
        size = int.from_bytes(packet[4:6], "big") - (offset >> 4 << 2)
        position = seq - puppet.irs
        if position < -(1 << 31):
            position += 1 << 32
        puppet.heard += 1
        self.facts["data_heard"] += size
        puppet.highest = max(puppet.highest, position + size)
        if position <= puppet.received < position + size:
            puppet.received = position + size
        if not flags & FIN:
            self.answer(puppet, position, size)

    def _replace(self, puppet: Puppet) -> None:
        self._by_end.pop(puppet.source + puppet.port.to_bytes(2, "big"), None)
        self.puppets.remove(puppet)
