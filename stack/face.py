"""The asyncio face of a stack: what the event loop and asyncio's streams offer, with numeric addresses.

Names, arguments and errors are asyncio's own. What differs: hosts are numeric, so one attempt is made; there is no
loopback, so the stack's own addresses cannot be connected to; `wait_closed` waits until the peer has acknowledged the
FIN (:mod:`.tcp.streams`).
"""

from __future__ import annotations

import asyncio
import errno
import os
import ssl as tls
from collections.abc import Callable, Sequence
from socket import AF_INET, AF_INET6, AF_UNSPEC, SOCK_STREAM
from typing import TypeVar

from .addressing import Addressing, packed, valid_port
from .icmp.endpoint import Icmp
from .icmp.ping import ping
from .server import Server, opener
from .streams import LIMIT, Connected, stream_protocol, stream_writer
from .tcp.endpoint import FIRST_EPHEMERAL, Tcp
from .tcp.listener import BACKLOG
from .tcp.streams import TcpTransport, connect
from .tls import app_transport, checked, start_tls, tls_protocol
from .udp.endpoint import Udp
from .udp.transport import open_endpoint

P = TypeVar("P", bound=asyncio.BaseProtocol)
Host = str | Sequence[str] | None


class Face:
    """What users of a stack call; the stack itself is below it (:mod:`.stack`)."""

    addressing: Addressing
    tcp: Tcp
    udp: Udp
    icmp: Icmp

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop the stack was started in."""
        raise NotImplementedError

    # -- TCP, listening

    async def start_server(
        self, client_connected_cb: Connected, host: Host = None, port: int = 0, *, limit: int = LIMIT,
        backlog: int = BACKLOG, ssl: tls.SSLContext | None = None, ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> Server:  # fmt: skip
        """Accept connections to `port`, each given to `client_connected_cb(reader, writer)`; as asyncio.start_server.

        `host` is one of the stack's addresses or several, "0.0.0.0" or "::" (any of that version), or None (any).
        Port 0 is one that is free, see `Server.sockets`. `backlog`: handshakes under way; beyond them the oldest gives
        way. OSError: EADDRNOTAVAIL when an address is not the stack's own, EADDRINUSE when the port is taken.
        """
        loop = self.loop
        return await self.create_server(
            lambda: stream_protocol(loop, limit, client_connected_cb)[1], host, port, backlog=backlog, ssl=ssl,
            ssl_handshake_timeout=ssl_handshake_timeout, ssl_shutdown_timeout=ssl_shutdown_timeout,
        )

    async def create_server(
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], host: Host = None, port: int = 0, *,
        backlog: int = BACKLOG, ssl: tls.SSLContext | None = None, ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> Server:  # fmt: skip
        """Accept connections to `port`, each for a protocol of its own; as the event loop's method of that name."""
        if isinstance(checked(ssl, None), bool):
            raise TypeError("ssl argument must be an SSLContext or None")
        opened = opener(
            protocol_factory, self.loop, context=ssl, handshake_timeout=ssl_handshake_timeout,
            shutdown_timeout=ssl_shutdown_timeout,
        )  # fmt: skip
        hosts: list[str | None] = [host] if host is None or isinstance(host, str) else list(host)
        if not hosts:
            raise ValueError("a server needs a host, or None for any")
        places = [None if one is None else self.addressing.own_or_any(one) for one in hosts]
        port = valid_port(port, least=0) or self._free_port()
        ends: list[Callable[[], None]] = []
        try:
            for place in places:
                ends.append(self.tcp.listen(place, port, opened, backlog))
        except BaseException:
            for end in ends:
                end()
            raise
        return Server(self.loop, ends, hosts, port)

    def _free_port(self) -> int:
        """A port that nobody listens on (RFC 6056, section 3.3.1)."""
        taken = {port for _, port in self.tcp.listeners}
        count = 65536 - FIRST_EPHEMERAL
        start = int.from_bytes(os.urandom(2), "big")
        for step in range(count):
            port = FIRST_EPHEMERAL + (start + step) % count
            if port not in taken:
                return port
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))

    # -- TCP, connecting

    async def open_connection(
        self, host: str, port: int, *, limit: int = LIMIT, local_addr: tuple[str | None, int] | None = None,
        ssl: tls.SSLContext | bool | None = None, server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None, ssl_shutdown_timeout: float | None = None,
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:  # fmt: skip
        """Connect to a numeric address; as asyncio.open_connection.

        Raises ConnectionRefusedError, TimeoutError or another OSError as a kernel would: ENETUNREACH where no route
        of the stack leads, EADDRNOTAVAIL for its own addresses. `local_addr`: one of its addresses, and a port or 0.
        With `ssl` the certificate has to be for `server_hostname`, or for `host` without one.
        """
        reader, protocol = stream_protocol(self.loop, limit)
        transport, _ = await self.create_connection(
            lambda: protocol, host, port, local_addr=local_addr, ssl=ssl, server_hostname=server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout, ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        return reader, stream_writer(transport, reader, protocol)

    async def create_connection(
        self, protocol_factory: Callable[[], P], host: str, port: int, *,
        local_addr: tuple[str | None, int] | None = None, ssl: tls.SSLContext | bool | None = None,
        server_hostname: str | None = None, ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> tuple[asyncio.Transport, P]:  # fmt: skip
        """Connect a protocol to a numeric address; as the event loop's method of that name, see `open_connection`."""
        loop, secured = self.loop, checked(ssl, server_hostname)
        remote = packed(host)
        valid_port(port)
        local_host, local_port = local_addr or (None, 0)
        source = self.addressing.source_for(remote, local_host), valid_port(local_port, least=0)
        if remote in self.addressing.local:
            raise OSError(errno.EADDRNOTAVAIL, f"{host} is the stack's own address")
        protocol = protocol_factory()
        waiter: asyncio.Future[None] | None = None
        below: asyncio.BaseProtocol = protocol
        if secured:
            waiter = loop.create_future()
            below = tls_protocol(
                loop, protocol, None if isinstance(secured, bool) else secured, waiter=waiter,
                server_hostname=host if server_hostname is None else server_hostname,
                handshake_timeout=ssl_handshake_timeout, shutdown_timeout=ssl_shutdown_timeout,
            )  # fmt: skip
            above = app_transport(below)
        transport = TcpTransport(below, loop)
        opened = transport.opened = loop.create_future()
        transport.attach(connect(self.tcp, source, (remote, port), transport))
        try:
            await opened
            if waiter is not None:
                await waiter
        except BaseException:
            transport.abort()
            raise
        return (transport if waiter is None else above), protocol

    async def start_tls(
        self, transport: asyncio.Transport, protocol: asyncio.BaseProtocol, sslcontext: tls.SSLContext, *,
        server_side: bool = False, server_hostname: str | None = None, ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> asyncio.Transport:  # fmt: skip
        """Begin TLS on an open connection, and return the transport to use from now on; as the event loop's method.

        That itself works as well on asyncio's own event loops, but not on uvloop's. `StreamWriter.start_tls` works on
        all. Raises ssl.SSLError or another OSError; the connection is closed then.
        """
        return await start_tls(
            transport, protocol, sslcontext, server_side=server_side, server_hostname=server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout, ssl_shutdown_timeout=ssl_shutdown_timeout,
        )

    # -- names

    def _numeric(self, host: str) -> list[str]:
        """A numeric address as a list of one; an empty list when it is a name."""
        try:
            packed(host)
        except ValueError:
            return []
        return [host]

    async def resolve(self, host: str) -> list[str]:
        """The numeric addresses of a name by this host's resolver, of the versions the stack has; never empty.

        A numeric address is its own. Raises socket.gaierror.
        """
        if numeric := self._numeric(host):
            return numeric
        families = {AF_INET if one.version == 4 else AF_INET6 for one in self.addressing.interfaces}
        found = await self.loop.getaddrinfo(
            host, None, family=families.pop() if len(families) == 1 else AF_UNSPEC, type=SOCK_STREAM
        )
        return [str(address[0]) for *_, address in found]

    # -- UDP and ICMP

    async def create_datagram_endpoint(
        self, protocol_factory: Callable[[], P], local_addr: tuple[str, int] | None = None,
        remote_addr: tuple[str, int] | None = None,
    ) -> tuple[asyncio.DatagramTransport, P]:  # fmt: skip
        """A UDP endpoint; as the event loop's method of that name, with numeric addresses."""
        addressing = self.addressing
        remote = None if remote_addr is None else (packed(remote_addr[0]), valid_port(remote_addr[1]))
        if local_addr is not None:
            local = addressing.own_or_any(local_addr[0]), valid_port(local_addr[1], least=0)
        elif remote is not None:
            local = addressing.source_for(remote[0]), 0
        else:
            local = addressing.interfaces[0].ip.packed, 0
        if remote is not None and len(remote[0]) != len(local[0]):
            raise ValueError("local and remote address are of different IP versions")
        source = local[0]
        if not any(source):
            version = 4 if len(source) == 4 else 6
            own = addressing.source_for(remote[0]) if remote is not None else addressing.gateway(version)
            if own is None:
                raise OSError(errno.EADDRNOTAVAIL, "the stack has no address of that IP version")
            source = own
        elif remote is not None and not addressing.reaches(remote[0]):
            raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))
        return open_endpoint(self.udp, protocol_factory, source, local, remote, addressing.reaches)

    async def ping(self, host: str, *, timeout: float = 1.0, size: int = 56) -> float:
        """Seconds until the echo reply of a numeric address to `size` bytes; raises TimeoutError or OSError."""
        destination = packed(host)
        source = self.addressing.source_for(destination)
        return await ping(self.icmp, source, destination, timeout=timeout, size=size)
