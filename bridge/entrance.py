"""The entrance: a host of its own in this process; its network is what the exit at the other end of a link reaches."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from netbridge.stack.link.base import Link
from netbridge.stack.names import by_name
from netbridge.stack.stack import Stack
from netbridge.stack.tcp.config import TcpConfig

from .back.ends import End, join
from .exit import JOINT
from .exitnames import ask


class Entrance(Stack):
    """A `Stack` whose connections leave at an `Exit`, and names are asked for there. An async context manager.

    `addresses` are its own, with prefix lengths; `routes` the networks that are reached through the exit, None: all.
    `resolver` is the address that is asked for names, by default the exit's own; None: this host's resolver.
    """

    def __init__(
        self, link: Link, addresses: Sequence[str] = JOINT.tun, routes: Sequence[str] | None = None, *,
        resolver: str | None = JOINT.gateways[0], tcp: TcpConfig | None = None, mtu: int | None = None,
    ) -> None:  # fmt: skip
        # From anywhere: a router between the exit and the destination may have something to say.
        super().__init__(link, addresses, mtu=mtu, tcp=tcp, routes=routes, sources=())
        self.resolver = resolver

    async def resolve(self, host: str) -> list[str]:
        """The numeric addresses of a name as the exit's host knows it, IPv4 first; a numeric address is its own.

        Raises socket.gaierror when there is no such name or nobody answers in ten seconds.
        """
        if self.resolver is None:
            return await super().resolve(host)
        return self._numeric(host) or await ask(self, self.resolver, host)

    async def forward(self, host: str, port: int, *, local: tuple[str, int] = ("127.0.0.1", 0)) -> asyncio.Server:
        """Listen on this host, at `local`, and lead each client to a name or address and port through the exit.

        For programs and drivers that open their own sockets. Returns a server of asyncio's; close it, or use it as an
        async context manager. Whoever may connect to `local` gets through.
        """
        return await self.loop.create_server(lambda: _Client(self, host, port), *local)


class _Client(End):
    """A client of a forwarded port, until it is led on."""

    def __init__(self, entrance: Entrance, host: str, port: int) -> None:
        super().__init__()
        self._entrance = entrance
        self._place = host, port
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._task = asyncio.get_running_loop().create_task(self._lead())

    def left(self) -> None:
        if self.lost and self._task is not None:
            self._task.cancel()

    async def _lead(self) -> None:
        host, port = self._place
        entrance = self._entrance
        try:
            _, there = await by_name(entrance, host, lambda address: entrance.create_connection(End, address, port))
        except OSError as error:
            self.fail(str(error))
        else:
            join(self, there)
