"""Where questions come in: port 53 of one address, UDP and TCP."""

from __future__ import annotations

import contextlib
import functools
import socket
from typing import Any, Callable, Optional

from .clients import TcpClients
from .loop import READ, Loop

IP_TRANSPARENT = 19
"""<linux/in.h>: may be bound to, and answer from, an address that is not this host's. Wants CAP_NET_ADMIN."""
PER_WAKE = 16
"""Datagrams taken at once: a flood of questions must leave the packets their turn."""

Ask = Callable[[bytes, Any, bool, Callable[[bytes], None]], Optional[Callable[[], None]]]
"""`ask(query, client, stream, answer)` begins to answer and gives what takes the question back, or None."""


class Door:
    """Listens on one address and passes on what is asked there."""

    def __init__(self, loop: Loop, address: str, ask: Ask, *, foreign: bool = False) -> None:
        """OSError when the port is not to be had. `foreign`: the address is not this host's."""
        self.address = address
        self._loop = loop
        self._ask = ask
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with contextlib.ExitStack() as exits:
            flags = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
            self._datagrams = exits.enter_context(socket.socket(family, socket.SOCK_DGRAM | flags))
            listener = exits.enter_context(socket.socket(family, socket.SOCK_STREAM | flags))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            for bound in (self._datagrams, listener):
                if foreign:
                    bound.setsockopt(socket.SOL_IP, IP_TRANSPARENT, 1)
                bound.bind((address, 53))
            listener.listen(64)
            self._tcp = TcpClients(loop, listener, self._ask_stream)
            exits.callback(self._tcp.close)
            loop.watch(self._datagrams.fileno(), READ, self._readable)
            exits.pop_all()

    def close(self) -> None:
        """Stop listening, and close all connections."""
        self._tcp.close()
        self._loop.unwatch(self._datagrams.fileno())
        self._datagrams.close()

    def _readable(self, _events: int) -> None:
        for _ in range(PER_WAKE):
            try:
                query, client = self._datagrams.recvfrom(65535)
            except OSError:
                return
            self._ask(query, (self.address, client), False, functools.partial(self._reply, client))

    def _reply(self, client: Any, reply: bytes) -> None:
        try:
            self._datagrams.sendto(reply, client)
        except OSError:
            pass  # the client went away, or its buffer is full: as if the datagram were lost

    def _ask_stream(self, query: bytes, client: Any, answer: Callable[[bytes], None]) -> Optional[Callable[[], None]]:
        return self._ask(query, (self.address, client), True, answer)
