"""An exit on another process's or machine's side: joined by TLS and by a WebSocket, with real clients of both."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from netbridge.bridge import Entrance, Exit
from netbridge.bridge.forward.policy import Policy
from netbridge.stack import LinkError
from netbridge.stack.link import Link, Role, stream_link, websocket_link
from tests.stack.networks import NAME, contexts

HERE, ALIAS = "127.0.0.1", "10.77.0.1"


def policy() -> Policy:
    return Policy(allow=[HERE], aliases={socket.inet_aton(ALIAS): socket.inet_aton(HERE)})


async def until_its_end(link: Link) -> None:
    """An exit for one who joined."""
    async with Exit(link, policy=policy(), dns=False) as exit_:
        try:
            await exit_.wait_closed()
        except LinkError:
            pass  # the entrance left


@asynccontextmanager
async def by_tls() -> AsyncIterator[list[Link]]:
    """The links of two who joined the same listener."""
    server_context, client_context = contexts()

    async def joined(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await until_its_end(await stream_link(reader, writer, role=Role.EXIT))

    async with await asyncio.start_server(joined, HERE, 0, ssl=server_context) as server:
        port = server.sockets[0].getsockname()[1]
        yield [
            await stream_link(
                *await asyncio.open_connection(HERE, port, ssl=client_context, server_hostname=NAME),
                role=Role.ENTRANCE,
            )
            for _ in range(2)
        ]  # fmt: skip


@asynccontextmanager
async def by_websocket() -> AsyncIterator[list[Link]]:
    async def joined(connection: ServerConnection) -> None:
        await until_its_end(await websocket_link(connection, role=Role.EXIT))

    async with serve(joined, HERE, 0, compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield [
            await websocket_link(await connect(f"ws://{HERE}:{port}", compression=None), role=Role.ENTRANCE)
            for _ in range(2)
        ]  # fmt: skip


@pytest.mark.parametrize("way", [by_tls, by_websocket])
async def test_two_entrances_at_once(way: Callable[[], AbstractAsyncContextManager[list[Link]]]) -> None:
    """Each has an exit of its own, with the same addresses; neither notices the other."""

    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data.upper())
            await writer.drain()
        writer.close()

    async def ask(entrance: Entrance, port: int) -> None:
        data = b"hello " * 200_000
        reader, writer = await entrance.open_connection(ALIAS, port)

        async def send() -> None:
            writer.write(data)
            await writer.drain()
            writer.write_eof()

        sending = asyncio.ensure_future(send())
        assert await reader.read() == data.upper()
        await sending
        writer.close()

    async with asyncio.timeout(60), await asyncio.start_server(shout, HERE, 0) as server, way() as links:
        port = server.sockets[0].getsockname()[1]
        async with Entrance(links[0]) as one, Entrance(links[1]) as other:
            assert await one.ping("198.18.255.1") < 5
            await asyncio.gather(*(ask(entrance, port) for entrance in (one, other) for _ in range(3)))
            one.close()
            await ask(other, port)
