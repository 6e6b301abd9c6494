"""The asyncio face of UDP: a DatagramTransport over a stack's port, for any DatagramProtocol.

As with the loop's own sockets: `datagram_received(bytes, address)` with addresses as the socket module shows them,
empty datagrams are data, `error_received` tells connected endpoints of ICMP errors and any endpoint of datagrams that
did not fit, `connection_lost` comes in a later iteration of the loop. Nothing is ever queued here, so `pause_writing`
is never called; a full link drops, as UDP may.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from socket import AF_INET, AF_INET6, inet_pton
from typing import Any, TypeVar, cast

from ..icmp.wire import Problem
from ..packet import text
from .endpoint import Address, Udp

P = TypeVar("P", bound=asyncio.BaseProtocol)
Reaches = Callable[[bytes], bool]


class UdpTransport(asyncio.DatagramTransport):
    """One bound port of a stack."""

    def __init__(
        self, udp: Udp, source: bytes, local: Address, remote: Address | None, reaches: Reaches | None = None,
    ) -> None:
        """Bind `local`; `source` is the address to send from when that of `local` is all zeros.

        `reaches` says whether a route leads to a packed address; None: to all.
        """
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._udp = udp
        self._protocol: asyncio.DatagramProtocol | None = None
        self._closing = False
        self._remote = remote
        self._reaches = reaches
        self._local = udp.bind(self, local, remote)
        self._source = (self._local[0] if any(self._local[0]) else source, self._local[1])
        self._extra: dict[str, Any] = {
            "sockname": _shown(self._local), "peername": remote and _shown(remote), "stack": udp._stack,
        }

    def packet_received(self, source: Address, payload: memoryview) -> None:
        """`Receiver`: one datagram came."""
        if self._protocol is None or self._closing:
            return
        try:
            self._protocol.datagram_received(bytes(payload), _shown(source))
        except Exception as error:
            self._report("datagram_received", error)

    def problem_received(self, problem: Problem, mtu: int) -> None:
        """`Receiver`: an ICMP error came."""
        self._error(problem.error())

    def sendto(self, data: Any, addr: Any = None) -> None:
        """Send one datagram to `addr`, (host, port, ...) with a numeric host, or to the connected address."""
        if self._closing:
            return
        if self._remote is None:
            if addr is None:
                raise ValueError("an address is needed: the endpoint is not connected")
            to = _packed(addr, self._local[0])
        elif addr is not None and _packed(addr, self._local[0]) != self._remote:
            raise ValueError(f"the endpoint is connected to {_shown(self._remote)}")
        else:
            to = self._remote
        if self._reaches is not None and not self._reaches(to[0]):
            self._error(OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH)))
        elif not self._udp.send(self._source, to, bytes(data)):
            self._error(OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE)))

    def is_closing(self) -> bool:
        """Whether `close` was called."""
        return self._closing

    def close(self) -> None:
        """Free the port; the protocol's `connection_lost(None)` follows."""
        self._finish(None)

    def abort(self) -> None:
        """As `close`: there is nothing unsent to discard."""
        self._finish(None)

    def lost(self, error: Exception | None) -> None:
        """The stack under it is gone."""
        self._finish(error)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """"sockname" and "peername", as the socket module shows them, and "stack"."""
        return self._extra.get(name, default)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol that is told of datagrams."""
        assert self._protocol is not None
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Tell another protocol from now on."""
        self._protocol = cast(asyncio.DatagramProtocol, protocol)  # what it is like counts, as in asyncio

    def get_write_buffer_size(self) -> int:
        """Always 0."""
        return 0

    def _finish(self, error: Exception | None) -> None:
        if self._closing:
            return
        self._closing = True
        self._udp.unbind(self._local)
        if self._protocol is not None:
            self._loop.call_soon(self._protocol.connection_lost, error)

    def _error(self, error: OSError) -> None:
        if self._protocol is None or self._closing:
            return
        try:
            self._protocol.error_received(error)
        except Exception as raised:
            self._report("error_received", raised)

    def _report(self, where: str, error: Exception) -> None:
        self._loop.call_exception_handler({
            "message": f"{where} of a datagram protocol failed", "exception": error, "transport": self,
            "protocol": self._protocol,
        })


def open_endpoint(
    udp: Udp, factory: Callable[[], P], source: bytes, local: Address, remote: Address | None = None,
    reaches: Reaches | None = None,
) -> tuple[UdpTransport, P]:
    """What `create_datagram_endpoint` returns, from packed addresses. Raises OSError (EADDRINUSE)."""
    transport = UdpTransport(udp, source, local, remote, reaches)
    try:
        protocol = factory()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
    except BaseException:
        udp.unbind(transport._local)
        raise
    return transport, protocol


def _shown(address: Address) -> tuple[Any, ...]:
    """An address as the socket module shows it."""
    packed, port = address
    return (text(packed), port) if len(packed) == 4 else (text(packed), port, 0, 0)


def _packed(shown: Any, like: bytes) -> Address:
    """The reverse of `_shown`; the family is that of the packed address `like`."""
    host, port = shown[0], shown[1]
    return inet_pton(AF_INET if len(like) == 4 else AF_INET6, host), port
