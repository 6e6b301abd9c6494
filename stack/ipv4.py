"""IPv4 (RFC 791): parse and emit.

 0                   1                   2                   3
 version|IHL  TOS       total length
 identification        flags|fragment offset / 8
 TTL          protocol  header checksum
 source address
 destination address
 options, up to 40 bytes

Options are skipped, never acted on: source routing is a known hole and RFC 7126 tells us to ignore the rest.
"""

from __future__ import annotations

import struct

from .checksum import fold
from .errors import WireError
from .packet import Fragment, IpPacket

HEADER = struct.Struct("!BBHHHBBH4s4s")
HEADER_LEN = 20
MAX_LEN = 65535

DONT_FRAGMENT = 0x4000
MORE_FRAGMENTS = 0x2000
OFFSET_MASK = 0x1FFF


def parse(packet: memoryview, *, checksum_trusted: bool) -> IpPacket | Fragment:
    """Take apart `packet`, untrusted bytes that begin with an IPv4 header and may have padding after its end.

    `checksum_trusted` is about the transport checksum and only passed on; the header checksum is always verified.
    Raises WireError.
    """
    size = len(packet)
    if size < HEADER_LEN:
        raise WireError("IPv4 header is cut short")
    first, tos, total, identification, flags, ttl, protocol, _, source, destination = HEADER.unpack_from(packet)
    header_length = (first & 15) << 2
    if first >> 4 != 4:
        raise WireError("not IPv4")
    if header_length < HEADER_LEN or total < header_length or total > size:
        raise WireError("IPv4 lengths contradict each other")
    if fold(int.from_bytes(packet[:header_length], "big")) != 65535:
        raise WireError("IPv4 header checksum is wrong")
    whole = packet[:total]
    payload = packet[header_length:total]
    if not flags & (MORE_FRAGMENTS | OFFSET_MASK):
        return IpPacket(
            4, source, destination, protocol, ttl, tos, whole, payload,
            dont_fragment=flags & DONT_FRAGMENT != 0, checksum_trusted=checksum_trusted,
        )
    offset = (flags & OFFSET_MASK) << 3
    more = flags & MORE_FRAGMENTS != 0
    length = total - header_length
    if not length or (more and length & 7) or header_length + offset + length > MAX_LEN:
        raise WireError("IPv4 fragment of impossible length")
    return Fragment(
        4, (source, destination, identification, protocol), protocol, offset,
        whole, packet[:header_length], payload, more=more, link_offset=0, checksum_trusted=checksum_trusted,
    )


def emit_header(
    source: bytes, destination: bytes, protocol: int, length: int,
    *, ttl: int = 64, tos: int = 0, identification: int = 0, flags: int = 0,
) -> bytes:
    """A header of 20 bytes in front of `length` bytes; `flags` is the whole 16-bit word of flags and offset / 8."""
    total = HEADER_LEN + length
    # The sum of the header's words, straight from the fields; see checksum.py for why whole addresses may be added.
    words = (
        0x4500 + tos + total + identification + flags + (ttl << 8) + protocol
        + int.from_bytes(source, "big") + int.from_bytes(destination, "big")
    )
    return HEADER.pack(
        0x45, tos, total, identification, flags, ttl, protocol, 65535 ^ (words % 65535 or 65535), source, destination,
    )
