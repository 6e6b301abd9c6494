"""A link over a WebSocket (RFC 6455) of the `websockets` package, of either side: passes proxies as HTTPS does.

Binary messages hold frames (:mod:`.carried`), as many as were waiting. The connection's own limits hold: what it
buffers, what it takes as one message (at least 64 KiB and 64 bytes with offload), how often it pings. Without
compression it is several times faster: give websockets `compression=None`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import LinkError
from .calls import CallLink, call_link
from .extras import need
from .greeting import TIMEOUT, Role

if TYPE_CHECKING:
    from websockets.asyncio.connection import Connection


async def websocket_link(
    connection: Connection, *, mtu: int = 1500, offload: bool = True, role: Role = Role.STACK, timeout: float = TIMEOUT,
) -> CallLink:  # fmt: skip
    """A link over an open connection of websockets.asyncio (client or server), once both ends have greeted.

    The connection is taken over, and closed with the link. A server's handler has to stay (`await link.wait_closed()`):
    websockets closes the connection when it returns. `mtu`, `offload`, `role` and `timeout` as in `stream_link`. Raises
    LinkError, and ImportError without the extra `websocket`.
    """
    ended: type[Exception] = need("websockets.exceptions", "websocket").ConnectionClosed

    def reason(error: Exception) -> str:
        return f"the WebSocket ended: {error}"

    async def read() -> bytes:
        try:
            message = await connection.recv()
        except ended as error:
            if getattr(error, "rcvd", None) is not None and error.rcvd.code in (1000, 1001):  # type: ignore[attr-defined]
                return b""  # it said goodbye
            raise LinkError(reason(error)) from error
        if isinstance(message, str):
            raise LinkError(f"the other end speaks another protocol: it sent text, '{message[:40]}'")
        return message

    async def write(data: bytes) -> None:
        try:
            await connection.send(data)
        except ended as error:
            raise LinkError(reason(error)) from error

    async def close() -> None:
        try:
            await connection.close()
        except BaseException:  # the other end does not say goodbye in time
            connection.transport.abort()
            raise

    return await call_link(
        read, write, close, mtu=mtu, offload=offload, role=role, timeout=timeout,
    )  # fmt: skip
