"""asyncio's StreamReader and StreamWriter on a stack's connections: asyncio's own classes, nothing else."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, cast

from .tls import start_tls

LIMIT = 64 * 1024
"""asyncio's own default for a StreamReader's buffer."""

Connected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]
"""What runs for each connection of a server: a coroutine function, or a plain one."""


class _Loop:
    """The event loop as the streams of a stack see it: its `start_tls` knows the stack's transports."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    async def start_tls(
        self, transport: asyncio.Transport, protocol: asyncio.StreamReaderProtocol, context: ssl.SSLContext,
        **more: Any,
    ) -> asyncio.Transport:  # fmt: skip
        """What the reader holds unread is TLS's. Left there, as asyncio leaves it, it would pass for what the peer said
        in TLS: anybody on the way could answer what TLS was to protect.
        """
        held = cast("Any", protocol)._stream_reader._buffer
        early = bytes(held)
        held.clear()
        return await start_tls(transport, protocol, context, early=early, **more)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


def stream_protocol(
    loop: asyncio.AbstractEventLoop, limit: int = LIMIT, connected: Connected | None = None,
) -> tuple[asyncio.StreamReader, asyncio.StreamReaderProtocol]:  # fmt: skip
    """A reader that holds up to twice `limit` bytes, and the protocol that feeds it; for a server with `connected`."""
    reader = asyncio.StreamReader(limit=limit, loop=loop)
    seen = cast("asyncio.AbstractEventLoop", _Loop(loop))
    return reader, asyncio.StreamReaderProtocol(reader, connected, loop=seen)


def stream_writer(
    transport: asyncio.WriteTransport, reader: asyncio.StreamReader, protocol: asyncio.StreamReaderProtocol,
) -> asyncio.StreamWriter:  # fmt: skip
    """The writer of a client's connection."""
    return asyncio.StreamWriter(transport, protocol, reader, protocol._loop)  # type: ignore[attr-defined]
