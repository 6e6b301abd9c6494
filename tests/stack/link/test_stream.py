from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from netbridge.stack.link import LinkError, StreamLink
from netbridge.stack.link.carried import HIGH, LENGTH, LIMIT, MAX_LEN, MIN_LEN
from netbridge.stack.vnet import NO_OFFLOAD
from tests.stack.fake import RecordingUser
from tests.stack.link.test_offload import super_segment

PACKET = bytes(range(60))


@asynccontextmanager
async def streams() -> AsyncIterator[tuple[StreamLink, StreamLink, asyncio.StreamWriter]]:
    """Two links over a socket pair, and the raw writer of the second."""
    a, b = socket.socketpair()
    one = StreamLink(*await asyncio.open_unix_connection(sock=a))
    reader, writer = await asyncio.open_unix_connection(sock=b)
    other = StreamLink(reader, writer)
    try:
        yield one, other, writer
    finally:
        one.close()
        other.close()
        await asyncio.sleep(0.01)


async def until(condition: object) -> None:
    async with asyncio.timeout(5):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.001)


async def test_packets_of_all_sizes_arrive_as_they_were_sent() -> None:
    async with streams() as (one, other, _):
        user = RecordingUser()
        one.start(RecordingUser())
        other.start(user)
        sizes = [20, 21, 1500, 65535, 65575, 40] * 10
        for size in sizes:
            one.send(NO_OFFLOAD, bytes(size))
        await until(lambda: len(user.packets) == len(sizes))
        assert [len(packet) - 10 for packet in user.packets] == sizes
        assert user.bursts >= 1


async def test_cut_at_any_byte_the_result_is_the_same() -> None:
    data = b"".join(LENGTH.pack(len(PACKET)) + PACKET for _ in range(3))
    for at in range(len(data) + 1):
        async with streams() as (one, _, writer):
            user = RecordingUser()
            one.start(user)
            writer.write(data[:at])
            await asyncio.sleep(0)
            writer.write(data[at:])
            await until(lambda user=user: len(user.packets) == 3)
            assert user.packets == [PACKET] * 3


@pytest.mark.parametrize("length", [0, MIN_LEN - 1, MAX_LEN + 1, 0xFFFFFFFF])
async def test_a_length_no_packet_has_ends_the_link(length: int) -> None:
    async with streams() as (one, _, writer):
        user = RecordingUser()
        one.start(user)
        writer.write(LENGTH.pack(len(PACKET)) + PACKET + LENGTH.pack(length) + bytes(100))
        await until(lambda: user.lost)
        (error,) = user.lost
        assert isinstance(error, LinkError)
        assert str(length) in str(error)
        assert len(user.packets) <= 1


@pytest.mark.parametrize("rest", [b"", b"\0", LENGTH.pack(60) + b"half"])
async def test_the_other_end_closes(rest: bytes) -> None:
    async with streams() as (one, _, writer):
        user = RecordingUser()
        one.start(user)
        writer.write(rest)
        writer.close()
        await until(lambda: user.lost)
        assert "inside" in str(user.lost[0]) if rest else "closed" in str(user.lost[0])


async def test_closing_is_told_once() -> None:
    async with streams() as (one, _, _):
        user = RecordingUser()
        one.start(user)
        one.close()
        one.close()
        one.send(NO_OFFLOAD, PACKET)
        await until(lambda: user.lost and not one._tasks)
        assert user.lost == [None]
        assert one.dropped == 1


async def test_the_buffer_is_bounded_and_says_when_it_has_room() -> None:
    async with streams() as (one, other, _):
        user, peer = RecordingUser(), RecordingUser()
        one.start(user)
        while one.ready:
            one.send(NO_OFFLOAD, bytes(60_000))
        while not one.dropped:
            one.send(NO_OFFLOAD, bytes(60_000))
        assert HIGH < one._transport.get_write_buffer_size() < LIMIT + 200_000
        assert user.readies == 0
        other.start(peer)
        await until(lambda: user.readies)
        assert one.ready


async def test_without_offload_super_segments_are_cut() -> None:
    async with streams() as (one, other, _):
        user = RecordingUser()
        one.offload = False
        one.start(RecordingUser())
        other.start(user)
        one.send(super_segment(6, bytes(5000), 1428))
        await until(lambda: len(user.packets) == 4)
