"""TCP with TLS 1.3, and the accepting that everything above TCP shares."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from netbridge.stack.link.base import LinkError

from ..back.listening import listen as opened
from ..errors import BridgeError
from .carriers import Visit
from .channel import FLUSH, Channel, ProofError, StreamChannel, broken
from .credentials import Credentials, fingerprint
from .place import Place
from .proof import TIMEOUT

LIMIT = 1 << 18
"""Bytes that a reader holds: as much as a link takes at a time."""
PAUSE = 0.5
"""Seconds without an accept when this process has no descriptor left."""
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104  (where a place says *)
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@contextlib.asynccontextmanager
async def listen(place: Place, credentials: Credentials, visit: Visit) -> AsyncIterator[list[str]]:
    """See `carriers.listening`."""
    context, binding = credentials.server()

    async def serve(connection: socket.socket, source: str, who: str) -> None:
        async def opening() -> StreamChannel:
            return StreamChannel(*await secured(connection, context), who, binding)

        await visit(source, who, opening)

    async with accepting(place, serve) as sockets:
        yield [url(place, one) for one in sockets]


async def connect(place: Place, credentials: Credentials) -> Channel:
    """See `carriers.connect`."""
    try:
        reader, writer = await asyncio.open_connection(
            place.host, place.port, ssl=credentials.client(), server_hostname=place.host, limit=LIMIT,
            ssl_handshake_timeout=TIMEOUT, ssl_shutdown_timeout=FLUSH,
        )  # fmt: skip
    except OSError as error:
        raise broken(error) from error
    binding = certificate(writer.get_extra_info("ssl_object"))
    return TlsChannel(reader, writer, str(place), binding, certified=credentials.certified)


class TlsChannel(StreamChannel):
    """The connecting end's. With TLS 1.3 it is done before the other end has judged its certificate, and asyncio's TLS
    hangs up without the alert that would tell the verdict.
    """

    def __init__(self, *args: Any, certified: bool) -> None:
        super().__init__(*args)
        self._certified = certified
        self._heard = False

    async def take(self, size: int) -> bytes:
        data = await super().take(size)
        if not data and not self._heard:
            raise hung_up(certified=self._certified)
        self._heard = True
        return data


def hung_up(*, certified: bool) -> LinkError:
    """What to say of an end that hangs up right after TLS."""
    if certified:
        return ProofError("the other end hung up right after TLS: it does not seem to accept this end's certificate")
    return LinkError("the other end hung up right after TLS: it may want a certificate, or be no link")


def certificate(connection: Any) -> bytes:
    """The binding: the certificate that the listening end showed."""
    shown = connection.getpeercert(binary_form=True)
    return fingerprint(shown or b"")


async def secured(connection: socket.socket, context: ssl.SSLContext) -> Streams:
    """TLS on an accepted socket. Raises LinkError."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=LIMIT)
    protocol = asyncio.StreamReaderProtocol(reader)
    try:
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol, connection, ssl=context, ssl_handshake_timeout=TIMEOUT, ssl_shutdown_timeout=FLUSH,
        )  # fmt: skip
    except (ConnectionError, ssl.SSLEOFError) as error:
        raise LinkError("the other end hung up during TLS: it may not accept this end's certificate") from error
    except OSError as error:
        raise broken(error) from error
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


@contextlib.asynccontextmanager
async def accepting(
    place: Place, serve: Callable[[socket.socket, str, str], Awaitable[None]],
) -> AsyncIterator[list[socket.socket]]:  # fmt: skip
    """Listen at host and port; `serve(connection, source, who)` runs for each that comes, and need not close it.

    Not asyncio's own server: that one would have TLS begin before anybody could say no.
    """
    loop = asyncio.get_running_loop()
    try:
        sockets = opened((place.host,) if place.host else EVERYWHERE, place.port)
    except BridgeError as error:
        raise type(error)(error.what, error.why, "Name another address or port.") from error
    serving: set[asyncio.Task[None]] = set()

    async def one(connection: socket.socket, address: tuple[Any, ...]) -> None:
        with connection:
            await serve(connection, address[0], shown(address))

    async def accept(listener: socket.socket) -> None:
        listener.setblocking(False)
        while True:
            try:
                connection, address = await loop.sock_accept(listener)
            except OSError as error:
                if error.errno != errno.ECONNABORTED:  # it left already
                    await asyncio.sleep(PAUSE)
                continue
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
            task = loop.create_task(one(connection, address))
            serving.add(task)
            task.add_done_callback(functools.partial(_served, serving))

    accepts = [loop.create_task(accept(listener)) for listener in sockets]
    try:
        yield sockets
    finally:
        for task in (*accepts, *serving):
            task.cancel()
        await asyncio.gather(*accepts, *serving, return_exceptions=True)
        for listener in sockets:
            listener.close()


def _served(serving: set[asyncio.Task[None]], task: asyncio.Task[None]) -> None:
    serving.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        task.get_loop().call_exception_handler({"message": "serving a connection", "exception": error})


def shown(address: tuple[Any, ...]) -> str:
    """Address and port of a socket, as in a URL."""
    host, port = address[:2]
    host = host.removeprefix("::ffff:") if "." in host else host  # IPv4 on a socket of both versions
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def url(place: Place, listener: socket.socket) -> str:
    """Where a listening socket is reached."""
    return f"{place.scheme}://{shown(listener.getsockname())}{place.path}"
