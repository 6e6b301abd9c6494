"""Cutting a train of datagrams that a program handed to the kernel at once (udp(7), UDP_SEGMENT; QUIC does that).

A TUN that was not asked for trains gets single datagrams; a packet socket gets the train, if the network card would cut
it (VIRTIO_NET_HDR_GSO_UDP_L4, since Linux 6.2; older kernels cannot express it and withhold the packet).
"""

from __future__ import annotations

import struct
from typing import List

VNET_LEN = 10
GSO_UDP_L4 = 5
MOST_PARTS = 128
"""UDP_MAX_SEGMENTS: the kernel makes no longer trains."""

_VNET = struct.Struct("=BBHHHH")


def parts(train: bytes) -> List[bytes]:
    """The datagrams of a train, each behind a virtio_net_hdr of its own; none when it is no train, or none that its
    headers bear out: who may open a packet socket can forge one.

    Checksums are left to be finished, as they came; the pseudo-header's sum changes with the length.
    """
    if len(train) < VNET_LEN + 20:
        return []
    flags, _gso, _header, size, start, offset = _VNET.unpack_from(train)
    packet = train[VNET_LEN:]
    data = packet[start + 8 :]
    version = packet[0] >> 4
    if not size or not data or start < (20 if version == 4 else 40) or len(data) > size * MOST_PARTS:
        return []
    partial = struct.unpack_from("!H", packet, start + 6)[0]
    found = []
    for number, place in enumerate(range(0, len(data), size)):
        piece = data[place : place + size]
        length = 8 + len(piece)
        head = bytearray(packet[: start + 8])
        total = (partial - (8 + len(data)) + length) % 0xFFFF
        struct.pack_into("!HH", head, start + 4, length, total)
        if version == 4:
            identification = struct.unpack_from("!H", head, 4)[0] + number
            struct.pack_into("!HH", head, 2, start + length, identification & 0xFFFF)
            struct.pack_into("!H", head, 10, 0)
            struct.pack_into("!H", head, 10, 0xFFFF - int.from_bytes(head[:start], "big") % 0xFFFF)
        else:
            struct.pack_into("!H", head, 4, start - 40 + length)
        found.append(_VNET.pack(flags, 0, 0, 0, start, offset) + bytes(head) + piece)
    return found
