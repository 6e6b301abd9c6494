"""A router on the way whose next hop takes less from some moment on, and says so (RFC 1191, RFC 8201)."""

from __future__ import annotations

import asyncio

from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6

from netbridge.stack.link.base import Buffer, Link
from netbridge.stack.link.wrapper import Wrapper
from netbridge.stack.vnet import NO_OFFLOAD, VNET_LEN
from tests.stack.fake import dissect

EVERY = 0.05
"""Seconds, at least, between two errors to the same side: routers limit them."""
ROUTER = {4: "10.0.0.254", 6: "fd00::fe"}


class Narrower(Wrapper):
    """Beside the left stack: both ways, packets larger than `mtu` vanish after `at` seconds, and their sender hears."""

    def __init__(self, inner: Link, at: float, mtu: int) -> None:
        super().__init__(inner)
        self._at = at
        self._mtu = mtu
        self._told_at = [-EVERY, -EVERY]

    def send(self, header: Buffer, payload: Buffer = b"") -> None:
        packet = b"".join((header, payload))
        if self._fits(packet):
            self.inner.send(packet)
        elif self._due(0):
            asyncio.get_running_loop().call_soon(self._say, self._too_big(packet))

    def packet_received(self, packet: memoryview) -> None:
        if self._fits(packet):
            self.user.packet_received(packet)
        elif self._due(1):
            self.inner.send(self._too_big(packet))

    def _fits(self, packet: Buffer) -> bool:
        return asyncio.get_running_loop().time() < self._at or len(packet) - VNET_LEN <= self._mtu

    def _due(self, side: int) -> bool:
        now = asyncio.get_running_loop().time()
        if now - self._told_at[side] < EVERY:
            return False
        self._told_at[side] = now
        return True

    def _say(self, error: bytes) -> None:
        self.user.packet_received(memoryview(error))
        self.user.burst_ended()

    def _too_big(self, packet: Buffer) -> bytes:
        data = bytes(packet[VNET_LEN:])
        whole = dissect(data)
        if whole.version == 4:
            error = bytes(IP(src=ROUTER[4], dst=whole.src) / ICMP(type=3, code=4, nexthopmtu=self._mtu) / data[:548])
        else:
            error = bytes(IPv6(src=ROUTER[6], dst=whole.src) / ICMPv6PacketTooBig(mtu=self._mtu) / data[:1232])
        return NO_OFFLOAD + error
