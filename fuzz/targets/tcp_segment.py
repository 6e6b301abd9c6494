"""A TCP segment we write is read back as it was meant, with offload as without; options go there and back unchanged."""

from __future__ import annotations

from netbridge.stack import ipv4, ipv6
from netbridge.stack.checksum import pseudo_header_sum, verifies
from netbridge.stack.link.offload import finish
from netbridge.stack.packet import TCP, IpPacket
from netbridge.stack.tcp.output import HeaderWriter, largest_payload
from netbridge.stack.tcp.segment import (
    CWR,
    HEADER_LEN,
    MAX_SACK_BLOCKS,
    MAX_SACK_BLOCKS_STAMPED,
    MAX_WSCALE,
    TCP_HEADER,
    Segment,
    emit_sacks,
    emit_syn_options,
    flag_names,
    parse_options,
    read_options,
)
from netbridge.stack.tcp.seq import MASK

ENDS = {4: (b"\x0a\0\0\1", b"\x0a\0\0\2"), 6: (bytes(15) + b"\1", bytes(15) + b"\2")}


def run(data: bytes) -> object:
    """Ten bytes choose the segment, the next twelve its options, the rest is payload."""
    head, tail, payload = data[:10].ljust(10, b"\0"), data[10:22].ljust(12, b"\0"), data[22:]
    seq, ack = int.from_bytes(head[:4], "big"), int.from_bytes(head[4:8], "big")
    flags, bits = head[8], head[9]
    version = 6 if bits & 1 else 4
    options, label = _options(tail, bits)
    mss = 60 if bits & 16 else 1460
    offload = bool(bits & 32)
    payload = payload[: largest_payload(version, mss, offload=offload)]
    sent = Segment(seq, ack, flags, tail[0] << 8 | tail[1], payload, options, tos=bits >> 6)
    assert sent.length == len(payload) + (flags & 1) + (flags >> 1 & 1)
    assert flag_names(flags) in repr(sent)
    source, destination = ENDS[version]
    writer = HeaderWriter(source, 1025, destination, 65535, offload=offload)
    header = b""
    for _ in range(2):  # the second time by what was kept of the first
        header = writer.write(seq, ack, flags, sent.window, options, payload, mss, sent.tos)
    pieces = finish(header, payload)
    at = 0
    for piece in pieces:
        packet = (ipv6 if version == 6 else ipv4).parse(memoryview(piece)[10:], checksum_trusted=False)
        assert isinstance(packet, IpPacket)
        assert (packet.source, packet.destination, packet.protocol) == (source, destination, TCP)
        assert packet.tos == sent.tos
        segment = packet.payload
        assert verifies(segment, pseudo_header_sum(source, destination, TCP, len(segment)))
        ports, port, number, acked, offset, got, window, _, _ = TCP_HEADER.unpack_from(segment)
        assert (ports, port, acked, window) == (1025, 65535, ack, sent.window)
        assert number == seq + at & MASK
        start = (offset >> 4) * 4
        assert segment[HEADER_LEN:start] == options
        assert got == flags & (0xFF if piece is pieces[-1] else ~9) & (0xFF if piece is pieces[0] else ~CWR)
        assert segment[start:] == payload[at : at + len(segment) - start]
        at += len(segment) - start
    assert at == len(payload)
    return version, label, offload, min(len(pieces), 3), flag_names(flags & 0x17)


def _options(tail: bytes, bits: int) -> tuple[bytes, str]:
    stamp = (int.from_bytes(tail[:4], "big"), int.from_bytes(tail[4:8], "big")) if bits & 2 else None
    if bits & 4:
        mss, scale = tail[8] << 8 | tail[9], tail[10] % (MAX_WSCALE + 1) if tail[10] & 128 else None
        timeout = float(tail[11] * 997)
        options = emit_syn_options(mss, scale, sack=bool(bits & 8), stamp=stamp, user_timeout=timeout)
        found = parse_options(options)
        assert (found.mss, found.wscale, found.sack_permitted, found.stamp) == (mss, scale, bool(bits & 8), stamp)
        assert abs(found.user_timeout - timeout) <= (30 if timeout > 32767 else 0)
        label = f"syn {'stamp' if stamp else ''} {'timeout' if timeout else ''}"
    elif bits & 8:
        count = tail[8] % 6
        first = tail[9] * 7919
        blocks = [(first + number * 300, first + number * 300 + 100) for number in range(count)]
        most = MAX_SACK_BLOCKS_STAMPED if stamp else MAX_SACK_BLOCKS
        options = _stamp(stamp) + emit_sacks(blocks, most)
        found = parse_options(options)
        assert list(found.sacks) == blocks[:most]
        assert found.stamp == stamp
        label = f"{min(count, most)} blocks"
    else:
        options = _stamp(stamp)
        assert read_options(options, 0, len(options)) == stamp or not stamp
        label = "stamp" if stamp else "none"
    assert len(options) % 4 == 0
    assert len(options) <= 40
    return options, label


def _stamp(stamp: tuple[int, int] | None) -> bytes:
    if stamp is None:
        return b""
    return b"\1\1\x08\x0a" + stamp[0].to_bytes(4, "big") + stamp[1].to_bytes(4, "big")
