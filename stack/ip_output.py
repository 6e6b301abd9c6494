"""From transport to link: the virtio_net_hdr, the IP header, fragments, and who finishes the checksum.

The UDP and ICMP rooms see the stack only through `IpSender`; `IpOutput` is the part of it that sends, so that the
stack has nothing to do but wire it to its link.

A transport header may leave its checksum field with just the pseudo-header's sum and say where the field is. On a
link with offload that goes out as it is (NEEDS_CSUM) and the far kernel sums the payload, if anybody ever has to;
everywhere else, and in fragments, it is finished here.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import getrandbits
from typing import Protocol

from . import ipv4, ipv6
from .checksum import checksum
from .fragments import fragment
from .link.base import Link
from .packet import UDP, Buffer
from .vnet import F_NEEDS_CSUM, GSO_NONE, NO_OFFLOAD, VNET


class IpSender(Protocol):
    """What UDP and ICMP need of the stack they live in."""

    def send_ip(
        self, version: int, source: bytes, destination: bytes, protocol: int, transport: Buffer, payload: Buffer = b"",
        *, ttl: int = 64, tos: int = 0, dont_fragment: bool = False, checksum_offset: int | None = None,
    ) -> bool:
        """Send one transport packet, given in two parts; see `IpOutput.send_ip`."""

    def now(self) -> float:
        """Monotonic seconds."""

    def is_local(self, address: bytes) -> bool:
        """Whether a packed address is one of the stack's own."""

    def gateway(self, version: int) -> bytes | None:
        """The stack's first address of that version: the source of its own errors. None without any."""


@dataclass(slots=True)
class OutputCounters:
    """What the IP layer sent."""

    datagrams: int = 0
    """Datagrams of UDP and ICMP that were to be sent."""
    packets: int = 0
    """Packets handed to the link, fragments included."""
    fragments: int = 0
    """Of these, fragments."""
    fragmented: int = 0
    """Datagrams that had to be cut into fragments."""
    too_big: int = 0
    """Datagrams not sent because they exceed the MTU and must not be fragmented, or exceed 64 KiB."""


class IpOutput:
    """Sends transport packets over one link."""

    __slots__ = ("counters", "link", "mtu")

    def __init__(self, link: Link, *, mtu: int | None = None) -> None:
        self.link = link
        self.mtu = mtu or link.mtu
        self.counters = OutputCounters()

    def send_ip(
        self, version: int, source: bytes, destination: bytes, protocol: int, transport: Buffer, payload: Buffer = b"",
        *, ttl: int = 64, tos: int = 0, dont_fragment: bool = False, checksum_offset: int | None = None,
    ) -> bool:
        """Send `transport` followed by `payload` (which must never change) in one packet, or in fragments.

        `checksum_offset`, when not None, says that the 16 bits there hold only the pseudo-header's sum. `transport`
        then has an even length. `dont_fragment` is IPv4's bit; own IPv6 datagrams are fragmented at this source
        whenever they must be. False when nothing was sent because it does not fit.
        """
        length = len(transport) + len(payload)
        header_length = 20 if version == 4 else 40
        self.counters.datagrams += 1
        if header_length + length > self.mtu:
            return self._send_fragments(
                version, source, destination, protocol, transport, payload, ttl, tos, dont_fragment, checksum_offset,
            )
        if checksum_offset is None:
            vnet = NO_OFFLOAD
        elif self.link.offload:
            vnet = VNET.pack(F_NEEDS_CSUM, GSO_NONE, header_length + len(transport), 0, header_length, checksum_offset)
        else:
            vnet = NO_OFFLOAD
            transport = finished(transport, payload, protocol, checksum_offset)
        if version == 4:
            # What a router may fragment needs an identification (RFC 6864 section 4.1); nothing else has a use for one.
            header = ipv4.emit_header(
                source, destination, protocol, length, ttl=ttl, tos=tos,
                identification=0 if dont_fragment else getrandbits(16), flags=0x4000 if dont_fragment else 0,
            )
        else:
            header = ipv6.emit_header(source, destination, protocol, length, ttl=ttl, tos=tos)
        self.counters.packets += 1
        self.link.send(vnet + header + transport, payload)
        return True

    def _send_fragments(
        self, version: int, source: bytes, destination: bytes, protocol: int, transport: Buffer, payload: Buffer,
        ttl: int, tos: int, dont_fragment: bool, checksum_offset: int | None,
    ) -> bool:
        limit = 65535 - (20 if version == 4 else 0)
        if (version == 4 and dont_fragment) or len(transport) + len(payload) > limit:
            self.counters.too_big += 1
            return False
        if checksum_offset is not None:
            transport = finished(transport, payload, protocol, checksum_offset)
        whole = b"".join((transport, payload))
        packets = fragment(version, source, destination, protocol, whole, self.mtu, ttl=ttl, tos=tos)
        self.counters.fragmented += 1
        self.counters.packets += len(packets)
        self.counters.fragments += len(packets)
        for packet in packets:
            self.link.send(NO_OFFLOAD + packet)
        return True


def finished(transport: Buffer, payload: Buffer, protocol: int, checksum_offset: int) -> bytes:
    """`transport` with the checksum field, which holds the pseudo-header's sum, completed over itself and `payload`.

    `transport` has an even length. A UDP checksum of 0 is sent as 0xffff (RFC 768).
    """
    value = checksum(payload, int.from_bytes(transport, "big"))
    if not value and protocol == UDP:
        value = 0xFFFF
    return b"".join((transport[:checksum_offset], value.to_bytes(2, "big"), transport[checksum_offset + 2 :]))
