"""One received IP packet, parsed: what the ICMP and UDP rooms and the forwarders see.

TCP's way through the stack avoids this class for packets without options or extension headers; everything else
(including TCP that came in fragments) passes through it.
"""

from __future__ import annotations

from socket import AF_INET, AF_INET6, inet_ntop

ICMP = 1
TCP = 6
UDP = 17
ICMPV6 = 58


class IpPacket:
    """A whole (never a fragment) IPv4 or IPv6 packet. Views are valid only while the packet is being delivered."""

    __slots__ = ("checksum_trusted", "destination", "dont_fragment", "packet", "payload", "protocol", "source", "tos", "ttl", "version")

    def __init__(
        self, version: int, source: bytes, destination: bytes, protocol: int, ttl: int, tos: int,
        packet: memoryview, payload: memoryview, *, dont_fragment: bool, checksum_trusted: bool,
    ) -> None:
        self.version = version
        """4 or 6."""
        self.source = source
        """Packed address, 4 or 16 bytes."""
        self.destination = destination
        self.protocol = protocol
        """The transport protocol, after IPv6 extension headers: 1, 6, 17, 58 or another."""
        self.ttl = ttl
        """TTL or hop limit as received; 1 less where a forwarder is asked to send it on."""
        self.tos = tos
        """TOS or traffic class."""
        self.packet = packet
        """The whole IP packet from its first header byte (without virtio_net_hdr), for quoting in ICMP errors."""
        self.payload = payload
        """The transport header and what follows it, cut to the length the IP header states."""
        self.dont_fragment = dont_fragment
        """IPv4's DF bit; always True for IPv6."""
        self.checksum_trusted = checksum_trusted
        """The transport checksum need not be verified (offload)."""

    def __repr__(self) -> str:
        return f"<IpPacket {text(self.source)} > {text(self.destination)} proto {self.protocol} ttl {self.ttl} {len(self.payload)} B>"


def text(address: bytes) -> str:
    """A packed address of 4 or 16 bytes as text."""
    return inet_ntop(AF_INET if len(address) == 4 else AF_INET6, address)
