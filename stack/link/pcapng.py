"""Capture files as Wireshark, tshark and tcpdump read them: pcapng (draft-ietf-opsawg-pcapng), written only.

A section holds one interface with raw IP packets (LINKTYPE_RAW: the virtio_net_hdr is left out) and times in
nanoseconds. What the classic format cannot say of a packet stands beside it: its direction, that its checksum is left
to the far end, and of a super-segment how many segments of which size it stands for, as flags and as a comment. So a
reader sees 64 KiB in one piece and why.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from ..packet import Buffer
from ..vnet import F_DATA_VALID, F_NEEDS_CSUM, GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, VNET, VNET_LEN

LINKTYPE_RAW = 101
SNAPLEN = 262144
"""Bytes of the longest packet in a file; none of ours is longer than 64 KiB and its headers."""

_HEAD = struct.Struct("<II")
_TAIL = struct.Struct("<I")
_OPTION = struct.Struct("<HH")
_SECTION = struct.Struct("<IHHq")
_INTERFACE = struct.Struct("<HHI")
_PACKET = struct.Struct("<IIIIIII")
_STATISTICS = struct.Struct("<III")
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")
_END = b"\0\0\0\0"
"""opt_endofopt."""

INBOUND, OUTBOUND = 1, 2
"""epb_flags, bits 0 and 1: to or from the stack."""
_CHECKSUM_NOT_READY, _CHECKSUM_VALID, _SEGMENTATION = 1 << 9, 1 << 10, 1 << 11
_FLAGS = {  # the whole option by direction and virtio flags; what is common shall cost a lookup
    (direction, flags, gso): _OPTION.pack(2, 4) + struct.pack(
        "<I",
        direction | (_CHECKSUM_NOT_READY if flags & F_NEEDS_CSUM else 0)
        | (_CHECKSUM_VALID if flags & F_DATA_VALID else 0) | (_SEGMENTATION if gso else 0),
    )
    for direction in (INBOUND, OUTBOUND) for flags in range(4) for gso in (False, True)
}


def section(program: str, interface: str, description: str) -> bytes:
    """What a file, or a stream, begins with; the texts are for people."""
    about = _block(0x0A0D0D0A, _SECTION.pack(0x1A2B3C4D, 1, 0, -1) + _text(4, program) + _END)
    nanoseconds = _OPTION.pack(9, 1) + b"\x09\0\0\0"  # if_tsresol
    texts = _text(2, interface) + _text(3, description)
    return about + _block(1, _INTERFACE.pack(LINKTYPE_RAW, 0, SNAPLEN) + texts + nanoseconds + _END)


def packet(now: int, direction: int, header: Buffer, rest: Buffer = b"") -> Iterator[Buffer]:
    """One packet in the pieces it is to be written in: nothing is copied but what is small.

    `now`: nanoseconds since the epoch. `header` begins with the virtio_net_hdr, and `rest` is what follows it.
    """
    flags, gso, _, segment, start, _ = VNET.unpack_from(header)
    length = len(header) + len(rest) - VNET_LEN
    options = _FLAGS[direction, flags & 3, gso != GSO_NONE]
    if gso != GSO_NONE:
        options += _text(1, _stands_for(header, length, gso, segment, start))
    padding = _PADDING[length & 3]
    total = _PACKET.size + length + len(padding) + len(options) + len(_END) + _TAIL.size
    yield _PACKET.pack(6, total, 0, now >> 32, now & 0xFFFFFFFF, length, length)
    yield memoryview(header)[VNET_LEN:]
    if rest:
        yield rest
    yield b"".join((padding, options, _END, _TAIL.pack(total)))


def dropped(now: int, count: int) -> bytes:
    """A note that so many packets, in all, are not in the file because nobody took them in time."""
    return _block(5, _STATISTICS.pack(0, now >> 32, now & 0xFFFFFFFF) + _OPTION.pack(5, 8)
                  + struct.pack("<Q", count) + _END)


def _stands_for(header: Buffer, length: int, gso: int, segment: int, start: int) -> str:
    """A super-segment in words. `start`: where its transport header begins, behind the virtio_net_hdr."""
    if gso & ~GSO_ECN not in {GSO_TCPV4, GSO_TCPV6} or not segment or VNET_LEN + start + 12 >= len(header):
        return f"offloaded in pieces of {segment} bytes"
    payload = length - start - (header[VNET_LEN + start + 12] >> 4 << 2)
    return f"super-segment: {-(-payload // segment)} TCP segments of {segment} bytes in one"


def _block(kind: int, body: bytes) -> bytes:
    total = len(body) + 12
    return _HEAD.pack(kind, total) + body + _TAIL.pack(total)


def _text(code: int, text: str) -> bytes:
    data = text.encode()[:1000]
    return _OPTION.pack(code, len(data)) + data + _PADDING[len(data) & 3]
