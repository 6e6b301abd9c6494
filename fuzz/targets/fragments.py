"""Fragments of one pattern give that pattern or nothing, whatever their order, within the budget of bytes."""

from __future__ import annotations

from netbridge.stack.errors import WireError
from netbridge.stack.fragments import OVERHEAD, Reassembler
from netbridge.stack.packet import Fragment, IpPacket

BUDGET = 20_000
PATTERN = bytes(index * 31 + (index >> 8) & 255 for index in range(1 << 16))


def _fragment(identification: int, offset: int, length: int, *, more: bool, header: int) -> Fragment:
    key = (b"\x0a\0\0\1", b"\x0a\0\0\2", identification, 253)
    head = bytes([0x40 | header // 4]) + bytes(8) + b"\xfd" + bytes(2) + key[0] + key[1] + b"\1" * (header - 20)
    payload = memoryview(PATTERN)[offset : offset + length]
    return Fragment(
        4, key, 253, offset, memoryview(head + bytes(payload)), memoryview(head), payload,
        more=more, link_offset=0, checksum_trusted=False,
    )


def run(data: bytes) -> object:
    """Each 4 bytes are one fragment: identification and header length, offset / 8, length, more and time."""
    reassembler = Reassembler(max_bytes=BUDGET)
    now = 0.0
    completed = 0
    for at in range(0, len(data) - 3, 4):
        first, offset, length, last = data[at : at + 4]
        more = last & 1 != 0
        start, size = offset * 8, max(1, length * 8 if more else length)
        if not more and not start:
            continue
        now += last >> 4
        for quoted in reassembler.expire(now):
            assert quoted[0] >> 4 == 4
        fragment = _fragment(first & 3, start, size, more=more, header=20 + 4 * (first >> 2 & 7))
        try:
            packet = reassembler.add(fragment, now)
        except WireError:
            continue
        if packet is not None:
            completed += 1
            assert isinstance(packet, IpPacket)
            assert packet.payload == PATTERN[: len(packet.payload)]
            assert int.from_bytes(packet.packet[2:4], "big") == len(packet.packet)
        assert 0 <= reassembler.bytes_held <= BUDGET + 4096
        assert reassembler.bytes_held >= OVERHEAD * len(reassembler)
    timeout = reassembler.next_timeout()
    assert (timeout is None) == (len(reassembler) == 0)
    reassembler.expire(now + 1000)
    assert reassembler.bytes_held == len(reassembler) == 0
    counters = reassembler.counters
    return completed, min(counters.contradicting, 3), min(counters.evicted, 3), min(counters.expired, 3)
