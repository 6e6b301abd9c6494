"""TLS over a stack's connections: asyncio's own TLS machine (`asyncio.sslproto`) between transport and protocol.

The machine is plain Python and needs of its transport no more than any transport has, so it serves under every event
loop; `loop.start_tls` does not: that of uvloop takes the loop's own transports only.
"""

from __future__ import annotations

import asyncio
import ssl
from asyncio.sslproto import SSLProtocol
from typing import Any, cast

from .tcp.streams import fill


def tls_protocol(
    loop: asyncio.AbstractEventLoop, protocol: asyncio.BaseProtocol, context: ssl.SSLContext | None, *,
    waiter: asyncio.Future[None] | None = None, server_side: bool = False, server_hostname: str | None = None,
    call_connection_made: bool = True, handshake_timeout: float | None = None, shutdown_timeout: float | None = None,
) -> SSLProtocol:  # fmt: skip
    """What stands between a transport and `protocol`, which is told of the connection once the handshake is done.

    `context` None: a client's that knows the system's authorities. `waiter` is done with the handshake, or told why
    it failed. Timeouts in seconds; None: asyncio's own, 60 and 30.
    """
    made = cast("Any", SSLProtocol)(
        loop, protocol, context, waiter, server_side, server_hostname, call_connection_made,
        ssl_handshake_timeout=handshake_timeout, ssl_shutdown_timeout=shutdown_timeout,
    )
    return cast("SSLProtocol", made)


def app_transport(protocol: SSLProtocol) -> asyncio.Transport:
    """The transport that the protocol above TLS writes to; to be asked for while the connection lives."""
    return cast("asyncio.Transport", protocol._get_app_transport())  # type: ignore[attr-defined]


async def start_tls(
    transport: asyncio.Transport, protocol: asyncio.BaseProtocol, context: ssl.SSLContext, *,
    server_side: bool = False, server_hostname: str | None = None, ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None, early: bytes = b"",
) -> asyncio.Transport:  # fmt: skip
    """Begin TLS on a connection that is open; as the event loop's method of that name. `early`: what it brought before.

    Returns the transport to be used from now on. Raises ssl.SSLError, or another OSError when the connection ends in
    the handshake; it is closed then, as it is when this is cancelled.
    """
    if not isinstance(context, ssl.SSLContext):
        raise TypeError(f"sslcontext is expected to be an instance of ssl.SSLContext, got {context!r}")
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()
    tls = tls_protocol(
        loop, protocol, context, waiter=waiter, server_side=server_side, server_hostname=server_hostname,
        call_connection_made=False, handshake_timeout=ssl_handshake_timeout, shutdown_timeout=ssl_shutdown_timeout,
    )  # fmt: skip
    above = app_transport(tls)
    transport.pause_reading()  # what comes now is TLS's
    transport.set_protocol(tls)
    made = loop.call_soon(tls.connection_made, transport)
    fed = loop.call_soon(_feed, tls, early)
    resumed = loop.call_soon(transport.resume_reading)
    try:
        await waiter
    except BaseException:
        transport.close()
        made.cancel()
        fed.cancel()
        resumed.cancel()
        raise
    return above


def _feed(tls: SSLProtocol, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[fill(tls, view) :]


def checked(context: ssl.SSLContext | bool | None, server_hostname: str | None) -> ssl.SSLContext | bool | None:
    """The `ssl` argument, if it is one: asyncio's own complaints."""
    if context is not None and not isinstance(context, ssl.SSLContext | bool):
        raise TypeError(f"ssl is an SSLContext, a bool or None, not {type(context).__name__}")
    if server_hostname is not None and not context:
        raise ValueError("server_hostname is only meaningful with ssl")
    return context or None
