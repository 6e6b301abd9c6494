"""Listeners of a stack as asyncio's servers."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .tcp.flow import Flow
from .tcp.listener import Opened
from .tcp.streams import TcpTransport
from .tls import tls_protocol


@dataclass(frozen=True, slots=True)
class ListeningSocket:
    """What a socket that listens would say of itself."""

    family: socket.AddressFamily
    """AF_INET or AF_INET6."""
    address: tuple[Any, ...]
    """As the socket module shows it."""
    type: socket.SocketKind = socket.SOCK_STREAM
    proto: int = socket.IPPROTO_TCP

    def getsockname(self) -> tuple[Any, ...]:
        """(host, port), of IPv6 (host, port, flow info, scope)."""
        return self.address


class Server(asyncio.AbstractServer):
    """A listener of a stack; as asyncio's own server. It accepts from the beginning on, until `close`."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, ends: Sequence[Callable[[], None]], hosts: Sequence[str | None],
        port: int,
    ) -> None:  # fmt: skip
        """`ends` close what listens on `hosts` (None: any address of either version)."""
        self._loop = loop
        self._ends: Sequence[Callable[[], None]] | None = ends
        self.address = (hosts[0] or "", port)
        """Host and port listened on, the first where there are several."""
        named = [name for host in hosts for name in ([host] if host is not None else ["0.0.0.0", "::"])]  # noqa: S104
        self._sockets = tuple(
            ListeningSocket(socket.AF_INET6, (name, port, 0, 0)) if ":" in name
            else ListeningSocket(socket.AF_INET, (name, port))
            for name in named
        )  # fmt: skip
        self._forever: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<Server {self.address[0] or 'any address'} port {self.address[1]}{'' if self._ends else ' closed'}>"

    @property
    def sockets(self) -> tuple[ListeningSocket, ...]:
        """What it listens on, each with a `getsockname()`; empty once it is closed."""
        return self._sockets if self._ends is not None else ()

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def close(self) -> None:
        """Accept no more; connections that exist go on."""
        if self._ends is not None:
            for end in self._ends:
                end()
            self._ends = None
            if self._forever is not None and not self._forever.done():
                self._forever.cancel()

    def is_serving(self) -> bool:
        """Whether connections are accepted."""
        return self._ends is not None

    async def start_serving(self) -> None:
        """Nothing is left to start."""

    async def serve_forever(self) -> None:
        """Wait until this is cancelled, and close; as asyncio's, RuntimeError when it is closed or waited for twice."""
        if self._ends is None:
            raise RuntimeError(f"server {self!r} is closed")
        if self._forever is not None:
            raise RuntimeError(f"server {self!r} is already being awaited on serve_forever()")
        self._forever = self._loop.create_future()
        try:
            await self._forever
        finally:
            self._forever = None
            self.close()

    async def wait_closed(self) -> None:
        """Nothing is left to wait for after `close`."""


def opener(
    factory: Callable[[], asyncio.BaseProtocol], loop: asyncio.AbstractEventLoop, *,
    context: ssl.SSLContext | None = None, handshake_timeout: float | None = None,
    shutdown_timeout: float | None = None,
) -> Opened:  # fmt: skip
    """What a listener does with a connection: give it a new protocol, behind TLS with `context`."""

    def opened(flow: Flow) -> TcpTransport:
        protocol = factory()
        if context is not None:
            protocol = tls_protocol(
                loop, protocol, context, server_side=True, handshake_timeout=handshake_timeout,
                shutdown_timeout=shutdown_timeout,
            )  # fmt: skip
        transport = TcpTransport(protocol, loop)
        transport.attach(flow)
        return transport

    return opened
