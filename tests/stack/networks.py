"""Where asyncio's streams are compared: over the kernel's loopback, the reference, and over two stacks."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from netbridge.stack.link.memory import memory_link
from netbridge.stack.stack import Stack
from netbridge.stack.tcp.config import TcpConfig

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter
Handler = Callable[[Reader, Writer], Awaitable[None]]
PATIENCE = 5.0


class Sockets:
    """The reference: asyncio over the kernel's loopback."""

    def __init__(self, exits: AsyncExitStack) -> None:
        self.port = 0

    async def serve(self, handler: Handler, **more: Any) -> Any:
        server = await asyncio.start_server(handler, "127.0.0.1", 0, **more)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def connect(self, **more: Any) -> tuple[Reader, Writer]:
        return await asyncio.open_connection("127.0.0.1", self.port, **more)

    @staticmethod
    def reset(writer: Writer) -> None:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


class Stacks:
    """Two stacks on a link. TIME-WAIT is an hour: nothing a user waits for may wait for its end."""

    def __init__(self, exits: AsyncExitStack) -> None:
        one, other = memory_link()
        config = TcpConfig(time_wait=3600)
        self.client = Stack(one, ["10.0.0.1/24"], tcp=config)
        self.server = Stack(other, ["10.0.0.2/24"], tcp=config)
        self._exits = exits
        self.port = 80

    async def start(self) -> None:
        await self._exits.enter_async_context(self.client)
        await self._exits.enter_async_context(self.server)

    async def serve(self, handler: Handler, **more: Any) -> Any:
        return await self.server.start_server(handler, "10.0.0.2", self.port, **more)

    async def connect(self, **more: Any) -> tuple[Reader, Writer]:
        return await self.client.open_connection("10.0.0.2", self.port, **more)

    @staticmethod
    def reset(writer: Writer) -> None:
        writer.transport.abort()


Network = Sockets | Stacks


class Accepted:
    """A handler that only hands over the server's end of each connection, and closes it when the test ends."""

    def __init__(self) -> None:
        self.ends: asyncio.Queue[tuple[Reader, Writer]] = asyncio.Queue()

    async def __call__(self, reader: Reader, writer: Writer) -> None:
        self.ends.put_nowait((reader, writer))

    async def one(self) -> tuple[Reader, Writer]:
        async with asyncio.timeout(PATIENCE):
            return await self.ends.get()


Pair = tuple[Reader, Writer, Reader, Writer]


async def connected(network: Network, **more: Any) -> Pair:
    """A connection: the client's reader and writer, the server's reader and writer."""
    accepted = Accepted()
    server = await network.serve(accepted)
    ends = (*await network.connect(**more), *await accepted.one())
    server.close()
    return ends


def duplex(writer: Writer) -> asyncio.Transport:
    """The transport of a StreamWriter, which is typed as if it could only write."""
    return cast("asyncio.Transport", writer.transport)


async def end(pair: Pair) -> None:
    """Close both writers, as every test should that has no other end in mind."""
    for writer in (pair[1], pair[3]):
        writer.close()
    async with asyncio.timeout(PATIENCE):
        for writer in (pair[1], pair[3]):
            await writer.wait_closed()


NAME = "server.test"


@cache
def certificate() -> bytes:
    """A key and a certificate for NAME, 10.0.0.2 and 127.0.0.1, as PEM; new ones each run."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    now = datetime.now(UTC)
    alternatives = [x509.DNSName(NAME), *(x509.IPAddress(ip_address(one)) for one in ("10.0.0.2", "127.0.0.1"))]
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(key, hashes.SHA256())
    )  # fmt: skip
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + made.public_bytes(serialization.Encoding.PEM)


@cache
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's with `certificate`, and a client's who trusts it."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "both.pem"
        path.write_bytes(certificate())
        server.load_cert_chain(path)
    client = ssl.create_default_context(cadata=certificate().decode().partition("-----END PRIVATE KEY-----")[2])
    for context in (server, client):
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    return server, client
