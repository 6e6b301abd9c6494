"""Channels and listeners in one process, with what an attacker may do between them."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable

from netbridge.bridge.joint.admission import Admission
from netbridge.bridge.joint.carriers import connect, listening
from netbridge.bridge.joint.channel import SHARED, Channel, StreamChannel
from netbridge.bridge.joint.credentials import Credentials
from netbridge.bridge.joint.place import parse
from netbridge.bridge.joint.proof import prove_connecting
from netbridge.bridge.joint.reception import Reception
from netbridge.bridge.joint.sides import ENTRANCE, EXIT, Side
from netbridge.stack import LinkError, Stack
from netbridge.stack.link.carried import CarriedLink
from netbridge.stack.link.greeting import Role

KEY, OTHER_KEY = bytes(range(32)), bytes(range(1, 33))
HERE = "127.0.0.1"


class StackSide(Side):
    """Instead of an exit: a stack alone, that answers ping."""

    role = Role.EXIT

    async def run(self, link: CarriedLink) -> None:
        lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        stack = Stack(link, [f"{EXIT}/30"])
        stack.on_lost = lost.set_result
        async with stack:
            error = await lost
        await link.wait_closed()
        raise error or LinkError("closed")


class Desk:
    """A listener: where it is, what it told."""

    def __init__(self, reception: Reception, told: list[str], urls: list[str]) -> None:
        self.reception = reception
        self.told = told
        self.url = urls[0]
        self.port = int(self.url.rpartition(":")[2].partition("/")[0]) if "//" in self.url else 0

    async def until(self, words: str) -> str:
        """The first line with these words."""
        while True:
            for line in self.told:
                if words in line:
                    return line
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def desk(
    url: str, credentials: Credentials, *, most: int = 8, per_source: int = 8, side: Side | None = None,
) -> AsyncIterator[Desk]:
    told: list[str] = []
    reception = Reception(side or StackSide(), credentials, Admission(most, per_source), told.append, mtu=1280)
    async with listening(parse(url, "listen"), credentials, reception.visit) as urls:
        yield Desk(reception, told, urls)
    reception.calm.close()


@contextlib.asynccontextmanager
async def joined(url: str, credentials: Credentials) -> AsyncIterator[Stack]:
    """An entrance's stack beyond a whole handshake."""
    channel = await connect(parse(url, "connect"), credentials)
    try:
        await prove_connecting(channel, credentials.psk)
        link = await channel.link(role=Role.ENTRANCE, mtu=1280)
        async with Stack(link, [f"{ENTRANCE}/30"]) as stack:
            yield stack
        await link.wait_closed()
    finally:
        await channel.close()


async def pair(one: bytes = SHARED, other: bytes = SHARED) -> tuple[Channel, Channel]:
    """Two channels, joined by a socket pair, each with a binding of its own."""
    import socket

    left, right = socket.socketpair()
    return (
        StreamChannel(*await asyncio.open_connection(sock=left), "left", one),
        StreamChannel(*await asyncio.open_connection(sock=right), "right", other),
    )


@contextlib.asynccontextmanager
async def man_in_the_middle(
    port: int, context: ssl.SSLContext, change: Callable[[bytes], bytes] = lambda data: data,
) -> AsyncIterator[int]:
    """Ends TLS with a certificate of its own, begins it anew towards `port`, and hands all bytes on, changed."""
    outwards = ssl.create_default_context()
    outwards.check_hostname, outwards.verify_mode = False, ssl.CERT_NONE
    running: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(change(data))
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(HERE, port, ssl=outwards)
        for work in (pump(reader, back), pump(there, writer)):
            task = asyncio.ensure_future(work)
            running.add(task)
            task.add_done_callback(running.discard)

    server = await asyncio.start_server(serve, HERE, 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
