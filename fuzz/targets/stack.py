"""A stack survives any sequence of packets: nothing raised, few packets in return for one, and all of them counted."""

from __future__ import annotations

import asyncio
import dataclasses

from fuzz import repairs
from fuzz.bed import ListLink
from netbridge.stack import Stack
from tests import balance

IN_STEP = 0x80
"""In a packet's first byte (no flag of virtio's): its sequence numbers are relative to what the stack sent last."""
ANSWERS = 12
"""One packet may release what the initial window holds (10 segments, RFC 6928) and an acknowledgement."""

_loop = asyncio.new_event_loop()


def repair(data: bytes) -> bytes:
    return repairs.joined([packet[:10] + repairs.ip(packet[10:]) for packet in repairs.each(data)])


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()
    except ConnectionError:
        pass


def _in_step(packet: bytes, last: bytes) -> bytes:
    """The TCP packet with its numbers counted from where the stack's `last` IPv4 packet stands."""
    if len(packet) < 50 or packet[10] != 0x45 or packet[19] != 6 or len(last) < 50 or last[10] != 0x45:
        return packet[:1].replace(b"\x80", b"\0") + packet[1:]
    seq, ack, flags = int.from_bytes(last[34:38], "big"), int.from_bytes(last[38:42], "big"), last[43]
    length = int.from_bytes(last[12:14], "big") - 20 - (last[42] >> 4) * 4 + (flags & 1) + (flags >> 1 & 1)
    ours = ack + int.from_bytes(packet[34:38], "big", signed=True) & 0xFFFFFFFF
    theirs = seq + length + int.from_bytes(packet[38:42], "big", signed=True) & 0xFFFFFFFF
    moved = packet[10:34] + ours.to_bytes(4, "big") + theirs.to_bytes(4, "big") + packet[42:]
    return bytes([packet[0] & 0x7F]) + packet[1:10] + repairs.ip(moved)


async def _run(data: bytes) -> object:
    link = ListLink(offload=True)
    last = b""
    async with Stack(link, ["198.18.0.1/16", "fd6e:6272::1/64"]) as stack:
        await stack.start_server(_serve, None, 80)
        for packet in repairs.each(data):
            given = _in_step(packet, last) if packet and packet[0] & IN_STEP else packet
            stack.packet_received(memoryview(given))
            stack.burst_ended()
            assert len(link.sent) <= ANSWERS, len(link.sent)
            for _ in range(3):  # the server's turn
                await asyncio.sleep(0)
            last = next((sent for sent in reversed(link.sent) if sent[19] == 6), last)
            link.sent.clear()
        assert len(stack.tcp.flows) <= len(repairs.each(data))
        rooms = (stack.counters, stack.tcp.counters, stack.udp.counters, stack.icmp.counters)
        assert not (unbalanced := balance.whole_stack(stack)), unbalanced
        happened = [name for room in rooms for name, value in dataclasses.asdict(room).items() if value]
    await asyncio.sleep(0)
    assert not (left := balance.emptied(stack)), left
    return tuple(happened)


def run(data: bytes) -> object:
    return _loop.run_until_complete(_run(data))
