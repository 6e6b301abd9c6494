"""The carriers by scheme: how each listens, and how each connects. A module is loaded when its scheme is asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from .channel import Channel
from .credentials import Credentials
from .place import Place

Opening = Callable[[], Awaitable[Channel]]
Visit = Callable[[str, str, Opening], Awaitable[None]]
"""`visit(source, who, opening)`: what to do with one that came. `source` is what is counted as one, `who` its name for
people; `opening` makes the channel (TLS and the like) and is not called where there is no place. It returns when the
other end has left; the carrier then lets go of what it has of it.
"""
Listening = AbstractAsyncContextManager[list[str]]
"""While it is entered, visits come; the URLs at which it is reached."""


def listening(place: Place, credentials: Credentials, visit: Visit) -> Listening:
    """Listen at a place. Entering raises BridgeError."""
    match place.scheme:
        case "tcp+tls":
            from .tls import listen
        case "wss":
            from .websocket import listen
        case "quic":
            from .quic import listen
        case "libp2p":
            from .libp2p import listen
        case "unix":
            from .pipes import listen_unix as listen
        case _:
            from .pipes import listen_stdio as listen
    return listen(place, credentials, visit)


async def connect(place: Place, credentials: Credentials, *, command: str = "") -> Channel:
    """Connect to a place; `command` is what ssh runs there. Raises OSError, LinkError being one, and BridgeError."""
    match place.scheme:
        case "tcp+tls":
            from .tls import connect as dial
        case "wss":
            from .websocket import connect as dial
        case "quic":
            from .quic import connect as dial
        case "libp2p":
            from .libp2p import connect as dial
        case "unix":
            from .pipes import connect_unix as dial
        case _:
            from .pipes import connect_ssh

            return await connect_ssh(place, command)
    return await dial(place, credentials)
