"""asyncio's face of a connection: a Transport, so that asyncio's own StreamReader and StreamWriter work on it.

It behaves as asyncio's transport of a socket does, with one difference in what `wait_closed` waits for: here it is
that the peer has acknowledged everything, FIN included (a socket's transport hands the rest to the kernel, and there
is none). The rest of the close, TIME-WAIT above all, goes on without the user.
"""

from __future__ import annotations

import asyncio
import errno
import os
from typing import TYPE_CHECKING, Any

from ..packet import text
from .flow import Flow
from .user import ConnectionUser

if TYPE_CHECKING:
    from .endpoint import Tcp

HIGH_WATER = 256 * 1024
"""Bytes queued at which a writer is asked to wait."""

NUMBERS: dict[type[Exception], int] = {
    ConnectionRefusedError: errno.ECONNREFUSED, ConnectionResetError: errno.ECONNRESET,
    ConnectionAbortedError: errno.ECONNABORTED, TimeoutError: errno.ETIMEDOUT,
}  # fmt: skip


class TcpTransport(asyncio.Transport):
    """A stream transport over a `Flow`; the flow's `ConnectionUser`.

    The protocol may be a `Protocol` or a `BufferedProtocol`. `get_extra_info` knows "peername" and "sockname", as the
    socket module shows them, and "stack", the `Stack` it stands on; there is no "socket".
    """

    _start_tls_compatible = True  # asyncio's own `loop.start_tls` asks for it

    def __init__(self, protocol: asyncio.BaseProtocol, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._protocol: asyncio.BaseProtocol = protocol
        self._loop = loop
        self._flow: Flow | None = None
        self._paused = False
        self._writing_paused = False
        self._closing = False
        self._eof = False
        self._made = False
        self._lost = False
        self._high = HIGH_WATER
        self._low = HIGH_WATER // 4
        self.opened: asyncio.Future[None] | None = None
        """Set by an active open: done when the handshake is."""

    def attach(self, flow: Flow) -> None:
        """The flow this transport stands on."""
        self._flow = flow
        self._extra.update(  # type: ignore[attr-defined]
            peername=_shown(flow.remote), sockname=_shown(flow.local), stack=flow._tcp.stack,
        )

    def __repr__(self) -> str:
        if self._flow is None:
            return "<TcpTransport of nothing yet>"
        ends = " > ".join(f"{text(packed)} port {port}" for packed, port in (self._flow.local, self._flow.remote))
        state = self._flow.connection.state.name
        return f"<TcpTransport {ends} {state}{' closing' if self._closing else ''} queued={self._flow.queued}>"

    @property
    def _live(self) -> Flow:
        assert self._flow is not None
        return self._flow

    # -- ConnectionUser

    def connected(self) -> None:
        """The handshake is complete."""
        self._made = True
        if self.opened is not None and not self.opened.done():
            self.opened.set_result(None)
        self._protocol.connection_made(self)

    def data_received(self, data: memoryview) -> int:
        """Pass data on, or leave it in the connection while reading is paused."""
        if self._closing:
            return len(data)
        size, taken = len(data), 0
        while taken < size and not self._paused:
            protocol = self._protocol  # may be another one by the next turn: TLS can begin in the midst
            if isinstance(protocol, asyncio.BufferedProtocol):
                taken += fill(protocol, data[taken:])
            else:
                assert isinstance(protocol, asyncio.Protocol)
                protocol.data_received(bytes(data[taken:]))
                taken = size
            if self._closing:
                return size
        return taken

    def probed(self, idle: float) -> None:
        """Answered below; whoever reads need not know."""

    def eof_received(self) -> None:
        """The peer sends no more."""
        if self._closing:
            return
        assert isinstance(self._protocol, asyncio.Protocol | asyncio.BufferedProtocol)
        if not self._protocol.eof_received():
            self.close()

    def acked(self) -> None:
        """There may be room."""
        if self._writing_paused and self._live.queued <= self._low:
            self._writing_paused = False
            self._protocol.resume_writing()
        if self._closing and self._live.delivered:
            self._lose(None)

    def closed(self, error: OSError | None) -> None:
        """The connection is over."""
        error = _numbered(error)
        self._closing = True
        if self.opened is not None and not self.opened.done():
            self.opened.set_exception(error or ConnectionAbortedError("the connection was closed"))
        self._lose(error)

    def _lose(self, error: Exception | None) -> None:
        """Tell the protocol, once, and only if it knew of the connection."""
        if self._made and not self._lost:
            self._lost = True
            self._loop.call_soon(self._protocol.connection_lost, error)

    # -- asyncio.Transport

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return not self._paused and not self._closing

    def pause_reading(self) -> None:
        if not self._closing:
            self._paused = True

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            # Later: the reader may ask from inside data_received, where the connection must not be re-entered.
            self._loop.call_soon(self._drain)

    def _drain(self) -> None:
        if not self._paused:
            self._live.drain()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"data must be bytes-like, not {type(data).__name__}")
        if self._eof:
            raise RuntimeError("write after write_eof")
        if not data or self._closing:
            return
        self._live.write(bytes(data))
        self._maybe_pause()

    def _maybe_pause(self) -> None:
        queued = self._live.queued
        if not self._writing_paused and (queued > self._high or (queued > self._low and self._live.crowded)):
            self._writing_paused = True
            self._protocol.pause_writing()

    def write_eof(self) -> None:
        if not self._eof:
            self._eof = True
            self._live.shutdown()

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return self._live.queued

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = HIGH_WATER if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high, self._low = high, low
        self._maybe_pause()

    def close(self) -> None:
        """Send what is queued, then FIN; what still comes in is discarded."""
        if self._closing:
            return
        self._closing = True
        self._live.abandon()
        if self._live.delivered:
            self._lose(None)
        if self._paused:
            self._paused = False
            self._loop.call_soon(self._drain)

    def abort(self) -> None:
        """Reset the connection."""
        self._closing = True
        self._paused = False
        if self._flow is not None and self._flow.abort():
            self._lose(None)

    def _force_close(self, error: Exception | None) -> None:
        """Reset the connection and tell the protocol why: what asyncio's TLS does when a handshake fails."""
        self._closing = True
        self._paused = False
        if self._flow is not None and self._flow.abort():
            self._lose(error)


def _numbered(error: OSError | None) -> OSError | None:
    """The error with the number that a kernel gives it, by which many programs tell errors apart."""
    if error is None or error.errno is not None:
        return error
    number = next((number for kind, number in NUMBERS.items() if isinstance(error, kind)), errno.EIO)
    return OSError(number, str(error))  # which makes it of that kind again


def fill(protocol: asyncio.BufferedProtocol, data: memoryview) -> int:
    """Put what fits into the protocol's own buffer; the bytes taken."""
    buffer = memoryview(protocol.get_buffer(len(data)))
    count = min(len(buffer), len(data))
    if not count:
        raise RuntimeError("get_buffer() returned an empty buffer")
    buffer[:count] = data[:count]
    protocol.buffer_updated(count)
    return count


def connect(tcp: Tcp, local: tuple[bytes, int], remote: tuple[bytes, int], user: ConnectionUser) -> Flow:
    """Open a connection from a packed address of ours, by a free port when `local` says 0.

    OSError when the port is taken, or none is free.
    """
    if not local[1]:
        return tcp.connect(local[0], remote, user)
    if tcp._closed:
        raise OSError(errno.ENETDOWN, os.strerror(errno.ENETDOWN))
    key = remote[0] + local[0] + remote[1].to_bytes(2, "big") + local[1].to_bytes(2, "big")
    if key in tcp.flows or key in tcp.requests:
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    flow = Flow(tcp, key, local, remote, user)
    tcp.counters.connects += 1
    tcp.add(flow)
    flow.connection.open()
    flow.flush()
    return flow


def _shown(address: tuple[bytes, int]) -> tuple[Any, ...]:
    packed, port = address
    return (text(packed), port) if len(packed) == 4 else (text(packed), port, 0, 0)
