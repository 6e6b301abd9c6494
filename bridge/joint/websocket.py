"""WebSocket over TLS (RFC 6455): passes whatever passes HTTPS, as long as TLS goes through to the other end.

The listening end drives websockets' protocol without I/O, as its server would begin TLS before anybody could say no.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from netbridge.stack.link.base import LinkError
from netbridge.stack.link.calls import call_link
from netbridge.stack.link.carried import CarriedLink
from netbridge.stack.link.extras import need
from netbridge.stack.link.greeting import Role
from netbridge.stack.link.websocket import websocket_link

from .carriers import Visit
from .channel import FLUSH, Channel, Held, broken, end
from .credentials import Credentials
from .place import Place
from .proof import TIMEOUT
from .tls import accepting, certificate, hung_up, secured, url

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection
    from websockets.server import ServerProtocol

READ = 1 << 18
MESSAGE = 1 << 20
"""Bytes of the longest message taken: a link's are a quarter of it and a super-segment."""
PING = 15.0
"""Seconds between pings of who connects: proxies forget what is silent for a minute."""
DATA = (0, 1, 2)
"""Opcodes of frames that carry a message (RFC 6455, section 5.2); of text a greeting makes nothing."""


@contextlib.asynccontextmanager
async def listen(place: Place, credentials: Credentials, visit: Visit) -> AsyncIterator[list[str]]:
    """See `carriers.listening`."""
    server = need("websockets.server", "websocket").ServerProtocol
    context, binding = credentials.server()

    async def serve(connection: socket.socket, source: str, who: str) -> None:
        async def opening() -> ServedSocket:
            streams = await secured(connection, context)
            channel = ServedSocket(server(max_size=MESSAGE), *streams, who, binding)
            try:
                await channel.accept(place.path)
            except BaseException:
                await channel.close()
                raise
            return channel

        await visit(source, who, opening)

    async with accepting(place, serve) as sockets:
        yield [url(place, one) for one in sockets]


class ServedSocket(Held):
    """The listening end of a WebSocket; messages are a stream of bytes, wherever one ends."""

    def __init__(
        self, protocol: ServerProtocol, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, who: str,
        binding: bytes,
    ) -> None:  # fmt: skip
        super().__init__(who, binding)
        self._protocol = protocol
        self._reader = reader
        self._writer = writer

    async def accept(self, path: str) -> None:
        """The HTTP part: a WebSocket at `path`, and nothing else."""
        protocol = self._protocol
        while not (events := await self._events()):
            if protocol.handshake_exc is not None or self._reader.at_eof():
                raise LinkError("the other end speaks no WebSocket")
        if protocol.parser_exc is not None or protocol.eof_sent:  # it was refused: no frame stands behind its request
            raise LinkError("the other end speaks no WebSocket")
        request: Any = events[0]
        if request.path.partition("?")[0] != path:
            response = protocol.reject(404, "Nothing is here.\n")
        else:
            response = protocol.accept(request)
        protocol.send_response(response)
        await self._flush()
        if response.status_code != 101:
            raise LinkError(f"the other end asked for {request.path!r} as no link does (HTTP {response.status_code})")
        self.held += _data(events[1:])

    async def _events(self) -> list[Any]:
        """What comes of the next bytes."""
        try:
            data = await self._reader.read(READ)
        except OSError as error:
            raise broken(error) from error
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        events = self._protocol.events_received()
        await self._flush()  # pongs
        return events

    async def _flush(self) -> None:
        try:
            for data in self._protocol.data_to_send():
                if data:
                    self._writer.write(data)
            await self._writer.drain()
        except OSError as error:
            raise broken(error) from error

    async def some(self) -> bytes:
        while True:
            data = _data(await self._events())
            if data or self._reader.at_eof() or self._protocol.close_expected():
                return data

    async def give(self, data: bytes) -> None:
        if self._protocol.close_expected() or self._reader.at_eof():
            raise LinkError("the WebSocket ended")
        self._protocol.send_binary(data)
        await self._flush()

    async def link(self, *, role: Role, mtu: int) -> CarriedLink:
        return await call_link(self.rest, self.give, self.close, role=role, mtu=mtu)

    async def close(self) -> None:
        with contextlib.suppress(Exception):  # it is over already, by whatever state it is in
            self._protocol.send_close(1000)
            await self._flush()
        await end(self._reader, self._writer)


def _data(frames: list[Any]) -> bytes:
    return b"".join(frame.data for frame in frames if frame.opcode in DATA)


class ConnectedSocket(Held):
    """The connecting end, a connection of websockets' own."""

    def __init__(self, connection: ClientConnection, who: str, binding: bytes) -> None:
        super().__init__(who, binding)
        self._connection = connection

    async def some(self) -> bytes:
        exceptions = need("websockets.exceptions", "websocket")
        try:
            message = await self._connection.recv()
        except exceptions.ConnectionClosed as error:
            cause = error.__cause__
            if isinstance(cause, OSError):
                raise broken(cause) from error
            return b""
        return message if isinstance(message, bytes) else message.encode()

    async def give(self, data: bytes) -> None:
        exceptions = need("websockets.exceptions", "websocket")
        try:
            await self._connection.send(data)
        except exceptions.ConnectionClosed as error:
            raise LinkError(f"the WebSocket ended: {error}") from error

    async def link(self, *, role: Role, mtu: int) -> CarriedLink:
        if self.held:
            raise LinkError("the other end said more than it should before the link began")
        return await websocket_link(self._connection, role=role, mtu=mtu)

    async def close(self) -> None:
        try:
            async with asyncio.timeout(FLUSH):
                await self._connection.close()
        except TimeoutError:
            self._connection.transport.abort()


async def connect(place: Place, credentials: Credentials) -> Channel:
    """See `carriers.connect`. Through the environment's proxies, as websockets reads them."""
    exceptions = need("websockets.exceptions", "websocket")
    dial = need("websockets.asyncio.client", "websocket").connect
    try:
        connection: ClientConnection = await dial(
            str(place), ssl=credentials.client(), compression=None, max_size=MESSAGE, open_timeout=TIMEOUT,
            ping_interval=PING, ping_timeout=None, close_timeout=FLUSH,
        )  # fmt: skip
    except TimeoutError:
        raise LinkError(f"nobody answered within {TIMEOUT:g} s") from None
    except OSError as error:
        raise broken(error) from error
    except exceptions.InvalidStatus as error:
        raise LinkError(f"an HTTP server is there, and no link at that path: HTTP {error.response.status_code}"
                        ) from error
    except exceptions.WebSocketException as error:
        cause = error.__cause__
        if isinstance(cause, EOFError):
            raise hung_up(certified=credentials.certified) from error
        raise (broken(cause) if isinstance(cause, OSError) else LinkError(f"no WebSocket: {error}")) from error
    shown = connection.transport.get_extra_info("ssl_object")
    return ConnectedSocket(connection, str(place), certificate(shown))
