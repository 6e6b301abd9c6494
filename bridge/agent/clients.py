"""The stub's TCP clients: messages with a two-byte length in front, several a connection (RFC 7766)."""

from __future__ import annotations

import functools
import socket
import struct
from typing import Any, Callable, Dict, Optional

from .loop import READ, WRITE, Loop, Timer

CONNECTIONS = 64
"""Connections at a time. Beyond it the longest idle one is closed."""
IDLE = 15.0
"""Seconds a connection may be idle; longer than the longest exchange."""
WAITING = 1 << 20
"""Bytes of answers that may wait for a client that does not read."""

Ask = Callable[[bytes, Any, Callable[[bytes], None]], Optional[Callable[[], None]]]


class TcpClients:
    """Accepts and serves. `ask(query, client, answer)` begins an exchange and returns what cancels it, or None."""

    def __init__(self, loop: Loop, listener: socket.socket, ask: Ask) -> None:
        self.loop = loop
        self.ask = ask
        self._listener = listener
        self.clients: Dict[int, TcpClient] = {}
        loop.watch(listener.fileno(), READ, self._accept)

    def close(self) -> None:
        """Close the listener and all connections."""
        self.loop.unwatch(self._listener.fileno())
        self._listener.close()
        for client in list(self.clients.values()):
            client.close()

    def _accept(self, _events: int) -> None:
        try:
            connection, _address = self._listener.accept()
        except OSError:
            return
        connection.setblocking(False)
        if len(self.clients) >= CONNECTIONS:
            next(iter(self.clients.values())).close()
        try:
            client = TcpClient(self, connection)
        except OSError:  # the kernel watches no more
            connection.close()
            return
        self.clients[connection.fileno()] = client


class TcpClient:
    """One connection."""

    def __init__(self, owner: TcpClients, connection: socket.socket) -> None:
        self._owner = owner
        self._connection = connection
        self._number = connection.fileno()
        self._in = b""
        self._out = b""
        self._unanswered: Dict[object, Optional[Callable[[], None]]] = {}
        self._no_more = False  # the client closed its sending side; it still reads
        self._closed = False
        self._timer: Optional[Timer] = None
        owner.loop.watch(self._number, READ, self._ready)
        self._touch()

    def close(self) -> None:
        """Close, and forget what was asked."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for cancel in self._unanswered.values():
            if cancel is not None:
                cancel()
        self._owner.loop.unwatch(self._number)
        self._owner.clients.pop(self._number, None)
        self._connection.close()

    def _touch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._owner.loop.call_later(IDLE, self.close)
        self._owner.clients.pop(self._number, None)
        self._owner.clients[self._number] = self  # the order of this dict is that of use

    def _ready(self, events: int) -> None:
        try:
            if events & WRITE:
                self._flush()
            if not self._closed and events & ~WRITE:
                data = self._connection.recv(65536)
                if data:
                    self._take(data)
                else:
                    self._no_more = True
                    self._close_if_done()
        except BlockingIOError:
            pass
        except OSError:
            self.close()

    def _take(self, data: bytes) -> None:
        self._touch()
        self._in += data
        while len(self._in) >= 2:
            end = 2 + struct.unpack_from(">H", self._in)[0]
            if len(self._in) < end:
                break
            query, self._in = self._in[2:end], self._in[end:]
            token = object()
            self._unanswered[token] = None
            cancel = self._owner.ask(query, ("tcp", id(self)), functools.partial(self._answer, token))
            if self._closed:
                return
            if cancel is None:
                self.close()  # not a question: nothing more can be expected here
                return
            if token in self._unanswered:  # it may have been answered within the call
                self._unanswered[token] = cancel

    def _answer(self, token: object, reply: bytes) -> None:
        if self._closed:
            return
        self._touch()
        self._unanswered.pop(token, None)
        self._out += struct.pack(">H", len(reply)) + reply
        if len(self._out) > WAITING:
            self.close()
            return
        try:
            self._flush()
        except OSError:
            self.close()

    def _flush(self) -> None:
        try:
            self._out = self._out[self._connection.send(self._out) :]
        except BlockingIOError:
            pass
        self._close_if_done()
        if not self._closed:
            events = (0 if self._no_more else READ) | (WRITE if self._out else 0)
            self._owner.loop.watch(self._number, events, self._ready)

    def _close_if_done(self) -> None:
        if self._no_more:
            if self._unanswered or self._out:
                self._owner.loop.watch(self._number, WRITE if self._out else 0, self._ready)
            else:
                self.close()
