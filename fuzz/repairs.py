"""Making the checksums of mutated packets right, so that they are not refused before they were looked at."""

from __future__ import annotations

from netbridge.stack.checksum import checksum, pseudo_header_sum

_FIELD = {6: 16, 17: 6, 1: 2, 58: 2}


def ip(data: bytes) -> bytes:
    """One IP packet with its header's and, where it has no extension headers, its transport's checksum right."""
    packet = bytearray(data)
    if len(packet) < 20:
        return data
    version = packet[0] >> 4
    if version == 4:
        at = (packet[0] & 15) << 2
        if not 20 <= at <= len(packet):
            return data
        end = min(len(packet), int.from_bytes(packet[2:4], "big"))
        transport(packet, packet[9], at, end, bytes(packet[12:16]), bytes(packet[16:20]))
        packet[10:12] = b"\0\0"
        packet[10:12] = checksum(packet[:at]).to_bytes(2, "big")
    elif version == 6 and len(packet) >= 40:
        end = min(len(packet), 40 + int.from_bytes(packet[4:6], "big"))
        transport(packet, packet[6], 40, end, bytes(packet[8:24]), bytes(packet[24:40]))
    return bytes(packet)


def transport(packet: bytearray, protocol: int, at: int, end: int, source: bytes, destination: bytes) -> None:
    """Write the transport checksum of the packet in place."""
    if protocol == 17 and at + 8 <= end and (length := int.from_bytes(packet[at + 4 : at + 6], "big")) >= 8:
        end = min(end, at + length)  # what UDP says itself may be less
    field = at + _FIELD.get(protocol, end)
    if field + 2 > end:
        return
    packet[field : field + 2] = b"\0\0"
    initial = 0 if protocol == 1 else pseudo_header_sum(source, destination, protocol, end - at)
    packet[field : field + 2] = (checksum(packet[at:end], initial) or 0xFFFF).to_bytes(2, "big")


def each(data: bytes) -> list[bytes]:
    """A sequence of packets out of one input: each preceded by its length in two bytes."""
    packets: list[bytes] = []
    at = 0
    while at + 2 <= len(data) and len(packets) < 100:
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        packets.append(data[at + 2 : end])
        at = end
    return packets


def joined(packets: list[bytes]) -> bytes:
    """The reverse of `each`."""
    return b"".join(len(packet).to_bytes(2, "big") + packet for packet in packets)
