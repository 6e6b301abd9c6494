"""Answers "is it well?" by HTTP, for those who start and stop containers: /healthz, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping

from ..back.listening import listen
from ..back.places import parse_listen
from ..errors import BridgeError

REQUEST = 4096
SECONDS = 5.0
MOST = 16
"""Connections at once; those who ask are one kubelet."""


@contextlib.asynccontextmanager
async def health(where: str, state: Callable[[], Mapping[str, int]]) -> AsyncIterator[str]:
    """Serve at [ADDRESS:]PORT what `state` gives, as JSON; the URL. Raises BridgeError."""
    open_ = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_
        if open_ >= MOST:
            writer.transport.abort()
            return
        open_ += 1
        try:
            async with asyncio.timeout(SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                found = head.split(b" ")[:2] == [b"GET", b"/healthz"]
                body = json.dumps(dict(state())).encode() + b"\n" if found else b"See /healthz.\n"
                writer.write(
                    b"HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"
                    % (b"200 OK" if found else b"404 Not Found", b"application/json" if found else b"text/plain",
                       len(body), body)
                )
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            writer.transport.abort()
        finally:
            open_ -= 1
            writer.close()

    addresses, port = parse_listen(where)
    try:
        sockets = listen(addresses, port)
    except BridgeError as error:
        raise type(error)(error.what, error.why, "Name another address or port by --health.") from error
    servers = [await asyncio.start_server(serve, sock=one, limit=REQUEST) for one in sockets]
    address, port, *_ = sockets[0].getsockname()
    try:
        yield f"http://{f'[{address}]' if ':' in address else address}:{port}/healthz"
    finally:
        for server in servers:
            server.close()
