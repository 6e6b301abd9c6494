"""A router that marks packets instead of dropping them (RFC 3168)."""

from __future__ import annotations

from random import Random

from netbridge.stack.checksum import checksum
from netbridge.stack.link.base import Buffer, Link
from netbridge.stack.link.wrapper import Wrapper
from netbridge.stack.vnet import VNET_LEN

CE = 3


class Marker(Wrapper):
    """Beside the left stack: both ways, it marks of the packets that allow it so many, by a seeded draw for each."""

    def __init__(self, inner: Link, often: float, random: Random) -> None:
        super().__init__(inner)
        self.marked = 0
        self._often = often
        self._random = random

    def send(self, header: Buffer, payload: Buffer = b"") -> None:
        self.inner.send(self._pass(b"".join((header, payload))))

    def packet_received(self, packet: memoryview) -> None:
        self.user.packet_received(memoryview(self._pass(packet)))

    def _pass(self, packet: Buffer) -> bytes:
        lucky = self._random.random() >= self._often
        data = bytearray(packet)
        # The class of an IPv6 packet lies across two bytes, and its last two bits in the upper half of the second.
        shift = 0 if data[VNET_LEN] >> 4 == 4 else 4
        if lucky or not data[VNET_LEN + 1] >> shift & CE:
            return bytes(data)
        self.marked += 1
        data[VNET_LEN + 1] |= CE << shift
        if not shift:
            data[VNET_LEN + 10 : VNET_LEN + 12] = b"\0\0"
            data[VNET_LEN + 10 : VNET_LEN + 12] = checksum(data[VNET_LEN : VNET_LEN + 20]).to_bytes(2, "big")
        return bytes(data)
