"""A TCP forwarder between a stack that plays the codespace and sockets on loopback that play the hosts."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from typing import Any

from netbridge.bridge.forward.flows import FlowTable
from netbridge.bridge.forward.limits import Limits
from netbridge.bridge.forward.policy import Policy
from netbridge.bridge.forward.poller import Poller
from netbridge.bridge.forward.tcp import TcpForwarder, link_tcp
from netbridge.bridge.forward.tcpflow import TcpFlow
from netbridge.stack.link.memory import memory_link
from netbridge.stack.stack import Stack
from netbridge.stack.tcp.config import TcpConfig
from netbridge.stack.tcp.flow import Flow
from netbridge.stack.tcp.streams import TcpTransport
from tests.bridge.forward.fakes import HOST, packed, until

CODESPACE = ["198.18.0.2/30", "fd6e:6272::2/64"]
GATEWAY = ["198.18.0.1/30", "fd6e:6272::1/64"]
LINGER = struct.pack("ii", 1, 0)


class Bridge:
    """A forwarder on a stack, and behind the link a codespace."""

    def __init__(self, limits: Limits, policy: Policy, *, budget: int = 1000, time_wait: float = 0.01) -> None:
        loop = asyncio.get_running_loop()
        self.loop = loop
        self.complaints: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: self.complaints.append(context))
        self.descriptors = open_descriptors()
        here, self.there = memory_link()
        self.poller = Poller(loop)
        self.table = FlowTable(budget)
        config = link_tcp(limits)
        config = TcpConfig(
            congestion=config.congestion, min_rto=config.min_rto, time_wait=time_wait, orphan=config.orphan,
            keepalive=config.keepalive,
        )  # fmt: skip
        self.stack = Stack(here, GATEWAY, tcp=config)
        self.codespace = Stack(self.there, CODESPACE, sources=[], tcp=TcpConfig(time_wait=0.01))
        self.stack.start()
        self.codespace.start()
        self.forwarder = TcpForwarder(self.stack, self.poller, policy, limits, self.table, loop)
        self.counters = self.forwarder.counters

    async def nothing_left(self) -> None:
        """Everything has ended by itself."""
        await until(lambda: not self.codespace.tcp.flows and not self.stack.tcp.flows)
        await until(lambda: not len(self.forwarder))
        self._check()

    def _check(self) -> None:
        forwarder = self.forwarder
        assert len(forwarder) == len(self.table) == len(self.poller) == 0
        assert not self.stack.tcp.flows
        assert not self.stack.tcp.requests
        assert not forwarder._admission
        assert not forwarder._connecting
        assert forwarder._connecting.most == 0
        assert not forwarder.handshaking
        assert forwarder.held == 0
        assert self.stack.tcp.budget.used == 0

    async def close(self) -> None:
        self.forwarder.close()
        self._check()
        self.codespace.close()
        self.stack.close()
        self.poller.close()
        await asyncio.sleep(0)
        self.loop.set_exception_handler(None)
        assert self.complaints == []


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


class Listener:
    """A listening socket on this machine; what connects to it are plain non-blocking sockets."""

    def __init__(self, version: int = 4, *, receive_buffer: int = 0) -> None:
        self.socket = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.bind((HOST[version], 0))
        self.socket.listen(500)
        self.socket.setblocking(False)
        self.host = HOST[version]
        self.port: int = self.socket.getsockname()[1]
        self.accepted: list[socket.socket] = []

    async def accept(self) -> socket.socket:
        sock, _ = await asyncio.get_running_loop().sock_accept(self.socket)
        self.accepted.append(sock)
        return sock

    def close(self) -> None:
        for sock in (self.socket, *self.accepted):
            sock.close()


@contextlib.contextmanager
def black_hole(address: str = "127.0.0.1") -> Iterator[tuple[socket.socket, int]]:
    """A listener on `address` (0.0.0.0: on all of 127/8) that answers no SYN, as its queue is full; and its port."""
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind((address, 0))
        listener.listen(0)
        port: int = listener.getsockname()[1]
        for _ in range(8):
            filler = sockets.enter_context(socket.socket())
            filler.settimeout(0.03)
            try:
                filler.connect(("127.0.0.1", port))
            except TimeoutError:
                break
        else:
            raise AssertionError("the queue did not fill")
        yield listener, port


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class End(asyncio.Protocol):
    """The codespace's end of a connection: keeps what came, can be told not to read."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.eof = False
        self.lost: list[Exception | None] = []
        self.transport: Any = None

    def data_received(self, data: bytes) -> None:
        self.data += data

    def eof_received(self) -> bool:
        self.eof = True
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)


async def connected(bridge: Bridge, host: str, port: int, *, source_port: int = 0) -> End:
    """A connection from the codespace, by a protocol of our own; by that port of it, if one is given."""
    tcp = bridge.codespace.tcp
    end = End()
    transport = end.transport = TcpTransport(end, bridge.loop)
    done = transport.opened = bridge.loop.create_future()
    remote = packed(host)
    local = packed(CODESPACE[len(remote) == 16].partition("/")[0])
    if source_port:
        key = remote + local + port.to_bytes(2, "big") + source_port.to_bytes(2, "big")
        flow = Flow(tcp, key, (local, source_port), (remote, port), transport)
        tcp.counters.connects += 1
        tcp.add(flow)
        flow.connection.open()
        flow.flush()
    else:
        flow = tcp.connect(local, (remote, port), transport)
    transport.attach(flow)
    await done
    return end


async def opened(bridge: Bridge, listener: Listener) -> tuple[End, socket.socket]:
    """A connection from the codespace to a host, and the host's socket."""
    end = await connected(bridge, listener.host, listener.port)
    return end, await listener.accept()


async def read_all(sock: socket.socket) -> bytes:
    parts = []
    while data := await asyncio.get_running_loop().sock_recv(sock, 1 << 20):
        parts.append(data)
    return b"".join(parts)


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
    sock.close()


def unacknowledged(sock: socket.socket) -> int:
    """Bytes that the far end's kernel has not taken yet."""
    answer = fcntl.ioctl(sock, 0x5411, bytes(4))  # SIOCOUTQ
    return int(struct.unpack("i", answer)[0])


def host_flow(bridge: Bridge) -> TcpFlow:
    (flow,) = bridge.forwarder._flows
    return flow


async def settle() -> None:
    """Everything at hand happens."""
    for _ in range(20):
        await asyncio.sleep(0.001)


class Faulty(socket.socket):
    """A host socket some calls of which fail."""

    faults: dict[str, int | OSError]

    def connect_ex(self, address: Any) -> int:
        fault = self.faults.get("connect")
        if isinstance(fault, OSError):
            raise fault
        return super().connect_ex(address) if fault is None else fault

    def _fails(self, name: str) -> None:
        fault = self.faults.get(name)
        if isinstance(fault, OSError):
            raise fault

    def setsockopt(self, *arguments: Any) -> None:
        self._fails("setsockopt")
        if arguments[1] == socket.SO_LINGER:
            self._fails("linger")
        super().setsockopt(*arguments)

    def shutdown(self, how: int) -> None:
        self._fails("shutdown")
        super().shutdown(how)

    def send(self, *arguments: Any) -> int:
        self._fails("send")
        return super().send(*arguments)


async def read_exactly(sock: socket.socket, size: int) -> bytes:
    parts = []
    while size:
        data = await asyncio.get_running_loop().sock_recv(sock, min(size, 1 << 20))
        assert data
        size -= len(data)
        parts.append(data)
    return b"".join(parts)
