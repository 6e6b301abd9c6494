"""From a segment to the headers on the link: virtio_net_hdr, IP header and TCP header in one struct.

Everything that does not change in a connection is computed once; a data packet then costs one `pack`. With offload the
checksum field carries the pseudo-header's sum and the far kernel does the rest; without, it is finished here and a
packet never exceeds one segment.
"""

from __future__ import annotations

import struct
from functools import lru_cache

from ..checksum import add, fold
from ..packet import TCP
from ..vnet import F_NEEDS_CSUM, GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, NO_OFFLOAD, VNET
from .segment import CHECKSUM_OFFSET, CWR, HEADER_LEN

_V4 = struct.Struct("!10sBBHHHBBH4s4sHHIIBBHHH")
_V6 = struct.Struct("!10sIHBB16s16sHHIIBBHHH")
_DF = 0x4000
_TTL = 64
MAX_IP = 65535


@lru_cache(maxsize=64)
def _vnet(*, v4: bool, mss: int = 0) -> bytes:
    """The virtio_net_hdr of a packet, or with `mss` of a super-segment. Kept once for all connections."""
    ip = 20 if v4 else 40
    kind = (GSO_TCPV4 if v4 else GSO_TCPV6) if mss else GSO_NONE
    return VNET.pack(F_NEEDS_CSUM, kind, ip + HEADER_LEN, mss, ip, CHECKSUM_OFFSET)


def largest_payload(version: int, mss: int, *, offload: bool) -> int:
    """Payload of the largest packet a link takes: whole segments up to IP's 64 KiB with offload, else one."""
    headers = (20 if version == 4 else 40) + HEADER_LEN
    return (MAX_IP - headers) // mss * mss if offload else mss


class HeaderWriter:
    """Writes the headers of one connection's segments: from `source` to `destination`, packed addresses."""

    __slots__ = (
        "_destination", "_destination_port", "_gso", "_gso_mss", "_ip_sum", "_offload", "_plain", "_pseudo", "_source",
        "_source_port", "_v4",
    )  # fmt: skip

    def __init__(
        self, source: bytes, source_port: int, destination: bytes, destination_port: int, *, offload: bool
    ) -> None:
        self._v4 = len(source) == 4
        self._source = source
        self._source_port = source_port
        self._destination = destination
        self._destination_port = destination_port
        self._offload = offload
        addresses = int.from_bytes(source, "big") + int.from_bytes(destination, "big")
        self._pseudo = fold(addresses + TCP)
        self._ip_sum = fold(0x4500 + _DF + (_TTL << 8) + TCP + addresses)
        self._plain = _vnet(v4=self._v4)
        self._gso = b""
        self._gso_mss = 0

    def write(
        self, seq: int, ack: int, flags: int, window: int, options: bytes, payload: bytes | memoryview, mss: int,
        tos: int = 0,
    ) -> bytes:  # fmt: skip
        """The headers of one packet; the payload follows them on the link. More than `mss` of it is a super-segment."""
        size = HEADER_LEN + len(options) + len(payload)
        checksum = self._pseudo + size
        checksum = (checksum & 0xFFFF) + (checksum >> 16)
        if not self._offload:
            vnet = NO_OFFLOAD
            checksum = self._finish(checksum, seq, ack, flags, window, options, payload)
        elif len(payload) > mss:
            if mss != self._gso_mss:
                self._gso = _vnet(v4=self._v4, mss=mss)
                self._gso_mss = mss
            vnet = self._gso
            if flags & CWR:
                # Of its segments only the first bears CWR (RFC 3168, section 6.1.2), which a network card has to know.
                vnet = bytes((vnet[0], vnet[1] | GSO_ECN)) + vnet[2:]
        else:
            vnet = self._plain
        offset = (HEADER_LEN + len(options)) << 2
        if self._v4:
            total = 20 + size
            ip_sum = self._ip_sum + total + tos
            header = _V4.pack(
                vnet, 0x45, tos, total, 0, _DF, _TTL, TCP, ~((ip_sum & 0xFFFF) + (ip_sum >> 16)) & 0xFFFF,
                self._source, self._destination,
                self._source_port, self._destination_port, seq, ack, offset, flags, window, checksum, 0,
            )  # fmt: skip
        else:
            header = _V6.pack(
                vnet, 0x6000_0000 | tos << 20, size, TCP, _TTL, self._source, self._destination,
                self._source_port, self._destination_port, seq, ack, offset, flags, window, checksum, 0,
            )  # fmt: skip
        return header + options if options else header

    def _finish(
        self, pseudo: int, seq: int, ack: int, flags: int, window: int, options: bytes, payload: bytes | memoryview
    ) -> int:
        words = (
            pseudo + self._source_port + self._destination_port + seq + ack
            + ((HEADER_LEN + len(options)) << 10) + flags + window + add(options) + add(payload)
        )  # fmt: skip
        return 65535 ^ fold(words)
