"""One question to one nameserver, over UDP or TCP, with the checks that keep forged answers out.

Each attempt has its own socket, connected, so the kernel picks a random port and only the server can answer; the id
is random too, and the reply must repeat the question (RFC 5452). A reply that fails a check is ignored and the
attempt goes on.
"""

from __future__ import annotations

import functools
import os
import socket
import struct
from typing import Any, Callable, Optional, Tuple

from . import dnsmsg
from .loop import READ, WRITE, Loop

LIMIT = 65535


@functools.lru_cache(maxsize=32)
def _place(server: str) -> Tuple[int, Any]:
    """The address family and address of a nameserver, as sockets want them; a zone (`%eth0`) is looked up."""
    found = socket.getaddrinfo(server, 53, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV)
    return found[0][0], found[0][4]


class Attempt:
    """Asks once. `done(attempt, reply, message)` is called at most once; without reply when the server is not there."""

    def __init__(
        self, loop: Loop, server: str, query: bytes, question: dnsmsg.Question, *, stream: bool, mark: int,
        done: Callable[[Attempt, bytes, Optional[dnsmsg.Message]], None],
    ) -> None:  # fmt: skip
        """`mark`: SO_MARK of the socket, 0 for none."""
        self.server = server
        self._mark = mark
        self._loop = loop
        self._question = question
        self._ident = struct.unpack(">H", os.urandom(2))[0]
        self._done = done
        self._stream = stream
        self._received = b""
        message = dnsmsg.with_ident(query, self._ident)
        self._out = struct.pack(">H", len(message)) + message if stream else message
        self._socket: Optional[socket.socket] = None

    def start(self) -> bool:
        """Connect and send; False when that fails at once (no callback then)."""
        kind = socket.SOCK_STREAM if self._stream else socket.SOCK_DGRAM
        try:
            family, address = _place(self.server)
            self._socket = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            if self._mark:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, self._mark)
            try:
                self._socket.connect(address)
            except BlockingIOError:
                pass
            if not self._stream:
                self._socket.send(self._out)
                self._out = b""
            self._loop.watch(self._socket.fileno(), READ | (WRITE if self._out else 0), self._ready)
        except OSError:
            self.close()
            return False
        return True

    def close(self) -> None:
        """Give up."""
        if self._socket is not None:
            self._loop.unwatch(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _ready(self, events: int) -> None:
        assert self._socket is not None
        try:
            if self._out and events & WRITE:
                self._out = self._out[self._socket.send(self._out) :]
                if not self._out:
                    self._loop.watch(self._socket.fileno(), READ, self._ready)
            if events & ~WRITE:
                self._read(self._socket)
        except BlockingIOError:
            pass
        except OSError:
            self._finish(b"", None)

    def _read(self, connected: socket.socket) -> None:
        data = connected.recv(LIMIT)
        if not self._stream:
            self._check(data)
            return
        self._received += data
        while len(self._received) >= 2:
            end = 2 + struct.unpack_from(">H", self._received)[0]
            if len(self._received) < end:
                break
            reply, self._received = self._received[2:end], self._received[end:]
            if self._check(reply):
                return
        if not data:
            self._finish(b"", None)

    def _check(self, reply: bytes) -> bool:
        message = dnsmsg.parse(reply)
        if message is None or not message.response or message.ident != self._ident:
            return False
        if message.question is None:
            if message.rcode == dnsmsg.NOERROR:  # only an error may do without the question
                return False
        elif message.question.section != self._question.section:
            return False
        self._finish(reply, message)
        return True

    def _finish(self, reply: bytes, message: Optional[dnsmsg.Message]) -> None:
        self.close()
        self._done(self, reply, message)
