"""Fake nameservers on loopback addresses, a service on loopback sockets, and a name service that knows what it is told.

Nameservers listen at 127.100.0.1, .2 ...; the service at 127.100.0.100: each test has its own port, so nothing clashes.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import dnslib
import pytest
import uvloop

from netbridge.bridge.dns.answer import Answer
from netbridge.bridge.dns.message import Query, name_text, type_text
from netbridge.bridge.dns.nss import NameService
from netbridge.bridge.dns.service import DnsService
from netbridge.bridge.dns.upstream import Upstream

SERVICE = "127.100.0.100"


class Loopback:
    """The host's own sockets in the shape of a stack."""

    async def create_datagram_endpoint(self, factory: Any, local_addr: Any = None, remote_addr: Any = None) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.create_datagram_endpoint(factory, local_addr=local_addr, remote_addr=remote_addr)

    async def start_server(self, client_connected_cb: Any, host: str, port: int) -> Any:
        return await asyncio.start_server(client_connected_cb, host, port)


class FakeNameService(NameService):
    """Knows what the test gave it, and remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Query] = []
        self.answers: Callable[[Query], Answer | None] = lambda query: None

    def look_up(self, query: Query) -> Answer | None:
        self.asked.append(query)
        return self.answers(query)


class FakeServer(asyncio.DatagramProtocol):
    """A nameserver that answers as `behave(query bytes)` says: messages to send, at once and in order."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.behave: Callable[[bytes], list[bytes]] = lambda query: [answer_a(query)]
        self.behave_tcp: Callable[[bytes], list[bytes]] = lambda query: [answer_a(query)]
        self.queries: list[bytes] = []
        self.tcp_queries: list[bytes] = []
        self.peers: list[tuple[str, int]] = []
        self.gate: asyncio.Event | None = None
        """When set to an event, answers wait for it."""
        self.transport: Any = None
        self._held: list[asyncio.Task[None]] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.queries.append(data)
        self.peers.append(addr)
        if self.gate is not None and not self.gate.is_set():
            self._held.append(asyncio.ensure_future(self._later(data, addr)))
            return
        self._send(data, addr)

    def _send(self, data: bytes, addr: Any) -> None:
        for message in self.behave(data):
            self.transport.sendto(message, addr)

    async def _later(self, data: bytes, addr: Any) -> None:
        assert self.gate is not None
        await self.gate.wait()
        self._send(data, addr)

    async def stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            (length,) = struct.unpack(">H", await reader.readexactly(2))
            data = await reader.readexactly(length)
            self.tcp_queries.append(data)
            for message in self.behave_tcp(data):
                writer.write(struct.pack(">H", len(message)) + message)
            await writer.drain()
        except (OSError, EOFError):
            pass
        finally:
            writer.close()

    def close(self) -> None:
        for task in self._held:
            task.cancel()
        self.transport.close()


def answer_a(query: bytes, address: str = "192.0.2.1", ttl: int = 60, **header: int) -> bytes:
    """An A answer with one record to whatever was asked."""
    reply = dnslib.DNSRecord.parse(query).reply()
    reply.header.ra = 1
    for key, value in header.items():
        setattr(reply.header, key, value)
    if not reply.header.rcode:
        reply.add_answer(dnslib.RR(reply.q.qname, 1, 1, ttl, dnslib.A(address)))
    return bytes(reply.pack())


def free_port() -> int:
    """A port free for UDP and TCP on all of 127.100.0.0/24."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            udp.bind(("0.0.0.0", 0))
            port = int(udp.getsockname()[1])
            try:
                tcp.bind(("0.0.0.0", port))
            except OSError:
                continue
            return port


class World:
    """One test's nameservers, upstream and service."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.resolv_conf = folder / "resolv.conf"
        self.hosts = folder / "hosts"
        self.nsswitch = folder / "nsswitch.conf"
        self.uplinks = folder / "uplinks.conf"
        self.resolv_conf.write_text("")
        self.hosts.write_text("")
        self.nsswitch.write_text("hosts: files dns\n")
        self.name_service = FakeNameService()
        self.now = 1000.0
        self.told: list[tuple[str, str, int, str]] = []
        self.exits = AsyncExitStack()

    async def nameserver(self, number: int = 1) -> FakeServer:
        server = FakeServer(f"127.100.0.{number}")
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: server, local_addr=(server.address, self.port))
        self.exits.callback(server.close)
        listener = await asyncio.start_server(server.stream, server.address, self.port)
        self.exits.callback(listener.close)
        self.use(*[f"127.100.0.{each}" for each in range(1, number + 1)])
        return server

    def use(self, *addresses: str) -> None:
        self.resolv_conf.write_text("".join(f"nameserver {each}\n" for each in addresses))

    def upstream(self, **options: Any) -> Upstream:
        options = {"attempt_timeout": 0.1, "total_timeout": 0.4, "clock": lambda: self.now, **options}
        return Upstream(
            resolv_conf=str(self.resolv_conf), hosts=str(self.hosts), nsswitch=str(self.nsswitch),
            uplinks=str(self.uplinks), name_service=self.name_service, port=self.port, **options,
        )

    async def service(self, **options: Any) -> DnsService:
        """A running service; `own`, `ways` and `max_questions` go to it, the others to its upstream."""
        own = {key: options.pop(key) for key in list(options) if key in {"own", "max_questions", "ways"}}
        service = DnsService(
            Loopback(), [SERVICE], self.upstream(**options), port=self.port, clock=lambda: self.now,
            on_answer=lambda query, answer, rcode, seconds, source, age=0: self.told.append(
                (name_text(query.name), type_text(query.rtype), rcode, source)
            ), **own,
        )
        await self.exits.enter_async_context(service)
        return service

    async def ask(self, message: bytes, timeout: float = 3.0) -> bytes:
        """Send a message to the service over UDP and wait for what comes back."""
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.connect((SERVICE, self.port))
            client.send(message)
            async with asyncio.timeout(timeout):
                return await loop.sock_recv(client, 65535)

    async def ask_tcp(self, *messages: bytes, timeout: float = 3.0) -> list[bytes]:
        """Send messages over one connection, close this side, and read all that comes back."""
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(SERVICE, self.port)
            writer.write(b"".join(struct.pack(">H", len(each)) + each for each in messages))
            writer.write_eof()
            data = await reader.read()
            writer.close()
        answers = []
        while data:
            (length,) = struct.unpack_from(">H", data)
            answers.append(data[2 : 2 + length])
            data = data[2 + length :]
        return answers


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Both event loops: the bridge runs on uvloop where it can, and they differ in how sockets fail."""
    return {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    async with world.exits:
        yield world
