"""Local listeners whose clients come out in the codespace: a fixed place (`forward`) or the one they name (`socks`)."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from ..errors import BridgeError, NotPermittedError
from .door import BackError
from .ends import End
from .service import is_host
from .socks import SUCCEEDED, Handshake, failure, reply

HANDSHAKE_SECONDS = 30.0
"""A SOCKS client that does not say in this time what it wants is hung up on."""
NO_LINGER = struct.pack("ii", 1, 0)
BACKLOG = 128

Tell = Callable[[str], None]


class Way(Protocol):
    """What leads clients to their places: a `Door`, or whatever else can."""

    async def enter(self, visitor: End, host: str, port: int, reached: Callable[[], None] = ..., /) -> None:
        """Join a transport to a place; `reached` is called before any of its bytes. Raises BridgeError."""


def listen(addresses: Sequence[str], port: int) -> list[socket.socket]:
    """Listening sockets on `port` of each address; of several, those that this machine has. Raises BridgeError."""
    found: list[socket.socket] = []
    failed: OSError | None = None
    for address in addresses:
        try:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            found.append(socket.create_server((address, port), family=family, backlog=BACKLOG))
            port = found[-1].getsockname()[1]
        except OSError as error:
            if error.errno in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT} and len(addresses) > 1:
                failed = failed or error
                continue
            failed = error
            break
    if found and (failed is None or failed.errno in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}):
        return found
    for listener in found:
        listener.close()
    assert failed is not None
    kind = NotPermittedError if isinstance(failed, PermissionError) else BridgeError
    why = failed.strerror if (failed.errno or 0) > 0 and failed.strerror else str(failed)
    raise kind(
        f"Port {port} of {' and '.join(addresses)} cannot be listened on.", f"{why}.",
        "Name another local port, as in 15432:localhost:5432.",
    )


class Visitor(End):
    """A local client."""

    def __init__(self, listener: Listener) -> None:
        super().__init__()
        self._listener = listener
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._listener.visitors.add(self)
        self.begin()

    def begin(self) -> None:
        """What is done with it."""

    def eof_received(self) -> bool:
        if self._task is not None:  # it ended its side early, and may well wait for the answer
            self.ended = True
            return True
        return super().eof_received()

    def left(self) -> None:
        """Nobody is there any more to connect for."""
        if self._task is not None:
            self._task.cancel()
        elif self.transport is not None:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.visitors.discard(self)
        super().connection_lost(exc)

    def fail(self, why: str) -> None:
        """Reset it, so that the client sees that it was cut off or refused."""
        if self.transport is not None and not self.lost:
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        super().fail(why)

    def lead(self, host: str, port: int, reached: Callable[[], None], refused: Callable[[BridgeError], None]) -> None:
        """Connect it to a place over there."""

        async def enter() -> None:
            try:
                await self._listener.door.enter(self, host, port, reached)
            except BridgeError as error:
                self._listener.tell(f"{error.what} {error.why}".strip())
                refused(error)
            except asyncio.CancelledError:
                self.fail("It left.")
            finally:
                self._task = None

        self._task = asyncio.get_running_loop().create_task(enter())


class ForwardVisitor(Visitor):
    """A client of `netbridge forward`, whose place is fixed."""

    def __init__(self, listener: Listener, host: str, port: int) -> None:
        super().__init__(listener)
        self._place = host, port

    def begin(self) -> None:
        self.lead(*self._place, lambda: None, lambda error: self.fail(str(error)))


class SocksVisitor(Visitor):
    """A client of `netbridge socks`, which names its place."""

    def __init__(self, listener: Listener) -> None:
        super().__init__(listener)
        self._handshake = Handshake()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(HANDSHAKE_SECONDS, self.fail, "It said nothing.")

    def arrived(self) -> None:
        handshake = self._handshake
        if handshake.place is not None or self.transport is None:
            return
        handshake.received += self.held
        self.held.clear()
        self.transport.write(handshake.advance())
        if handshake.over:
            self.transport.close()
        elif handshake.place is not None:
            if self._timer:
                self._timer.cancel()
            self.held += handshake.received
            host, port = handshake.place
            if is_host(host):
                self.lead(host, port, lambda: self._answer(reply(SUCCEEDED)), self._refused)
            else:
                self._refused(BackError(host, port, "It is no host name.", "EINVAL"))

    def _answer(self, message: bytes) -> None:
        if self.transport is not None:
            self.transport.write(message)

    def _refused(self, error: BridgeError) -> None:
        self._answer(failure(error.code if isinstance(error, BackError) else ""))
        if self.transport is not None:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer:
            self._timer.cancel()
        super().connection_lost(exc)


class Listener:
    """Listening sockets and their clients. `tell` is given one line for each client that could not be served."""

    def __init__(self, door: Way, tell: Tell) -> None:
        self.door = door
        self.tell = tell
        self.visitors: set[Visitor] = set()
        self._servers: list[asyncio.Server] = []

    async def serve(self, sockets: Sequence[socket.socket], visitor: Callable[[Listener], Visitor]) -> None:
        """Accept on these sockets, which become ours."""
        loop = asyncio.get_running_loop()
        for one in sockets:
            one.setblocking(False)
            self._servers.append(await loop.create_server(lambda: visitor(self), sock=one))

    def close(self) -> None:
        """Accept no more, and cut all clients off."""
        for server in self._servers:
            server.close()
        for visitor in list(self.visitors):
            visitor.fail("netbridge ended.")


async def until_signal(signals: Sequence[int], ready: Awaitable[None]) -> None:
    """Do `ready`, then wait for one of the signals."""
    loop, came = asyncio.get_running_loop(), asyncio.Event()
    for number in signals:
        loop.add_signal_handler(number, came.set)
    try:
        await ready
        await came.wait()
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
