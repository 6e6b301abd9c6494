"""Each kind of link as a connected pair, both ends in this process, over what really carries it, on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import functools
import ipaddress
import os
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from netbridge.stack.link import call_link, message_link, ssh_link, stream_link, websocket_link
from netbridge.stack.link.carried import CarriedLink

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Pair = tuple[CarriedLink, CarriedLink]
Make = Callable[..., AbstractAsyncContextManager[Pair]]

LOOPBACK = "127.0.0.1"


@functools.cache
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


@asynccontextmanager
async def closing(*links: CarriedLink) -> AsyncIterator[Pair]:
    """Both links, closed and given back in the end."""
    one, other = links
    try:
        yield one, other
    finally:
        one.close()
        other.close()
        await asyncio.gather(one.wait_closed(), other.wait_closed())


def over_streams(streams: Callable[[], Awaitable[tuple[Streams, Streams]]]) -> Make:
    @asynccontextmanager
    async def make(one: dict[str, Any], other: dict[str, Any]) -> AsyncIterator[Pair]:
        near, far = await streams()
        links = await both(stream_link(*near, **one), stream_link(*far, **other))
        async with closing(*links) as pair:
            yield pair

    return make


async def both(one: Awaitable[CarriedLink], other: Awaitable[CarriedLink]) -> Pair:
    """Greet on both sides; the failure of either ends the other, and the first is told."""
    tasks = [asyncio.ensure_future(one), asyncio.ensure_future(other)]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    failed = [task for task in tasks if task in done and task.exception()]
    if failed:
        for task in tasks:
            task.cancel()
        rest = await asyncio.gather(*tasks, return_exceptions=True)
        for link in rest:
            if isinstance(link, CarriedLink):
                link.close()
                await link.wait_closed()
        raise failed[0].exception() or AssertionError
    return tasks[0].result(), tasks[1].result()


@asynccontextmanager
async def over_calls(one: dict[str, Any], other: dict[str, Any]) -> AsyncIterator[Pair]:
    def link(streams: Streams, settings: dict[str, Any]) -> Awaitable[CarriedLink]:
        reader, writer = streams

        async def write(data: bytes) -> None:
            writer.write(data)
            await writer.drain()

        async def close() -> None:
            writer.close()
            await writer.wait_closed()

        return call_link(lambda: reader.read(1 << 18), write, close, **settings)

    near, far = await tcp_streams()
    async with closing(*await both(link(near, one), link(far, other))) as pair:
        yield pair


@asynccontextmanager
async def over_messages(one: dict[str, Any], other: dict[str, Any]) -> AsyncIterator[Pair]:
    """Datagrams of a socket pair; what does not fit is held up, not lost."""
    loop = asyncio.get_running_loop()

    def link(end: socket.socket, settings: dict[str, Any]) -> Awaitable[CarriedLink]:
        end.setblocking(False)

        async def receive() -> bytes | None:
            return await loop.sock_recv(end, 1 << 17) or None

        async def send(message: bytes) -> None:
            await loop.sock_sendall(end, message)

        return message_link(receive, send, end.close, **{"offload": True, **settings})

    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    async with closing(*await both(link(near, one), link(far, other))) as pair:
        yield pair


class _Anyone(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return False


@asynccontextmanager
async def over_asyncssh(one: dict[str, Any], other: dict[str, Any]) -> AsyncIterator[Pair]:
    """A session between asyncssh's client and its server."""
    served: asyncio.Future[CarriedLink] = asyncio.get_running_loop().create_future()

    async def serve(process: Any) -> None:
        try:
            link = await stream_link(process.stdin, process.stdout, **other)
        except Exception as error:
            served.set_exception(error)
            return
        served.set_result(link)
        await link.wait_closed()

    key = asyncssh.generate_private_key("ssh-ed25519")
    async with asyncssh.listen(
        LOOPBACK, 0, server_factory=_Anyone, server_host_keys=[key], process_factory=serve, encoding=None,
    ) as server:
        async with asyncssh.connect(
            LOOPBACK, server.get_port(), known_hosts=None, config=None, username="me", client_keys=None,
            agent_path=None,
        ) as connection:
            async with closing(*await both(ssh_link(connection, "link", **one), served)) as pair:
                yield pair


@asynccontextmanager
async def over_websocket(one: dict[str, Any], other: dict[str, Any]) -> AsyncIterator[Pair]:
    from websockets.asyncio.client import connect
    from websockets.asyncio.server import ServerConnection, serve

    served: asyncio.Future[CarriedLink] = asyncio.get_running_loop().create_future()

    async def handle(connection: ServerConnection) -> None:
        try:
            link = await websocket_link(connection, **other)
        except Exception as error:
            served.set_exception(error)
            return
        served.set_result(link)
        await link.wait_closed()

    async with serve(handle, LOOPBACK, 0, compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        connection = await connect(f"ws://{LOOPBACK}:{port}", compression=None, proxy=None)
        async with closing(*await both(websocket_link(connection, **one), served)) as pair:
            yield pair


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
async def over_quic(one: dict[str, Any], other: dict[str, Any]) -> AsyncIterator[Pair]:
    from netbridge.stack.link.quic import quic_connect, quic_link

    served: asyncio.Future[CarriedLink] = asyncio.get_running_loop().create_future()

    async def opened(connection: Any) -> None:
        try:
            link = await quic_link(connection, **other)
        except Exception as error:
            served.set_exception(error)
            return
        served.set_result(link)
        await link.wait_closed()

    async with quic_server(opened) as port:
        async with quic_connect(LOOPBACK, port, configuration=quic_client(), **one) as near:
            async with closing(near, await served) as pair:
                yield pair


@asynccontextmanager
async def over_libp2p(one: dict[str, Any], other: dict[str, Any]) -> AsyncIterator[Pair]:
    from netbridge.stack.link.libp2p import Libp2pNode, Libp2pStream, libp2p_link

    served: asyncio.Future[CarriedLink] = asyncio.get_running_loop().create_future()

    async def opened(stream: Libp2pStream) -> None:
        try:
            link = await libp2p_link(stream, **other)
        except Exception as error:
            served.set_exception(error)
            return
        served.set_result(link)
        await link.wait_closed()

    async with Libp2pNode([f"/ip4/{LOOPBACK}/tcp/0"]) as far, Libp2pNode() as near:
        far.serve(opened)
        stream = await near.dial(far.addresses[0])
        async with closing(*await both(libp2p_link(stream, **one), served)) as pair:
            yield pair


KINDS: dict[str, Make] = {
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
    from importlib.util import find_spec

    package = NEEDS.get(kind)
    return f"{package} is not installed" if package and find_spec(package) is None else ""


def pair(kind: str, one: dict[str, Any] | None = None, other: dict[str, Any] | None = None) -> Any:
    """An async context manager of both ends of a new link; each with arguments of its own."""
    return KINDS[kind](one or {}, other or {})
