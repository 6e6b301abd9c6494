"""One received IP packet, parsed: what the ICMP and UDP rooms and the forwarders see.

TCP's way through the stack avoids this class for packets without options or extension headers; everything else
(including TCP that came in fragments) passes through it.
"""

from __future__ import annotations

from socket import AF_INET, AF_INET6, inet_ntop

Buffer = bytes | bytearray | memoryview

ICMP = 1
TCP = 6
UDP = 17
ICMPV6 = 58


class IpPacket:
    """A whole (never a fragment) IPv4 or IPv6 packet. Views are valid only while the packet is being delivered."""

    __slots__ = (
        "checksum_trusted", "destination", "dont_fragment", "packet", "payload", "protocol", "source", "tos", "ttl",
        "version",
    )

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
        """IPv4's DF bit; for IPv6 whether it came in one piece (only its source may fragment, and did not)."""
        self.checksum_trusted = checksum_trusted
        """The transport checksum need not be verified (offload)."""

    def copy(self, whole: memoryview) -> IpPacket:
        """The same with views into `whole`, a copy of `packet` that lasts."""
        return IpPacket(
            self.version, self.source, self.destination, self.protocol, self.ttl, self.tos, whole,
            whole[len(whole) - len(self.payload) :], dont_fragment=self.dont_fragment,
            checksum_trusted=self.checksum_trusted,
        )  # fmt: skip

    def __repr__(self) -> str:
        return (
            f"<IpPacket {text(self.source)} > {text(self.destination)} proto {self.protocol} ttl {self.ttl} "
            f"{len(self.payload)} B>"
        )


def text(address: bytes) -> str:
    """A packed address of 4 or 16 bytes as text."""
    return inet_ntop(AF_INET if len(address) == 4 else AF_INET6, address)


def marked(packet: memoryview, ip: int) -> bool:
    """Whether the IP packet that begins at `ip` says "congestion experienced" (RFC 3168, section 5)."""
    return packet[ip + 1] & 3 == 3 if packet[ip] >> 4 == 4 else packet[ip + 1] & 0x30 == 0x30


class Fragment:
    """One received IP fragment, checked by itself but not against others. Views are valid only during delivery."""

    __slots__ = (
        "checksum_trusted", "header", "key", "link_offset", "more", "offset", "packet", "payload", "protocol",
        "version",
    )

    def __init__(
        self, version: int, key: tuple[bytes, bytes, int, int], protocol: int, offset: int,
        packet: memoryview, header: memoryview, payload: memoryview,
        *, more: bool, link_offset: int, checksum_trusted: bool,
    ) -> None:
        self.version = version
        self.key = key
        """Source, destination, identification, protocol: what fragments of one datagram share (RFC 791 section 3.2).

        The protocol is 0 for IPv6, where it is no part of the key (RFC 8200 section 4.5)."""
        self.protocol = protocol
        """IPv4's protocol; for IPv6 the Next Header value of the fragment header."""
        self.offset = offset
        """Bytes into the datagram's fragmentable part where `payload` belongs."""
        self.packet = packet
        """The fragment as it came, cut to its stated length."""
        self.header = header
        """What each fragment repeats: IPv4's header with its options, or IPv6's headers before the fragment header."""
        self.payload = payload
        self.more = more
        """More fragments follow."""
        self.link_offset = link_offset
        """Where in `header` IPv6's chain names the fragment header, to be overwritten by `protocol`; 0 for IPv4."""
        self.checksum_trusted = checksum_trusted
