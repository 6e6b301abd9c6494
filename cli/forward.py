"""`netbridge forward` and `netbridge socks`: local listeners that lead into the codespace, until ctrl-c."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from netbridge.bridge.errors import UsageError

from . import rights
from .text import clean

if TYPE_CHECKING:
    from netbridge.bridge.back.listening import Listener, Visitor

Target = Annotated[str | None, Parameter(
    name="--target", metavar="TARGET",
    help="TARGET of the running bridge, or its number; not needed when only one runs.")]
SOCKS = "127.0.0.1:1080"
Served = tuple[list[socket.socket], "Callable[[Listener], Visitor]", str]
"""Listening sockets, what serves a client of them, and what they do, in words."""


@rights.by_itself
def forward(*places: str, target: Target = None) -> int:
    """Listen on this machine and lead each client to a place inside the codespace, until ctrl-c.

    Parameters
    ----------
    places
        [LOCAL:]HOST:PORT, LOCAL being [ADDRESS:]PORT: 5432:localhost:5432, localhost:5432, 127.0.0.1:8080:[::1]:80.
        Without ADDRESS only this machine can connect. HOST is resolved over there; localhost is the codespace itself.
    """
    from netbridge.bridge.back.listening import ForwardVisitor, listen
    from netbridge.bridge.back.places import parse_forward

    if not places:
        raise UsageError(
            "No place was named.", "`netbridge forward` needs one or more.", "Name one, as in 5432:localhost:5432.",
        )
    wanted = [parse_forward(place) for place in places]

    def open_all() -> list[Served]:
        found: list[Served] = []
        for it in wanted:
            def made(listener: Listener, host: str = it.host, port: int = it.host_port) -> Visitor:
                return ForwardVisitor(listener, host, port)

            found.append((listen(it.listen, it.port), made, f"leads to {it.host} port {it.host_port} over there"))
        return found

    return _serve(target, open_all)


@rights.by_itself
def socks(
    *, listen: Annotated[str, Parameter(
        name="--listen", metavar="WHERE", help=f"[ADDRESS:]PORT (default {SOCKS}).")] = SOCKS,
    target: Target = None,
) -> int:
    """Serve SOCKS5 on this machine, leading into the codespace's network, until ctrl-c.

    CONNECT by name and address; names are resolved over there when the client leaves that to the proxy (socks5h).
    """
    from netbridge.bridge.back.listening import SocksVisitor
    from netbridge.bridge.back.listening import listen as opened
    from netbridge.bridge.back.places import parse_listen

    addresses, port = parse_listen(listen)
    return _serve(target, lambda: [(opened(addresses, port), SocksVisitor, "is a SOCKS5 proxy into the codespace")])


def _serve(
    target: str | None, opened: Callable[[], list[Served]],
) -> int:
    from netbridge.bridge.back.door import Door
    from netbridge.bridge.back.listening import Listener, until_signal

    def tell(line: str) -> None:
        print(clean(line), file=sys.stderr, flush=True)

    with Door(target) as door:
        listener = Listener(door, tell)

        async def begin() -> None:
            served = opened()
            rights.unless_root_has_a_bridge()  # a port below 1024 was root's to open
            for sockets, visitor, what in served:
                names = [it.getsockname() for it in sockets]
                await listener.serve(sockets, visitor)
                for address, port, *_ in names:
                    tell(f"{f'[{address}]' if ':' in address else address}:{port} {what}")
                    if not address.startswith("127.") and address != "::1":
                        tell(f"mind: whoever reaches {address} of this machine can use it")

        async def run() -> None:
            try:
                await until_signal((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), begin())
            finally:
                listener.close()
                await asyncio.sleep(0)

        asyncio.run(run())
    return 0
