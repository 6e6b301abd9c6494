"""UDP's header (RFC 768): source port, destination port, length, checksum, two bytes each.

A checksum of 0 means "none": allowed over IPv4, refused over IPv6 (RFC 8200 section 8.1; the exception of RFC 6935
is for tunnels). A computed 0 is sent as 0xffff. Port 0 can neither listen nor be answered and is refused.
"""

from __future__ import annotations

import struct

from ..checksum import checksum, pseudo_header_sum, verifies
from ..errors import WireError
from ..packet import UDP, Buffer, IpPacket

HEADER = struct.Struct("!HHHH")
HEADER_LEN = 8
CHECKSUM_OFFSET = 6
MAX_PAYLOAD = {4: 65535 - 20 - HEADER_LEN, 6: 65535 - HEADER_LEN}


def parse(packet: IpPacket) -> tuple[int, int, memoryview]:
    """Source port, destination port and payload of a received packet. Raises WireError."""
    data = packet.payload
    size = len(data)
    if size < HEADER_LEN:
        raise WireError("UDP header is cut short")
    source_port, destination_port, length, check = HEADER.unpack_from(data)
    if not HEADER_LEN <= length <= size:
        raise WireError("UDP length contradicts the packet's")
    if not source_port or not destination_port:
        raise WireError("UDP port 0")
    if not packet.checksum_trusted:
        if check:
            initial = pseudo_header_sum(packet.source, packet.destination, UDP, length)
            if not verifies(data if length == size else data[:length], initial):
                raise WireError("UDP checksum is wrong")
        elif packet.version == 6:
            raise WireError("UDP over IPv6 without a checksum")
    return source_port, destination_port, data[HEADER_LEN:length]


def emit_partial(source: bytes, source_port: int, destination: bytes, destination_port: int, length: int) -> bytes:
    """The header for `length` bytes of payload, with only the pseudo-header's sum in the checksum field."""
    total = HEADER_LEN + length
    initial = (int.from_bytes(source, "big") + int.from_bytes(destination, "big") + UDP + total) % 65535 or 65535
    return HEADER.pack(source_port, destination_port, total, initial)


def emit(source: bytes, source_port: int, destination: bytes, destination_port: int, payload: Buffer) -> bytes:
    """A whole UDP packet with its checksum."""
    length = HEADER_LEN + len(payload)
    header = HEADER.pack(source_port, destination_port, length, 0)
    initial = pseudo_header_sum(source, destination, UDP, length) + int.from_bytes(header, "big")
    return HEADER.pack(source_port, destination_port, length, checksum(payload, initial) or 0xFFFF) + payload
