"""What a kernel or a network card does for a link with offload, in Python: cut super-segments, finish checksums.

Slow (it sums every payload byte) and therefore only for links without offload, and for devices that a kernel refuses
a super-segment for. The header in front may come from a peer and is believed only as far as the packet bears it out;
`hdr_len` is not believed at all (a forwarding kernel sets it to the whole packet's length), the TCP header itself says
where the payload starts.
"""

from __future__ import annotations

from ..checksum import checksum
from ..errors import WireError
from ..packet import TCP, Buffer
from ..vnet import F_NEEDS_CSUM, GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, NO_OFFLOAD, VNET, VNET_LEN

MIN_GSO_SIZE = 48
"""The smallest MSS a kernel accepts (TCP_MIN_SND_MSS); less would turn one packet into thousands (CVE-2019-11479)."""

_FIN_PSH = 0x09
_CWR = 0x80


def finish(header: Buffer, payload: Buffer = b"") -> list[bytes]:
    """The packet given in two parts as complete packets, each behind a virtio_net_hdr that asks for nothing.

    Raises WireError when the virtio_net_hdr contradicts the packet.
    """
    data = b"".join((header, payload))
    if len(data) < VNET_LEN + 20:
        raise WireError("packet is cut short")
    flags, gso, _, gso_size, start, offset = VNET.unpack_from(data)
    if gso == GSO_NONE:
        if not flags & F_NEEDS_CSUM:
            return [NO_OFFLOAD + data[VNET_LEN:]]
        packet = bytearray(data)
        packet[:VNET_LEN] = NO_OFFLOAD
        _finish_checksum(packet, VNET_LEN + start, offset)
        return [bytes(packet)]
    return _segments(data, gso, gso_size, start)


def _finish_checksum(packet: bytearray, start: int, offset: int) -> None:
    at = start + offset
    if start < VNET_LEN + 20 or at + 2 > len(packet):
        raise WireError("checksum field lies outside the packet")
    value = checksum(memoryview(packet)[start:])
    if not value and offset == 6:  # the field's place in UDP, where 0 would say "none"
        value = 0xFFFF
    packet[at : at + 2] = value.to_bytes(2, "big")


def _segments(data: bytes, gso: int, gso_size: int, start: int) -> list[bytes]:
    """Cut one TCP super-segment."""
    packet = memoryview(data)[VNET_LEN:]
    version = packet[0] >> 4
    ip_length = _ip_header_length(packet, version)
    if (version, gso & ~GSO_ECN) not in ((4, GSO_TCPV4), (6, GSO_TCPV6)):
        raise WireError("no TCP super-segment of its IP version")
    if start != ip_length or start + 20 > len(packet):
        raise WireError("TCP does not start where the offload header says")
    payload_at = start + (packet[start + 12] >> 4 << 2)
    if payload_at < start + 20 or payload_at > len(packet):
        raise WireError("TCP header length is wrong")
    if gso_size < MIN_GSO_SIZE:
        raise WireError("tiny segment size")
    payload = packet[payload_at:]
    sequence = int.from_bytes(packet[start + 4 : start + 8], "big")
    identification = int.from_bytes(packet[4:6], "big")
    tcp_flags = packet[start + 13]
    segments = []
    for at in range(0, len(payload) or 1, gso_size):
        piece = payload[at : at + gso_size]
        header = bytearray(packet[:payload_at])
        last = at + gso_size >= len(payload)
        if version == 4:
            header[2:4] = (payload_at + len(piece)).to_bytes(2, "big")
            header[4:6] = (identification + at // gso_size & 0xFFFF).to_bytes(2, "big")
            header[10:12] = b"\0\0"
            header[10:12] = checksum(header[:ip_length]).to_bytes(2, "big")
        else:
            header[4:6] = (payload_at - 40 + len(piece)).to_bytes(2, "big")
        header[start + 4 : start + 8] = (sequence + at & 0xFFFFFFFF).to_bytes(4, "big")
        # FIN and PSH belong to the last byte, CWR to the first segment (RFC 3168 section 6.1.2).
        header[start + 13] = tcp_flags & (0xFF if last else ~_FIN_PSH) & (0xFF if at == 0 else ~_CWR)
        header[start + 16 : start + 18] = b"\0\0"
        addresses = header[12:20] if version == 4 else header[8:40]
        initial = int.from_bytes(addresses, "big") + TCP + payload_at - start + len(piece)
        initial += int.from_bytes(header[start:], "big")
        header[start + 16 : start + 18] = checksum(piece, initial).to_bytes(2, "big")
        segments.append(b"".join((NO_OFFLOAD, header, piece)))
    return segments


def _ip_header_length(packet: memoryview, version: int) -> int:
    """Of a packet that is TCP; extension headers have no place in a super-segment."""
    if version == 4:
        length = (packet[0] & 15) << 2
        if 20 <= length <= len(packet) and packet[9] == TCP:
            return length
    elif version == 6 and len(packet) >= 40 and packet[6] == TCP:
        return 40
    raise WireError("super-segment is not TCP")
