"""The TCP face of the DNS service (RFC 7766): messages behind two bytes of length, many on a connection.

A client may send its next question before the last answer came; answers leave in the order in which they are ready
(section 7). A client that does not read its answers is not read from either.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from .answer import Answer
from .message import Query

IDLE = 10.0
"""Seconds a connection may be silent (RFC 7766 6.2.3 wants "a few"); clients of ours are one hop away."""
MAX_CONNECTIONS = 128
"""Open at once; glibc opens one a question, so this is as many questions."""
MAX_UNDER_WAY = 32
"""Questions of one connection not yet answered; further ones are left in its socket until some are."""


class _Counters(Protocol):
    tcp_queries: int
    tcp_connections: int
    tcp_refused: int
    tcp_cut: int


class _Service(Protocol):
    """What is needed of the DNS service."""

    @property
    def counters(self) -> _Counters: ...

    def ask(self, data: bytes, deliver: Any, limit: int | None) -> bytes | None: ...

    def fit(self, query: Query, answer: Answer | None, age: int = ..., limit: int = ...) -> bytes: ...


class StreamServer:
    """The connections of one service."""

    def __init__(self, service: _Service) -> None:
        self.servers: list[Any] = []
        """What `start_server` gave, for closing."""
        self.idle = IDLE
        self._service = service
        self._open: set[_Connection] = set()
        self._none_open = asyncio.Event()
        self._none_open.set()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end."""
        counters = self._service.counters
        if len(self._open) >= MAX_CONNECTIONS:
            counters.tcp_refused += 1
            writer.transport.abort()
            return
        counters.tcp_connections += 1
        connection = _Connection(self._service, reader, writer, self.idle)
        self._open.add(connection)
        self._none_open.clear()
        try:
            await connection.run()
        except (OSError, EOFError):  # the client left or was silent for too long; there is nobody to tell
            counters.tcp_cut += 1
            writer.transport.abort()
        finally:
            connection.over = True
            await connection.ended()  # until then its answers cost memory, and it counts
            self._open.discard(connection)
            if not self._open:
                self._none_open.set()

    async def close(self) -> None:
        """Stop listening and cut all connections."""
        for server in self.servers:
            server.close()
        self.servers.clear()
        for connection in self._open:
            connection.cut()
        await self._none_open.wait()


class _Connection:
    """One client's connection."""

    def __init__(
        self, service: _Service, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, idle: float
    ) -> None:
        self._writer = writer
        self.over = False
        """Nothing more is to be written."""
        self._service = service
        self._reader = reader
        self._idle = idle
        self._under_way = 0
        self._room = asyncio.Event()
        self._room.set()

    async def run(self) -> None:
        """Read questions until the client is done and has its answers; TimeoutError (an OSError) when it idles."""
        while True:
            try:
                async with asyncio.timeout(self._idle):
                    length = int.from_bytes(await self._reader.readexactly(2), "big")
                    data = await self._reader.readexactly(length)
            except asyncio.IncompleteReadError:
                break
            self._service.counters.tcp_queries += 1
            self._under_way += 1
            message = self._service.ask(data, self._deliver, 65535)
            if message:
                self._answered(message)
            elif message is not None:  # no answer is due
                self._under_way -= 1
            if self._under_way >= MAX_UNDER_WAY:
                self._room.clear()
                await self._room.wait()
            async with asyncio.timeout(self._idle):
                await self._writer.drain()
        while self._under_way:  # half-closed: the client still listens
            self._room.clear()
            await self._room.wait()

    async def ended(self) -> None:
        """Close; who does not take the last answers in time goes without."""
        self._writer.close()
        try:
            async with asyncio.timeout(self._idle):
                await self._writer.wait_closed()
        except OSError:
            self._writer.transport.abort()

    def cut(self) -> None:
        """End the connection at once, whatever is still under way."""
        self.over = True
        self._under_way = 0
        self._room.set()
        self._writer.transport.abort()

    def _deliver(self, query: Query, answer: Answer | None) -> None:
        self._answered(self._service.fit(query, answer))

    def _answered(self, message: bytes) -> None:
        self._under_way -= 1
        self._room.set()
        if not self.over:
            self._writer.write(len(message).to_bytes(2, "big") + message)
