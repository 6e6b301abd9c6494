"""ICMP (RFC 792) and ICMPv6 (RFC 4443): echo and errors.

 type  code  checksum
 rest of header: identifier and sequence of an echo; MTU, pointer or nothing of an error
 data: what to echo; of an error the start of the packet it is about

ICMPv6's checksum covers a pseudo-header, ICMP's does not; checksums are always complete, never left to the link,
because a raw socket at the far end would be shown an unfinished one.
"""

from __future__ import annotations

import enum
import errno
import os
import struct

from .. import ipv6
from ..checksum import checksum, pseudo_header_sum, verifies
from ..errors import WireError
from ..packet import ICMP, ICMPV6, TCP, UDP, Buffer, IpPacket

HEADER = struct.Struct("!BBHHH")
"""Type, code, checksum, and two halves of the rest: identifier and sequence, or (high, low) of an MTU or pointer."""
HEADER_LEN = 8

ECHO_REPLY = {4: 0, 6: 129}
ECHO_REQUEST = {4: 8, 6: 128}

V4_ERRORS = frozenset((3, 4, 5, 11, 12))
"""Unreachable, source quench, redirect, time exceeded, parameter problem: never to be answered with an error."""
V6_PARAMETER_PROBLEM = 4
V6_REDIRECT = 137

MAX_QUOTE = {4: 576 - 20 - HEADER_LEN, 6: ipv6.MIN_MTU - ipv6.HEADER_LEN - HEADER_LEN}
"""Bytes of the offending packet in an error: RFC 1812 section 4.3.2.3 and RFC 4443 section 2.4 (c)."""


class Problem(enum.Enum):
    """What an ICMP error says: its (type, code) in either version, and the errno that applications hear.

    Codes that one version lacks go out as the nearest one of it. Each code is a member of its own, because a forwarder
    has to pass on what it was told: Linux makes EHOSTUNREACH of 3/10 and ENETUNREACH of 3/9.
    """

    NET_UNREACHABLE = (3, 0), (1, 0), errno.ENETUNREACH
    HOST_UNREACHABLE = (3, 1), (1, 3), errno.EHOSTUNREACH
    PROTOCOL_UNREACHABLE = (3, 2), (4, ipv6.UNRECOGNIZED_NEXT_HEADER), errno.ENOPROTOOPT
    PORT_UNREACHABLE = (3, 3), (1, 4), errno.ECONNREFUSED
    PROHIBITED = (3, 13), (1, 1), errno.EACCES
    TOO_BIG = (3, 4), (2, 0), errno.EMSGSIZE
    TIME_EXCEEDED = (11, 0), (3, 0), errno.EHOSTUNREACH
    REASSEMBLY_TIME_EXCEEDED = (11, 1), (3, 1), errno.EHOSTUNREACH
    # RFC 1122 section 3.2.2.1 and RFC 1812 section 5.2.7.1
    SOURCE_ROUTE_FAILED = (3, 5), (1, 0), errno.EOPNOTSUPP
    NET_UNKNOWN = (3, 6), (1, 0), errno.ENETUNREACH
    HOST_UNKNOWN = (3, 7), (1, 3), errno.EHOSTDOWN
    SOURCE_ISOLATED = (3, 8), (1, 3), errno.EHOSTUNREACH
    NET_PROHIBITED = (3, 9), (1, 1), errno.ENETUNREACH
    HOST_PROHIBITED = (3, 10), (1, 1), errno.EHOSTUNREACH
    NET_SERVICE = (3, 11), (1, 0), errno.ENETUNREACH
    HOST_SERVICE = (3, 12), (1, 3), errno.EHOSTUNREACH
    PRECEDENCE_VIOLATION = (3, 14), (1, 1), errno.EHOSTUNREACH
    PRECEDENCE_CUTOFF = (3, 15), (1, 1), errno.EHOSTUNREACH
    # RFC 4443 section 3.1
    BEYOND_SCOPE = (3, 0), (1, 2), errno.EHOSTUNREACH
    SOURCE_POLICY = (3, 13), (1, 5), errno.EACCES
    REJECT_ROUTE = (3, 13), (1, 6), errno.EACCES

    def __init__(self, v4: tuple[int, int], v6: tuple[int, int], number: int) -> None:
        self.v4 = v4
        self.v6 = v6
        self.errno = number

    def wire(self, version: int) -> tuple[int, int]:
        """Type and code for that version."""
        return self.v4 if version == 4 else self.v6

    def error(self) -> OSError:
        """The exception of an operation that ends by this; port unreachable is a ConnectionRefusedError."""
        return OSError(self.errno, os.strerror(self.errno))


# Where several share a code, the first one is its own.
_PROBLEMS = {
    4: {problem.v4: problem for problem in reversed(Problem)},
    6: {problem.v6: problem for problem in reversed(Problem)},
}


def problem_of(version: int, kind: int, code: int) -> Problem | None:
    """What a received type and code mean; None for those that are no errors or that nobody here acts on."""
    return _PROBLEMS[version].get((kind, code))


def is_error(version: int, kind: int) -> bool:
    """Whether messages of this type must never be answered with an error; redirects count (RFC 4443 2.4 (e.2))."""
    return kind in V4_ERRORS if version == 4 else kind < 128 or kind == V6_REDIRECT


class Quoted:
    """The packet that an ICMP error is about, as far as it was quoted."""

    __slots__ = (
        "destination", "destination_port", "packet", "protocol", "source", "source_port", "transport", "version",
    )

    def __init__(
        self, version: int, source: bytes, destination: bytes, protocol: int, packet: memoryview, transport: memoryview,
    ) -> None:
        self.version = version
        self.source = source
        """Packed; who sent the packet that failed: this stack or, when forwarding, the host it stands for."""
        self.destination = destination
        self.protocol = protocol
        self.packet = packet
        """From its IP header; valid only while the error is being delivered."""
        self.transport = transport
        """From its transport header: at least 8 bytes."""
        self.source_port = 0
        """Of TCP and UDP, else 0."""
        self.destination_port = 0
        if protocol in (TCP, UDP):
            self.source_port = transport[0] << 8 | transport[1]
            self.destination_port = transport[2] << 8 | transport[3]

    @property
    def size(self) -> int:
        """Bytes of the whole packet, as its own header has it."""
        header = self.packet
        return header[2] << 8 | header[3] if self.version == 4 else 40 + (header[4] << 8 | header[5])

    @property
    def sequence(self) -> int:
        """The sequence number of a quoted TCP segment."""
        return int.from_bytes(self.transport[4:8], "big")


def parse_quoted(version: int, data: memoryview) -> Quoted:
    """The quoted packet in an error's data. Only its start is there, and it may be of any router's making.

    Raises WireError, also for quoted fragments other than the first, which name no port.
    """
    if version == 4:
        if len(data) < 20 or data[0] >> 4 != 4:
            raise WireError("quoted IPv4 header is cut short")
        at = (data[0] & 15) << 2
        if at < 20 or (data[6] & 0x1F) or data[7]:
            raise WireError("quoted packet is no first fragment")
        protocol = data[9]
        source, destination = bytes(data[12:16]), bytes(data[16:20])
    else:
        _, protocol, at = ipv6.transport_of(data)
        if protocol == ipv6.FRAGMENT:
            raise WireError("quoted packet is no first fragment")
        source, destination = bytes(data[8:24]), bytes(data[24:40])
    if len(data) < at + 8:
        raise WireError("quoted transport header is cut short")
    return Quoted(version, source, destination, protocol, data, data[at:])


def parse(packet: IpPacket) -> tuple[int, int, int, int, memoryview]:
    """Type, code, both halves of the rest of the header, and the data. Raises WireError."""
    data = packet.payload
    if len(data) < HEADER_LEN:
        raise WireError("ICMP header is cut short")
    if not packet.checksum_trusted:
        initial = 0
        if packet.version == 6:
            initial = pseudo_header_sum(packet.source, packet.destination, ICMPV6, len(data))
        if not verifies(data, initial):
            raise WireError("ICMP checksum is wrong")
    kind, code, _, high, low = HEADER.unpack_from(data)
    return kind, code, high, low, data[HEADER_LEN:]


def emit(
    version: int, source: bytes, destination: bytes, kind: int, code: int, high: int, low: int, data: Buffer,
) -> bytes:
    """A whole ICMP message with its checksum; the addresses matter to ICMPv6 only."""
    initial = int.from_bytes(HEADER.pack(kind, code, 0, high, low), "big")
    if version == 6:
        initial += pseudo_header_sum(source, destination, ICMPV6, HEADER_LEN + len(data))
    return b"".join((HEADER.pack(kind, code, checksum(data, initial), high, low), data))


def protocol_number(version: int) -> int:
    """ICMP's own protocol number."""
    return ICMP if version == 4 else ICMPV6
