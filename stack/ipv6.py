"""IPv6 (RFC 8200) and its extension headers: parse and emit.

 version, traffic class, flow label (4 bytes)
 payload length  next header  hop limit
 source address (16 bytes), destination address (16 bytes)

Hop-by-hop options, routing, fragment and destination options headers are walked; whatever else the chain names
(AH, ESP and mobility included, none of which we could process) counts as the transport protocol and meets the same
"unrecognized next header" answer as any unknown protocol. The walk is bounded in headers (RFC 7045 and 8504 section
5.3 allow a limit) and each option is checked. A first fragment must hold the whole chain (RFC 7112); a fragment
that is the whole datagram is just a datagram (RFC 6946).
"""

from __future__ import annotations

import struct

from .errors import WireError
from .packet import ICMPV6, TCP, UDP, Fragment, IpPacket

HEADER = struct.Struct("!IHBB16s16s")
FRAGMENT_HEADER = struct.Struct("!BBHI")
HEADER_LEN = 40
FRAGMENT_HEADER_LEN = 8
MAX_PAYLOAD = 65535
MIN_MTU = 1280

HOP_BY_HOP = 0
ROUTING = 43
FRAGMENT = 44
NO_NEXT_HEADER = 59
DESTINATION_OPTIONS = 60
EXTENSIONS = frozenset((HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS))

MAX_EXTENSIONS = 8
"""RFC 8504 section 5.3 suggests eight as the limit of headers; nobody sends as many."""
MAX_OPTIONS = 8
"""Options in one header; RFC 8504 section 5.3 gives eight as well."""

ERRONEOUS_FIELD = 0
UNRECOGNIZED_NEXT_HEADER = 1
UNRECOGNIZED_OPTION = 2
INCOMPLETE_FIRST_FRAGMENT = 3

_TRANSPORT_MIN = {TCP: 20, UDP: 8, ICMPV6: 8}


def parse(packet: memoryview, *, checksum_trusted: bool) -> IpPacket | Fragment:
    """Take apart `packet`, untrusted bytes that begin with an IPv6 header and may have padding after its end.

    Jumbograms are refused: their payload length of 0 contradicts what follows. Raises WireError.
    """
    size = len(packet)
    if size < HEADER_LEN:
        raise WireError("IPv6 header is cut short")
    word, length, protocol, ttl, source, destination = HEADER.unpack_from(packet)
    if word >> 28 != 6:
        raise WireError("not IPv6")
    end = HEADER_LEN + length
    if end > size:
        raise WireError("IPv6 payload length runs past the packet")
    tos = word >> 20 & 255
    whole = packet[:end]
    offset = HEADER_LEN
    if protocol in EXTENSIONS:
        link_offset, protocol, offset = _walk(whole, 6, protocol, HEADER_LEN)
        if protocol == FRAGMENT:
            return _fragment(whole, link_offset, offset, source, destination, ttl, tos, trusted=checksum_trusted)
    return IpPacket(
        6, source, destination, protocol, ttl, tos, whole, packet[offset:end],
        dont_fragment=True, checksum_trusted=checksum_trusted,
    )


def _walk(packet: memoryview, link_offset: int, protocol: int, offset: int) -> tuple[int, int, int]:
    """Walk extension headers up to a transport header or a fragment header.

    Takes and returns: where the chain names the header, which it is, and where it starts.
    """
    end = len(packet)
    for _ in range(MAX_EXTENSIONS):
        if protocol not in EXTENSIONS or protocol == FRAGMENT:
            return link_offset, protocol, offset
        if protocol == HOP_BY_HOP and offset != HEADER_LEN:
            raise WireError("hop-by-hop options are not first", code=UNRECOGNIZED_NEXT_HEADER, pointer=link_offset)
        after = offset + 8
        if after <= end:
            after = offset + (packet[offset + 1] + 1 << 3)
        if after > end:
            raise WireError("IPv6 extension header is cut short")
        if protocol == ROUTING:
            # With segments left it would go on from here: no routing type does that, type 0 must not (RFC 5095).
            if packet[offset + 3]:
                raise WireError("IPv6 source routing", code=ERRONEOUS_FIELD, pointer=offset + 2)
        else:
            _check_options(packet, offset + 2, after)
        link_offset, protocol, offset = offset, packet[offset], after
    if protocol in EXTENSIONS and protocol != FRAGMENT:
        raise WireError("too many IPv6 extension headers")
    return link_offset, protocol, offset


def _check_options(packet: memoryview, at: int, end: int) -> None:
    """RFC 8200 section 4.2: options we do not know say by two bits of their type what is to become of the packet."""
    count = 0
    while at < end:
        kind = packet[at]
        if kind == 0:  # Pad1 is the only option without a length
            at += 1
            continue
        if at + 2 > end or at + 2 + packet[at + 1] > end:
            raise WireError("IPv6 option runs past its header")
        if kind != 1:  # PadN
            count += 1
            if count > MAX_OPTIONS:
                raise WireError("too many IPv6 options")
            if kind >> 6 == 1:
                raise WireError("IPv6 option that asks to be dropped")
            # The last action, 3, spares multicast destinations the answer; the ICMP room spares them always.
            if kind >> 6:
                raise WireError("unrecognized IPv6 option", code=UNRECOGNIZED_OPTION, pointer=at)
        at += 2 + packet[at + 1]


def _fragment(
    packet: memoryview, link_offset: int, at: int, source: bytes, destination: bytes, ttl: int, tos: int,
    *, trusted: bool,
) -> IpPacket | Fragment:
    """What stands behind the fragment header at `at`."""
    start = at + FRAGMENT_HEADER_LEN
    length = len(packet) - start
    if length < 0:
        raise WireError("IPv6 fragment header is cut short")
    protocol, _, word, identification = FRAGMENT_HEADER.unpack_from(packet, at)
    offset = word & 0xFFF8
    more = word & 1 != 0
    if offset == 0:
        _, transport, header_end = _walk(packet, at, protocol, start)
        if transport == FRAGMENT:
            raise WireError("IPv6 fragment inside a fragment")
        if not more:  # RFC 6946: an atomic fragment stands for itself, whatever else is being reassembled
            return IpPacket(
                6, source, destination, transport, ttl, tos, packet, packet[header_end:],
                dont_fragment=True, checksum_trusted=trusted,
            )
        if len(packet) - header_end < _TRANSPORT_MIN.get(transport, 0):
            raise WireError("first fragment without its headers", code=INCOMPLETE_FIRST_FRAGMENT)
    if not length:
        raise WireError("empty IPv6 fragment")
    if more and length & 7:
        raise WireError("IPv6 fragment of odd length", code=ERRONEOUS_FIELD, pointer=4)
    if at - HEADER_LEN + offset + length > MAX_PAYLOAD:
        raise WireError("IPv6 fragment ends beyond 64 KiB", code=ERRONEOUS_FIELD, pointer=at + 2)
    return Fragment(
        6, (source, destination, identification, 0), protocol, offset,
        packet, packet[:at], packet[start:], more=more, link_offset=link_offset, checksum_trusted=trusted,
    )


def transport_of(packet: memoryview) -> tuple[int, int, int]:
    """Where the chain of a (possibly cut) packet names its transport header, which it is and where it starts.

    For quoting and for packets quoted to us; a non-first fragment yields FRAGMENT. Raises WireError.
    """
    if len(packet) < HEADER_LEN or packet[0] >> 4 != 6:
        raise WireError("not IPv6")
    link_offset, protocol, at = _walk(packet, 6, packet[6], HEADER_LEN)
    if protocol == FRAGMENT:
        if at + FRAGMENT_HEADER_LEN > len(packet):
            raise WireError("IPv6 fragment header is cut short")
        inner, _, word, _ = FRAGMENT_HEADER.unpack_from(packet, at)
        if word & 0xFFF8 == 0:
            return _walk(packet, at, inner, at + FRAGMENT_HEADER_LEN)
    return link_offset, protocol, at


def emit_header(
    source: bytes, destination: bytes, protocol: int, length: int, *, ttl: int = 64, tos: int = 0, flow_label: int = 0,
) -> bytes:
    """A header of 40 bytes in front of `length` bytes (extension headers included)."""
    return HEADER.pack(0x60000000 | tos << 20 | flow_label, length, protocol, ttl, source, destination)
