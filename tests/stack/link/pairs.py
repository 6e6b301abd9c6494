"""Each kind of link as a connected pair, both ends in this process, over what really carries it, on loopback.

`carrier(kind)` is what carries it alone, for who measures it bare.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ipaddress
import os
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import asyncssh
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from netbridge.stack.link import call_link, message_link, stream, stream_link, websocket_link
from netbridge.stack.link.carried import CarriedLink

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Pair = tuple[CarriedLink, CarriedLink]

LOOPBACK = "127.0.0.1"


@dataclass
class End:
    """One end of a carrier, to be made a link, or to be used as it is."""

    link: Callable[..., Awaitable[CarriedLink]]
    read: Callable[[], Awaitable[Any]]
    write: Callable[[bytes], Awaitable[object]]


Ends = Callable[[], AbstractAsyncContextManager[tuple[End, End]]]


@cache
def certificate() -> tuple[Path, Path]:
    """A certificate for loopback that vouches for itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(LOOPBACK))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = Path(tempfile.mkdtemp(prefix="links-"))
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem", folder / "key.pem"


def tls_server() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate())
    return context


def tls_client() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate()[0]))


@asynccontextmanager
async def accepting(server_tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[int, asyncio.Future[Streams]]]:
    """A port on loopback, and the first pair of streams accepted there."""
    accepted: asyncio.Future[Streams] = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(lambda *pair: accepted.set_result(pair), LOOPBACK, 0, ssl=server_tls)
    try:
        yield server.sockets[0].getsockname()[1], accepted
    finally:
        server.close()


async def tcp_streams() -> tuple[Streams, Streams]:
    async with accepting() as (port, accepted):
        return await asyncio.open_connection(LOOPBACK, port), await accepted


async def tls_streams() -> tuple[Streams, Streams]:
    async with accepting(tls_server()) as (port, accepted):
        near = await asyncio.open_connection(LOOPBACK, port, ssl=tls_client(), server_hostname="localhost")
        return near, await accepted


async def unix_streams() -> tuple[Streams, Streams]:
    one, other = socket.socketpair()
    return await asyncio.open_unix_connection(sock=one), await asyncio.open_unix_connection(sock=other)


async def pipe_streams() -> tuple[Streams, Streams]:
    """Two anonymous pipes, one each way: what the standard streams of a subprocess are."""
    loop = asyncio.get_running_loop()

    async def pipe() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        source, sink = os.pipe()
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(source, "rb", 0))
        transport, protocol = await loop.connect_write_pipe(
            lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), os.fdopen(sink, "wb", 0)
        )
        return reader, asyncio.StreamWriter(transport, protocol, None, loop)

    (there, to_there), (here, to_here) = await pipe(), await pipe()
    return (here, to_there), (there, to_here)


async def hang_up(*pairs: Streams) -> None:
    """Close streams of which no link became."""
    for _, writer in pairs:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def end_of(reader: Any, writer: Any) -> End:
    """Of a pair of streams."""

    async def write(data: bytes) -> None:
        writer.write(data)
        await writer.drain()

    return End(partial(stream_link, reader, writer), lambda: reader.read(1 << 18), write)


def over_streams(streams: Callable[[], Awaitable[tuple[Streams, Streams]]]) -> Ends:
    @asynccontextmanager
    async def ends() -> AsyncIterator[tuple[End, End]]:
        pairs = await streams()
        try:
            yield end_of(*pairs[0]), end_of(*pairs[1])
        finally:
            for pair in pairs:
                stream.hang_up(*pair)
            await hang_up(*pairs)

    return ends


@asynccontextmanager
async def over_calls() -> AsyncIterator[tuple[End, End]]:
    """Two functions, here of TCP streams."""
    async with over_streams(tcp_streams)() as ends:
        yield tuple(  # type: ignore[misc]
            End(partial(call_link, end.read, end.write, end.link.args[1].close), end.read, end.write)  # type: ignore[attr-defined]
            for end in ends
        )


@asynccontextmanager
async def over_messages() -> AsyncIterator[tuple[End, End]]:
    """Datagrams of a socket pair; what does not fit is held up, not lost."""
    loop = asyncio.get_running_loop()

    def end(one: socket.socket) -> End:
        one.setblocking(False)

        async def receive() -> bytes | None:
            return await loop.sock_recv(one, 1 << 17) or None

        async def send(message: bytes) -> None:
            await loop.sock_sendall(one, message)

        def link(**settings: Any) -> Awaitable[CarriedLink]:
            return message_link(receive, send, one.close, **{"offload": True, **settings})

        return End(link, receive, send)

    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near, far:
        yield end(near), end(far)


class _Anyone(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return False


class Served:
    """What a server's handler is called with, once, and how long it stays."""

    def __init__(self) -> None:
        self.first: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.over = asyncio.Event()

    async def __call__(self, connection: Any) -> None:
        self.first.set_result(connection)
        await self.over.wait()


@asynccontextmanager
async def over_asyncssh() -> AsyncIterator[tuple[End, End]]:
    """A session between asyncssh's client and its server."""
    served = Served()
    key = asyncssh.generate_private_key("ssh-ed25519")
    async with asyncssh.listen(
        LOOPBACK, 0, server_factory=_Anyone, server_host_keys=[key], process_factory=served, encoding=None,
    ) as server:
        async with asyncssh.connect(
            LOOPBACK, server.get_port(), known_hosts=None, config=None, username="me", client_keys=None,
            agent_path=None,
        ) as connection:
            process: Any = await connection.create_process("link", encoding=None)
            other = await served.first
            try:
                yield end_of(process.stdout, process.stdin), end_of(other.stdin, other.stdout)
            finally:
                served.over.set()


@asynccontextmanager
async def over_websocket() -> AsyncIterator[tuple[End, End]]:
    from websockets.asyncio.client import connect
    from websockets.asyncio.server import serve

    def end(connection: Any) -> End:
        return End(partial(websocket_link, connection), connection.recv, connection.send)

    served = Served()
    async with serve(served, LOOPBACK, 0, compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with connect(f"ws://{LOOPBACK}:{port}", compression=None, proxy=None) as connection:
            try:
                yield end(connection), end(await served.first)
            finally:
                served.over.set()


@asynccontextmanager
async def quic_server(opened: Callable[[Any], Awaitable[object]]) -> AsyncIterator[int]:
    """The port of a QUIC server on loopback that gives its connections to `opened`."""
    from aioquic.asyncio.server import serve

    from netbridge.stack.link.quic import LinkProtocol, quic_configuration

    configuration = quic_configuration(is_client=False)
    configuration.load_cert_chain(*certificate())
    server = await serve(
        LOOPBACK, 0, configuration=configuration, create_protocol=LinkProtocol.serving(opened)
    )
    try:
        yield server._transport.get_extra_info("sockname")[1]  # type: ignore[union-attr]
    finally:
        server.close()


def quic_client(**settings: Any) -> Any:
    from netbridge.stack.link.quic import quic_configuration

    configuration = quic_configuration(server_name="localhost", **settings)
    configuration.load_verify_locations(str(certificate()[0]))
    return configuration


@asynccontextmanager
async def over_quic() -> AsyncIterator[tuple[End, End]]:
    """Bare, what aioquic's streams do: they take everything at once."""
    from aioquic.asyncio.client import connect

    from netbridge.stack.link.quic import LinkProtocol, quic_link

    def end(connection: Any) -> End:
        return End(partial(quic_link, connection), connection.hear, connection.greet)

    served = Served()
    async with quic_server(served) as port:
        async with connect(LOOPBACK, port, configuration=quic_client(), create_protocol=LinkProtocol) as connection:
            try:
                yield end(connection), end(await served.first)
            finally:
                served.over.set()


@asynccontextmanager
async def over_libp2p() -> AsyncIterator[tuple[End, End]]:
    from netbridge.stack.link.libp2p import Libp2pNode, Libp2pStream, libp2p_link

    def end(one: Libp2pStream) -> End:
        return End(partial(libp2p_link, one), one.read, one.write)

    served = Served()
    async with Libp2pNode([f"/ip4/{LOOPBACK}/tcp/0"]) as far, Libp2pNode() as near:
        far.serve(served)
        dialled = await near.dial(far.addresses[0])
        try:
            await dialled.write(b"")
            yield end(dialled), end(await served.first)
        finally:
            served.over.set()


KINDS: dict[str, Ends] = {
    "tcp": over_streams(tcp_streams),
    "tls": over_streams(tls_streams),
    "unix": over_streams(unix_streams),
    "pipes": over_streams(pipe_streams),
    "asyncssh": over_asyncssh,
    "calls": over_calls,
    "messages": over_messages,
    "websocket": over_websocket,
    "quic": over_quic,
    "libp2p": over_libp2p,
}
NEEDS = {"websocket": "websockets", "quic": "aioquic", "libp2p": "libp2p"}
"""Packages of extras: without them the kind is skipped."""


def missing(kind: str) -> str:
    """Why there can be no such pair here, or nothing."""
    package = NEEDS.get(kind)
    return f"{package} is not installed" if package and find_spec(package) is None else ""


def carrier(kind: str) -> AbstractAsyncContextManager[tuple[End, End]]:
    """Both ends of a new carrier."""
    return KINDS[kind]()


@asynccontextmanager
async def pair(
    kind: str, one: dict[str, Any] | None = None, other: dict[str, Any] | None = None,
) -> AsyncIterator[Pair]:  # fmt: skip
    """Both ends of a new link, each with arguments of its own; closed and given back in the end."""
    async with carrier(kind) as (near, far):
        links = await both(near.link(**one or {}), far.link(**other or {}))
        try:
            yield links
        finally:
            for link in links:
                link.close()
            await asyncio.gather(*(link.wait_closed() for link in links))


async def both(one: Awaitable[CarriedLink], other: Awaitable[CarriedLink]) -> Pair:
    """Greet on both sides; the failure of either ends the other, and the first is told."""
    tasks = [asyncio.ensure_future(one), asyncio.ensure_future(other)]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    if failed := [task.exception() for task in tasks if task.done() and task.exception()]:
        for task in tasks:
            task.cancel()
        for link in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(link, CarriedLink):
                link.close()
                await link.wait_closed()
        raise failed[0] or AssertionError
    return tasks[0].result(), tasks[1].result()
