"""Two joined transports, on real sockets and both event loops: bytes, half-closes, resets, back-pressure."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from netbridge.bridge.back.ends import HELD, End, join


class Pair:
    """left — its end, joined to — its end — right; `over` says how each end went."""

    def __init__(self) -> None:
        self.left, one = socket.socketpair()
        self.right, other = socket.socketpair()
        self.ends = (End(), End())
        self.over: dict[End, str] = {}
        self._inner = (one, other)
        for outer in (self.left, self.right):
            outer.setblocking(False)

    async def open(self, *, joined: bool = True) -> Pair:
        loop = asyncio.get_running_loop()
        for end, inner in zip(self.ends, self._inner, strict=True):
            inner.setblocking(False)
            await loop.create_unix_connection(lambda end=end: end, sock=inner)  # type: ignore[misc]
            end.on_over = lambda why, end=end: self.over.update({end: why})
        if joined:
            join(*self.ends)
        return self

    async def gone(self) -> None:
        async with asyncio.timeout(5):
            while len(self.over) < 2:
                await asyncio.sleep(0.005)


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    made = Pair()
    yield made
    for end in made.ends:
        if end.transport:
            end.transport.abort()
    made.left.close()
    made.right.close()
    await asyncio.sleep(0)


async def read(connection: socket.socket) -> bytes:
    async with asyncio.timeout(5):
        return await asyncio.get_running_loop().sock_recv(connection, 1 << 20)


async def read_all(connection: socket.socket) -> bytes:
    found = b""
    while data := await read(connection):
        found += data
    return found


async def test_bytes_and_half_closes_pass(pair: Pair) -> None:
    await pair.open()
    pair.left.sendall(b"question")
    pair.left.shutdown(socket.SHUT_WR)
    assert await read_all(pair.right) == b"question"
    pair.right.sendall(b"answer")
    assert await read(pair.left) == b"answer"
    pair.right.shutdown(socket.SHUT_WR)
    assert await read_all(pair.left) == b""
    await pair.gone()
    assert set(pair.over.values()) == {""}


async def test_what_came_before_is_not_lost(pair: Pair) -> None:
    await pair.open(joined=False)
    pair.left.sendall(b"early")
    pair.left.shutdown(socket.SHUT_WR)
    while not pair.ends[0].ended:
        await asyncio.sleep(0.005)
    join(*pair.ends)
    assert await read_all(pair.right) == b"early"


async def test_who_talks_unjoined_is_not_read_for_ever(pair: Pair) -> None:
    await pair.open(joined=False)
    loop = asyncio.get_running_loop()
    sending = loop.create_task(loop.sock_sendall(pair.left, bytes(4 << 20)))
    await asyncio.wait([sending], timeout=0.3)
    assert not sending.done()
    assert len(pair.ends[0].held) <= HELD + (256 << 10)
    join(*pair.ends)
    got = 0
    while got < 4 << 20:
        got += len(await read(pair.right))
    await sending


async def test_a_reader_that_does_not_read_stops_the_writer(pair: Pair) -> None:
    await pair.open()
    loop = asyncio.get_running_loop()
    total = 16 << 20
    sending = loop.create_task(loop.sock_sendall(pair.left, bytes(total)))
    await asyncio.wait([sending], timeout=0.3)
    assert not sending.done()
    transport = pair.ends[1].transport
    assert transport
    assert transport.get_write_buffer_size() < 1 << 20
    got = 0
    while got < total:
        got += len(await read(pair.right))
    await sending
    assert got == total


async def test_one_that_goes_takes_the_other_along(pair: Pair) -> None:
    await pair.open()
    pair.ends[0].fail("for a reason")
    assert await read_all(pair.right) == b""
    await pair.gone()
    assert pair.over[pair.ends[0]] == "for a reason"
    assert pair.over[pair.ends[1]]


async def test_joined_to_one_that_is_gone(pair: Pair) -> None:
    await pair.open(joined=False)
    pair.ends[0].fail("gone")
    while not pair.ends[0].lost:
        await asyncio.sleep(0.005)
    join(*pair.ends)
    await pair.gone()
    assert pair.over[pair.ends[1]]


async def test_a_reset_is_called_by_its_name() -> None:
    loop = asyncio.get_running_loop()
    over: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    end, other = End(), End()
    one, two = socket.socketpair()
    server.setblocking(False)
    one.setblocking(False)
    await loop.connect_accepted_socket(lambda: end, server)
    await loop.create_unix_connection(lambda: other, sock=one)
    end.on_over = over.append
    join(end, other)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    async with asyncio.timeout(5):
        while not over:
            await asyncio.sleep(0.005)
    assert over == ["Connection reset by peer"]
    two.close()
    await asyncio.sleep(0.01)
